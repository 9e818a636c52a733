// Operations that move elements: no arithmetic, only places.
import { bindOne } from '../dispatch.ts'
import { ShapeError, ValueError } from '../errors.ts'
import { type Shape, at, normalizeAxes, normalizeAxis, range, sameShape, showShape, sizeOf } from '../shape.ts'
import type { Tensor } from '../tensor.ts'

/** x with another shape of as many elements; one extent may be -1. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const unknown = shape.filter((extent) => extent === -1).length
  if (unknown > 1) throw new ShapeError(`[reshape] expected at most one -1, got [${shape.join(', ')}].`)
  const known = sizeOf(shape.filter((extent) => extent !== -1))
  const resolved = shape.map((extent) => (extent === -1 ? (known === 0 ? 0 : x.size / known) : extent))
  return sameShape(resolved, x.shape) ? x : bindOne('reshape', [x], { shape: resolved })
}

/** x with every axis in one. */
export function ravel(x: Tensor): Tensor {
  return reshape(x, [x.size])
}

/** x with its axes in another order (reversed by default): result axis i is axis permutation[i] of x. */
export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  const rank = x.shape.length
  const order =
    permutation === undefined
      ? range(rank).reverse()
      : permutation.map((axis) => normalizeAxis('transpose', axis, rank))
  return sameShape(order, range(rank)) ? x : bindOne('transpose', [x], { permutation: order })
}

/** x repeated to `shape` as NumPy broadcasts: missing leading axes and axes of extent 1 are stretched. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x
  const offset = shape.length - x.shape.length
  if (offset < 0 || x.shape.some((extent, axis) => extent !== 1 && extent !== shape[axis + offset]))
    throw new ShapeError(`[broadcastTo] cannot stretch ${showShape(x.shape)} to ${showShape(shape)}. Reshape it first.`)
  const kept = range(x.shape.length).filter((axis) => x.shape[axis] === shape[axis + offset])
  const squeezed = reshape(
    x,
    kept.map((axis) => at(x.shape, axis)),
  )
  return bindOne('broadcast', [squeezed], { shape: [...shape], axes: kept.map((axis) => axis + offset) })
}

/** x with an axis of extent 1 inserted at `axis` (or axes, as positions in the result). */
export function expandDims(x: Tensor, axis: number | readonly number[]): Tensor {
  const rank = x.shape.length + (typeof axis === 'number' ? 1 : axis.length)
  const inserted = normalizeAxes('expandDims', axis, rank)
  const rest = [...x.shape]
  return reshape(
    x,
    range(rank).map((i) => (inserted.includes(i) ? 1 : (rest.shift() ?? 1))),
  )
}

/** x without the given axes of extent 1 (all of them by default). */
export function squeeze(x: Tensor, axis?: number | readonly number[]): Tensor {
  const rank = x.shape.length
  const gone = axis === undefined ? range(rank).filter((i) => x.shape[i] === 1) : normalizeAxes('squeeze', axis, rank)
  const wrong = gone.find((i) => x.shape[i] !== 1)
  if (wrong !== undefined)
    throw new ShapeError(`[squeeze] expected extent 1 at axis ${wrong}, got ${showShape(x.shape)}.`)
  return reshape(
    x,
    x.shape.filter((_, i) => !gone.includes(i)),
  )
}

/** The part of x from `start` to before `limit` in steps of `stride` (1) on each axis; negative positions count from the end. */
export function slice(
  x: Tensor,
  start: readonly number[],
  limit?: readonly number[],
  stride?: readonly number[],
): Tensor {
  const resolve = (list: readonly number[] | undefined, fallback: (extent: number) => number): number[] =>
    x.shape.map((extent, axis) => {
      const position = list?.[axis] ?? fallback(extent)
      return position < 0 ? position + extent : position
    })
  if (start.length > x.shape.length)
    throw new ShapeError(`[slice] expected at most ${x.shape.length} starts, got ${start.length}.`)
  const params = {
    start: resolve(start, () => 0),
    limit: resolve(limit, (extent) => extent),
    stride: x.shape.map((_, axis) => stride?.[axis] ?? 1),
  }
  return bindOne('slice', [x], params)
}

/** x with zeros before and after each axis: [[low, high], ...]. */
export function pad(x: Tensor, widths: readonly (readonly [number, number])[]): Tensor {
  if (widths.length !== x.shape.length)
    throw new ShapeError(`[pad] expected ${x.shape.length} pairs, got ${widths.length}.`)
  return bindOne('pad', [x], {
    low: widths.map(([low]) => low),
    high: widths.map(([, high]) => high),
    interior: widths.map(() => 0),
  })
}

/** Tensors joined along an axis. */
export function concatenate(tensors: readonly Tensor[], axis = 0): Tensor {
  const [first] = tensors
  if (first === undefined) throw new ValueError('[concatenate] expected at least one tensor, got none.')
  return bindOne('concatenate', tensors, { axis: normalizeAxis('concatenate', axis, first.shape.length) })
}

/** Tensors of one shape joined along a new axis. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  return concatenate(
    tensors.map((x) => expandDims(x, axis)),
    axis,
  )
}
