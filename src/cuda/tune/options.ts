// How a tuner is set up, and what it tells of itself. Choosing is tuner.ts's part.
import { ValueError } from '../../tensor/errors.ts'
import type { Bench } from './bench.ts'
import type { TuningCache } from './cache.ts'

/** How a tuner goes about it. */
export interface TunerOptions {
  readonly bench: Bench
  /** 'heuristics' takes the first candidate that is offered: no timing, and the cache is neither read nor written. */
  readonly mode: 'time' | 'heuristics'
  /**
   * Milliseconds of tuning (candidates made, compiled, timed and checked) after which ways are taken that cost nothing to
   * make, and not kept; no end unless said. What is under way when they are over is brought to its end, one candidate at most.
   */
  readonly budget?: number
  /** The clock of the budget, in milliseconds; that of the process unless said. */
  readonly now?: () => number
  /** Whether each chosen candidate is compared with a plain one. */
  readonly verify: boolean
  /** Undefined keeps nothing. */
  readonly cache?: TuningCache | undefined
  /** Told after each problem: how many are settled, of how many announced, and which it was. */
  readonly progress?: (done: number, total: number, key: string) => void
  /**
   * Told of each candidate that is dropped and of each choice that could not be made as asked, in one sentence. A candidate
   * that cannot be run leaves others, and is no more than 'info'.
   */
  readonly note?: (sentence: string, level: 'warn' | 'info') => void
}

/** How problems were settled, and what went wrong on the way. */
export interface TuningCounts {
  /** By timing. */
  timed: number
  /** By the cache. */
  cached: number
  /** By taking the only candidate. */
  single: number
  /** By taking the first, or what costs nothing to make: on demand, for want of memory for the operands, or of time. */
  untimed: number
  /** By what `require` asked for, or what this process had chosen before. */
  required: number
  /** Entries of the cache that could not be used any more. */
  retuned: number
  /** Candidates that failed or disagreed. */
  dropped: number
}

/**
 * The tuner's part of the environment: PULLBACK_TUNE is `time` (the default: candidates are timed on the GPU, and the
 * winners kept in the cache) or `heuristics` (the libraries' first proposals, untimed); PULLBACK_TUNE_SECONDS says how long
 * that may take (40 unless it is set): what is left then takes ways that need not be compiled, and is timed at the next start;
 * PULLBACK_VERIFY=1 checks each chosen candidate by its numbers.
 *
 * @throws ValueError for other values.
 */
export function tuningOptions(environment: NodeJS.ProcessEnv): Pick<TunerOptions, 'mode' | 'verify' | 'budget'> {
  const asked = environment['PULLBACK_TUNE'] ?? ''
  const mode = asked === '' ? 'time' : asked
  if (mode !== 'time' && mode !== 'heuristics')
    throw new ValueError(`[cuda] expected PULLBACK_TUNE to be time or heuristics, got '${asked}'. Unset it.`)
  return { mode, verify: environment['PULLBACK_VERIFY'] === '1', budget: 1000 * tuningSeconds(environment) }
}

/** A first step is to be there after a minute: the rest is for tracing, planning and compiling the other kernels. */
const usualSeconds = 40

function tuningSeconds(environment: NodeJS.ProcessEnv): number {
  const text = environment['PULLBACK_TUNE_SECONDS'] ?? ''
  const seconds = text === '' ? usualSeconds : Number(text)
  if (seconds >= 0) return seconds
  throw new ValueError(`[cuda] expected PULLBACK_TUNE_SECONDS to be a number of seconds, got '${text}'. Try 300.`)
}
