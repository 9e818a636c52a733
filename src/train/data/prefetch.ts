// Work ahead of a consumer, in order and bounded: `ahead` items are made while the consumer holds one.
// Knows nothing of images; batches.ts gives it the maker.

/** Runs tasks, at most `limit` at a time, in the order they were handed in. */
export type Limiter = <T>(task: () => Promise<T>) => Promise<T>

/** A limiter: tasks wait for one of `limit` places. */
export function limiter(limit: number): Limiter {
  let free = limit
  const waiting: (() => void)[] = []
  const leave = (): void => {
    const next = waiting.shift()
    if (next === undefined) free++
    else next()
  }
  return async (task) => {
    if (free > 0) free--
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await task()
    } finally {
      leave()
    }
  }
}

/** The outcome of a promise as a value, so that a failure nobody waits for any more is not an unhandled rejection. */
type Outcome<T> = { readonly value: T } | { readonly error: unknown }

const outcomeOf = <T>(promise: Promise<T>): Promise<Outcome<T>> =>
  promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )

/**
 * Yields `make(from)`, ..., `make(to - 1)` in order, with up to `ahead` more in the making.
 *
 * Nothing starts before the first item is asked for. When the consumer stops early (or an item fails) `signal` is
 * aborted and the generator ends only after all started work has: nothing leaks.
 */
export async function* prefetched<T>(
  make: (index: number, signal: AbortSignal) => Promise<T>,
  from: number,
  to: number,
  ahead: number,
): AsyncGenerator<T, void, undefined> {
  const stop = new AbortController()
  const started: Promise<Outcome<T>>[] = []
  let next = from
  try {
    for (let index = from; index < to; index++) {
      while (next < to && started.length <= ahead) started.push(outcomeOf(make(next++, stop.signal)))
      const outcome = await started.shift()
      if (outcome === undefined) return
      if ('error' in outcome) throw outcome.error
      yield outcome.value
    }
  } finally {
    stop.abort()
    await Promise.all(started)
  }
}
