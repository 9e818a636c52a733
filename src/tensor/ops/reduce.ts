// Reductions and what is made of them. Axes disappear unless `keepDims`; sums of 16-bit tensors are kept in f32 and rounded once.
import { bind, bindOne } from '../dispatch.ts'
import { accumulationType, isFloat } from '../dtype.ts'
import { DTypeError, InternalError } from '../errors.ts'
import { at, normalizeAxes, normalizeAxis, sizeOf } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { expandDims } from './movement.ts'
import { cast, div, equal, exp, log, mul, notEqual, stopGradient, sub, where, add } from './pointwise.ts'

/** Which axes to reduce (all by default; negative ones count from the end) and whether they stay as extent 1. */
export interface ReduceOptions {
  readonly axes?: number | readonly number[]
  readonly keepDims?: boolean
}

function reduction(op: string, primitive: 'reduceSum' | 'reduceMax' | 'reduceMin') {
  return (x: Tensor, options: ReduceOptions = {}): Tensor => {
    const axes = normalizeAxes(op, options.axes, x.shape.length)
    const result = axes.length === 0 ? x : bindOne(primitive, [x], { axes })
    return options.keepDims === true ? expandDims(result, axes) : result
  }
}

/** The sum over axes. */
export const sum = reduction('sum', 'reduceSum')
/** The largest element over axes; equal elements share the gradient. */
export const max = reduction('max', 'reduceMax')
/** The smallest element over axes; equal elements share the gradient. */
export const min = reduction('min', 'reduceMin')

/** The mean over axes, of a floating tensor; 16-bit means are computed in f32 and rounded once. */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  if (!isFloat(x.dtype)) throw new DTypeError(`[mean] expected a floating dtype, got ${x.dtype}. Use cast(x, 'f32').`)
  const axes = normalizeAxes('mean', options.axes, x.shape.length)
  const count = sizeOf(axes.map((axis) => at(x.shape, axis)))
  const wide = accumulationType(x.dtype)
  return cast(mul(sum(cast(x, wide), options), 1 / count), x.dtype)
}

/** Mean and biased variance over axes, both f32 (f64 for f64). */
export function moments(x: Tensor, options: ReduceOptions = {}): { readonly mean: Tensor; readonly variance: Tensor } {
  const axes = normalizeAxes('moments', options.axes, x.shape.length)
  const [first, second] = bind('moments', [x], { axes })
  if (first === undefined || second === undefined) throw new InternalError('moments gave no results')
  const shape = (t: Tensor): Tensor => (options.keepDims === true ? expandDims(t, axes) : t)
  return { mean: shape(first), variance: shape(second) }
}

/** The index of the first largest element along an axis: i32. */
export function argMax(x: Tensor, axis = -1): Tensor {
  return bindOne('argMax', [x], { axis: normalizeAxis('argMax', axis, x.shape.length) })
}

/** Whether all elements of a bool tensor hold, over axes: bool. */
export function all(x: Tensor, options: ReduceOptions = {}): Tensor {
  return notEqual(min(cast(x, 'i32'), options), 0)
}

/** Whether any element of a bool tensor holds, over axes: bool. */
export function any(x: Tensor, options: ReduceOptions = {}): Tensor {
  return notEqual(max(cast(x, 'i32'), options), 0)
}

/** log(sum(exp(x))) over axes, computed from the largest element so that it does not overflow. */
export function logSumExp(x: Tensor, options: ReduceOptions = {}): Tensor {
  const axes = normalizeAxes('logSumExp', options.axes, x.shape.length)
  const largest = stopGradient(max(x, { axes, keepDims: true }))
  const shift = where(equal(sub(largest, largest), 0), largest, 0) // an infinite largest element would give NaN
  const total = add(log(sum(exp(sub(x, shift)), { axes, keepDims: true })), shift)
  return options.keepDims === true ? total : sum(total, { axes })
}

/** exp(x) / sum(exp(x)) along an axis. */
export function softmax(x: Tensor, axis = -1): Tensor {
  const shifted = exp(sub(x, stopGradient(max(x, { axes: axis, keepDims: true }))))
  return div(shifted, sum(shifted, { axes: axis, keepDims: true }))
}

/** log(softmax(x)) along an axis, without underflow. */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  const shifted = sub(x, stopGradient(max(x, { axes: axis, keepDims: true })))
  return sub(shifted, log(sum(exp(shifted), { axes: axis, keepDims: true })))
}
