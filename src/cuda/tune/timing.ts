// Times candidates against each other: warmed up, on rotating operands so that the cache of the GPU does not flatter, in
// interleaved rounds so that a change of its clock meets all alike, and judged by the median.
import { CudaError } from '../ffi/status.ts'
import type { DevicePointer } from '../ffi/values.ts'
import { PullbackError } from '../../tensor/errors.ts'
import { at, range } from '../../tensor/shape.ts'
import type { Candidate } from '../work.ts'
import type { Bench, Bound, Recording } from './bench.ts'
import { type Operands, type TuningTask, isOutOfMemory, withOperands } from './task.ts'

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
 * Times the candidates on random operands.
 *
 * @throws PullbackError 'out-of-memory' where the operands do not fit once; 'device' where a candidate leaves the GPU
 * unusable.
 */
export function timeCandidates(bench: Bench, task: TuningTask, candidates: readonly Candidate[]): Timings {
  return withOperands(bench, task, operandSets, (sets) =>
    withScratch(bench, candidates, (candidatesLeft, scratch, failed) => {
      const trials: Trial[] = []
      try {
        for (const candidate of candidatesLeft) {
          const trial = attempt(candidate, failed, () => new Trial(bench, candidate, sets, scratch))
          if (trial !== undefined) trials.push(trial)
        }
        compare(trials, failed)
        return { timed: ranked(trials.filter(({ candidate }) => !isAmong(candidate, failed))), failed }
      } finally {
        for (const trial of trials) trial.release()
      }
    }),
  )
}

/** Runs the rounds of those that are not hopeless. */
function compare(trials: readonly Trial[], failed: Failed[]): void {
  const best = Math.min(...trials.map(({ microseconds }) => microseconds))
  const hopeful = trials.filter(({ microseconds }) => microseconds <= hopeless * best)
  for (const trial of hopeful) attempt(trial.candidate, failed, () => trial.lengthen())
  for (const _ of range(rounds))
    for (const trial of hopeful)
      if (!isAmong(trial.candidate, failed)) attempt(trial.candidate, failed, () => trial.measure())
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
  #runs: number
  #recording: Recording | undefined
  readonly #pilot: number

  constructor(
    private readonly bench: Bench,
    readonly candidate: Candidate,
    sets: readonly Operands[],
    scratch: DevicePointer | undefined,
  ) {
    this.#runs = sets.length
    try {
      for (const operands of sets) {
        const bound = bench.bind(candidate, operands, candidate.scratchBytes === 0 ? undefined : scratch)
        this.#bounds.push(bound)
        bench.clock.run(() => bound.enqueue())
      }
      this.#record()
      this.#pilot = Math.min(this.#time(), this.#time())
    } catch (error) {
      this.release()
      throw error
    }
  }

  /** The median of the rounds, or what the first try took. */
  get microseconds(): number {
    return this.#times.length === 0 ? this.#pilot : median(this.#times)
  }

  /** Makes the batch long enough for the clock. */
  lengthen(): void {
    const sets = this.#bounds.length
    const wanted = Math.min(mostRuns, batchMicroseconds / Math.max(this.#pilot, 1))
    const runs = Math.max(1, Math.ceil(wanted / sets)) * sets
    if (runs === this.#runs) return
    this.#runs = runs
    this.#record()
  }

  measure(): void {
    this.#times.push(this.#time())
  }

  release(): void {
    this.#recording?.release()
    this.#recording = undefined
    for (const bound of this.#bounds.splice(0)) bound.release()
  }

  #record(): void {
    this.#recording?.release()
    this.#recording = undefined
    this.#recording = this.bench.clock.record(() => {
      for (const run of range(this.#runs)) at(this.#bounds, run % this.#bounds.length).enqueue()
    })
  }

  #time(): number {
    return (this.#recording?.time() ?? Number.POSITIVE_INFINITY) / this.#runs
  }
}

/** Uses one scratch memory for all; candidates that need more than there is, or that cannot be made, are left out. */
function withScratch<T>(
  bench: Bench,
  candidates: readonly Candidate[],
  use: (fitting: readonly Candidate[], scratch: DevicePointer | undefined, failed: Failed[]) => T,
): T {
  const failed: Failed[] = []
  const made = candidates.filter((candidate) => attempt(candidate, failed, () => isMade(candidate)))
  const sizes = new Set(made.map(({ scratchBytes }) => scratchBytes).filter((bytes) => bytes > 0))
  for (const bytes of [...sizes].sort((a, b) => b - a)) {
    const scratch = allocateIfPossible(bench, bytes)
    if (scratch === undefined) continue
    try {
      return use(fitting(made, bytes, failed), scratch, failed)
    } finally {
      bench.free(scratch)
    }
  }
  return use(fitting(made, 0, failed), undefined, failed)
}

/** Asks for what a candidate consists of, which makes it where that was put off. */
export function isMade({ works, scratchBytes }: Candidate): boolean {
  return works.length >= 0 && scratchBytes >= 0
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
export function attempt<T>(candidate: Candidate, failed: Failed[], action: () => T): T | undefined {
  try {
    return action()
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    if (isFatal(error))
      throw new PullbackError('device', `[cuda] expected ${candidate.id} to run, got: ${reason}`, { cause: error })
    failed.push({ candidate, reason })
    return undefined
  }
}

/** Statuses of the driver after which nothing more can be done in this process: kernels that faulted or hung. */
const fatalStatuses: ReadonlySet<number> = new Set([700, 702, 710, 714, 715, 716, 717, 718, 719])

function isFatal(error: unknown): boolean {
  return error instanceof CudaError && error.library === 'driver' && fatalStatuses.has(error.status)
}

/** The middle of the values; the mean of the two middle ones where their number is even. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length / 2
  return (at(sorted, Math.ceil(half) - 1) + at(sorted, Math.floor(half))) / 2
}
