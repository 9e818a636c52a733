// The order of work on one GPU: a stream for computing and one for copies, a ticket for each submission, and waiting for
// tickets by polling events. What is submitted is the executables' part.
import type { PullbackError } from '../../tensor/errors.ts'
import { driverFlags } from '../ffi/driver-constants.ts'
import type { Event, QueueCalls, Stream } from '../ffi/driver-queues.ts'
import { type Cleanup, allOf, attempt } from './cleanup.ts'
import { deviceFailure, isSticky } from './failure.ts'
import { Waiting } from './waiting.ts'

/** Of events that are waited for by sleeping and not timed. */
const eventFlags = driverFlags.EVENT_BLOCKING_SYNC | driverFlags.EVENT_DISABLE_TIMING

interface Pending {
  readonly ticket: number
  readonly event: Event
  readonly label: string
}

/** Work in the order of its tickets, 1 and up. */
export class Queue {
  readonly compute: Stream
  readonly copy: Stream
  readonly #waiting = new Waiting(() => this.#advance())
  readonly #pending: Pending[] = []
  readonly #events: Event[] = []
  #deferred: readonly { readonly ticket: number; readonly action: () => void }[] = []
  #submitted = 0
  #completed = 0
  #failure: PullbackError | undefined
  #closed: PullbackError | undefined

  /** Makes the streams; `cleanup` is told how to give them back. */
  constructor(
    private readonly driver: QueueCalls,
    cleanup: Cleanup,
  ) {
    const stream = (): Stream => cleanup.own(driver.createStream(0), (made) => driver.destroyStream(made))
    this.compute = stream()
    this.copy = stream()
    cleanup.later(() => this.#destroyEvents())
  }

  /** The ticket of the last submission; 0 before the first. */
  get submitted(): number {
    return this.#submitted
  }

  /** The last ticket whose work is done. Asks the driver, and throws if the device has failed. */
  get completed(): number {
    this.check()
    this.#advance()
    return this.#completed
  }

  /** Throws what the device failed with, if it has, or that it was closed. */
  check(): void {
    const refused = this.#failure ?? this.#closed
    if (refused !== undefined) throw refused
  }

  /** Whether the device has failed: nothing more will run. */
  get failed(): boolean {
    return this.#failure !== undefined
  }

  /**
   * Puts work on the compute stream and returns its ticket. Where `enqueue` throws after some of it was put there, that
   * part has a ticket too, so that memory stays in order.
   */
  submit(label: string, enqueue: (stream: Stream) => void): number {
    this.check()
    this.#advance()
    try {
      enqueue(this.compute)
    } catch (error) {
      attempt(() => this.#mark(label))
      throw this.explain(error)
    }
    return this.#mark(label)
  }

  /** Resolves when the ticket is done; rejects with what the device failed with. */
  async wait(ticket: number): Promise<void> {
    if (!this.reached(ticket)) await this.#waiting.until(() => this.#completed >= ticket)
  }

  /** Resolves once `ready` is true, which is asked again and again; rejects with what it throws. */
  async until(ready: () => boolean): Promise<void> {
    this.check()
    await this.#waiting.until(() => this.guard(ready))
  }

  /** Whether the ticket was done when somebody last looked. Asks nobody; throws if the device has failed. */
  reached(ticket: number): boolean {
    this.check()
    return this.#completed >= ticket
  }

  /** Blocks until the ticket is done. */
  waitSync(ticket: number): void {
    if (this.reached(ticket)) return
    const pending = this.#pending.find((candidate) => candidate.ticket >= ticket)
    if (pending === undefined) return
    this.#asynchronous(() => this.driver.synchronizeEvent(pending.event))
    this.#advance()
  }

  /** Later copies wait for the work up to the ticket. */
  copyWaits(ticket: number): void {
    const pending = this.#pending.find((candidate) => candidate.ticket >= ticket)
    if (this.#completed < ticket && pending !== undefined) this.driver.streamWaits(this.copy, pending.event)
  }

  /** Later work waits for the event. */
  computeWaits(event: Event): void {
    this.driver.streamWaits(this.compute, event)
  }

  /** A new event as this queue uses them; the caller's to destroy. */
  createEvent(): Event {
    return this.driver.createEvent(eventFlags)
  }

  /** Blocks until all copies are done: the way out where the driver did not take an event. */
  settleCopies(): void {
    this.#asynchronous(() => this.driver.synchronizeStream(this.copy))
  }

  /** Does `action` once everything submitted so far is done: at a later submission or wait, or at the end. */
  afterwards(action: () => void): void {
    this.#deferred = [...this.#deferred, { ticket: this.#submitted, action }]
  }

  /** Refuses everything from here on with `error`, and does what was left for afterwards; nothing may run any more. */
  close(error: PullbackError): void {
    this.#closed = error
    this.#waiting.reject(error)
    this.#runDeferred(Number.POSITIVE_INFINITY)
  }

  /** Runs `action`; a failure that ends the device becomes everybody's. */
  guard<T>(action: () => T): T {
    this.check()
    try {
      return action()
    } catch (error) {
      throw this.explain(error)
    }
  }

  /** The error to be thrown for `error`: itself, or the device's failure if it is one. */
  explain(error: unknown): unknown {
    return isSticky(error) ? this.#fail(error) : error
  }

  /** Notes a submission by an event behind it; where the driver takes none, waits here, so that nothing is out of order. */
  #mark(label: string): number {
    this.#submitted += 1
    let event = this.#events.pop()
    try {
      event ??= this.createEvent()
      this.driver.recordEvent(event, this.compute)
      this.#pending.push({ ticket: this.#submitted, event, label })
      return this.#submitted
    } catch (error) {
      if (event !== undefined) this.#events.push(event)
      this.#asynchronous(() => this.driver.synchronizeStream(this.compute))
      this.#completed = this.#submitted
      throw this.explain(error)
    }
  }

  #advance(): void {
    for (let [first] = this.#pending; first !== undefined; [first] = this.#pending) {
      const { event, ticket } = first
      if (!this.#asynchronous(() => this.driver.eventDone(event))) break
      this.#pending.shift()
      this.#events.push(event)
      this.#completed = Math.max(this.#completed, ticket)
    }
    if (this.#deferred.length > 0) attempt(() => this.#runDeferred(this.#completed))
  }

  #runDeferred(ticket: number): void {
    const ready = this.#deferred.filter((entry) => entry.ticket <= ticket)
    this.#deferred = this.#deferred.filter((entry) => entry.ticket > ticket)
    allOf(ready.map(({ action }) => action))
  }

  /** A call that tells of work enqueued before: whatever it throws, that work has failed. */
  #asynchronous<T>(call: () => T): T {
    try {
      return call()
    } catch (error) {
      throw this.#fail(error)
    }
  }

  #fail(error: unknown): PullbackError {
    this.#failure ??= deviceFailure(error, this.#pending[0]?.label)
    this.#waiting.reject(this.#failure)
    return this.#failure
  }

  #destroyEvents(): void {
    const events = [...this.#events.splice(0), ...this.#pending.splice(0).map(({ event }) => event)]
    allOf(events.map((event) => () => this.driver.destroyEvent(event)))
  }
}
