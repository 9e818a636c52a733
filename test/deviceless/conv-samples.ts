// What the tests of cuDNN's plans start from.
import { type ConvProblem, type CudnnSession, convCandidates } from '../../src/cuda/conv/index.ts'
import type { Fusion } from '../../src/cuda/conv/graph.ts'
import type { Candidate } from '../../src/cuda/work.ts'

/** A dense 3x3 convolution. */
export const plain: ConvProblem = {
  direction: 'conv2d',
  dtype: 'f16',
  precision: 'tf32',
  input: [32, 28, 28, 128],
  filter: [128, 3, 3, 128],
  output: [32, 28, 28, 128],
  stride: [1, 1],
  padding: [
    [1, 1],
    [1, 1],
  ],
  dilation: [1, 1],
  groups: 1,
}
/** The first candidates; release them. */
export function first(
  session: CudnnSession,
  problem: ConvProblem,
  count: number,
  fusion: Fusion = 'none',
): Candidate[] {
  const found: Candidate[] = []
  for (const candidate of convCandidates(session, problem, { fusion })) if (found.push(candidate) === count) break
  return found
}
