// What is held of the driver and the libraries, to be given back last first. A call that gives something back is never made
// twice: the error it answers may be an earlier one's, and the thing is gone.

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

  /** Runs all actions once, the last one first, also those after one that fails; throws the first failure. */
  release(): void {
    allOf(this.#actions.splice(0).reverse())
  }
}

/** Does everything on the list, also what comes after a failure; throws the first one. */
export function allOf(actions: readonly (() => void)[]): void {
  let first: { readonly error: unknown } | undefined
  for (const action of actions) {
    try {
      action()
    } catch (error) {
      first ??= { error }
    }
  }
  if (first !== undefined) throw first.error
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
