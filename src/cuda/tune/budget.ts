// The time that tuning may take: counted once, also where settling one problem asks for another.
/** Milliseconds that may be spent, and what is left of them. */
export class Budget {
  #spent = 0
  /** When what is spending now began. */
  #since: number | undefined

  /** `now` is a clock in milliseconds. */
  constructor(
    private readonly milliseconds: number,
    private readonly now: () => number,
  ) {}

  /** What `action` gives; the time that it takes is spent, and nothing twice where actions are within each other. */
  spend<T>(action: () => T): T {
    if (this.#since !== undefined) return action()
    this.#since = this.now()
    try {
      return action()
    } finally {
      this.#spent = this.spent
      this.#since = undefined
    }
  }

  /** Milliseconds spent so far. */
  get spent(): number {
    return this.#spent + (this.#since === undefined ? 0 : this.now() - this.#since)
  }

  /** Whether nothing is left. */
  get isSpent(): boolean {
    return this.spent >= this.milliseconds
  }
}
