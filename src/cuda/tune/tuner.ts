// Chooses among the candidates of a problem: the one the cache knows, or the fastest on this GPU, or what a checkpoint asks
// for. What a candidate is made of and how it is timed is not known here.
import { PullbackError } from '../../tensor/errors.ts'
import { isSticky } from '../runtime/failure.ts'
import { Cleanup, attempt } from '../runtime/index.ts'
import type { Candidate } from '../work.ts'
import { Budget } from './budget.ts'
import type { TuningEntry } from './cache.ts'
import type { TunerOptions, TuningCounts } from './options.ts'
import { type TuningTask, isOutOfMemory } from './task.ts'
import { type Failed, messageOf, timeCandidates, tryOut } from './timing.ts'
import { disagreement } from './verify.ts'

/** A candidate in use by one or more steps. */
interface Shared {
  readonly candidate: Candidate
  users: number
}

/** Chooses candidates, each problem once. */
export class Tuner {
  readonly counts: TuningCounts = {
    ...{ timed: 0, cached: 0, single: 0, untimed: 0, required: 0, retuned: 0, dropped: 0 },
  }
  readonly #chosen = new Map<string, string>()
  readonly #wanted = new Map<string, string>()
  readonly #shared = new Map<string, Shared>()
  /** Ids that turned out to be unfit behind the tuner's back, and why. */
  readonly #barred = new Map<string, string>()
  readonly #budget: Budget
  #total = 0
  #late = false

  constructor(private readonly options: TunerOptions) {
    const { budget = Number.POSITIVE_INFINITY, now = () => performance.now() } = options
    this.#budget = new Budget(budget, now)
  }

  /** Says how many more different problems are to come, for `progress`. */
  announce(problems: number): void {
    this.#total = this.#chosen.size + problems
  }

  /**
   * The candidate to use for a problem. Steps with equal problems share it; each of them releases what it got.
   *
   * @throws PullbackError 'device' where no candidate works, with what became of each.
   */
  choose(task: TuningTask): Candidate {
    const shared = this.#shared.get(task.key) ?? this.#settle(task)
    shared.users += 1
    const { id, works, scratchBytes, counterBytes = 0 } = shared.candidate
    return { id, works, scratchBytes, counterBytes, release: once(() => this.#leave(task.key, shared)) }
  }

  /** Whether a problem has been chosen for. */
  isSettled(key: string): boolean {
    return this.#chosen.has(key)
  }

  /** Whether a problem's candidates are yet to be timed, as far as can be told before. */
  isOpen(key: string): boolean {
    return this.options.mode === 'time' && this.known(key) === undefined && !this.#budget.isSpent
  }

  /** The id that a problem will be settled by, or was, as far as can be told before. */
  known(key: string): string | undefined {
    const kept = this.options.mode === 'time' ? this.options.cache?.get(key)?.id : undefined
    return this.#chosen.get(key) ?? this.#wanted.get(key) ?? kept
  }

  /** What `action` gives; the time that it takes is part of what tuning may take. */
  spend<T>(action: () => T): T {
    return this.#budget.spend(action)
  }

  /** The id chosen for each problem so far, and that wanted for those to come: what a checkpoint keeps. */
  chosen(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.#wanted, ...this.#chosen])
  }

  /**
   * Asks that these ids be chosen from here on, as a run did that is to be resumed with the same bits; ids that are not
   * to be had are chosen anew, and problems that are settled stay so: `chosen` tells what became of it.
   */
  require(ids: Readonly<Record<string, string>>): void {
    for (const [key, id] of Object.entries(ids)) this.#wanted.set(key, id)
  }

  /**
   * Drops a library's candidate that turned out to be unfit where it was used: it is taken for no problem any more, and where
   * it was chosen, others are from here on. What uses it already keeps it.
   */
  bar(id: string, reason: string): void {
    this.#barred.set(id, reason)
    for (const ids of [this.#wanted, this.#chosen]) for (const [key, chosen] of ids) if (chosen === id) ids.delete(key)
    for (const [key, { candidate }] of this.#shared) if (candidate.id === id) this.#shared.delete(key)
    this.options.cache?.forget(id)
  }

  /** One line for a run's header. */
  toString(): string {
    const { timed, cached, single, untimed, required, retuned, dropped } = this.counts
    const parts = { timed, cached, single, untimed, required, retuned, dropped }
    const said = Object.entries(parts).flatMap(([name, count]) => (count === 0 ? [] : [`${count} ${name}`]))
    return `by ${this.options.mode}: ${said.length === 0 ? 'nothing yet' : said.join(', ')}`
  }

  #settle(task: TuningTask): Shared {
    const candidate = this.#required(task) ?? this.#cached(task) ?? this.#fresh(task)
    this.#chosen.set(task.key, candidate.id)
    const done = this.#chosen.size
    this.options.progress?.(done, Math.max(done, this.#total), task.key)
    const shared = { candidate, users: 0 }
    this.#shared.set(task.key, shared)
    return shared
  }

  #leave(key: string, shared: Shared): void {
    shared.users -= 1
    if (shared.users > 0) return
    if (this.#shared.get(key) === shared) this.#shared.delete(key)
    shared.candidate.release?.()
  }

  /** What was asked for, or was chosen before in this process, so that its bits do not change under it. */
  #required(task: TuningTask): Candidate | undefined {
    const id = this.#chosen.get(task.key) ?? this.#wanted.get(task.key)
    if (id === undefined) return undefined
    const entry = this.options.cache?.get(task.key)
    const kept = entry?.id === id ? task.restore(id, entry.recipe) : undefined
    const found = kept ?? this.#offered(task, id)
    if (this.#isUsable(task, found, kept === undefined ? undefined : entry)) {
      this.counts.required += 1
      return found
    }
    this.#note(`${id} is not to be had for ${task.key} any more: another candidate is chosen, whose bits may differ.`)
    return undefined
  }

  /** The candidate of an id among those that are offered. */
  #offered(task: TuningTask, id: string): Candidate | undefined {
    try {
      for (const candidate of task.candidates()) {
        if (candidate.id === id) return candidate
        candidate.release?.()
      }
    } catch (error) {
      if (isSticky(error)) throw error
      this.#note(`not all candidates for ${task.key} could be made: ${messageOf(error)}`)
    }
    return undefined
  }

  #cached(task: TuningTask): Candidate | undefined {
    if (this.options.mode !== 'time') return undefined
    const entry = this.options.cache?.get(task.key)
    if (entry === undefined) return undefined
    const candidate = task.restore(entry.id, entry.recipe)
    if (this.#isUsable(task, candidate, entry)) {
      this.counts.cached += 1
      return candidate
    }
    this.counts.retuned += 1
    this.#note(`${entry.id}, which the tuning cache has for ${task.key}, cannot be used any more: tuning again.`)
    return undefined
  }

  /** The best of the candidates that work; where time is over, one that costs nothing to make. */
  #fresh(task: TuningTask): Candidate {
    if (this.options.mode !== 'time') return this.#first(task, false)
    const found = this.#budget.isSpent ? undefined : this.#budget.spend(() => this.#fastest(task))
    return found ?? this.#hurriedly(task)
  }

  #hurriedly(task: TuningTask): Candidate {
    if (!this.#late)
      this.#note(
        `tuning took ${(this.#budget.spent / 1000).toFixed(0)} s, and PULLBACK_TUNE_SECONDS allows no more: what is left takes ways that need not be compiled, and is timed at the next start.`,
      )
    this.#late = true
    return this.#first(task, true)
  }

  #first(task: TuningTask, hurried: boolean): Candidate {
    const failed: Failed[] = []
    for (const candidate of task.candidates(hurried))
      if (this.#isUsable(task, candidate, undefined, failed)) {
        this.counts.untimed += 1
        return candidate
      }
    throw nothingLeft(task, failed)
  }

  /** The others are released; undefined, and all released, where time is over before all are made and timed. */
  #fastest(task: TuningTask): Candidate | undefined {
    const candidates = this.#collect(task)
    let winner: Candidate | undefined
    try {
      winner = this.#budget.isSpent ? undefined : this.#best(task, candidates)
    } catch (error) {
      attempt(() => releaseAll(candidates))
      throw error
    }
    try {
      releaseAll(candidates.filter((candidate) => candidate !== winner))
      return winner
    } catch (error) {
      attempt(() => winner?.release?.())
      throw error
    }
  }

  /** All candidates; those before one that could not be made, or with which time was over. */
  #collect(task: TuningTask): readonly Candidate[] {
    const candidates: Candidate[] = []
    try {
      for (const candidate of task.candidates()) {
        candidates.push(candidate)
        if (this.#budget.isSpent) break
      }
    } catch (error) {
      if (isSticky(error) || candidates.length === 0) {
        attempt(() => releaseAll(candidates))
        throw error
      }
      this.#note(`not all candidates for ${task.key} could be made: ${messageOf(error)}`)
    }
    return candidates
  }

  /** Undefined where time was over before all were timed and one was found sound. */
  #best(task: TuningTask, candidates: readonly Candidate[]): Candidate | undefined {
    const failed: Failed[] = []
    const ranking = this.#rank(task, candidates, failed)
    if (ranking === undefined) return undefined
    const { order, times, keep } = ranking
    const winner = order.find((candidate) => this.#budget.isSpent || this.#isSound(task, candidate, failed))
    if (this.#budget.isSpent) return undefined
    if (winner === undefined) throw nothingLeft(task, failed)
    if (keep) this.#keep(task, winner, times)
    return winner
  }

  #rank(task: TuningTask, candidates: readonly Candidate[], failed: Failed[]): Ranking | undefined {
    if (candidates.length <= 1) {
      this.counts.single += candidates.length
      return { order: candidates, times: new Map(), keep: true }
    }
    try {
      const timings = timeCandidates(this.options.bench, task, candidates, () => this.#budget.isSpent)
      if (timings === undefined) return undefined
      for (const failure of timings.failed) this.#drop(task, failure, failed, 'info')
      this.counts.timed += 1
      const times = new Map(timings.timed.map(({ candidate, microseconds }) => [candidate, rounded(microseconds)]))
      return { order: timings.timed.map(({ candidate }) => candidate), times, keep: true }
    } catch (error) {
      if (!isOutOfMemory(error)) throw error
      this.counts.untimed += 1
      this.#note(`no memory to time the candidates for ${task.key}: the first is taken, and not kept in the cache.`)
      return { order: candidates, times: new Map(), keep: false }
    }
  }

  /** Also one without a rival: that there is none takes a library's engines to find out. */
  #keep(task: TuningTask, winner: Candidate, times: ReadonlyMap<Candidate, number>): void {
    const microseconds = times.get(winner)
    const others = [...times].flatMap(([{ id }, time]) => (id === winner.id ? [] : [[id, time] as const]))
    this.options.cache?.set(task.key, {
      id: winner.id,
      ...(winner.recipe === undefined ? {} : { recipe: winner.recipe }),
      ...(microseconds === undefined ? {} : { microseconds }),
      others: Object.fromEntries(others),
      ...(task.acceptance === undefined ? {} : { accepted: true }),
    })
  }

  /** Whether a candidate that belongs to nobody else, from an entry if it is, can be used; it is released where it cannot. */
  #isUsable(
    task: TuningTask,
    candidate: Candidate | undefined,
    entry?: TuningEntry,
    failed: Failed[] = [],
  ): candidate is Candidate {
    if (candidate === undefined) return false
    let usable = false
    try {
      usable = this.#isSound(task, candidate, failed, entry?.accepted)
    } finally {
      if (!usable) attempt(() => candidate.release?.())
    }
    return usable
  }

  /**
   * Whether a candidate is fit for the task, and agrees with the reference where that is to be checked; one that is not or
   * does not is dropped. One that was `accepted` before is asked again only where everything is checked.
   */
  #isSound(task: TuningTask, candidate: Candidate, failed: Failed[], accepted = false): boolean {
    const { verify, bench } = this.options
    const barred = this.#barred.get(candidate.id)
    if (barred !== undefined) {
      this.#drop(task, { candidate, reason: barred }, failed, 'info')
      return false
    }
    if (!verify && (accepted || task.acceptance === undefined)) return true
    const failures: Failed[] = []
    const unfit = (): string | undefined => task.acceptance?.(bench, candidate)
    const differs = (): string | undefined => (verify ? this.#compare(task, candidate) : undefined)
    const reason = tryOut(candidate, failures, () => unfit() ?? differs())
    if (reason !== undefined) failures.push({ candidate, reason })
    for (const failure of failures) this.#drop(task, failure, failed, 'warn')
    return failures.length === 0
  }

  /** What is wrong with a candidate's numbers. */
  #compare(task: TuningTask, candidate: Candidate): string | undefined {
    const reference = task.reference?.()
    try {
      if (reference === undefined || reference.id === candidate.id) return undefined
      return disagreement(this.options.bench, task, candidate, reference)
    } catch (error) {
      if (!isOutOfMemory(error)) throw error
      this.#note(`no memory to check ${candidate.id} for ${task.key}: it is used unchecked.`)
      return undefined
    } finally {
      reference?.release?.()
    }
  }

  #drop(task: TuningTask, failure: Failed, failed: Failed[], level: 'warn' | 'info'): void {
    failed.push(failure)
    this.counts.dropped += 1
    this.#note(`dropped ${failure.candidate.id} for ${task.key}: ${failure.reason}`, level)
  }

  #note(sentence: string, level: 'warn' | 'info' = 'warn'): void {
    this.options.note?.(`[tune] ${sentence}`, level)
  }
}

/** Candidates in the order in which they are to be taken. */
interface Ranking {
  readonly order: readonly Candidate[]
  /** Microseconds of those that were timed. */
  readonly times: ReadonlyMap<Candidate, number>
  /** Whether the choice is worth keeping. */
  readonly keep: boolean
}

function releaseAll(candidates: readonly Candidate[]): void {
  const cleanup = new Cleanup()
  for (const candidate of candidates) cleanup.later(() => candidate.release?.())
  cleanup.release()
}

function nothingLeft({ key }: TuningTask, failed: readonly Failed[]): PullbackError {
  const said = failed.map(({ candidate, reason }) => `${candidate.id}: ${reason}`).join('; ')
  return new PullbackError(
    'device',
    `[cuda] expected a way to compute ${key}, got none${said === '' ? '' : ` (${said})`}. Use another dtype, or report it together with what \`npx pullback doctor\` prints.`,
  )
}

/** To the nanosecond: a GPU's events tell no more. */
function rounded(microseconds: number): number {
  return Math.round(microseconds * 1000) / 1000
}

function once(action: () => void): () => void {
  let done = false
  return () => {
    if (!done) action()
    done = true
  }
}
