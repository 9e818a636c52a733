// Numbers whose products and sums are exact in float64, so that a result rounded once has one value whatever the order.
import { uniforms } from '../support/points.ts'

/** Multiples of 1/8 between -8 and 8. */
export function eighths(seed: number, count: number): number[] {
  return Array.from(uniforms(seed, count, -64, 65), (value) => Math.floor(value) / 8)
}

/** Where two lists differ first, in words; undefined where they are equal (NaN equals NaN, and 0 equals -0). */
export function difference(found: readonly number[], wanted: readonly number[]): string | undefined {
  if (found.length !== wanted.length) return `${found.length} elements instead of ${wanted.length}`
  const index = found.findIndex((value, i) => value !== wanted[i] && !(Number.isNaN(value) && Number.isNaN(wanted[i])))
  return index < 0 ? undefined : `element ${index} is ${found[index]} instead of ${wanted[index]}`
}
