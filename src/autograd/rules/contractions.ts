// Derivatives of the products: dot for any dimension numbers, and the three convolutions in terms of each other.
import { bindOne } from '../../tensor/dispatch.ts'
import { dotGeneral } from '../../tensor/ops/contract.ts'
import { transpose } from '../../tensor/ops/movement.ts'
import type { ConvParams, DotParams } from '../../tensor/primitives.ts'
import { at, range, sameShape } from '../../tensor/shape.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import { binary } from './rule.ts'

type SideIndex = 0 | 1

const other = (side: SideIndex): SideIndex => (side === 0 ? 1 : 0)

function freeAxes(x: Tensor, side: SideIndex, { batch, contract }: DotParams): number[] {
  return range(x.shape.length).filter((axis) => !batch[side].includes(axis) && !contract[side].includes(axis))
}

/**
 * The cotangent of the operand on `side`: the product of g with the other operand over the other's free axes. Of the
 * two orders of that product the one that needs no transpose is taken, if there is one.
 */
function dotSide(side: SideIndex, g: Tensor, a: Tensor, b: Tensor, dimensions: DotParams): Tensor {
  const { batch, contract } = dimensions
  const [mine, theirs] = side === 0 ? [a, b] : [b, a]
  const free = [freeAxes(a, 0, dimensions), freeAxes(b, 1, dimensions)] as const
  const lead = range(batch[0].length)
  const offset = lead.length + (side === 0 ? free[0].length : 0)
  const paired = free[other(side)].map((_, i) => offset + i) // the other operand's free axes, as axes of g
  const products = [
    { left: g, right: theirs, batch: [lead, batch[other(side)]], contract: [paired, free[other(side)]] },
    { left: theirs, right: g, batch: [batch[other(side)], lead], contract: [free[other(side)], paired] },
  ] as const
  const order = [...contract[other(side)]].sort((i, j) => i - j)
  const contracted = order.map((axis) => at(contract[side], contract[other(side)].indexOf(axis)))
  const layouts = [
    [...batch[side], ...free[side], ...contracted],
    [...batch[side], ...contracted, ...free[side]],
  ]
  const straight = sameShape(at(layouts, 1), range(mine.shape.length)) ? 1 : 0
  const product = products[straight]
  const layout = at(layouts, straight)
  const result = dotGeneral(product.left, product.right, { batch: product.batch, contract: product.contract })
  return transpose(
    result,
    range(mine.shape.length).map((axis) => layout.indexOf(axis)),
  )
}

/** A convolution's parameters without the shape that its gradients carry. */
function geometry({ stride, padding, dilation, groups }: ConvParams): ConvParams {
  return { stride, padding, dilation, groups }
}

function forward(x: Tensor, filter: Tensor, params: ConvParams): Tensor {
  return bindOne('conv2d', [x, filter], geometry(params))
}

function inputGrad(g: Tensor, filter: Tensor, params: ConvParams, like: Tensor): Tensor {
  return bindOne('conv2dInputGrad', [g, filter], { ...geometry(params), inputShape: like.shape })
}

function filterGrad(x: Tensor, g: Tensor, params: ConvParams, like: Tensor): Tensor {
  return bindOne('conv2dFilterGrad', [x, g], { ...geometry(params), filterShape: like.shape })
}

/** Each is linear in both operands, so its derivative by one is the primitive that solves for it. */
export const contractionRules = {
  dot: binary<'dot'>(
    (g, a, b, params) => dotSide(0, g, a, b, params),
    (g, a, b, params) => dotSide(1, g, a, b, params),
  ),
  conv2d: binary<'conv2d'>(
    (g, x, filter, params) => inputGrad(g, filter, params, x),
    (g, x, filter, params) => filterGrad(x, g, params, filter),
  ),
  conv2dInputGrad: binary<'conv2dInputGrad'>(
    (g, _cotangent, filter, params) => forward(g, filter, params),
    (g, cotangent, filter, params) => filterGrad(g, cotangent, params, filter),
  ),
  conv2dFilterGrad: binary<'conv2dFilterGrad'>(
    (g, x, cotangent, params) => inputGrad(cotangent, g, params, x),
    (g, x, _cotangent, params) => forward(x, g, params),
  ),
} as const
