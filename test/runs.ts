// Reads the two environment variables that steer the property tests: PULLBACK_SEED and PULLBACK_RUNS.

/**
 * How many random cases a property tries: `base`, times PULLBACK_RUNS (a factor such as 0.2 or 10; 1 by default).
 * Pass it where a property sets its own number: `fc.assert(property, { numRuns: runs(20) })`.
 */
export function runs(base: number): number {
  const factor = Number(process.env['PULLBACK_RUNS'] ?? '1')
  if (!(factor > 0)) {
    throw new Error(`[runs] expected a positive factor in PULLBACK_RUNS, got '${process.env['PULLBACK_RUNS'] ?? ''}'`)
  }
  return Math.max(1, Math.round(base * factor))
}

/** The seed of this run, a 32-bit integer: the one test/seed.ts chose or PULLBACK_SEED gave. */
export function seed(): number {
  const text = process.env['PULLBACK_SEED'] ?? ''
  const value = Number(text)
  if (text === '' || !Number.isInteger(value) || Math.abs(value) >= 2 ** 31) {
    throw new Error(`[seed] expected a 32-bit integer in PULLBACK_SEED, got '${text}'`)
  }
  return value
}
