// Batch normalisation (Ioffe and Szegedy, 2015), with running statistics as a value in and a value out.
import { accumulationType, isFloat } from '../tensor/dtype.ts'
import { DTypeError, ShapeError, ValueError } from '../tensor/errors.ts'
import { add, cast, mul, rsqrt, sub } from '../tensor/ops/pointwise.ts'
import { moments } from '../tensor/ops/reduce.ts'
import { range, showShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { constant } from './init.ts'
import { type Layer, Parameter, layer } from './layer.ts'

/** Scale (gamma) and offset (beta), both [channels], under PyTorch's names. */
export type BatchNormParams = { readonly weight: Tensor; readonly bias: Tensor }

/** The running mean and (unbiased) variance, both [channels] and f32. */
export type BatchNormState = { readonly running_mean: Tensor; readonly running_var: Tensor }

/** How a batch norm computes and starts. */
export interface BatchNormOptions {
  /** How much of the running statistics each batch replaces, PyTorch's sense: 0.1 unless said otherwise. */
  readonly momentum?: number
  /** Added to the variance: 1e-5 unless said otherwise. */
  readonly epsilon?: number
  /** What gamma starts as: 1 unless said otherwise; 0 makes a residual block start as its shortcut. */
  readonly gamma?: number
}

/**
 * Normalises each channel (the last axis) over all others: by the batch's mean and biased variance in training, by the
 * running ones otherwise. Computes in f32 whatever the input and returns the input's dtype. In training the new running
 * statistics are (1 - momentum) old + momentum batch, with the unbiased variance, as in PyTorch.
 *
 * Devices take the variance from the sums of x and x^2 in one read, in f32, clamped at 0. Where a channel's mean is r
 * deviations away from zero its relative error is at most about 16 (1 + r^2) 2^-24: 1e-6 at r = 0, 9e-4 at r = 30; beyond
 * r = 1000 no digit is left, and epsilon alone bounds the scale. After a convolution r is a few at most.
 *
 * @throws ValueError in training with one value per channel, whose variance is nothing to divide by.
 */
export function batchNorm(options: BatchNormOptions = {}): Layer<BatchNormParams, BatchNormState> {
  const { momentum = 0.1, epsilon = 1e-5, gamma = 1 } = options
  return layer<BatchNormParams, BatchNormState>({
    describe(inputShape) {
      const channels = inputShape.at(-1)
      if (channels === undefined || inputShape.length < 2)
        throw new ShapeError(`[batchNorm] expected a shape [n, .., channels], got ${showShape(inputShape)}.`)
      return {
        params: { weight: new Parameter([channels], constant(gamma)), bias: new Parameter([channels], constant(0)) },
        state: {
          running_mean: new Parameter([channels], constant(0)),
          running_var: new Parameter([channels], constant(1)),
        },
        outputShape: inputShape,
      }
    },
    apply(params, state, x, mode) {
      if (!mode.training) return [normalize(x, state.running_mean, state.running_var, params, epsilon), state]
      const axes = range(x.shape.length - 1)
      const { mean, variance } = moments(x, { axes })
      const output = normalize(x, mean, variance, params, epsilon)
      return [output, updated(state, mean, variance, x.size / mean.size, momentum)]
    },
  })
}

function normalize(x: Tensor, mean: Tensor, variance: Tensor, params: BatchNormParams, epsilon: number): Tensor {
  if (!isFloat(x.dtype))
    throw new DTypeError(`[batchNorm] expected a floating dtype, got ${x.dtype}. Use cast(x, 'f32').`)
  const wide = accumulationType(x.dtype)
  const scale = mul(rsqrt(add(cast(variance, wide), epsilon)), cast(params.weight, wide))
  const centred = sub(cast(x, wide), cast(mean, wide))
  return cast(add(mul(centred, scale), cast(params.bias, wide)), x.dtype)
}

function updated(
  state: BatchNormState,
  mean: Tensor,
  variance: Tensor,
  count: number,
  momentum: number,
): BatchNormState {
  if (count < 2)
    throw new ValueError(
      `[batchNorm] expected more than one value per channel in training, got ${count}. Use a larger batch.`,
    )
  const blend = (old: Tensor, batch: Tensor): Tensor =>
    add(mul(old, 1 - momentum), mul(cast(batch, old.dtype), momentum))
  return {
    running_mean: blend(state.running_mean, mean),
    running_var: blend(state.running_var, mul(variance, count / (count - 1))),
  }
}
