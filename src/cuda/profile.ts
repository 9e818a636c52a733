// What the steps of a program take on the GPU: events between the works of runs that are launched one by one
// (PULLBACK_PROFILE=1). How it reads is the compiler's profile.ts's part.
import { performance } from 'node:perf_hooks'
import { showProfile } from '../compile/index.ts'
import { at } from '../tensor/shape.ts'
import { driverFlags } from './ffi/driver-constants.ts'
import type { Event, QueueCalls, Stream } from './ffi/driver-queues.ts'
import type { CudaPlan } from './fusions/arrange.ts'
import { describeCudaStep } from './fusions/fusion.ts'
import type { BoundWork, LoweredPlan } from './lower.ts'
import { allOf } from './runtime/cleanup.ts'

type EventCalls = Pick<QueueCalls, 'createEvent' | 'destroyEvent' | 'recordEvent' | 'synchronizeEvent' | 'elapsed'>

/** What was measured of a program; the first run counts only as long as it is the only one, since it loads the kernels. */
export interface StepTimes {
  readonly runs: number
  /** For each step of the plan its nanoseconds on the GPU in all runs together; a joined launch counts for its first step. */
  readonly nanoseconds: Float64Array
  /** Nanoseconds of the host in all runs together, from call to return. */
  readonly host: number
}

/** The times of one program. */
export class Profile {
  readonly #nanoseconds: Float64Array
  readonly #events: Event[] = []
  /** How many events of the last run were recorded, and whether it is yet to be counted. */
  #recorded = 0
  #pending = false
  /** Of the last run, and of those that count. */
  #lastHost = 0
  #host = 0
  #runs = 0
  #warm = false

  constructor(
    private readonly driver: EventCalls,
    private readonly works: readonly BoundWork[],
    steps: number,
  ) {
    this.#nanoseconds = new Float64Array(steps)
  }

  /** Does `run`, whose host time counts; the run before is waited for and counted first, outside of that time. */
  around<T>(run: () => T): T {
    this.#count()
    const start = performance.now()
    const result = run()
    this.#lastHost = (performance.now() - start) * 1e6
    return result
  }

  /** Before the first work of a run. */
  start(stream: Stream): void {
    this.#pending = false
    this.#recorded = 0
    this.#record(stream)
  }

  /** Behind each work. */
  readonly between = (stream: Stream): void => {
    this.#record(stream)
    this.#pending = this.#recorded === this.works.length + 1
  }

  /** What was measured so far. Waits for the last run. */
  times(): StepTimes {
    this.#count()
    return { runs: this.#runs, nanoseconds: this.#nanoseconds, host: this.#host }
  }

  /** Gives the events back. */
  release(): void {
    this.#pending = false
    allOf(this.#events.splice(0).map((event) => () => this.driver.destroyEvent(event)))
  }

  #forgetFirst(): void {
    this.#warm = true
    this.#nanoseconds.fill(0)
    this.#host = 0
    this.#runs = 0
  }

  #record(stream: Stream): void {
    const event = this.#events[this.#recorded] ?? this.driver.createEvent(driverFlags.EVENT_DEFAULT)
    this.#events[this.#recorded] = event
    this.#recorded += 1
    this.driver.recordEvent(event, stream)
  }

  #count(): void {
    if (!this.#pending) return
    this.#pending = false
    this.driver.synchronizeEvent(at(this.#events, this.works.length))
    if (this.#runs === 1 && !this.#warm) this.#forgetFirst()
    this.#runs += 1
    this.#host += this.#lastHost
    this.works.forEach(({ step }, index) => {
      const milliseconds = this.driver.elapsed(at(this.#events, index), at(this.#events, index + 1))
      this.#nanoseconds[step] = at(this.#nanoseconds, step) + milliseconds * 1e6
    })
  }
}

/** The times as text, the dearest steps first: with the way that was chosen and its workspace where there was a choice. */
export function showTimes(plan: CudaPlan, { works, ways }: LoweredPlan, label: string, times: StepTimes): string {
  const { runs, nanoseconds, host } = times
  const joined = new Map(works.map(({ step, joined: more = [] }) => [step, more]))
  const note = (step: number): string => {
    const { id, scratchBytes } = at(ways, step)
    return id === undefined ? '' : `  by ${id}, workspace ${(scratchBytes / 1e6).toFixed(1)} MB`
  }
  const head = ` and ${works.length} launches, ${(host / runs / 1e6).toFixed(3)} ms of the host; launched one by one, no graph`
  const shown = { describe: describeCudaStep, head, note, joined: (step: number) => joined.get(step) ?? [] }
  return showProfile(plan, label, { nanoseconds, runs, ...shown })
}
