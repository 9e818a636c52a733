// autocast: its table checked by running every kind of primitive, its casts counted, its way with other transformations.
import { beforeAll, describe, expect, test } from 'vitest'
import {
  autocast,
  checkpoint,
  customVjp,
  grad,
  jit,
  treatments,
  valueAndGrad,
  verifyPrograms,
  vjp,
} from '../../src/autograd/index.ts'
import { bind, setDefaultDevice } from '../../src/tensor/dispatch.ts'
import type { DType } from '../../src/tensor/dtype.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { PrimitiveName } from '../../src/tensor/primitives.ts'
import type { Program } from '../../src/tensor/program.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

const { add, cast, matmul, maximum, mul, ones, sum, tensor } = ops

setDefaultDevice(referenceDevice())

beforeAll(() => {
  verifyPrograms(true)
})

const f16 = { compute: 'f16' } as const

const image = (dtype: DType): Tensor => cast(ones([1, 4, 4, 2]), dtype)
const matrix = (dtype: DType): Tensor => cast(ones([4, 4]), dtype)
const conv = {
  stride: [1, 1],
  padding: [
    [0, 0],
    [0, 0],
  ],
  dilation: [1, 1],
  groups: 1,
} as const
const pool = {
  window: [2, 2],
  stride: [2, 2],
  padding: [
    [0, 0],
    [0, 0],
  ],
} as const

/** An application of each primitive to operands of a given dtype; those without floating operands have none. */
const applications: { readonly [P in PrimitiveName]: ((dtype: DType) => Tensor | undefined) | 'no floats' } = {
  ...(Object.fromEntries(
    (
      [
        'neg',
        'exp',
        'log',
        'sqrt',
        'rsqrt',
        'sin',
        'cos',
        'tanh',
        'sigmoid',
        'erf',
        'abs',
        'sign',
        'floor',
        'isFinite',
        'stopGradient',
      ] as const
    ).map((p) => [p, (d: DType) => bind(p, [matrix(d)], {})[0]]),
  ) as Record<
    | 'neg'
    | 'exp'
    | 'log'
    | 'sqrt'
    | 'rsqrt'
    | 'sin'
    | 'cos'
    | 'tanh'
    | 'sigmoid'
    | 'erf'
    | 'abs'
    | 'sign'
    | 'floor'
    | 'isFinite'
    | 'stopGradient',
    (d: DType) => Tensor | undefined
  >),
  ...(Object.fromEntries(
    (['add', 'sub', 'mul', 'div', 'pow', 'max', 'min'] as const).map((p) => [
      p,
      (d: DType) => bind(p, [matrix(d), matrix(d)], {})[0],
    ]),
  ) as Record<'add' | 'sub' | 'mul' | 'div' | 'pow' | 'max' | 'min', (d: DType) => Tensor | undefined>),
  not: 'no floats',
  and: 'no floats',
  or: 'no floats',
  iota: 'no floats',
  randomBits: 'no floats',
  call: 'no floats',
  cast: (d) => cast(matrix(d), 'f64'),
  compare: (d) => ops.less(matrix(d), matrix(d)),
  select: (d) => ops.where(ops.less(ones([4, 4]), 2), matrix(d), matrix(d)),
  broadcast: (d) => ops.broadcastTo(matrix(d), [2, 4, 4]),
  reshape: (d) => ops.reshape(matrix(d), [16]),
  transpose: (d) => ops.transpose(matrix(d)),
  slice: (d) => ops.slice(matrix(d), [1]),
  pad: (d) =>
    ops.pad(matrix(d), [
      [1, 1],
      [0, 0],
    ]),
  concatenate: (d) => ops.concatenate([matrix(d), matrix(d)]),
  reduceSum: (d) => sum(matrix(d)),
  reduceMax: (d) => ops.max(matrix(d)),
  reduceMin: (d) => ops.min(matrix(d)),
  argMax: (d) => ops.argMax(matrix(d)),
  moments: (d) => ops.moments(matrix(d)).variance,
  dot: (d) => matmul(matrix(d), matrix(d)),
  conv2d: (d) => ops.conv2d(image(d), cast(ones([3, 2, 2, 2]), d)),
  conv2dInputGrad: (d) =>
    bind('conv2dInputGrad', [cast(ones([1, 3, 3, 3]), d), cast(ones([3, 2, 2, 2]), d)], {
      ...conv,
      inputShape: [1, 4, 4, 2],
    })[0],
  conv2dFilterGrad: (d) =>
    bind('conv2dFilterGrad', [image(d), cast(ones([1, 3, 3, 3]), d)], { ...conv, filterShape: [3, 2, 2, 2] })[0],
  maxPool2d: (d) => ops.maxPool2d(image(d), 2),
  maxPool2dGrad: (d) => bind('maxPool2dGrad', [image(d), cast(ones([1, 2, 2, 2]), d)], pool)[0],
  maxPool2dPick: (d) => bind('maxPool2dPick', [image(d), image(d)], pool)[0],
  avgPool2d: (d) => ops.avgPool2d(image(d), 2),
  avgPool2dGrad: (d) => bind('avgPool2dGrad', [cast(ones([1, 2, 2, 2]), d)], { ...pool, inputShape: [1, 4, 4, 2] })[0],
  gather: (d) => ops.take(matrix(d), ops.arange(2)),
  scatterAdd: (d) => ops.scatterAdd(matrix(d), ops.arange(4), [4, 4]),
  allReduce: (d) => bind('allReduce', [matrix(d)], { op: 'sum', group: 1 })[0],
}

/** What the result of each treatment is for operands of f32, f16 and f64; integer and bool results stay as they are. */
const expected = {
  compute: { f32: 'f16', f16: 'f16', f64: 'f64' },
  wide: { f32: 'f32', f16: 'f32', f64: 'f64' },
  follow: { f32: 'f32', f16: 'f16', f64: 'f64' },
} as const
const integers: Partial<Record<PrimitiveName, DType>> = {
  isFinite: 'bool',
  compare: 'bool',
  argMax: 'i32',
  cast: 'f64',
}

describe('the table', () => {
  const floating = Object.entries(applications).filter(([, apply]) => apply !== 'no floats') as [
    PrimitiveName,
    (d: DType) => Tensor,
  ][]
  test.each(floating)('%s', (primitive, apply) => {
    const treatment = treatments[primitive]
    for (const dtype of ['f32', 'f16', 'f64'] as const) {
      const kind = treatment === 'none' ? 'wide' : treatment // moments gives f32 by itself
      expect(autocast(() => apply(dtype), f16)().dtype).toBe(integers[primitive] ?? expected[kind][dtype])
    }
  })

  test('names nothing with floats as having none', () => {
    const none = Object.entries(applications).flatMap(([name, apply]) => (apply === 'no floats' ? [name] : []))
    expect(none.map((name) => treatments[name as PrimitiveName])).toEqual(none.map(() => 'none'))
  })
})

const casts = ({ equations }: Program): string[] =>
  equations.flatMap((e) =>
    e.primitive === 'cast'
      ? [`${e.inputs[0]?.type.dtype ?? ''}->${e.params.dtype}[${e.inputs[0]?.type.shape.join() ?? ''}]`]
      : [],
  )

describe('casts', () => {
  const layer = (w: Tensor, b: Tensor, x: Tensor): Tensor => maximum(add(matmul(x, w), b), 0)

  test('are made once for each tensor, and of a bias before it is broadcast', () => {
    const f = autocast((w: Tensor, b: Tensor, x: Tensor) => layer(w, b, layer(w, b, x)), f16)
    const program = jit(f).program(ones([4, 4]), ones([4]), ones([8, 4]))
    expect(casts(program)).toEqual(['f32->f16[8,4]', 'f32->f16[4,4]', 'f32->f16[4]'])
    expect(program.outputs[0]?.type.dtype).toBe('f16')
  })

  test('keep what was computed wide on purpose wide: logits of 16 bits give a loss of 32', () => {
    const f = autocast((x: Tensor, w: Tensor) => {
      const logits = matmul(x, w)
      return [
        logits,
        ops.logSoftmax(logits),
        ops.softmax(logits),
        ops.logSumExp(logits),
        ops.mean(logits),
        mul(logits, 2),
      ]
    }, f16)
    expect(f(ones([2, 3]), ones([3, 4])).map((y) => y.dtype)).toEqual(['f16', 'f32', 'f32', 'f32', 'f16', 'f16'])
  })

  test('leave a mix of f16 and bf16 to the error of the operation', () => {
    const mixed = autocast(() => add(matrix('f16'), matrix('bf16')), f16)
    expect(mixed).toThrow(/\[add\] expected one dtype, got f16 and bf16/)
  })
})

describe('with other transformations', () => {
  const params = {
    w: tensor([
      [0.5, -0.25],
      [1, 2],
    ]),
    b: tensor([0.125, -1]),
  }
  const x = tensor([
    [1, 2],
    [3, -4],
  ])
  const model = (p: typeof params): Tensor => sum(ops.square(ops.tanh(add(matmul(x, p.w), p.b))))
  const bits = async (tree: typeof params): Promise<number[][]> => [
    [...(await tree.w.data())],
    [...(await tree.b.data())],
  ]

  test('gives f32 gradients of f32 parameters, near those of f32', async () => {
    const mixed = grad(autocast(model, f16))(params)
    expect([mixed.w.dtype, mixed.b.dtype]).toEqual(['f32', 'f32'])
    const [exact, near] = [(await bits(grad(model)(params))).flat(), (await bits(mixed)).flat()]
    exact.forEach((value, i) => {
      expect(Math.abs((near[i] ?? 0) - value)).toBeLessThan(4 * 2 ** -11 * 8) // a few roundings of values up to 8
    })
    expect(near).not.toEqual(exact)
  })

  test('inside grad, around grad and with checkpoint, jit and vjp the numbers are the same', async () => {
    const inside = await bits(grad(autocast(model, f16))(params))
    expect(await bits(autocast(grad(model), f16)(params))).toEqual(inside)
    expect(await bits(jit(grad(autocast(checkpoint(model), f16)))(params))).toEqual(inside)
    expect(await bits(grad(checkpoint(autocast(model, f16)))(params))).toEqual(inside)
    expect(await bits(autocast(jit(grad(model)), f16)(params))).toEqual(inside)
    const around = autocast((p: typeof params) => {
      const [y, pullback] = vjp(model, p)
      return pullback(ops.onesLike(y))[0]
    }, f16)
    expect(await bits(around(params))).toEqual(inside)
  })

  test('reaches into customVjp and casts its cotangents back', async () => {
    const product = customVjp(
      (a: Tensor, b: Tensor) => matmul(a, b),
      (a, b) => [matmul(a, b), [a, b] as const],
      ([a, b], g) => [matmul(g, ops.transpose(b)), matmul(ops.transpose(a), g)],
    )
    const f = autocast((w: Tensor) => product(x, w), f16)
    const [[y], g] = valueAndGrad((w: Tensor) => [cast(sum(f(w)), 'f32'), f(w).dtype] as const, { hasAux: true })(
      params.w,
    )
    const plain = grad((w: Tensor) => sum(matmul(x, w)))(params.w)
    expect([f(params.w).dtype, y.dtype, g.dtype, [...(await g.data())]]).toEqual([
      'f16',
      'f32',
      'f32',
      [...(await plain.data())],
    ])
  })

  test('the inner policy holds within another', () => {
    const f = autocast((a: Tensor) => autocast((b: Tensor) => matmul(b, b), { compute: 'bf16' })(a), f16)
    expect(f(ones([2, 2])).dtype).toBe('bf16')
  })

  test('refuses promises and unknown dtypes', () => {
    expect(() => autocast(async () => x, f16)()).toThrow(/got a Promise/)
    expect(() => autocast(model, { compute: 'f8' as never })).toThrow(/expected compute 'f16' or 'bf16', got 'f8'/)
  })
})
