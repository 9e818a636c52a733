// What products and convolutions mean: direct loops, accumulated in float64. The three convolution primitives share one
// walk over (output place, filter tap, group); each says only what it does with the channels there.
import type { ConvParams, DotParams } from '../primitives.ts'
import { type Shape, at, range, sizeOf, stridesOf } from '../shape.ts'
import { type ReferenceValue, type Rules, accumulate, addScaled, get, innerProduct, offsets, pickAt } from './value.ts'

/** The rules of the contractions. */
export const contractionRules: Rules<'dot' | 'conv2d' | 'conv2dInputGrad' | 'conv2dFilterGrad'> = {
  dot: (inputs, params) => [dot(at(inputs, 0), at(inputs, 1), params)],
  conv2d: (inputs, params, outputs) => {
    const [x, filter] = [at(inputs, 0), at(inputs, 1)]
    const output = at(outputs, 0).shape
    const out = new Float64Array(sizeOf(output))
    const walk = { input: x.type.shape, filter: filter.type.shape, output, params }
    eachTap(walk, (xAt, filterAt, outAt, channels) => {
      accumulate(out, outAt, innerProduct(x.data, xAt, filter.data, filterAt, channels))
    })
    return [out]
  },
  conv2dInputGrad: (inputs, params) => {
    const [cotangent, filter] = [at(inputs, 0), at(inputs, 1)]
    const out = new Float64Array(sizeOf(params.inputShape))
    const walk = { input: params.inputShape, filter: filter.type.shape, output: cotangent.type.shape, params }
    eachTap(walk, (xAt, filterAt, outAt, channels) => {
      addScaled(out, xAt, get(cotangent.data, outAt), filter.data, filterAt, channels)
    })
    return [out]
  },
  conv2dFilterGrad: (inputs, params) => {
    const [x, cotangent] = [at(inputs, 0), at(inputs, 1)]
    const out = new Float64Array(sizeOf(params.filterShape))
    const walk = { input: x.type.shape, filter: params.filterShape, output: cotangent.type.shape, params }
    eachTap(walk, (xAt, filterAt, outAt, channels) => {
      addScaled(out, filterAt, get(cotangent.data, outAt), x.data, xAt, channels)
    })
    return [out]
  },
}

function dot(a: ReferenceValue, b: ReferenceValue, { batch, contract }: DotParams): Float64Array {
  const left = asMatrices(a, batch[0], contract[0])
  const right = asMatrices(b, batch[1], contract[1])
  const { inner } = left
  const out = new Float64Array(left.batch * left.rows * right.rows)
  let next = 0
  for (let i = 0; i < left.batch; i++)
    for (let row = 0; row < left.rows; row++)
      for (let column = 0; column < right.rows; column++) {
        const [leftAt, rightAt] = [(i * left.rows + row) * inner, (i * right.rows + column) * inner]
        out[next++] = innerProduct(left.data, leftAt, right.data, rightAt, inner)
      }
  return out
}

/** An operand of `dot` copied into [batch, free axes, contracted axes]. */
function asMatrices({ data, type: { shape } }: ReferenceValue, batch: readonly number[], contract: readonly number[]) {
  const free = range(shape.length).filter((axis) => !batch.includes(axis) && !contract.includes(axis))
  const order = [...batch, ...free, ...contract]
  const strides = stridesOf(shape)
  const extents = (axes: readonly number[]): number[] => axes.map((axis) => at(shape, axis))
  const places = offsets(
    extents(order),
    order.map((axis) => at(strides, axis)),
  )
  return {
    data: pickAt(data, places),
    batch: sizeOf(extents(batch)),
    rows: sizeOf(extents(free)),
    inner: sizeOf(extents(contract)),
  }
}

interface ConvWalk {
  readonly input: Shape
  readonly filter: Shape
  readonly output: Shape
  readonly params: ConvParams
}

/** What a convolution does at one tap of one output channel: `channels` input channels from `xAt` and `filterAt` on. */
type Visit = (xAt: number, filterAt: number, outAt: number, channels: number) => void

/** Visits every output element and every filter tap that lies inside the image; padding adds nothing. */
function eachTap({ input, filter, output, params }: ConvWalk, visit: Visit): void {
  const { stride, padding, dilation, groups } = params
  const [height, width, inChannels] = [at(input, 1), at(input, 2), at(input, 3)]
  const [images, rows, columns, outChannels] = [at(output, 0), at(output, 1), at(output, 2), at(output, 3)]
  const [windowHeight, windowWidth, channels] = [at(filter, 1), at(filter, 2), at(filter, 3)]
  const perGroup = outChannels / groups
  const tap = (image: number, row: number, column: number, v: number, u: number): void => {
    const y = row * stride[0] - padding[0][0] + v * dilation[0]
    const x = column * stride[1] - padding[1][0] + u * dilation[1]
    if (y < 0 || y >= height || x < 0 || x >= width) return
    const pixelAt = ((image * height + y) * width + x) * inChannels
    const outAt = ((image * rows + row) * columns + column) * outChannels
    for (let o = 0; o < outChannels; o++) {
      const group = Math.floor(o / perGroup)
      const filterAt = ((o * windowHeight + v) * windowWidth + u) * channels
      visit(pixelAt + group * channels, filterAt, outAt + o, channels)
    }
  }
  for (let image = 0; image < images; image++)
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++)
        for (let v = 0; v < windowHeight; v++) for (let u = 0; u < windowWidth; u++) tap(image, row, column, v, u)
}
