// Affine index maps: where, in a value, the element for a loop point is. Broadcasts, transposes, slices and most
// reshapes only change the map, so they cost nothing inside a kernel.
import type { Equation } from '../tensor/program.ts'
import { type Shape, at, range, sameShape, sizeOf, stridesOf } from '../tensor/shape.ts'
import type { Access } from './kernel.ts'

/** For each axis of a value: its index as an affine function of the loop indices. */
export type IndexMap = readonly Access[]

/** The map of a value whose axes are the loop axes. */
export function identityMap(rank: number): IndexMap {
  return range(rank).map((axis) => ({ offset: 0, strides: range(rank).map((loop) => (loop === axis ? 1 : 0)) }))
}

/** The element's place in a dense row-major buffer. */
export function flatAccess(shape: Shape, map: IndexMap, loops: number): Access {
  return combine(map, stridesOf(shape), loops)
}

/** The map of a movement's operand, given the map of its result; undefined if it is not affine. */
export function operandMap(equation: Equation, map: IndexMap, loops: number): IndexMap | undefined {
  switch (equation.primitive) {
    case 'broadcast':
      return equation.params.axes.map((axis) => at(map, axis))
    case 'transpose': {
      const { permutation } = equation.params
      return permutation.map((_, axis) => at(map, permutation.indexOf(axis)))
    }
    case 'slice': {
      const { start, stride } = equation.params
      return map.map(({ offset, strides }, axis) => ({
        offset: at(start, axis) + at(stride, axis) * offset,
        strides: strides.map((step) => step * at(stride, axis)),
      }))
    }
    case 'reshape':
      return reshapeMap(at(equation.inputs, 0).type.shape, equation.params.shape, map, loops)
    default:
      return undefined
  }
}

/** Whether a reshape's operand can be addressed from its result's indices without division. */
export function isAffineReshape(from: Shape, to: Shape): boolean {
  return reshapeMap(from, to, identityMap(to.length), to.length) !== undefined
}

/** Each axis of `from` must be a product of neighbouring axes of `to`. */
function reshapeMap(from: Shape, to: Shape, map: IndexMap, loops: number): IndexMap | undefined {
  if (sizeOf(from) === 0) return sameShape(from, to) ? map : undefined
  const source = range(to.length).filter((axis) => to[axis] !== 1)
  const result: Access[] = []
  for (const extent of from) {
    const group: number[] = []
    for (let product = 1; product < extent; ) {
      const axis = source.shift()
      if (axis === undefined) return undefined
      group.push(axis)
      product *= at(to, axis)
      if (product > extent) return undefined
    }
    result.push(
      combine(
        group.map((axis) => at(map, axis)),
        stridesOf(group.map((axis) => at(to, axis))),
        loops,
      ),
    )
  }
  return source.length === 0 ? result : undefined
}

function combine(rows: readonly Access[], weights: readonly number[], loops: number): Access {
  const strides = new Array<number>(loops).fill(0)
  let offset = 0
  rows.forEach((row, i) => {
    const weight = at(weights, i)
    offset += row.offset * weight
    for (let loop = 0; loop < loops; loop++) strides[loop] = at(strides, loop) + at(row.strides, loop) * weight
  })
  return { offset, strides }
}
