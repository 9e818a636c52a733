// Waiting for the GPU without blocking Node and without burning a core: conditions are asked again and again, at first in
// each turn of the event loop, then by timers further and further apart.

interface Waiter {
  readonly ready: () => boolean
  readonly done: () => void
  readonly failed: (error: unknown) => void
}

/** Turns of the event loop in which conditions are asked before timers take over. */
const eagerPolls = 12
/** The longest time between two polls, in milliseconds. */
const longestPause = 2

/** Promises of conditions that only polling tells. */
export class Waiting {
  #waiters: readonly Waiter[] = []
  #polls = 0
  #scheduled = false

  /** `refresh` is called before each round of questions; what it throws rejects everybody. */
  constructor(private readonly refresh: () => void) {}

  /** Resolves once `ready` answers true; rejects with what it throws. */
  until(ready: () => boolean): Promise<void> {
    return new Promise((done, failed) => {
      this.#waiters = [...this.#waiters, { ready, done, failed }]
      this.#polls = 0
      this.#schedule()
    })
  }

  /** Rejects everybody who waits. */
  reject(error: unknown): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const { failed } of waiters) failed(error)
  }

  #schedule(): void {
    if (this.#scheduled || this.#waiters.length === 0) return
    this.#scheduled = true
    const poll = (): void => this.#poll()
    if (this.#polls < eagerPolls) setImmediate(poll)
    else setTimeout(poll, Math.min(longestPause, 1 + Math.floor((this.#polls - eagerPolls) / 4)))
  }

  #poll(): void {
    this.#scheduled = false
    this.#polls += 1
    try {
      this.refresh()
    } catch (error) {
      this.reject(error)
      return
    }
    const asked = this.#waiters
    const settled = new Set(asked.filter((waiter) => this.#settle(waiter)))
    this.#waiters = this.#waiters.filter((waiter) => !settled.has(waiter))
    if (settled.size > 0) this.#polls = 0
    this.#schedule()
  }

  #settle({ ready, done, failed }: Waiter): boolean {
    try {
      if (!ready()) return false
      done()
    } catch (error) {
      failed(error)
    }
    return true
  }
}
