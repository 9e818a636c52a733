// Fusions in the plan: which are found in a small SE-ResNeXt's training step, that they may stand as one step, and which
// kernels are none.
import { describe, expect, test } from 'vitest'
import { type Kernel, type Plan, type PlanBuffer, compileProgram } from '../../src/compile/index.ts'
import { chainOf } from '../../src/cuda/fusions/chains.ts'
import { type CudaPlan, fuseSteps } from '../../src/cuda/fusions/arrange.ts'
import type { CudaStep } from '../../src/cuda/fusions/fusion.ts'
import { earlySteps } from '../../src/cuda/fusions/order.ts'
import { walkOf } from '../../src/cuda/fusions/places.ts'
import { usesOf } from '../../src/cuda/fusions/uses.ts'
import { vjp } from '../../src/autograd/index.ts'
import { traceFlat } from '../../src/autograd/trace.ts'
import { resnet } from '../../src/nn/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { at, zip } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { trainingPlan } from '../support/training-plan.ts'
import type { Flat } from './fusions-harness.ts'

setDefaultDevice(referenceDevice())
const model = resnet({ layers: [2, 1], widths: 64, expansion: 2, cardinality: 16, squeeze: { ratio: 16 }, classes: 10 })

/** What a plan's fused steps are, counted. */
function kinds(plan: CudaPlan): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const step of plan.steps) if (step.kind === 'fused') counts[step.label] = (counts[step.label] ?? 0) + 1
  return counts
}

/** Whether a step's convolution could read through the batch norm in front of it. */
function hasFront(step: CudaStep): boolean {
  if (step.kind !== 'fused' || step.fusion.kind !== 'contraction') return false
  const { way } = step.fusion
  return way.kind === 'statistics' && way.front !== undefined
}

function overlap(a: PlanBuffer, b: PlanBuffer): boolean {
  if (a.place.kind !== 'arena' || b.place.kind !== 'arena')
    return a.place.kind === 'input' && b.place.kind === 'input' && a.place.index === b.place.index
  return a.place.offset < b.place.offset + b.bytes && b.place.offset < a.place.offset + a.bytes
}

describe.each(['f16', 'bf16', 'f32'] as const)('a training step in %s', (dtype) => {
  const plan = trainingPlan(model, 2, 32, dtype)
  const fused = fuseSteps(plan, true)

  test('fuses statistics, gradients and the products of squeezes, each once', () => {
    // Per block two convolutions without a squeeze, the stem, and a downsample per stage; a squeeze forward
    // and backward per block, of which f32 has the bias alone.
    const squeezes =
      dtype === 'f32' ? { 'dot with product': 3 } : { 'rows of map, dot, map, dot, map': 3, 'rows of dot, map, dot': 3 }
    expect(kinds(fused)).toEqual({
      'conv2d with statistics': 2 * 3 + 1 + 2,
      // In 16 bits the last block's gradient is multiplied in the kernel that gates it, which is no chain.
      'conv2dInputGrad with chain': dtype === 'f32' ? 2 : 1,
      // Each block's but the one's whose activation is computed again where the sums are.
      ...(dtype === 'f32' ? {} : { 'conv2dInputGrad with masked': 2 }),
      ...squeezes,
    })
    // That block's activation is read by nobody but its convolution.
    expect(fused.steps.filter(hasFront).length).toBe(dtype === 'f32' ? 0 : 1)
    const apart = new Set(plan.steps.filter(({ kind }) => kind === 'library').map(({ label }) => label))
    expect(fused.steps.filter(({ kind }) => kind === 'library').every(({ label }) => apart.has(label))).toBe(true)
  })

  test('has every value made before it is read, and fused steps write nothing that they read', () => {
    const made = new Set(fused.inputs)
    for (const [index, step] of fused.steps.entries()) {
      for (const buffer of step.inputs) expect(made.has(buffer)).toBe(true)
      for (const buffer of step.outputs) made.add(buffer)
      expect(step.after.every((before) => before < index)).toBe(true)
      if (step.kind !== 'fused') continue
      const [reads, writes] = [step.inputs, step.outputs].map((list) => list.map((buffer) => at(fused.buffers, buffer)))
      for (const a of writes ?? []) expect((reads ?? []).some((b) => overlap(a, b))).toBe(false)
    }
    expect(fused.outputs.every((buffer) => made.has(buffer))).toBe(true)
    const types = (from: Pick<Plan, 'buffers' | 'outputs'>) =>
      from.outputs.map((buffer) => at(from.buffers, buffer).type)
    expect(types(fused)).toEqual(types(plan))
  })
})

describe('a fusion is not made', () => {
  const x: TensorType = { dtype: 'f16', shape: [2, 4, 4, 8] }
  const w: TensorType = { dtype: 'f16', shape: [8, 1, 1, 8] }
  const vector: TensorType = { dtype: 'f16', shape: [8] }
  const fusedIn = (f: Flat, types: readonly TensorType[]) => {
    const { program } = traceFlat(f, types, 'test', { keepCalls: false })
    return kinds(fuseSteps(compileProgram(program, { optimize: 'fuse', donate: [] }), true))
  }

  const fronts = (f: Flat, types: readonly TensorType[]): number => {
    const { program } = traceFlat(f, types, 'test', { keepCalls: false })
    const { steps } = fuseSteps(compileProgram(program, { optimize: 'fuse', donate: [] }), true)
    return steps.filter(hasFront).length
  }

  test('unless the kernel follows the convolution', () => {
    const follows: Flat = ([a, b, v]) => [ops.maximum(ops.add(ops.conv2d(a!, b!), v!), 0)]
    expect(fusedIn(follows, [x, w, vector])).toEqual({ 'conv2d with chain': 1 })
  })

  test('where somebody else needs the convolution’s result', () => {
    const f: Flat = ([a, b, v]) => {
      const y = ops.conv2d(a!, b!)
      return [y, ops.maximum(ops.add(y, v!), 0)]
    }
    expect(fusedIn(f, [x, w, vector])).toEqual({})
  })

  test('where the kernel needs what is made of the result', () => {
    const f: Flat = ([a, b]) => {
      const y = ops.conv2d(a!, b!)
      const again = ops.conv2d(y, b!)
      return [ops.add(y, again)]
    }
    // The second convolution's result is added to the first's, which stays a step of its own.
    expect(fusedIn(f, [x, w])).toEqual({ 'conv2d with chain': 1 })
  })

  test('of an operation that the library has not', () => {
    const f: Flat = ([a, b, v]) => [ops.tanh(ops.add(ops.conv2d(a!, b!), v!))]
    expect(fusedIn(f, [x, w, vector])).toEqual({})
  })

  test('of a ReLU’s mask that is computed anew', () => {
    const f: Flat = ([a, b, v, other]) => {
      const y = ops.conv2d(a!, b!)
      return [ops.where(ops.greater(ops.mul(other!, v!), 0), y, 0)]
    }
    expect(fusedIn(f, [x, w, vector, x])).toEqual({})
  })

  test('of a product that only an operation without operands follows', () => {
    const [a, b]: TensorType[] = [
      { dtype: 'f32', shape: [4, 8] },
      { dtype: 'f32', shape: [8, 8] },
    ]
    expect(fusedIn(([p, q]) => [ops.maximum(ops.matmul(p!, q!), 0)], [a!, b!])).toEqual({})
    const squared: Flat = ([p, q]) => {
      const y = ops.matmul(p!, q!)
      return [ops.mul(y, y)]
    }
    expect(fusedIn(squared, [a!, b!])).toEqual({})
  })

  test('where only an epilogue reads the result', () => {
    const types: TensorType[] = [
      { dtype: 'f32', shape: [64, 10, 300] },
      { dtype: 'f32', shape: [64, 16] },
      { dtype: 'f32', shape: [16, 10] },
    ]
    expect(fusedIn(([t, p, q]) => [ops.add(ops.sum(t!, { axes: [2] }), ops.matmul(p!, q!))], types)).toEqual({})
  })

  test('of statistics of another tensor, nor where more is made of each image’s sums', () => {
    const [plain, filter]: TensorType[] = [
      { dtype: 'f32', shape: [2, 4, 4, 8] },
      { dtype: 'f32', shape: [8, 1, 1, 8] },
    ]
    const sums = (y: Tensor) => [y, ops.mul(y, y)].map((z) => ops.sum(z, { axes: [0, 1, 2] }))
    const another: Flat = ([a, b, other]) => {
      const row = ops.reshape(ops.slice(ops.conv2d(a!, b!), [0, 0, 0, 0], [1, 1, 1, 8]), [8])
      const [s, q] = sums(other!)
      return [ops.add(ops.add(s!, q!), row), s!, q!]
    }
    expect(fusedIn(another, [plain!, filter!, plain!])).toEqual({})
    const pooled: Flat = ([a, b]) => {
      const y = ops.conv2d(a!, b!)
      return [ops.mul(ops.sum(y, { axes: [1, 2] }), 0.5), ...sums(y), y]
    }
    expect(fusedIn(pooled, [plain!, filter!])).toEqual({})
  })

  test('with a batch norm in front that somebody else reads, nor of another mask than ReLU’s', () => {
    const [image, taps]: TensorType[] = [
      { dtype: 'f16', shape: [2, 6, 6, 16] },
      { dtype: 'f16', shape: [16, 3, 3, 4] },
    ]
    const norm: TensorType[] = [0, 1, 2].map(() => ({ dtype: 'f32', shape: [16] }))
    const activate = ([a, , ...[mean, scale, shift]]: readonly Tensor[]): Tensor => {
      const wide = ops.add(ops.mul(ops.sub(ops.cast(a!, 'f32'), mean!), scale!), shift!)
      return ops.maximum(ops.cast(wide, 'f16'), 0)
    }
    const axes = [0, 1, 2]
    const counted = (given: readonly Tensor[], more: boolean): readonly Tensor[] => {
      const n = activate(given)
      const y = ops.conv2d(n, given[1]!, { padding: 1, groups: 4 })
      const wide = ops.cast(y, 'f32')
      return [y, ops.sum(wide, { axes }), ops.sum(ops.mul(wide, wide), { axes }), ...(more ? [n] : [])]
    }
    const types = [image!, taps!, ...norm]
    expect(fronts((given) => counted(given, false), types)).toBe(1)
    expect(fronts((given) => counted(given, true), types)).toBe(0)
    const masked = (given: readonly Tensor[], above: number): readonly Tensor[] => {
      const y = ops.conv2d(given[0]!, given[1]!, { padding: 1, groups: 4 })
      const [gradient] = vjp((x: Tensor) => ops.conv2d(x, given[1]!, { padding: 1, groups: 4 }), given[0]!)[1](y)
      const open = ops.cast(ops.where(ops.greater(activate(given), above), gradient, 0), 'f32')
      return [gradient, ops.sum(open, { axes }), ops.sum(ops.mul(open, ops.cast(given[0]!, 'f32')), { axes })]
    }
    expect(fusedIn((given) => masked(given, 0), types)).toEqual({ 'conv2dInputGrad with masked': 1 })
    expect(fusedIn((given) => masked(given, 0.5), types)).toEqual({})
  })

  test('where two of them would wait for each other', () => {
    const [image, one]: TensorType[] = [
      { dtype: 'f16', shape: [1, 6, 6, 16] },
      { dtype: 'f16', shape: [24, 1, 1, 16] },
    ]
    const f: Flat = ([a, b, other]) => {
      const both = [b!, other!].map((weights) => {
        const y = ops.conv2d(a!, weights)
        return { y, pooled: ops.reshape(ops.avgPool2d(y, [6, 6]), [24]) }
      })
      const sums = both.flatMap(({ y }, i) => {
        const wide = ops.cast(y, 'f32')
        const sum = ops.mul(ops.sum(wide, { axes: [0, 1, 2] }), ops.cast(at(both, 1 - i).pooled, 'f32'))
        return [sum, ops.sum(ops.mul(wide, wide), { axes: [0, 1, 2] })]
      })
      return [...both.map(({ y }) => y), ...sums]
    }
    expect(fusedIn(f, [image!, one!, one!])).toEqual({ 'conv2d with statistics': 1 })
  })

  test('of sums over a part of the result', () => {
    const f: Flat = ([a, b]) => {
      const y = ops.conv2d(a!, b!)
      const wide = ops.cast(y, 'f32')
      const axes = [1, 2]
      return [y, ops.sum(wide, { axes }), ops.sum(ops.mul(wide, wide), { axes })]
    }
    expect(fusedIn(f, [x, w])).toEqual({})
  })
})

describe('an access walks', () => {
  const extents = { images: 2, pixels: 6, channels: 4 }
  const axes = (...list: number[]) => list.map((extent) => ({ extent, role: 'map' as const }))
  const walk = (list: number[], strides: number[], offset = 0) => walkOf({ strides, offset }, axes(...list), extents)

  test('over all, along channels, or along images and channels', () => {
    expect(walk([48], [1])).toBe('all')
    expect(walk([12, 4], [4, 1])).toBe('all')
    expect(walk([12, 4], [0, 1])).toBe('channels')
    expect(walk([2, 6, 4], [4, 0, 1])).toBe('images')
    expect(walk([2, 2, 3, 2, 2], [4, 0, 0, 2, 1])).toBe('images')
  })

  test('nowhere that a vector does not reach', () => {
    expect(walk([12, 4], [1, 0])).toBeUndefined()
    expect(walk([12, 4], [0, 1], 1)).toBeUndefined()
    expect(walk([2, 6, 4], [0, 4, 1])).toBeUndefined()
    expect(walk([6, 8], [0, 1])).toBeUndefined()
    expect(walk([4, 12], [4, 1])).toBeUndefined()
    expect(walk([2, 4], [4, 1])).toBeUndefined()
  })
})

test('what reads a padded tensor waits for all of it, not for its zeros alone', () => {
  const f: Flat = ([x, w, v]) => {
    const padded = ops.pad(ops.matmul(x!, w!), [
      [0, 0],
      [8, 8],
    ])
    return [ops.sum(padded), ops.matmul(ops.mul(ops.transpose(v!), 2), w!)]
  }
  const types: readonly TensorType[] = [0, 1, 2].map(() => ({ dtype: 'f32', shape: [16, 16] }))
  const { program } = traceFlat(f, types, 'padded', { keepCalls: false })
  const plan = compileProgram(program, { optimize: 'fuse', donate: [] })
  const early = earlySteps(usesOf(plan)).map((index) => at(plan.steps, index))
  expect(usesOf(plan).makers.some((steps) => steps.length > 1)).toBe(true)
  expect(early.map(({ inputs }) => inputs)).toEqual([[at(plan.inputs, 2)]])
})

test('what a kernel reduces is reduced from what is stored', () => {
  const strides = [8, 1]
  const kernel: Kernel = {
    axes: [
      { extent: 32, role: 'reduce' },
      { extent: 8, role: 'map' },
    ],
    inputs: zip(['f16', 'f16', 'f16'] as const, [0, 0, 0]).map(([dtype, offset]) => ({ dtype, offset, strides })),
    nodes: [
      { op: 'load', dtype: 'f16', input: 0 },
      { op: 'load', dtype: 'f16', input: 1 },
      { op: 'add', dtype: 'f16', args: [0, 1] },
      { op: 'cast', dtype: 'f32', args: [2] },
      { op: 'load', dtype: 'f16', input: 2 },
      { op: 'cast', dtype: 'f32', args: [4] },
      { op: 'mul', dtype: 'f32', args: [3, 5] },
    ],
    stores: [{ node: 2, dtype: 'f16', output: 1, strides, offset: 0 }],
    reductions: [{ op: 'sum', node: 6, dtype: 'f32', output: 0, strides: [0, 1], offset: 0 }],
  }
  const like = { dtype: 'f16', shape: [2, 4, 4, 8] } as const
  const chain = chainOf(kernel, 0, { images: 2, pixels: 16, channels: 8 }, like)
  expect(chain?.output).toBe(1)
  expect(chain?.rest?.inputs).toEqual([2, 'stored'])
  expect(chain?.rest?.outputs).toEqual([0])
  const { op, node } = at(chain?.rest?.kernel.reductions ?? [], 0)
  expect([op, chain?.rest?.kernel.nodes.length, node]).toEqual(['sum', 5, 4])
  // Where the sum is of the result itself, it cannot be left for later.
  const raw: Kernel = { ...kernel, reductions: kernel.reductions.map((reduction) => ({ ...reduction, node: 0 })) }
  expect(chainOf(raw, 0, { images: 2, pixels: 16, channels: 8 }, like)).toBeUndefined()
})
