// Times candidates against each other: warmed up, on rotating operands so that the cache of the GPU does not flatter, in
// interleaved rounds so that a change of its clock meets all alike, and judged by the median.
import type { DevicePointer } from '../ffi/values.ts'
import { isSticky } from '../runtime/failure.ts'
import { Cleanup } from '../runtime/index.ts'
import { PullbackError } from '../../tensor/errors.ts'
import { at, range } from '../../tensor/shape.ts'
import type { Candidate } from '../work.ts'
import type { Bench, Bound, Recording } from './bench.ts'
import { type Operands, type TuningTask, cleanedUp, isOutOfMemory, withOperands } from './task.ts'

/** A candidate and the microseconds one run of it takes. */
export interface Timed {
  readonly candidate: Candidate
  readonly microseconds: number
}

/** A candidate that cannot be run, and why. */
export interface Failed {
  readonly candidate: Candidate
  readonly reason: string
}

/** The candidates that ran, the fastest first and the earlier of equals before the later; and those that did not. */
export interface Timings {
  readonly timed: readonly Timed[]
  readonly failed: readonly Failed[]
}

const operandSets = 2
const rounds = 5
/** A batch lasts about so long, if that takes no more runs than `mostRuns`. */
const batchMicroseconds = 500
const mostRuns = 32
/** A candidate so many times slower than the best at its first try is not tried again. */
const hopeless = 3

/**
 * Times the candidates on random operands; undefined where `isLate` says between two measurements that time is over.
 *
 * @throws PullbackError 'out-of-memory' where the operands do not fit once; 'device' where a candidate leaves the GPU
 * unusable.
 */
export function timeCandidates(
  bench: Bench,
  task: TuningTask,
  candidates: readonly Candidate[],
  isLate: () => boolean = () => false,
): Timings | undefined {
  return withOperands(bench, task, operandSets, (sets) =>
    cleanedUp((cleanup) => {
      const failed: Failed[] = []
      const scratch = largestScratch(bench, candidates, cleanup)
      const trials = fitting(candidates, scratch?.bytes ?? 0, failed).flatMap((candidate) => {
        if (isLate()) return []
        const trial = cleanup.own(new Trial(bench, candidate, scratch?.address), (made) => made.release())
        return tryOut(candidate, failed, () => trial.begin(sets)) === true ? [trial] : []
      })
      compare(trials, failed, isLate)
      if (isLate()) return undefined
      return { timed: ranked(trials.filter(({ candidate }) => !isAmong(candidate, failed))), failed }
    }),
  )
}

/** Runs the rounds of those that are not hopeless, as long as there is time. */
function compare(trials: readonly Trial[], failed: Failed[], isLate: () => boolean): void {
  const best = Math.min(...trials.map(({ microseconds }) => microseconds))
  const hopeful = trials.filter(({ microseconds }) => microseconds <= hopeless * best)
  for (const trial of hopeful) if (!isLate()) tryOut(trial.candidate, failed, () => trial.lengthen())
  for (const _ of range(rounds))
    for (const trial of hopeful)
      if (!isLate() && !isAmong(trial.candidate, failed)) tryOut(trial.candidate, failed, () => trial.measure())
}

function isAmong(candidate: Candidate, failed: readonly Failed[]): boolean {
  return failed.some((other) => other.candidate === candidate)
}

function ranked(trials: readonly Trial[]): readonly Timed[] {
  const timed = trials.map(({ candidate, microseconds }) => ({ candidate, microseconds }))
  return timed.sort((a, b) => a.microseconds - b.microseconds)
}

/** One candidate on trial: bound to each set of operands, and recorded as a batch that goes round them. */
class Trial {
  readonly #bounds: Bound[] = []
  readonly #times: number[] = []
  readonly #cleanup = new Cleanup()
  #runs = 0
  #recording: Recording | undefined
  #pilot = Number.POSITIVE_INFINITY

  constructor(
    private readonly bench: Bench,
    readonly candidate: Candidate,
    private readonly scratch: DevicePointer | undefined,
  ) {}

  /** The median of the rounds, or what the first try took. */
  get microseconds(): number {
    return this.#times.length === 0 ? this.#pilot : median(this.#times)
  }

  /** Warms up, and takes a first time. */
  begin(sets: readonly Operands[]): true {
    for (const operands of sets) {
      const scratch = this.candidate.scratchBytes === 0 ? undefined : this.scratch
      const bound = this.#cleanup.own(this.bench.bind(this.candidate, operands, scratch), (made) => made.release())
      this.#bounds.push(bound)
      this.bench.clock.run(() => bound.enqueue())
    }
    this.#record(sets.length)
    this.#pilot = Math.min(this.#time(), this.#time())
    return true
  }

  /** Makes the batch long enough for the clock. */
  lengthen(): void {
    const sets = this.#bounds.length
    const wanted = Math.min(mostRuns, batchMicroseconds / Math.max(this.#pilot, 1))
    const runs = Math.max(1, Math.ceil(wanted / sets)) * sets
    if (runs !== this.#runs) this.#record(runs)
  }

  measure(): void {
    this.#times.push(this.#time())
  }

  release(): void {
    this.#cleanup.release()
  }

  #record(runs: number): void {
    const batch = (): void => {
      for (const run of range(runs)) at(this.#bounds, run % this.#bounds.length).enqueue()
    }
    this.#recording = this.#cleanup.own(this.bench.clock.record(batch), (made) => made.release())
    this.#runs = runs
  }

  #time(): number {
    return (this.#recording?.time() ?? Number.POSITIVE_INFINITY) / this.#runs
  }
}

/** The largest scratch memory that a candidate wants and that there is. */
function largestScratch(
  bench: Bench,
  candidates: readonly Candidate[],
  cleanup: Cleanup,
): { readonly address: DevicePointer; readonly bytes: number } | undefined {
  const sizes = new Set(candidates.map(({ scratchBytes }) => scratchBytes).filter((bytes) => bytes > 0))
  for (const bytes of [...sizes].sort((a, b) => b - a)) {
    const address = allocateIfPossible(bench, bytes)
    if (address === undefined) continue
    cleanup.later(() => bench.free(address))
    return { address, bytes }
  }
  return undefined
}

/** The candidates that do with so much scratch memory; the others have failed. */
function fitting(candidates: readonly Candidate[], bytes: number, failed: Failed[]): readonly Candidate[] {
  return candidates.filter((candidate) => {
    const fits = candidate.scratchBytes <= bytes
    if (!fits) failed.push({ candidate, reason: `no memory for ${candidate.scratchBytes} bytes of scratch` })
    return fits
  })
}

function allocateIfPossible(bench: Bench, bytes: number): DevicePointer | undefined {
  try {
    return bench.allocate(bytes)
  } catch (error) {
    if (isOutOfMemory(error)) return undefined
    throw error
  }
}

/** What an action gives; where it throws, its candidate is dropped with the reason, unless the GPU is lost. */
export function tryOut<T>(candidate: Candidate, failed: Failed[], action: () => T): T | undefined {
  try {
    return action()
  } catch (error) {
    const reason = messageOf(error)
    if (isSticky(error))
      throw new PullbackError('device', `[cuda] expected ${candidate.id} to run, got: ${reason}`, { cause: error })
    failed.push({ candidate, reason })
    return undefined
  }
}

/** What an error says. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The middle of the values; the mean of the two middle ones where their number is even. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length / 2
  return (at(sorted, Math.ceil(half) - 1) + at(sorted, Math.floor(half))) / 2
}
