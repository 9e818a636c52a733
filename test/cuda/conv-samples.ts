// The convolutions that the tests of cuDNN's part ask for, and what they do with candidates.
import { type ConvProblem, convCandidates } from '../../src/cuda/conv/index.ts'
import type { Stream } from '../../src/cuda/ffi/driver-queues.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import type { Candidate } from '../../src/cuda/work.ts'

/** A grouped 3x3 convolution of a few channels. */
export const problem: ConvProblem = {
  direction: 'conv2d',
  dtype: 'f16',
  precision: 'tf32',
  input: [8, 14, 14, 16],
  filter: [32, 3, 3, 8],
  output: [8, 14, 14, 32],
  stride: [1, 1],
  padding: [
    [1, 1],
    [1, 1],
  ],
  dilation: [1, 1],
  groups: 2,
}

/** All candidates, planned. */
export function all(...request: Parameters<typeof convCandidates>): Candidate[] {
  return [...convCandidates(...request)]
}

/** Enqueues what a candidate does. */
export function run(
  candidate: Candidate | undefined,
  operands: readonly DevicePointer[],
  scratch: DevicePointer | undefined,
  stream = 1n,
): void {
  for (const work of candidate?.works ?? []) if (work.kind === 'call') work.enqueue(stream as Stream, operands, scratch)
}
