// Taking and adding by index.
import { bindOne } from '../dispatch.ts'
import type { DType } from '../dtype.ts'
import { type Shape, normalizeAxis, range } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { iota } from './create.ts'
import { broadcastTo, expandDims } from './movement.ts'
import { cast, equal } from './pointwise.ts'

/** Slices of x along `axis` at the i32 `indices`, whose axes take that axis' place; indices outside are clamped. */
export function take(x: Tensor, indices: Tensor, axis = 0): Tensor {
  return bindOne('gather', [x, indices], { axis: normalizeAxis('take', axis, x.shape.length) })
}

/** Zeros of `shape` with `updates` added at `indices` along `axis`: the transpose of `take`. */
export function scatterAdd(updates: Tensor, indices: Tensor, shape: Shape, axis = 0): Tensor {
  return bindOne('scatterAdd', [updates, indices], {
    axis: normalizeAxis('scatterAdd', axis, shape.length),
    shape: [...shape],
  })
}

/** Ones at the given classes: i32 [..] to `dtype` [.., classes]. A class outside gives a row of zeros. */
export function oneHot(classes: Tensor, count: number, dtype: DType = 'f32'): Tensor {
  const shape = [...classes.shape, count]
  return cast(equal(broadcastTo(expandDims(classes, -1), shape), iota(shape, shape.length - 1, 'i32')), dtype)
}

/** The elements of x, `[.., k]`, at the i32 `classes`, `[..]`: one number a row. */
export function pick(x: Tensor, classes: Tensor): Tensor {
  const last = x.shape.length - 1
  const hot = oneHot(classes, x.shape[last] ?? 0, x.dtype)
  return bindOne('reduceSum', [bindOne('mul', [x, hot], {})], { axes: range(x.shape.length).slice(last) })
}
