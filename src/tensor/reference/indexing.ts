// What taking and adding by index means; indices outside are clamped, in gather and in its transpose alike.
import { type Shape, at, sizeOf } from '../shape.ts'
import { type Rules, accumulate, get } from './value.ts'

/** The rules of the indexed primitives. */
export const indexingRules: Rules<'gather' | 'scatterAdd'> = {
  gather: (inputs, { axis }, outputs) => {
    const [x, indices] = [at(inputs, 0), at(inputs, 1)]
    const out = new Float64Array(sizeOf(at(outputs, 0).shape))
    eachIndexed(x.type.shape, axis, indices.data, (wholeAt, takenAt) => (out[takenAt] = get(x.data, wholeAt)))
    return [out]
  },
  scatterAdd: (inputs, { axis, shape }) => {
    const [updates, indices] = [at(inputs, 0), at(inputs, 1)]
    const out = new Float64Array(sizeOf(shape))
    eachIndexed(shape, axis, indices.data, (wholeAt, takenAt) => accumulate(out, wholeAt, get(updates.data, takenAt)))
    return [out]
  },
}

/** Visits each element of the taken slices with its place in the whole. */
function eachIndexed(
  shape: Shape,
  axis: number,
  indices: Float64Array,
  visit: (wholeAt: number, takenAt: number) => void,
): void {
  const extent = at(shape, axis)
  const before = sizeOf(shape.slice(0, axis))
  const after = sizeOf(shape.slice(axis + 1))
  for (let i = 0; i < before; i++)
    indices.forEach((index, j) => {
      const clamped = Math.max(0, Math.min(extent - 1, index))
      for (let k = 0; k < after; k++) visit((i * extent + clamped) * after + k, (i * indices.length + j) * after + k)
    })
}
