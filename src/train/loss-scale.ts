// Loss scaling (Micikevicius et al., 2018) as a value: six scalars that live in the train state and three pure functions.
// One compiled step serves every kind, and a checkpoint holds all there is to know.
import { scalar } from '../tensor/dispatch.ts'
import { isFloat } from '../tensor/dtype.ts'
import { DTypeError, ValueError } from '../tensor/errors.ts'
import { tensor } from '../tensor/ops/create.ts'
import { add, cast, equal, isFinite, logicalAnd, maximum, mul, reciprocal, where } from '../tensor/ops/pointwise.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { TensorTree } from '../nn/layer.ts'
import { mapTensors } from './map.ts'

/** A loss scale; every field is a scalar tensor, f32 unless said otherwise. */
export type LossScale = {
  /** What the loss is multiplied by. */
  readonly scale: Tensor
  /** What the scale is multiplied by after `interval` good steps in a row. */
  readonly growth: Tensor
  /** What the scale is multiplied by after a step that was not finite. */
  readonly backoff: Tensor
  /** i32. */
  readonly interval: Tensor
  /** Backing off stops here. */
  readonly min: Tensor
  /** Good steps since the scale last changed: i32. */
  readonly goodSteps: Tensor
}

/** How a dynamic loss scale moves. */
export interface DynamicOptions {
  /** The first scale: 65536 unless said otherwise. */
  readonly init?: number
  /** 2 unless said otherwise. */
  readonly growth?: number
  /** 0.5 unless said otherwise. */
  readonly backoff?: number
  /** 2000 unless said otherwise. */
  readonly interval?: number
  /** 1 unless said otherwise. */
  readonly min?: number
}

/** A scale of 1 that stays. */
export function none(): LossScale {
  return fixed(1)
}

/**
 * A scale that stays.
 *
 * @throws ValueError unless it is positive and finite.
 */
export function fixed(scale: number): LossScale {
  return make({ init: scale, growth: 1, backoff: 1, interval: 2 ** 31 - 1, min: 0 })
}

/**
 * A scale that grows after `interval` finite steps in a row and backs off after a step that is not, as PyTorch's
 * GradScaler does. It never grows to infinity and never falls below `min`.
 *
 * @throws ValueError for growth below 1, a backoff outside (0, 1], or a scale or interval that is not positive.
 */
export function dynamic(options: DynamicOptions = {}): LossScale {
  return make({ init: 65536, growth: 2, backoff: 0.5, interval: 2000, min: 1, ...options })
}

function make({ init, growth, backoff, interval, min }: Required<DynamicOptions>): LossScale {
  const check = (holds: boolean, what: string, value: number): void => {
    if (!holds) throw new ValueError(`[lossScale] expected ${what}, got ${value}.`)
  }
  check(init > 0 && Number.isFinite(Math.fround(init)), 'a positive, finite scale', init)
  check(growth >= 1 && Number.isFinite(growth), 'a growth of at least 1', growth)
  check(backoff > 0 && backoff <= 1, 'a backoff above 0, at most 1', backoff)
  check(Number.isInteger(interval) && interval >= 1 && interval < 2 ** 31, 'an interval of at least one step', interval)
  check(min >= 0 && min <= init, 'a minimum from 0 to the first scale', min)
  return {
    scale: tensor(init),
    growth: tensor(growth),
    backoff: tensor(backoff),
    interval: tensor(interval, { dtype: 'i32' }),
    min: tensor(min),
    goodSteps: tensor(0, { dtype: 'i32' }),
  }
}

/** The loss times the scale; the loss must be f32 (f64), for a 16-bit product would overflow at once. */
export function scaleLoss(lossScale: LossScale, loss: Tensor): Tensor {
  if (loss.dtype !== 'f32' && loss.dtype !== 'f64')
    throw new DTypeError(`[scaleLoss] expected an f32 loss, got ${loss.dtype}. Use cast(loss, 'f32') before the mean.`)
  return mul(loss, cast(lossScale.scale, loss.dtype))
}

/** Gradients of the scaled loss as those of the loss itself: f32 (f64 stays), times 1 / scale. Exact for powers of two. */
export function unscale<T extends TensorTree>(lossScale: LossScale, gradients: T): T {
  const inverse = reciprocal(lossScale.scale)
  return mapTensors(gradients, (g) => {
    if (!isFloat(g.dtype)) throw new DTypeError(`[unscale] expected floating gradients, got ${g.dtype}.`)
    const wide = g.dtype === 'f64' ? g : cast(g, 'f32')
    return mul(wide, cast(inverse, wide.dtype))
  })
}

/** The scale for the next step, given whether (bool scalar) everything in this one was finite. */
export function adjust(lossScale: LossScale, finite: Tensor): LossScale {
  const { scale, growth, backoff, interval, min, goodSteps } = lossScale
  const counted = add(goodSteps, 1)
  const due = logicalAnd(finite, equal(counted, interval))
  const grown = mul(scale, growth)
  const larger = where(logicalAnd(due, isFinite(grown)), grown, scale)
  const smaller = maximum(mul(scale, backoff), min)
  return {
    ...lossScale,
    scale: where(finite, larger, smaller),
    goodSteps: where(finite, where(due, scalar(0, 'i32'), counted), scalar(0, 'i32')),
  }
}
