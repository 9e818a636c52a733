// Convolutions and matrix products in plain float64 loops: what the printed kernels are compared with.
import type { DotExtents } from '../../src/cpu/kernels/dot.ts'
import type { ConvExtents } from '../../src/cpu/kernels/geometry.ts'

/** The three tensors of a convolution; the one that is asked for is overwritten. */
export interface ConvValues {
  readonly x: Float64Array
  readonly w: Float64Array
  readonly y: Float64Array
}

/** Elements of each tensor. */
export function sizes(conv: ConvExtents): { readonly x: number; readonly w: number; readonly y: number } {
  return {
    x: conv.batch * conv.height * conv.width * conv.channels,
    w: conv.outChannels * conv.kernelHeight * conv.kernelWidth * (conv.channels / conv.groups),
    y: conv.batch * conv.outHeight * conv.outWidth * conv.outChannels,
  }
}

/** Calls `visit` with the places of every product x w that is part of some y. */
function visitProducts(conv: ConvExtents, visit: (x: number, w: number, y: number) => void): void {
  const { batch, height, width, channels, outHeight, outWidth, outChannels, kernelHeight, kernelWidth } = conv
  const group = channels / conv.groups
  const perGroup = outChannels / conv.groups
  for (let b = 0; b < batch; b++)
    for (let oy = 0; oy < outHeight; oy++)
      for (let ox = 0; ox < outWidth; ox++)
        for (let ky = 0; ky < kernelHeight; ky++)
          for (let kx = 0; kx < kernelWidth; kx++) {
            const iy = oy * conv.stride[0] + ky * conv.dilation[0] - conv.padding[0][0]
            const ix = ox * conv.stride[1] + kx * conv.dilation[1] - conv.padding[1][0]
            if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue
            for (let o = 0; o < outChannels; o++)
              for (let c = 0; c < group; c++) {
                const x = ((b * height + iy) * width + ix) * channels + Math.floor(o / perGroup) * group + c
                visit(
                  x,
                  ((o * kernelHeight + ky) * kernelWidth + kx) * group + c,
                  ((b * outHeight + oy) * outWidth + ox) * outChannels + o,
                )
              }
          }
}

function at(values: Float64Array, index: number): number {
  const value = values[index]
  if (value === undefined) throw new RangeError(`index ${index} of ${values.length}`)
  return value
}

function add(values: Float64Array, index: number, value: number): void {
  values[index] = at(values, index) + value
}

/** y of conv2d. */
export function forward(conv: ConvExtents, { x, w }: ConvValues): Float64Array {
  const y = new Float64Array(sizes(conv).y)
  visitProducts(conv, (i, j, k) => {
    add(y, k, at(x, i) * at(w, j))
  })
  return y
}

/** The cotangent of x where y holds the cotangent of y. */
export function inputGrad(conv: ConvExtents, { w, y }: ConvValues): Float64Array {
  const x = new Float64Array(sizes(conv).x)
  visitProducts(conv, (i, j, k) => {
    add(x, i, at(y, k) * at(w, j))
  })
  return x
}

/** The cotangent of w where y holds the cotangent of y. */
export function filterGrad(conv: ConvExtents, { x, y }: ConvValues): Float64Array {
  const w = new Float64Array(sizes(conv).w)
  visitProducts(conv, (i, j, k) => {
    add(w, j, at(x, i) * at(y, k))
  })
  return w
}

/** C of a batched product. */
export function matmul(dot: DotExtents, a: Float64Array, b: Float64Array): Float64Array {
  const { batch, m, n, k } = dot
  const c = new Float64Array(batch * m * n)
  for (let g = 0; g < batch; g++)
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++)
        for (let s = 0; s < k; s++) {
          const left = at(a, g * m * k + (dot.transposeA ? s * m + i : i * k + s))
          add(c, (g * m + i) * n + j, left * at(b, g * n * k + (dot.transposeB ? j * k + s : s * n + j)))
        }
  return c
}
