// Derivatives of pooling and of indexing. Which element is the maximum does not change in a small neighbourhood, so
// the primitives that read x only to find it have no derivative by x.
import { bindOne } from '../../tensor/dispatch.ts'
import { scatterAdd, take } from '../../tensor/ops/indexing.ts'
import type { PoolParams } from '../../tensor/primitives.ts'
import { binary, unary } from './rule.ts'

function geometry({ window, stride, padding }: PoolParams): PoolParams {
  return { window, stride, padding }
}

export const poolingRules = {
  maxPool2d: unary<'maxPool2d'>((g, x, _y, params) => bindOne('maxPool2dGrad', [x, g], params)),
  maxPool2dGrad: binary<'maxPool2dGrad'>(undefined, (g, x, _t, params) => bindOne('maxPool2dPick', [x, g], params)),
  maxPool2dPick: binary<'maxPool2dPick'>(undefined, (g, x, _t, params) => bindOne('maxPool2dGrad', [x, g], params)),
  avgPool2d: unary<'avgPool2d'>((g, x, _y, params) =>
    bindOne('avgPool2dGrad', [g], { ...params, inputShape: x.shape }),
  ),
  avgPool2dGrad: unary<'avgPool2dGrad'>((g, _x, _y, params) => bindOne('avgPool2d', [g], geometry(params))),
} as const

export const indexingRules = {
  gather: binary<'gather'>((g, x, indices, { axis }) => scatterAdd(g, indices, x.shape, axis), undefined),
  scatterAdd: binary<'scatterAdd'>((g, _updates, indices, { axis }) => take(g, indices, axis), undefined),
} as const
