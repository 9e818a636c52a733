// How a kernel's access walks over a contraction's result: all of it, one value a channel, or one an image and channel.
import type { Access, LoopAxis } from '../../compile/index.ts'
import { type Shape, at, range, sizeOf, stridesOf, zip } from '../../tensor/shape.ts'

/** A result [images, pixels, channels]; a product's has one pixel an image. */
export interface Extents {
  readonly images: number
  readonly pixels: number
  readonly channels: number
}

/** What an access touches. */
export type Walk = 'all' | 'channels' | 'images'

/** The extents of a result [n, h, w, c] or [m, n]. */
export function extentsOf(shape: Shape): Extents {
  const channels = at(shape, shape.length - 1)
  const images = at(shape, 0)
  return { images, channels, pixels: sizeOf(shape.slice(1, -1)) }
}

/** The loops' strides over a dense row-major array of their extents. */
export function denseStrides(axes: readonly LoopAxis[]): readonly number[] {
  return stridesOf(axes.map(({ extent }) => extent))
}

/** Which dimension of the result an axis of this stride and extent lies in; undefined where it covers several. */
function dimensionOf(stride: number, extent: number, { images, pixels, channels }: Extents): keyof Extents | undefined {
  const inside = (below: number, above: number): boolean =>
    stride >= below && stride % below === 0 && stride * extent <= above && above % (stride * extent) === 0
  if (inside(1, channels)) return 'channels'
  if (inside(channels, channels * pixels)) return 'pixels'
  return inside(channels * pixels, channels * pixels * images) ? 'images' : undefined
}

/**
 * What an access touches, in loops that walk over the whole result in order. Undefined for anything else: offsets, other
 * orders, parts of the channels.
 */
export function walkOf(access: Access, axes: readonly LoopAxis[], extents: Extents): Walk | undefined {
  if (access.offset !== 0 || sizeOf(axes.map(({ extent }) => extent)) !== sizeOf(Object.values(extents)))
    return undefined
  const dense = denseStrides(axes)
  const moving = range(axes.length).filter((axis) => at(axes, axis).extent > 1)
  const follows = (wanted: (stride: number, dimension: keyof Extents | undefined) => number | undefined): boolean =>
    moving.every((axis) => {
      const stride = at(dense, axis)
      return at(access.strides, axis) === wanted(stride, dimensionOf(stride, at(axes, axis).extent, extents))
    })
  if (zip(access.strides, dense).every(([mine, stride], axis) => mine === stride || !moving.includes(axis)))
    return 'all'
  const alongChannels = (stride: number, dimension: keyof Extents | undefined): number | undefined =>
    dimension === 'channels' ? stride : dimension === undefined && stride < extents.channels ? undefined : 0
  if (follows(alongChannels)) return 'channels'
  const alongImages = (stride: number, dimension: keyof Extents | undefined): number | undefined => {
    if (dimension === 'images') return stride / extents.pixels
    return dimension === undefined ? undefined : dimension === 'channels' ? stride : 0
  }
  return follows(alongImages) ? 'images' : undefined
}

/**
 * What an access touches of [rows, columns], in loops that walk over it in order: each element, one value a column, or one
 * value. Undefined for anything else.
 */
export function rowWalkOf(
  access: Access,
  axes: readonly LoopAxis[],
  rows: number,
  columns: number,
): 'all' | 'columns' | 'one' | undefined {
  const walk = walkOf(access, axes, { images: rows, pixels: 1, channels: columns })
  if (walk !== undefined) return walk === 'channels' ? 'columns' : 'all'
  const still = zip(axes, access.strides).every(([{ extent }, stride]) => extent === 1 || stride === 0)
  const whole = sizeOf(axes.map(({ extent }) => extent)) === rows * columns
  return still && whole && access.offset === 0 ? 'one' : undefined
}
