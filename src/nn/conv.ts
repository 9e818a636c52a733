// Convolution and pooling layers over NHWC images.
import { abstractConvolution, abstractPooling } from '../tensor/abstract-spatial.ts'
import { ShapeError } from '../tensor/errors.ts'
import {
  type ConvOptions,
  type PoolOptions,
  avgPool2d as averagePool,
  conv2d as convolve,
  maxPool2d as maximumPool,
} from '../tensor/ops/contract.ts'
import { add } from '../tensor/ops/pointwise.ts'
import { mean } from '../tensor/ops/reduce.ts'
import type { Pair } from '../tensor/primitives.ts'
import { type Shape, showShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { asPadding, asPair } from '../tensor/windows.ts'
import { type Fan, kaimingNormal, torchUniform } from './init.ts'
import { type Layer, type Nothing, Parameter, layer, pure } from './layer.ts'

/** The parameters of a convolution: filters [out, h, w, in / groups] and, unless left out, a bias [out]. */
export type Conv2dParams = { readonly weight: Tensor; readonly bias?: Tensor }

/** The shape of a convolution layer and its first values. */
export interface Conv2dOptions extends ConvOptions {
  /** The number of output channels. */
  readonly features: number
  /** The window: a number, or [height, width]. */
  readonly kernel: number | Pair
  /** Whether to add a bias; true unless said otherwise. */
  readonly bias?: boolean
  /** Kaiming's fan of the initial filters; fanIn unless said otherwise. */
  readonly init?: `kaiming${Capitalize<Fan>}`
}

/**
 * A convolution of images [n, h, w, in] with `features` filters: [n, oh, ow, features]. Filters start Kaiming-normal,
 * the bias as PyTorch's does (uniform in ±1 / sqrt(fan in)).
 *
 * @example conv2d({ features: 64, kernel: 3, stride: 2, padding: 1, groups: 32, bias: false })
 */
export function conv2d(options: Conv2dOptions): Layer<Conv2dParams, Nothing> {
  const { features, bias = true, init = 'kaimingFanIn', groups = 1 } = options
  const window = asPair(options.kernel, 1)
  return layer<Conv2dParams, Nothing>({
    describe(inputShape) {
      const filter = [features, ...window, channelsOf('conv2d', inputShape) / groups]
      const outputShape = abstractConvolution('conv2d', inputShape, filter, {
        stride: asPair(options.stride, 1),
        padding: asPadding(options.padding),
        dilation: asPair(options.dilation, 1),
        groups,
      })
      const weight = new Parameter(filter, kaimingNormal(filter, init === 'kaimingFanIn' ? 'fanIn' : 'fanOut'))
      const fanIn = (filter[1] ?? 1) * (filter[2] ?? 1) * (filter[3] ?? 1)
      const params = bias ? { weight, bias: new Parameter([features], torchUniform(fanIn)) } : { weight }
      return { params, state: {}, outputShape }
    },
    apply({ weight, bias: offset }, _state, x) {
      const y = convolve(x, weight, options)
      return [offset === undefined ? y : add(y, offset), {}]
    },
  })
}

/** The largest of each window; the stride is the window unless given. Padding never wins. */
export function maxPool2d(window: number | Pair, options: PoolOptions = {}): Layer<Nothing, Nothing> {
  return pooling('maxPool2d', maximumPool, window, options)
}

/** The mean of each window; the stride is the window unless given. Padded zeros count, as in PyTorch. */
export function avgPool2d(window: number | Pair, options: PoolOptions = {}): Layer<Nothing, Nothing> {
  return pooling('avgPool2d', averagePool, window, options)
}

/** The mean over each image: [n, h, w, c] to [n, c]. */
export function globalAvgPool(): Layer<Nothing, Nothing> {
  return pure(
    (x) => mean(x, { axes: [1, 2] }),
    (shape) => [shape[0] ?? 0, channelsOf('globalAvgPool', shape)],
  )
}

function pooling(op: string, f: typeof maximumPool, window: number | Pair, options: PoolOptions) {
  const size = asPair(window, 1)
  const params = {
    window: size,
    stride: options.stride === undefined ? size : asPair(options.stride, 1),
    padding: asPadding(options.padding),
  }
  return pure(
    (x) => f(x, window, options),
    (shape) => abstractPooling(op, shape, params),
  )
}

/** @internal The channels of an NHWC shape. */
export function channelsOf(op: string, shape: Shape): number {
  const channels = shape[3]
  if (shape.length !== 4 || channels === undefined)
    throw new ShapeError(`[${op}] expected images [n, h, w, c], got the shape ${showShape(shape)}.`)
  return channels
}
