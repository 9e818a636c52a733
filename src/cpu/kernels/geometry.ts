// What all lowerings of a convolution derive from its extents: the taps of its filter, and which of them reach
// which phase of a strided input. NHWC images, filters [out, kernelHeight, kernelWidth, channels / groups].
import type { ConvExtents } from '../../compile/index.ts'

export type { ConvExtents }

/** A filter tap: its index in the filter, and the source pixel it reads relative to the strided grid pixel. */
export interface Tap {
  readonly index: number
  readonly y: number
  readonly x: number
}

/** The pixels (originY + i * stepY, originX + j * stepX) of a destination, and the taps that reach them. */
export interface Phase {
  readonly originY: number
  readonly originX: number
  readonly gridHeight: number
  readonly gridWidth: number
  readonly taps: readonly Tap[]
}

/** Multiply-adds of one pass, not counting that padding saves some. */
export function multiplyAdds(conv: ConvExtents): number {
  const { batch, outHeight, outWidth, outChannels, kernelHeight, kernelWidth, channels, groups } = conv
  return batch * outHeight * outWidth * outChannels * kernelHeight * kernelWidth * (channels / groups)
}

/** The taps of the forward pass in the filter's order. */
export function forwardTaps(conv: ConvExtents): Tap[] {
  const { kernelHeight, kernelWidth, dilation, padding } = conv
  return Array.from({ length: kernelHeight * kernelWidth }, (_, index) => ({
    index,
    y: Math.floor(index / kernelWidth) * dilation[0] - padding[0][0],
    x: (index % kernelWidth) * dilation[1] - padding[1][0],
  }))
}

/**
 * The input gradient as dense convolutions of the output's cotangent, one for each phase of the stride: input pixel
 * (originY + i * stride, ...) receives tap (kh, kw) from output pixel (i + y, ...). Phases without pixels are left out;
 * phases without taps stay, since their pixels are zero. Taps ascend by the pixel they read.
 */
export function inputPhases(conv: ConvExtents): Phase[] {
  const { height, width, kernelHeight, kernelWidth, stride, padding, dilation } = conv
  const phases: Phase[] = []
  for (let originY = 0; originY < Math.min(stride[0], height); originY++) {
    for (let originX = 0; originX < Math.min(stride[1], width); originX++) {
      const taps: Tap[] = []
      for (let index = kernelHeight * kernelWidth - 1; index >= 0; index--) {
        const y = (originY + padding[0][0] - Math.floor(index / kernelWidth) * dilation[0]) / stride[0]
        const x = (originX + padding[1][0] - (index % kernelWidth) * dilation[1]) / stride[1]
        if (Number.isInteger(y) && Number.isInteger(x)) taps.push({ index, y, x })
      }
      const gridHeight = Math.ceil((height - originY) / stride[0])
      const gridWidth = Math.ceil((width - originX) / stride[1])
      phases.push({ originY, originX, gridHeight, gridWidth, taps })
    }
  }
  return phases
}
