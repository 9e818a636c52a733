// Matrix products and convolutions.
import { bindOne } from '../dispatch.ts'
import { ShapeError } from '../errors.ts'
import type { DotParams, Padding, Pair } from '../primitives.ts'
import { at, broadcastShapes, range, showShape } from '../shape.ts'
import type { Tensor } from '../tensor.ts'
import { asPadding, asPair } from '../windows.ts'
import { broadcastTo, reshape } from './movement.ts'

/** The general product: pairs `batch` and `contract` axes; the result has batch axes, then the left's free ones, then the right's. */
export function dotGeneral(a: Tensor, b: Tensor, dimensions: DotParams): Tensor {
  return bindOne('dot', [a, b], dimensions)
}

/**
 * The matrix product as in NumPy: [.., m, k] by [.., k, n] gives [.., m, n]; leading axes broadcast; a vector on either
 * side counts as a row or column that disappears. f16 and bf16 are accumulated in f32.
 *
 * @throws ShapeError if the inner extents differ.
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  const [left, right] = [a.shape.length, b.shape.length]
  if (left === 0 || right === 0)
    throw new ShapeError('[matmul] expected operands with at least one axis, got a scalar. Use mul.')
  const inner = [at(a.shape, left - 1), at(b.shape, Math.max(0, right - 2))]
  if (inner[0] !== inner[1])
    throw new ShapeError(
      `[matmul] expected equal inner extents, got ${showShape(a.shape)} and ${showShape(b.shape)} (${inner.join(' and ')}).`,
    )
  if (left === 1 || right <= 2)
    if (right === 1 || left === 1 ? right <= 2 : true)
      // no batch on the right: one plain product over all rows
      return dotGeneral(a, b, { batch: [[], []], contract: [[left - 1], [Math.max(0, right - 2)]] })
  if (left === 1) return reshape(matmul(reshape(a, [1, a.size]), b), [...b.shape.slice(0, -2), at(b.shape, right - 1)])
  const lead = broadcastShapes('matmul', a.shape.slice(0, -2), b.shape.slice(0, -2))
  const wideA = broadcastTo(a, [...lead, ...a.shape.slice(-2)])
  const wideB = broadcastTo(b, [...lead, ...b.shape.slice(-2)])
  const batch = range(lead.length)
  return dotGeneral(wideA, wideB, { batch: [batch, batch], contract: [[lead.length + 1], [lead.length]] })
}

/** How a convolution or pooling steps: numbers apply to both spatial axes. */
export interface ConvOptions {
  readonly stride?: number | Pair
  /** Zeros around the image: one number, [height, width], or [[top, bottom], [left, right]]. */
  readonly padding?: number | Pair | Padding
  readonly dilation?: number | Pair
  readonly groups?: number
}

/**
 * The cross-correlation of images x [n, h, w, in] with filters [out, kh, kw, in / groups]: [n, oh, ow, out].
 * f16 and bf16 are accumulated in f32.
 *
 * @throws ShapeError if the channels do not fit the filter and groups, or the window does not fit the padded image.
 */
export function conv2d(x: Tensor, filter: Tensor, options: ConvOptions = {}): Tensor {
  return bindOne('conv2d', [x, filter], {
    stride: asPair(options.stride, 1),
    padding: asPadding(options.padding),
    dilation: asPair(options.dilation, 1),
    groups: options.groups ?? 1,
  })
}

/** How a pooling window moves; the stride is the window unless said otherwise. */
export interface PoolOptions {
  readonly stride?: number | Pair
  readonly padding?: number | Pair | Padding
}

function pooling(op: 'maxPool2d' | 'avgPool2d') {
  return (x: Tensor, window: number | Pair, options: PoolOptions = {}): Tensor => {
    const size = asPair(window, 1)
    return bindOne(op, [x], {
      window: size,
      stride: options.stride === undefined ? size : asPair(options.stride, 1),
      padding: asPadding(options.padding),
    })
  }
}

/** The largest element of each window over [n, h, w, c]; padding never wins; the gradient goes to the first of equals. */
export const maxPool2d = pooling('maxPool2d')
/** The mean of each window over [n, h, w, c]; padded zeros count in the divisor. */
export const avgPool2d = pooling('avgPool2d')
