// The short forms in which users give strides, paddings and windows, made whole.
import type { Padding, Pair } from './primitives.ts'

/** A number or pair as a pair. */
export function asPair(value: number | Pair | undefined, fallback: number): Pair {
  if (value === undefined) return [fallback, fallback]
  return typeof value === 'number' ? [value, value] : value
}

/** Any form of padding as [[top, bottom], [left, right]]. */
export function asPadding(value: number | Pair | Padding | undefined): Padding {
  if (value === undefined || typeof value === 'number') return [asPair(value, 0), asPair(value, 0)]
  const [h, w] = value
  return [typeof h === 'number' ? [h, h] : h, typeof w === 'number' ? [w, w] : w]
}
