// What is held of the driver and the libraries, to be given back last first. What cannot be given back stays listed, so that
// a second attempt can be made, and nothing is forgotten.

/** A list of actions that give something back. */
export class Cleanup {
  readonly #actions: (() => void)[] = []

  /** Notes that `value` is to be given back by `action`, and returns it. */
  own<T>(value: T, action: (value: T) => void): T {
    this.#actions.push(() => action(value))
    return value
  }

  /** Notes an action. */
  later(action: () => void): void {
    this.#actions.push(action)
  }

  /** Gives something back now; where that fails, once more at the end. */
  discard(action: () => void): void {
    try {
      action()
    } catch {
      this.later(action)
    }
  }

  /** Runs all actions, the last one first, also those after one that fails; throws the first failure. */
  release(): void {
    const failed: (() => void)[] = []
    let first: { readonly error: unknown } | undefined
    for (const action of this.#actions.splice(0).reverse()) {
      try {
        action()
      } catch (error) {
        failed.unshift(action)
        first ??= { error }
      }
    }
    this.#actions.push(...failed)
    if (first !== undefined) throw first.error
  }
}

/**
 * What `make` makes, all or nothing: where it throws, what it noted until then is given back, and the error goes on.
 * Otherwise the list is the caller's.
 */
export function allOrNothing<T>(make: (cleanup: Cleanup) => T): { readonly value: T; readonly cleanup: Cleanup } {
  const cleanup = new Cleanup()
  try {
    return { value: make(cleanup), cleanup }
  } catch (error) {
    attempt(() => cleanup.release())
    throw error
  }
}

/** Does what must not hide an error that is already under way. */
export function attempt(action: () => void): void {
  try {
    action()
  } catch {
    // the first error says what happened
  }
}
