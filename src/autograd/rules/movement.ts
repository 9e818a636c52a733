// The transposes of the primitives that move elements: each is a movement or a sum.
import { bindOne } from '../../tensor/dispatch.ts'
import { reshape, transpose } from '../../tensor/ops/movement.ts'
import { sum } from '../../tensor/ops/reduce.ts'
import { at, range } from '../../tensor/shape.ts'
import { type VjpRule, only, unary, zero } from './rule.ts'

/** The sum over what was repeated; the axes kept are increasing, so the rest is in the operand's order. */
const broadcast = unary<'broadcast'>((g, _x, _y, { axes }) =>
  sum(g, { axes: range(g.shape.length).filter((axis) => !axes.includes(axis)) }),
)

/** Each element goes back to its place, with zeros where none was taken. */
const slice = unary<'slice'>((g, x, _y, { start, stride }) => {
  const reach = g.shape.map((extent, axis) => (extent === 0 ? 0 : (extent - 1) * at(stride, axis) + 1))
  return bindOne('pad', [g], {
    low: start,
    high: x.shape.map((extent, axis) => extent - at(start, axis) - at(reach, axis)),
    interior: stride.map((step) => step - 1),
  })
})

/** The elements between the zeros. */
const pad = unary<'pad'>((g, x, _y, { low, interior }) =>
  bindOne('slice', [g], {
    start: low,
    limit: x.shape.map((extent, axis) =>
      extent === 0 ? at(low, axis) : at(low, axis) + (extent - 1) * (at(interior, axis) + 1) + 1,
    ),
    stride: interior.map((between) => between + 1),
  }),
)

/** Each operand's part of the cotangent. */
const concatenate: VjpRule<'concatenate'> = (cotangents, inputs, _outputs, { axis }, needs) => {
  const g = only(cotangents)
  let offset = 0
  return inputs.map((x, i) => {
    const from = offset
    offset += at(x.shape, axis)
    if (!at(needs, i)) return undefined
    const start = g.shape.map((_, k) => (k === axis ? from : 0))
    const limit = g.shape.map((extent, k) => (k === axis ? from + at(x.shape, axis) : extent))
    return bindOne('slice', [g], { start, limit, stride: g.shape.map(() => 1) })
  })
}

export const movementRules = {
  iota: zero,
  randomBits: zero,
  broadcast,
  reshape: unary<'reshape'>((g, x) => reshape(g, x.shape)),
  transpose: unary<'transpose'>((g, _x, _y, { permutation }) =>
    transpose(
      g,
      range(permutation.length).map((axis) => permutation.indexOf(axis)),
    ),
  ),
  slice,
  pad,
  concatenate,
} as const
