// What pooling means: windows over NHWC, in row-major order; a maximum is the first one, and NaN counts as the largest.
import type { PoolParams } from '../primitives.ts'
import { type Shape, at, sizeOf } from '../shape.ts'
import { isLarger } from './reductions.ts'
import { type ReferenceValue, type Rules, accumulate, get } from './value.ts'

/** The rules of the poolings. */
export const poolingRules: Rules<'maxPool2d' | 'maxPool2dGrad' | 'maxPool2dPick' | 'avgPool2d' | 'avgPool2dGrad'> = {
  maxPool2d: (inputs, params, outputs) => {
    const x = at(inputs, 0)
    return [
      Float64Array.from(firstMaxima(x, at(outputs, 0).shape, params), (place) =>
        place < 0 ? Number.NEGATIVE_INFINITY : get(x.data, place),
      ),
    ]
  },
  maxPool2dGrad: (inputs, params) => {
    const [x, cotangent] = [at(inputs, 0), at(inputs, 1)]
    const out = new Float64Array(x.data.length)
    firstMaxima(x, cotangent.type.shape, params).forEach((place, i) => {
      if (place >= 0) accumulate(out, place, get(cotangent.data, i))
    })
    return [out]
  },
  maxPool2dPick: (inputs, params, outputs) => {
    const [x, picked] = [at(inputs, 0), at(inputs, 1)]
    return [
      Float64Array.from(firstMaxima(x, at(outputs, 0).shape, params), (place) =>
        place < 0 ? 0 : get(picked.data, place),
      ),
    ]
  },
  avgPool2d: (inputs, params, outputs) => {
    const { data, type } = at(inputs, 0)
    const { shape } = at(outputs, 0)
    const out = new Float64Array(sizeOf(shape))
    eachPlace(type.shape, shape, params, (inAt, outAt) => accumulate(out, outAt, get(data, inAt)))
    return [out.map((sum) => sum / sizeOf(params.window))]
  },
  avgPool2dGrad: (inputs, params) => {
    const { data, type } = at(inputs, 0)
    const out = new Float64Array(sizeOf(params.inputShape))
    eachPlace(params.inputShape, type.shape, params, (inAt, outAt) => accumulate(out, inAt, get(data, outAt)))
    return [out.map((sum) => sum / sizeOf(params.window))]
  },
}

/** For each output element the place of its window's first maximum in x, -1 where a window holds padding alone. */
function firstMaxima(x: ReferenceValue, output: Shape, params: PoolParams): Int32Array {
  const places = new Int32Array(sizeOf(output)).fill(-1)
  eachPlace(x.type.shape, output, params, (inAt, outAt) => {
    const best = get(places, outAt)
    if (best < 0 || isLarger(get(x.data, inAt), get(x.data, best))) places[outAt] = inAt
  })
  return places
}

/** Visits each output element's window in row-major order, padding left out. */
function eachPlace(
  input: Shape,
  output: Shape,
  params: PoolParams,
  visit: (inAt: number, outAt: number) => void,
): void {
  const [height, width, channels] = [at(input, 1), at(input, 2), at(input, 3)]
  const [images, rows, columns] = [at(output, 0), at(output, 1), at(output, 2)]
  const [windowHeight, windowWidth] = params.window
  const element = (image: number, row: number, column: number, tap: number): void => {
    const y = row * params.stride[0] - params.padding[0][0] + Math.floor(tap / windowWidth)
    const x = column * params.stride[1] - params.padding[1][0] + (tap % windowWidth)
    if (y < 0 || y >= height || x < 0 || x >= width) return
    const inAt = ((image * height + y) * width + x) * channels
    const outAt = ((image * rows + row) * columns + column) * channels
    for (let c = 0; c < channels; c++) visit(inAt + c, outAt + c)
  }
  for (let image = 0; image < images; image++)
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++)
        for (let tap = 0; tap < windowHeight * windowWidth; tap++) element(image, row, column, tap)
}
