// Derivatives of the reductions: the cotangent is spread over what was reduced.
import { bindOne } from '../../tensor/dispatch.ts'
import { accumulationType, isFloat } from '../../tensor/dtype.ts'
import { add, cast, div, equal, mul, sub, where } from '../../tensor/ops/pointwise.ts'
import { sum } from '../../tensor/ops/reduce.ts'
import { type Shape, at, range, sizeOf } from '../../tensor/shape.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import { type VjpRule, unary, zero } from './rule.ts'

/** A reduced tensor repeated over the axes it was reduced by. */
function spread(reduced: Tensor, shape: Shape, axes: readonly number[]): Tensor {
  if (axes.length === 0) return reduced
  return bindOne('broadcast', [reduced], {
    shape: [...shape],
    axes: range(shape.length).filter((axis) => !axes.includes(axis)),
  })
}

/** Equal extrema share the cotangent, as in PyTorch's amax. */
const extremum = unary<'reduceMax' | 'reduceMin'>((g, x, y, { axes }) => {
  const wide = isFloat(x.dtype) ? accumulationType(x.dtype) : 'f32' // a count of 2049 is no f16 number
  const winners = equal(x, spread(y, x.shape, axes))
  const share = cast(div(cast(g, wide), sum(cast(winners, wide), { axes })), x.dtype)
  return where(winners, spread(share, x.shape, axes), 0)
})

/** d mean = 1 / n; d variance = 2 (x - mean) / n. Computed in the accumulation type and rounded once. */
const moments: VjpRule<'moments'> = ([gMean, gVariance], inputs, outputs, { axes }) => {
  const [x, mean] = [at(inputs, 0), at(outputs, 0)]
  const count = sizeOf(axes.map((axis) => at(x.shape, axis)))
  const over = (reduced: Tensor): Tensor => spread(reduced, x.shape, axes)
  const constant = gMean === undefined ? undefined : over(mul(gMean, 1 / count))
  const sloped =
    gVariance === undefined ? undefined : mul(sub(cast(x, mean.dtype), over(mean)), over(mul(gVariance, 2 / count)))
  const total = constant === undefined ? sloped : sloped === undefined ? constant : add(constant, sloped)
  return [total === undefined ? undefined : cast(total, x.dtype)]
}

export const reductionRules = {
  reduceSum: unary<'reduceSum'>((g, x, _y, { axes }) => spread(g, x.shape, axes)),
  reduceMax: extremum,
  reduceMin: extremum,
  argMax: zero,
  moments,
} as const
