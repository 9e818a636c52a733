// Chooses how a convolution and its two gradients run: plain loops for tiny ones, slabs for square groups,
// gathered products otherwise.
import { lowerDenseFilterGrad, lowerDenseForward, lowerDenseInputGrad } from './dense.ts'
import { isTiny, lowerDirect } from './direct.ts'
import type { ConvExtents } from './geometry.ts'
import { lowerGroupedForward, lowerGroupedInputGrad } from './grouped.ts'
import { lowerGroupedFilterGrad } from './grouped-filter.ts'
import type { Lowered } from './launch.ts'

/** Lowers y = conv2d(x, w); operands x [n, h, w, c], w [out, kh, kw, c / groups], y [n, oh, ow, out]. */
export function lowerConv2d(conv: ConvExtents): Lowered {
  if (isTiny(conv)) return lowerDirect('forward', conv)
  return lowerGroupedForward(conv) ?? lowerDenseForward(conv)
}

/** Lowers the cotangent of conv2d's input; operands dy [n, oh, ow, out], w, dx [n, h, w, c]. */
export function lowerConv2dInputGrad(conv: ConvExtents): Lowered {
  if (isTiny(conv)) return lowerDirect('inputGrad', conv)
  return lowerGroupedInputGrad(conv) ?? lowerDenseInputGrad(conv)
}

/** Lowers the cotangent of conv2d's filter; operands x [n, h, w, c], dy [n, oh, ow, out], dw. */
export function lowerConv2dFilterGrad(conv: ConvExtents): Lowered {
  if (isTiny(conv)) return lowerDirect('filterGrad', conv)
  return lowerGroupedFilterGrad(conv) ?? lowerDenseFilterGrad(conv)
}
