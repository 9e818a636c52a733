// Functions whose plans have fusions: what they compute, on which operands, and by which names their fusions are known.
import { bindOne } from '../../src/tensor/dispatch.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import type { Flat } from './fusions-harness.ts'

/** The dtypes of cases. */
export type Half = 'f16' | 'bf16' | 'f32'

/** A function, its operands, and the names by which its fusions are known. */
export interface Case {
  readonly name: string
  readonly f: Flat
  readonly types: (dtype: Half) => readonly TensorType[]
  readonly fused: RegExp
  /** By which way; any in one pass unless said. */
  readonly own?: RegExp
  /** In which dtypes; all unless said. */
  readonly only?: readonly Half[]
}

/** Small images. */
export const images = (dtype: Half, channels = 16): TensorType => ({ dtype, shape: [2, 6, 6, channels] })
/** A filter of one tap. */
export const filter = (dtype: Half, outputs = 24, channels = 16): TensorType => ({
  dtype,
  shape: [outputs, 1, 1, channels],
})
const vector: TensorType = { dtype: 'f32', shape: [24] }

/** A tensor computed with in f32, and rounded to its dtype again. */
const inF32 = (y: Tensor, f: (y: Tensor) => Tensor): Tensor => ops.cast(f(ops.cast(y, 'f32')), y.dtype)

/** A convolution, and the sums of its result and of the squares per channel. */
export const statistics = (options: ops.ConvOptions): Flat => {
  return ([x, w]) => {
    const y = ops.conv2d(x!, w!, options)
    const wide = ops.cast(y, 'f32')
    const axes = [0, 1, 2]
    return [y, ops.sum(wide, { axes }), ops.sum(ops.mul(wide, wide), { axes })]
  }
}

/** A batch norm of inference and what follows it. */
const normalized = (y: Tensor, mean: Tensor, scale: Tensor, shift: Tensor): Tensor =>
  inF32(y, (wide) => ops.add(ops.mul(ops.sub(wide, mean), scale), shift))

const inputGrad = (cotangent: Tensor, w: Tensor): Tensor =>
  bindOne('conv2dInputGrad', [cotangent, w], {
    ...{ stride: [1, 1], dilation: [1, 1], groups: 1, inputShape: [2, 6, 6, 16] },
    padding: [
      [0, 0],
      [0, 0],
    ],
  })

/** The gradient of a block's input: two cotangents where the ReLU was open, and the sums of it that a batch norm needs. */
const gated: Flat = ([cotangent, w, other, opened, raw]) => {
  const sum = ops.add(other!, inputGrad(cotangent!, w!))
  const gradient = ops.where(ops.greater(opened!, 0), sum, 0)
  const wide = ops.cast(gradient, 'f32')
  const axes = [0, 1, 2]
  return [gradient, ops.sum(wide, { axes }), ops.sum(ops.mul(wide, ops.cast(raw!, 'f32')), { axes })]
}

/**
 * The gradient in front of a grouped convolution, and what the batch norm and ReLU there want of it: two sums where the ReLU
 * was open, and what is made of them. The mean is `part` of what is given for it.
 */
const masked =
  (stride: 1 | 2, part: number): Flat =>
  ([cotangent, w, x, ...norm]) => {
    const [given, scale, shift] = norm as [Tensor, Tensor, Tensor]
    const gradient = bindOne('conv2dInputGrad', [cotangent!, w!], {
      ...{
        stride: [stride, stride],
        dilation: [1, 1],
        groups: 4,
        inputShape: x!.shape,
      },
      padding: [
        [1, 1],
        [1, 1],
      ],
    })
    const mean = ops.mul(given, part)
    const open = ops.greater(ops.maximum(normalized(x!, mean, scale, shift), 0), 0)
    const passed = ops.cast(ops.where(open, gradient, 0), 'f32')
    const axes = [0, 1, 2]
    const [sum, products] = [ops.sum(passed, { axes }), ops.sum(ops.mul(passed, ops.cast(x!, 'f32')), { axes })]
    const scaled = ops.mul(ops.sub(products, ops.mul(sum, mean)), scale)
    return [gradient, sum, scaled, ops.mul(sum, shift)]
  }

/** A grouped convolution of what batch norm and ReLU give, and its sums. With stride 2 the mean is a sum's part. */
const fronted =
  (stride: 1 | 2): Flat =>
  ([x, w, given, scale, shift]) => {
    const mean = stride === 1 ? given! : ops.mul(ops.sum(ops.cast(x!, 'f32'), { axes: [0, 1, 2] }), 1 / 72)
    const n = ops.maximum(normalized(x!, mean, scale!, shift!), 0)
    return statistics({ padding: 1, groups: 4, stride })([n, w!])
  }
const halves = ['f16', 'bf16'] as const
const norms: readonly TensorType[] = [0, 1, 2].map(() => ({ dtype: 'f32', shape: [16] }))

/** All of them. */
export const cases: readonly Case[] = [
  {
    name: 'batch norm and ReLU in front of a grouped convolution, and statistics',
    f: fronted(1),
    types: (dtype) => [images(dtype), { dtype, shape: [16, 3, 3, 4] }, ...norms],
    fused: /groups 4 .*\+ statistics and/,
    own: /^own:grouped-forward-normalized-statistics$/,
    only: halves,
  },
  {
    name: 'the same with stride 2 and the mean from a sum',
    f: fronted(2),
    types: (dtype) => [images(dtype), { dtype, shape: [16, 3, 3, 4] }, ...norms],
    fused: /groups 4 .*\+ statistics and/,
    own: /^own:grouped-forward-normalized-statistics$/,
    only: halves,
  },
  {
    name: 'masked sums of a grouped gradient',
    f: masked(1, 1),
    types: (dtype) => [images(dtype), { dtype, shape: [16, 3, 3, 4] }, images(dtype), ...norms],
    fused: /^conv2dInputGrad .* groups 4 .*\+ masked sums and/,
    only: halves,
  },
  {
    name: 'masked sums of a grouped gradient of stride 2, with the mean from a sum',
    f: masked(2, 1 / 72),
    types: (dtype) => [{ dtype, shape: [2, 3, 3, 16] }, { dtype, shape: [16, 3, 3, 4] }, images(dtype), ...norms],
    fused: /^conv2dInputGrad .* groups 4 .*\+ masked sums and/,
    only: halves,
  },
  {
    name: 'statistics',
    f: statistics({}),
    types: (dtype) => [images(dtype), filter(dtype)],
    fused: /\+ statistics and/,
    only: ['f16'],
  },
  {
    name: 'statistics of a grouped convolution',
    f: statistics({ padding: 1, groups: 4, stride: 2 }),
    types: (dtype) => [images(dtype), { dtype, shape: [16, 3, 3, 4] }],
    fused: /groups 4 .*\+ statistics and/,
    only: halves,
  },
  {
    name: 'batch norm and ReLU',
    f: ([x, w, ...norm]) => {
      const [mean, scale, shift] = norm as [Tensor, Tensor, Tensor]
      return [ops.maximum(normalized(ops.conv2d(x!, w!), mean, scale, shift), 0)]
    },
    types: (dtype) => [images(dtype), filter(dtype), vector, vector, vector],
    fused: /\+ SUB\(y, a0\) MUL\(s0, a1\) ADD\(s1, a2\) RELU_FWD\(s2\)/,
  },
  {
    name: 'batch norm and ReLU of a grouped convolution',
    f: ([x, w, ...norm]) => {
      const [mean, scale, shift] = norm as [Tensor, Tensor, Tensor]
      const y = ops.conv2d(x!, w!, { padding: 1, groups: 4 })
      return [ops.maximum(normalized(y, mean, scale, shift), 0)]
    },
    types: (dtype) => {
      const norm: TensorType = { dtype: 'f32', shape: [16] }
      return [images(dtype), { dtype, shape: [16, 3, 3, 4] }, norm, norm, norm]
    },
    fused: /groups 4 .*\+ SUB\(y, a0\)/,
  },
  {
    name: 'batch norm, a gate for each image, a residual and ReLU',
    f: ([x, w, gate, residual, ...norm]) => {
      const [mean, scale, shift] = norm as [Tensor, Tensor, Tensor]
      const y = normalized(ops.conv2d(x!, w!), mean, scale, shift)
      return [ops.maximum(ops.add(ops.mul(y, gate!), residual!), 0)]
    },
    types: (dtype) => {
      const residual = { dtype, shape: [2, 6, 6, 24] } as const
      return [images(dtype), filter(dtype), { dtype, shape: [2, 1, 1, 24] }, residual, vector, vector, vector]
    },
    fused: /MUL\(s2, a3\) ADD\(s3, a4\) RELU_FWD\(s4\) of f32 1x1x1x24, .* 2x1x1x24, .* 2x6x6x24/,
  },
  {
    name: 'added and gated gradient with its sums',
    f: gated,
    types: (dtype) => {
      const like = images(dtype)
      return [images(dtype, 24), filter(dtype), like, like, like]
    },
    fused: /conv2dInputGrad .*ADD\(a\d, y\) RELU_BWD\(s0, a\d\)/,
  },
  {
    name: 'bias and ReLU of a product',
    f: ([x, w, bias]) => [ops.maximum(ops.add(ops.matmul(x!, w!), ops.cast(bias!, x!.dtype)), 0)],
    types: (dtype) => [{ dtype, shape: [10, 32] }, { dtype, shape: [32, 24] }, vector],
    fused: /^dot .* bias-relu/,
  },
  {
    name: 'bias of a product',
    f: ([x, w, bias]) => [ops.add(ops.matmul(x!, w!), ops.cast(bias!, x!.dtype))],
    types: (dtype) => [{ dtype, shape: [10, 32] }, { dtype, shape: [32, 24] }, vector],
    fused: /^dot .* bias and/,
  },
]
