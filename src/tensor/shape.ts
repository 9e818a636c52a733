// Shapes and index arithmetic: pure functions over arrays of non-negative integers.
import { ShapeError } from './errors.ts'

/** Extents, outermost first; tensors are dense and row-major. A scalar has the shape []. */
export type Shape = readonly number[]

/** The number of elements of a shape (1 for a scalar). */
export function sizeOf(shape: Shape): number {
  return shape.reduce((product, extent) => product * extent, 1)
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length).fill(1)
  for (let axis = shape.length - 2; axis >= 0; axis--) strides[axis] = at(strides, axis + 1) * at(shape, axis + 1)
  return strides
}

/** Whether two lists of integers are equal. */
export function sameShape(a: Shape, b: Shape): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  for (let axis = 0; axis < a.length; axis++) if (a[axis] !== b[axis]) return false
  return true
}

/** A shape as text: `2x3x4`, or `scalar`. */
export function showShape(shape: Shape): string {
  return shape.length === 0 ? 'scalar' : shape.join('x')
}

/** The element at `index`; an index outside is a fault of the caller's code, never undefined. */
export function at<T>(list: ArrayLike<T>, index: number): T {
  const found = list[index]
  if (found === undefined && !(index >= 0 && index < list.length))
    throw new RangeError(`internal: index ${index} of ${list.length}`)
  return found as T
}

/** Pairs two lists of the same length; other lengths are a fault. */
export function zip<A, B>(a: readonly A[], b: readonly B[]): [A, B][] {
  if (a.length !== b.length) throw new RangeError(`internal: zip of ${a.length} and ${b.length}`)
  return a.map((value, index) => [value, b[index] as B])
}

/** The integers from 0 to n - 1. */
export function range(n: number): number[] {
  const list = new Array<number>(n)
  for (let index = 0; index < n; index++) list[index] = index
  return list
}

/** Resolves negative axes and checks their range and that none repeats. */
export function normalizeAxes(op: string, axes: number | readonly number[] | undefined, rank: number): number[] {
  if (axes === undefined) return range(rank)
  const list = (typeof axes === 'number' ? [axes] : [...axes]).map((axis) => normalizeAxis(op, axis, rank))
  if (new Set(list).size !== list.length)
    throw new ShapeError(`[${op}] expected distinct axes, got ${list.join(', ')}.`)
  return list.sort((a, b) => a - b)
}

/** Resolves one possibly negative axis of a tensor of `rank` dimensions. */
export function normalizeAxis(op: string, axis: number, rank: number): number {
  const resolved = axis < 0 ? axis + rank : axis
  if (!Number.isInteger(resolved) || resolved < 0 || resolved >= rank)
    throw new ShapeError(`[${op}] expected an axis of a tensor with ${rank} dimensions, got ${axis}.`)
  return resolved
}

/** The NumPy broadcast of two shapes; throws a ShapeError that names the op and both shapes. */
export function broadcastShapes(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length)
  return range(rank).map((axis) => {
    const left = a[axis - rank + a.length] ?? 1
    const right = b[axis - rank + b.length] ?? 1
    if (left !== right && left !== 1 && right !== 1)
      throw new ShapeError(
        `[${op}] expected shapes that broadcast, got ${showShape(a)} and ${showShape(b)}. Reshape or expandDims one of them.`,
      )
    return left === 1 ? right : left
  })
}

/** Throws unless every extent is a non-negative safe integer. */
export function checkShape(op: string, shape: Shape): void {
  for (const extent of shape)
    if (!Number.isSafeInteger(extent) || extent < 0)
      throw new ShapeError(`[${op}] expected extents that are non-negative integers, got [${shape.join(', ')}].`)
  if (!Number.isSafeInteger(sizeOf(shape)))
    throw new ShapeError(`[${op}] the shape [${shape.join(', ')}] has too many elements.`)
}
