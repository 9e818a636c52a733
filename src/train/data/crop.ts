// Where to cut an image: the boxes of torchvision's RandomResizedCrop and of Resize + CenterCrop, as pure arithmetic.
// Pixels are decode.ts's business.

import { below, unit } from './draws.ts'
import type { Words } from './draws.ts'

/** A rectangle of an image, in pixels. */
export interface Box {
  readonly left: number
  readonly top: number
  readonly width: number
  readonly height: number
}

/** A size in pixels. */
export interface Extent {
  readonly width: number
  readonly height: number
}

/** What to do with an image: take `source` out of it, scale that to `target`, keep `window` of the result. */
export interface Cut {
  readonly source: Box
  readonly target: Extent
  readonly window: Box
  /** Mirror left and right at the end. */
  readonly flip: boolean
}

/** How much longer than the crop the shorter side is at evaluation: 256 for 224. */
export const evaluationMargin = 32

/** Rounds to the nearest integer, ties to the even one, as Python's `round` does. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x)
  const fraction = x - floor
  if (fraction !== 0.5) return Math.round(x)
  return floor % 2 === 0 ? floor : floor + 1
}

const areaRange = [0.08, 1] as const
const aspectRange = [3 / 4, 4 / 3] as const
const tries = 10

/**
 * The box of a random resized crop: area 8 % to 100 % of the image, aspect ratio 3/4 to 4/3 (log-uniform),
 * ten tries, then the largest centred box of an allowed aspect ratio.
 *
 * @param words gives the four random words of try 0, 1, ... (area, aspect, top, left).
 * @see torchvision.transforms.RandomResizedCrop.get_params
 */
export function randomResizedCrop(width: number, height: number, words: (attempt: number) => Words): Box {
  const logLow = Math.log(aspectRange[0])
  const logHigh = Math.log(aspectRange[1])
  for (let attempt = 0; attempt < tries; attempt++) {
    const [a, b, c, d] = words(attempt)
    const area = width * height * (areaRange[0] + (areaRange[1] - areaRange[0]) * unit(a))
    const aspect = Math.exp(logLow + (logHigh - logLow) * unit(b))
    const w = roundHalfEven(Math.sqrt(area * aspect))
    const h = roundHalfEven(Math.sqrt(area / aspect))
    if (w > 0 && w <= width && h > 0 && h <= height) {
      return { top: below(c, height - h + 1), left: below(d, width - w + 1), width: w, height: h }
    }
  }
  return centredFallback(width, height)
}

function centredFallback(width: number, height: number): Box {
  const ratio = width / height
  let w = width
  let h = height
  // torchvision would round to 0 for images a pixel thin; at least one pixel is kept.
  if (ratio < aspectRange[0]) h = Math.max(1, Math.min(height, roundHalfEven(w / aspectRange[0])))
  else if (ratio > aspectRange[1]) w = Math.max(1, Math.min(width, roundHalfEven(h * aspectRange[1])))
  return { left: Math.floor((width - w) / 2), top: Math.floor((height - h) / 2), width: w, height: h }
}

/** A training cut: `source` scaled to `size` x `size`. */
export function trainingCut(source: Box, size: number, flip: boolean): Cut {
  return { source, target: { width: size, height: size }, window: whole({ width: size, height: size }), flip }
}

/**
 * Evaluation's cut: the shorter side to `size + 32`, then the central `size` x `size`.
 * For an image whose shorter side already has that length source and target agree: it is not resampled.
 *
 * @see torchvision.transforms.Resize and CenterCrop, whose rounding this is
 */
export function evaluationCut(width: number, height: number, size: number): Cut {
  const shorter = size + evaluationMargin
  const longer = Math.trunc((shorter * Math.max(width, height)) / Math.min(width, height))
  const target = width <= height ? { width: shorter, height: longer } : { width: longer, height: shorter }
  const left = roundHalfEven((target.width - size) / 2)
  const top = roundHalfEven((target.height - size) / 2)
  return { source: whole({ width, height }), target, window: { left, top, width: size, height: size }, flip: false }
}

/** The box that covers all of an extent. */
export const whole = ({ width, height }: Extent): Box => ({ left: 0, top: 0, width, height })
