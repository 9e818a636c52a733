// What the user sees of the check, and the file that is kept of it. Pure, but for writing the file.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Findings } from '../../src/cuda/doctor.ts'
import { doctorLines } from '../../src/cuda/doctor.ts'
import { type Comparison, passes } from './part.ts'
import type { Outcome } from './run.ts'

/** What is known of a part by its end: 'failed' also where it was cut, threw, or compared nothing. */
export type Verdict = 'passed' | 'failed' | 'skipped'

/** Passed only if something was compared, all of it passes, and nothing threw. */
export function verdict({ comparisons, errors, skipped }: Outcome): Verdict {
  if (errors.length > 0 || !comparisons.every(passes)) return 'failed'
  if (comparisons.length > 0) return 'passed'
  return skipped === undefined ? 'failed' : 'skipped'
}

/** How much of its tolerance a comparison takes; what may not differ at all comes first where it does. */
function share({ worst, tolerance }: Comparison): number {
  if (worst === 0) return 0
  return Number.isNaN(worst) || tolerance === 0 ? Infinity : worst / tolerance
}

/** Comparisons by the share of their tolerance, worst first; equal ones as they came. */
export function worstFirst(comparisons: readonly Comparison[]): readonly Comparison[] {
  return [...comparisons].sort((a, b) => (share(a) === share(b) ? 0 : share(b) > share(a) ? 1 : -1))
}

const short = (value: number): string =>
  value >= Number.MAX_VALUE
    ? 'not finite'
    : Number.isInteger(value) && value < 1e6
      ? String(value)
      : value.toExponential(2)

/** One comparison as a line. */
export function comparisonLine(comparison: Comparison): string {
  const { name, cases, worst, tolerance, where } = comparison
  const mark = passes(comparison) ? '  ' : '! '
  const limit = tolerance === 0 ? 'none allowed' : `at most ${short(tolerance)}`
  return `${mark}${short(worst)} (${limit}) ${name}, ${cases} compared${where === undefined ? '' : `; ${where}`}`
}

/** All that a part came to, worst first. */
export function outcomeLines(outcome: Outcome): readonly string[] {
  return [
    ...worstFirst(outcome.comparisons).map(comparisonLine),
    ...outcome.notes.map((note) => `  note: ${note}`),
    ...(outcome.skipped === undefined ? [] : [`  skipped: ${outcome.skipped}`]),
    ...outcome.errors.map((error) => `! ${error}`),
    `  ${verdict(outcome)} in ${outcome.seconds.toFixed(1)} s`,
  ]
}

/** The table at the end: a line for each part. */
export function table(outcomes: readonly Outcome[]): readonly string[] {
  return outcomes.map((outcome) => {
    const failed = outcome.comparisons.filter((one) => !passes(one)).length + outcome.errors.length
    const said = `${outcome.comparisons.length} comparisons, ${failed} failed`
    return `${outcome.part.padEnd(12)}${verdict(outcome).padEnd(9)}${outcome.seconds.toFixed(1).padStart(7)} s  ${said}`
  })
}

/** What the check ran on. */
export interface Facts {
  readonly date: string
  readonly gpu: string
  /** The doctor's lines: the driver, the libraries with versions and folders, the GPUs. */
  readonly found: readonly string[]
  readonly versions: Omit<Findings['versions'], 'cudnnLoaded'>
  readonly node: string
  readonly seed: number
  readonly size: 'full' | 'small'
}

/** Facts from what was found. */
export function factsOf(found: Findings, date: Date, { seed, size }: Pick<Facts, 'seed' | 'size'>): Facts {
  const { cudnnLoaded: _, ...versions } = found.versions
  return {
    date: date.toISOString(),
    gpu: versions.gpus?.[0]?.name ?? 'unknown',
    found: doctorLines(found),
    versions,
    ...{ node: process.version, seed, size },
  }
}

/** Where the results of a check are kept. */
export function resultsFile(folder: string, { gpu, date }: Facts, only: readonly string[] | undefined): string {
  const slug = gpu.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
  return join(folder, ['check', slug, date.slice(0, 10), ...(only ?? [])].join('-') + '.json')
}

/** Writes all that is known so far; a reader never sees half of it. */
export function writeResults(file: string, facts: Facts, outcomes: readonly Outcome[]): void {
  mkdirSync(join(file, '..'), { recursive: true })
  const parts = outcomes.map((outcome) => ({
    ...{ part: outcome.part, verdict: verdict(outcome), seconds: Number(outcome.seconds.toFixed(2)) },
    ...(outcome.skipped === undefined ? {} : { skipped: outcome.skipped }),
    ...{ errors: outcome.errors, notes: outcome.notes, comparisons: worstFirst(outcome.comparisons) },
  }))
  const temporary = `${file}.${process.pid}.tmp`
  writeFileSync(temporary, `${JSON.stringify({ ...facts, parts }, null, 1)}\n`)
  renameSync(temporary, file)
}
