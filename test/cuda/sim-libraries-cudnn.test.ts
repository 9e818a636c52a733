// What the simulated cuDNN computes and refuses at execution: convolutions to the bit against the reference, engines that are
// not to be taken and show it, memory that is not there.
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type ConvProblem, convCandidates, convFromRecipe, deviceSession } from '../../src/cuda/conv/index.ts'
import type { Candidate } from '../../src/cuda/work.ts'
import { bytesOf } from '../../src/tensor/dtype.ts'
import { roundTo } from '../../src/tensor/half.ts'
import { contractionRules } from '../../src/tensor/reference/contractions.ts'
import { type Shape, at, sizeOf } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { type LibraryGpu, libraryGpu } from '../sim/cudnn-gpu.ts'
import { type Convolution, convolutions } from '../support/geometries.ts'
import { difference, eighths } from './sim-libraries-values.ts'

let gpu: LibraryGpu
beforeEach(async () => {
  gpu = await libraryGpu()
}, 600_000)
afterEach(() => {
  expect(gpu.close().violations).toEqual([])
})

const directions = ['conv2d', 'conv2dInputGrad', 'conv2dFilterGrad'] as const

/** The shapes of a problem's two operands and its result. */
function sides({ direction, input, filter, output }: ConvProblem): readonly [Shape, Shape, Shape] {
  if (direction === 'conv2d') return [input, filter, output]
  return direction === 'conv2dInputGrad' ? [output, filter, input] : [input, output, filter]
}

/** What a problem's result is, rounded once, by the reference. */
function reference(problem: ConvProblem, first: readonly number[], second: readonly number[]): number[] {
  const { stride, padding, dilation, groups, dtype } = problem
  const [a, b, result] = sides(problem).map((shape) => ({ shape, dtype }))
  if (a === undefined || b === undefined || result === undefined) throw new Error('no sides')
  const inputs = [
    { type: a, data: Float64Array.from(first) },
    { type: b, data: Float64Array.from(second) },
  ]
  const params = { stride, padding, dilation, groups, inputShape: problem.input, filterShape: problem.filter }
  const [data] = contractionRules[problem.direction](inputs, params, [result], {})
  return Array.from(data ?? [], (value) => roundTo(dtype, value))
}

/** Runs a candidate on operands that are on the device, into poisoned memory. */
function compute(problem: ConvProblem, candidate: Candidate, operands: readonly number[][]): number[] {
  const result = sides(problem)[2]
  const inputs = operands.map((values) => gpu.upload(problem.dtype, values))
  const output = gpu.allocate(sizeOf(result) * bytesOf(problem.dtype))
  const scratch = candidate.scratchBytes > 0 ? gpu.allocate(candidate.scratchBytes) : undefined
  for (const work of candidate.works) if (work.kind === 'call') work.enqueue(gpu.stream, [...inputs, output], scratch)
  return gpu.download(problem.dtype, output, sizeOf(result))
}

function problemOf(
  { params, x, filter, y }: Convolution,
  direction: ConvProblem['direction'],
  dtype: ConvProblem['dtype'],
): ConvProblem {
  return { ...params, direction, dtype, precision: 'tf32', input: x, filter, output: y }
}

const small: Convolution = {
  params: {
    stride: [1, 1],
    padding: [
      [1, 1],
      [1, 1],
    ],
    dilation: [1, 1],
    groups: 4,
  },
  x: [2, 5, 6, 16],
  filter: [8, 3, 3, 4],
  y: [2, 5, 6, 8],
}

describe('convolutions', () => {
  test('any geometry, any direction, any dtype: the reference, to the bit, from every candidate', () => {
    const session = deviceSession(gpu.cudnn, gpu.cudnnHandle)
    const dtypes = fc.constantFrom('f16' as const, 'bf16' as const, 'f32' as const)
    const property = fc.property(
      convolutions,
      fc.constantFrom(...directions),
      dtypes,
      fc.nat(2 ** 20),
      (conv, direction, dtype, seed) => {
        const problem = problemOf(conv, direction, dtype)
        const [a, b] = sides(problem)
        const operands = [eighths(seed, sizeOf(a)), eighths(seed + 1, sizeOf(b))]
        const wanted = reference(problem, at(operands, 0), at(operands, 1))
        for (const candidate of convCandidates(session, problem)) {
          expect(difference(compute(problem, candidate, operands), wanted), candidate.id).toBeUndefined()
          candidate.release?.()
        }
      },
    )
    fc.assert(property, { numRuns: runs(25) })
  })

  test('groups, and widths that fill blocks', () => {
    const session = deviceSession(gpu.cudnn, gpu.cudnnHandle)
    for (const direction of directions) {
      const problem = problemOf(small, direction, 'f16')
      const [a, b] = sides(problem)
      const operands = [eighths(1, sizeOf(a)), eighths(2, sizeOf(b))]
      const [first] = convCandidates(session, problem)
      if (first === undefined) throw new Error('no candidate')
      expect(compute(problem, first, operands)).toEqual(reference(problem, at(operands, 0), at(operands, 1)))
      first.release?.()
    }
  })

  test('engines that are not to be taken are refused by name, and so is what asks for too much memory', () => {
    const session = deviceSession(gpu.cudnn, gpu.cudnnHandle)
    const dropped = new Map<number, string>()
    const problem = problemOf(small, 'conv2d', 'f16')
    const candidates = [...convCandidates(session, problem, { dropped: (id, why) => dropped.set(engineOf(id), why) })]
    expect(Object.fromEntries(dropped)).toEqual({
      25: 'REDUCED_PRECISION_REDUCTION',
      20: 'NONDETERMINISTIC',
      70: 'CUDNN_STATUS_NOT_SUPPORTED at finalization',
      30: expect.stringMatching(/MB of workspace$/) as string,
    })
    expect(candidates.map(({ id }) => engineOf(id))).toEqual([62, 62, 22, 22, 46, 45, 1, 0])
    expect(new Set(candidates.map(({ scratchBytes }) => scratchBytes)).size).toBeGreaterThan(3)
    for (const { release } of candidates) release?.()
  })

  test('IEEE f32 leaves no engine on Tensor Cores', () => {
    const session = deviceSession(gpu.cudnn, gpu.cudnnHandle)
    const problem: ConvProblem = { ...problemOf(small, 'conv2d', 'f32'), precision: 'ieee' }
    const candidates = [...convCandidates(session, problem)]
    expect(candidates.map(({ id }) => engineOf(id))).toEqual([1, 0])
    for (const { release } of candidates) release?.()
  })

  test('a plan comes back from its recipe with the same bits, and not for another problem', () => {
    const session = deviceSession(gpu.cudnn, gpu.cudnnHandle)
    const problem = problemOf(small, 'conv2dFilterGrad', 'bf16')
    const [a, b] = sides(problem)
    const operands = [eighths(3, sizeOf(a)), eighths(4, sizeOf(b))]
    for (const candidate of convCandidates(session, problem)) {
      const again = convFromRecipe(session, problem, candidate.recipe ?? '')
      if (again === undefined) throw new Error(`${candidate.id} does not come back`)
      expect([again.id, again.recipe, again.scratchBytes]).toEqual([
        candidate.id,
        candidate.recipe,
        candidate.scratchBytes,
      ])
      expect(compute(problem, again, operands)).toEqual(compute(problem, candidate, operands))
      expect(convFromRecipe(session, problem, (candidate.recipe ?? '').replace('92400', '92300'))).toBeUndefined()
      again.release?.()
      candidate.release?.()
    }
  })

  test('TF32 rounds the operands only where a switch says so', () => {
    const session = deviceSession(gpu.cudnn, gpu.cudnnHandle)
    const one: Convolution = {
      params: {
        stride: [1, 1],
        padding: [
          [0, 0],
          [0, 0],
        ],
        dilation: [1, 1],
        groups: 1,
      },
      x: [1, 1, 1, 1],
      filter: [1, 1, 1, 1],
      y: [1, 1, 1, 1],
    }
    const problem = problemOf(one, 'conv2d', 'f32')
    const fine = 1 + 2 ** -12
    const results = () =>
      [...convCandidates(session, problem)].map((candidate) => {
        const [value] = compute(problem, candidate, [[fine], [1]])
        candidate.release?.()
        return [engineOf(candidate.id), value]
      })
    expect(results().filter(([, value]) => value !== fine)).toEqual([])
    gpu.option('tf32', 1)
    expect(results()).toEqual([
      [22, 1],
      [22, 1],
      [46, 1],
      [45, 1],
      [1, fine],
      [0, fine],
    ])
  })
})

function engineOf(id: string): number {
  return Number(/engine (\d+)/.exec(id)?.[1])
}
