// Medians and quartiles of a row's times.

/** The middle of some numbers and of their halves, by linear interpolation; NaN of none. */
export interface Quartiles {
  readonly lower: number
  readonly median: number
  readonly upper: number
  readonly count: number
}

/** The quartiles of numbers in any order. */
export function quartiles(values: readonly number[]): Quartiles {
  const sorted = [...values].sort((a, b) => a - b)
  const quantile = (share: number): number => {
    const place = share * (sorted.length - 1)
    const below = sorted[Math.floor(place)] ?? Number.NaN
    const above = sorted[Math.ceil(place)] ?? Number.NaN
    return below + (above - below) * (place - Math.floor(place))
  }
  return { lower: quantile(0.25), median: quantile(0.5), upper: quantile(0.75), count: sorted.length }
}
