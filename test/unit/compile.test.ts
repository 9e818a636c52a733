// Plans compute what Programs mean: hand-picked programs for every pass, run by the plan evaluator against the reference.
import { describe, expect, it } from 'vitest'
import { traceFlat } from '../../src/autograd/trace.ts'
import { valueAndGrad } from '../../src/autograd/grad.ts'
import { type Step, compileProgram, showPlan, stepKey } from '../../src/compile/index.ts'
import type { OptimizeLevel } from '../../src/tensor/device.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import type { Program, TensorType } from '../../src/tensor/program.ts'
import { roundTo } from '../../src/tensor/half.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import { sizeOf } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { batchNorm, softmaxCrossEntropy, squeezeExcite } from '../../src/nn/index.ts'
import { evaluatePlan } from '../support/plan-evaluator.ts'

const levels: readonly OptimizeLevel[] = ['none', 'simplify', 'fuse']

function valuesOf(type: TensorType, seed: number): number[] {
  return Array.from({ length: sizeOf(type.shape) }, (_, i) => {
    const value = Math.sin(seed * 12.9898 + i * 78.233) * 1.5
    return roundTo(type.dtype, type.dtype === 'i32' ? Math.abs(Math.floor(value * 2)) : value)
  })
}

function check(
  name: string,
  types: readonly TensorType[],
  f: (inputs: readonly Tensor[]) => readonly Tensor[],
  tolerance = 2e-6,
  donate: number[] = [],
) {
  for (const optimize of levels)
    it(`${name} (${optimize})`, () => {
      const { program } = traceFlat(f, types, name, { keepCalls: false })
      const inputs = types.map((type, i) => valuesOf(type, i + 1))
      const plan = compileProgram(program, { optimize, donate, verify: true })
      const expected = reference(program, types, inputs)
      const actual = evaluatePlan(plan, inputs)
      expect(actual.length).toBe(expected.length)
      expected.forEach((want, i) =>
        expect(distance(actual[i] ?? [], want), showPlan(plan)).toBeLessThanOrEqual(tolerance),
      )
    })
}

function reference(program: Program, types: readonly TensorType[], inputs: readonly (readonly number[])[]): number[][] {
  return interpret(
    program,
    types.map((type, i) => ({ type, data: Float64Array.from(inputs[i] ?? []) })),
  ).map((value) => [...value.data])
}

function distance(actual: readonly number[], expected: readonly number[]): number {
  if (actual.length !== expected.length) return Infinity
  const norm = (v: readonly number[]) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0))
  return norm(actual.map((x, i) => x - (expected[i] ?? 0))) / Math.max(norm(expected), 1e-6)
}

const f32 = (...shape: number[]): TensorType => ({ shape, dtype: 'f32' })
const f16 = (...shape: number[]): TensorType => ({ shape, dtype: 'f16' })
const first = (inputs: readonly Tensor[]): Tensor => inputs[0] as Tensor
const second = (inputs: readonly Tensor[]): Tensor => inputs[1] as Tensor
const third = (inputs: readonly Tensor[]): Tensor => inputs[2] as Tensor

describe('plans of single ideas', () => {
  check('pointwise chains with broadcasts', [f32(3, 4), f32(4)], (t) => [
    ops.exp(ops.mul(ops.add(first(t), second(t)), 0.5)),
  ])
  check('outputs that are inputs, literals and repeats', [f32(3)], (t) => [
    first(t),
    first(t),
    ops.full([2, 2], 3),
    ops.neg(first(t)),
    ops.reshape(first(t), [1, 3]),
  ])
  check('donated identity', [f32(3), f32(3)], (t) => [first(t), ops.add(second(t), 1)], 1e-6, [0, 1])
  check('pad, concatenate and slice', [f32(2, 3), f32(2, 2)], (t) => [
    ops.pad(ops.neg(first(t)), [
      [1, 0],
      [0, 2],
    ]),
    ops.concatenate([ops.exp(first(t)), second(t), ops.mul(second(t), 2)], 1),
    ops.slice(ops.mul(first(t), first(t)), [0, 1], [2, 3]),
  ])
  check('slices of slices, with strides and starts', [f32(20)], (t) => {
    const x = ops.slice(ops.exp(first(t)), [1], [19], [3])
    return [ops.add(ops.slice(x, [2], [6], [2]), 1)]
  })
  check('transposes and reshapes between kernels', [f32(4, 6)], (t) => {
    const x = ops.mul(first(t), first(t))
    return [
      ops.reshape(ops.transpose(x), [8, 3]),
      ops.add(ops.reshape(x, [2, 2, 6]), 1),
      ops.transpose(ops.reshape(ops.transpose(x), [3, 8])),
    ]
  })
  check('reductions in rows, columns and all', [f32(5, 7, 3)], (t) => [
    ops.sum(ops.exp(first(t)), { axes: 0 }),
    ops.max(first(t), { axes: [1] }),
    ops.min(first(t), { axes: [2] }),
    ops.sum(first(t)),
    ops.softmax(first(t)),
    ops.sum(first(t), { axes: [0, 2], keepDims: true }),
  ])
  check('empty tensors', [f32(0, 3)], (t) => [
    ops.sum(first(t), { axes: 0 }),
    ops.exp(first(t)),
    ops.concatenate([first(t), ops.ones([1, 3])]),
  ])
  check('products in every layout', [f32(2, 3, 4), f32(2, 5, 4), f32(4, 2)], (t) => [
    ops.dotGeneral(first(t), second(t), { batch: [[0], [0]], contract: [[2], [2]] }),
    ops.matmul(first(t), third(t)),
    ops.dotGeneral(first(t), second(t), {
      batch: [[], []],
      contract: [
        [0, 2],
        [0, 2],
      ],
    }),
    ops.matmul(ops.transpose(third(t)), third(t)),
  ])
  check(
    'sums of affine expressions',
    [f32(3, 4, 4, 5), f32(5), f32(3, 5)],
    (t) => {
      const y = ops.add(ops.mul(first(t), second(t)), 0.3)
      const scaled = ops.mul(y, ops.expandDims(third(t), [1, 2]))
      return [
        ops.sum(y, { axes: [1, 2] }),
        ops.sum(ops.mul(scaled, first(t)), { axes: [0, 1, 2] }),
        ops.sum(scaled, { axes: [0, 1, 2] }),
        ops.sum(ops.neg(y)),
      ]
    },
    5e-6,
  )
  check(
    'a two-pass variance keeps its digits',
    [f32(2, 6, 6, 3)],
    (t) => {
      const x = ops.add(ops.mul(first(t), 1e-3), 5)
      const centred = ops.sub(x, ops.mean(x, { axes: [0, 1, 2], keepDims: true }))
      return [ops.mean(ops.square(centred), { axes: [0, 1, 2] })]
    },
    2e-3,
  )
})

describe('plans of training code', () => {
  const channels = 8
  const norm = batchNorm()
  const squeeze = squeezeExcite(3)
  const types = (x: TensorType): TensorType[] => [
    x,
    f32(channels),
    f32(channels),
    f32(channels),
    f32(channels),
    f32(3, channels),
    f32(3),
    f32(channels, 3),
    f32(channels),
    f32(...x.shape),
  ]
  const block = (inputs: readonly Tensor[]): readonly Tensor[] => {
    const [x, weight, bias, mean, variance, w1, b1, w2, b2, shortcut] = inputs as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ]
    const loss = (p: {
      weight: Tensor
      bias: Tensor
      w1: Tensor
      w2: Tensor
      x: Tensor
    }): readonly [Tensor, Tensor] => {
      const [y, state] = norm.apply(
        { weight: p.weight, bias: p.bias },
        { running_mean: mean, running_var: variance },
        p.x,
        { training: true },
      )
      const wide = ops.cast(y, 'f32')
      const [z] = squeeze.apply({ squeeze: { weight: p.w1, bias: b1 }, expand: { weight: p.w2, bias: b2 } }, {}, wide, {
        training: true,
      })
      const out = ops.maximum(ops.add(z, shortcut), 0)
      return [ops.sum(ops.mul(ops.square(out), 0.01)), state.running_var]
    }
    const [[value, running], grads] = valueAndGrad(loss, { hasAux: true })({ weight, bias, w1, w2, x })
    return [value, running, grads.weight, grads.bias, grads.w1, grads.w2, grads.x]
  }
  check('batch norm, squeeze and excitation, residual', types(f32(2, 3, 3, channels)), block, 2e-5)
  check('the same from f16', types(f16(2, 3, 3, channels)), block, 4e-3)
  check('cross-entropy and its gradient', [f32(4, 6), { shape: [4], dtype: 'i32' }], (t) => {
    const [loss, gradient] = valueAndGrad((logits: Tensor) =>
      softmaxCrossEntropy(logits, second(t), { labelSmoothing: 0.1 }),
    )(first(t))
    return [loss, gradient]
  })
})

describe('a value that a kernel makes and reads again', () => {
  /** The same through views that cancel, which no expression sees. */
  const back = (x: Tensor): Tensor => {
    const wide = ops.broadcastTo(ops.reshape(x, [1, ...x.shape]), [3, ...x.shape])
    return ops.reshape(ops.slice(wide, [0, ...x.shape.map(() => 0)], [1, ...x.shape]), x.shape)
  }
  check('is not read before it is written', [f32(8, 8)], (t) => {
    const y = ops.add(first(t), 1)
    return [y, ops.mul(ops.add(back(y), first(t)), 3)]
  })
  check('nor by an epilogue', [f32(8, 30)], (t) => {
    const sums = ops.sum(first(t), { axes: [1] })
    const twice = ops.mul(sums, 2)
    return [twice, ops.mul(ops.add(back(twice), sums), 3)]
  })
})

describe('the key of a step', () => {
  it('tells apart constants that JSON does not', () => {
    const kernel = (value: number) =>
      ({ kind: 'kernel', kernel: { nodes: [{ op: 'constant', dtype: 'f32', value }] } }) as unknown as Step
    const keys = [0, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1].map((value) =>
      stepKey(kernel(value)),
    )
    expect(new Set(keys).size).toBe(keys.length)
    expect(stepKey(kernel(1))).toBe(stepKey(kernel(1)))
  })

  it('tells them apart in an epilogue', () => {
    const f = ([x, y]: readonly Tensor[]): Tensor[] =>
      [x, y].map((t, i) => {
        const s = ops.sum(t!, { axes: [1] })
        return ops.where(ops.greater(s, 0), s, i === 0 ? Infinity : -Infinity)
      })
    const { program } = traceFlat(f, [f32(4, 5), f32(4, 5)], 'epilogues', { keepCalls: false })
    const { steps } = compileProgram(program, { optimize: 'fuse', donate: [] })
    const epilogues = steps.filter((step) => step.kind === 'kernel' && step.kernel.epilogue !== undefined)
    expect([epilogues.length, new Set(epilogues.map(stepKey)).size]).toEqual([2, 2])
  })

  it('does not tell apart what values are called', () => {
    const f = ([x, y, z]: readonly Tensor[]): Tensor[] => [ops.matmul(x!, y!), ops.matmul(x!, z!)]
    const types = [f32(4, 5), f32(5, 6), f32(5, 6)]
    const { program } = traceFlat(f, types, 'names', { keepCalls: false }, ['images', 'params.a', 'params.b'])
    const { steps } = compileProgram(program, { optimize: 'fuse', donate: [] })
    expect([steps.length, new Set(steps.map(stepKey)).size]).toEqual([2, 1])
  })
})

describe('donation', () => {
  const planOf = (f: (x: Tensor) => Tensor) => {
    const { program } = traceFlat((t) => [f(first(t))], [f32(3, 3)], 'donation', { keepCalls: false })
    return compileProgram(program, { optimize: 'fuse', donate: [0], verify: true })
  }
  const place = (f: (x: Tensor) => Tensor) => {
    const plan = planOf(f)
    return plan.buffers[plan.outputs[0] ?? -1]?.place.kind
  }

  it('overwrites an input whose elements are read where they are written', () => {
    expect(place((x) => ops.add(ops.exp(x), 1))).toBe('input')
  })

  it('overwrites nothing that is read elsewhere in the same kernel', () => {
    expect(place((x) => ops.add(x, ops.transpose(x)))).toBe('output')
    expect(place((x) => ops.add(x, ops.broadcastTo(ops.slice(x, [0, 0], [1, 3]), [3, 3])))).toBe('output')
  })

  it('overwrites an input that an earlier step read, however it was read', () => {
    expect(place((x) => ops.matmul(ops.matmul(ops.transpose(x), x), ops.ones([3, 3])))).toBe('input')
  })
})
