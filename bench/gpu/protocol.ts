// What bench:gpu and a contender say to each other: JSON lines over stdin and stdout, one answer for each request. The
// PyTorch side is bench/torch/gpu.py.

/** A request. */
export type Request =
  /** Build the model and warm up. */
  | { readonly do: 'prepare'; readonly warmup: number }
  /** Time steps behind an untimed one, no more than two in flight. */
  | { readonly do: 'block'; readonly steps: number }
  /** Tell the memory used, and end. */
  | { readonly do: 'finish' }

/** Facts of a contender, as they are recorded. */
export type Facts = Readonly<Record<string, unknown>>

/** The times of one block, in milliseconds. */
export interface Block {
  /** Between events behind the steps, on the GPU. */
  readonly events_ms: readonly number[]
  /** Between the moments at which the steps were seen to be done. */
  readonly wall_ms: readonly number[]
  /** Of the host, from call to return. */
  readonly host_ms: readonly number[]
  /** Of the host, for copying the batch, where that is not part of the call. */
  readonly upload_ms?: readonly number[]
  /** The loss, or the mean of the logits, of the last step. */
  readonly value: number
}

/** An answer. */
export type Answer<T> =
  | ({ readonly ok: true } & T)
  | { readonly ok: false; readonly kind: 'out-of-memory' | 'error'; readonly error: string }

/** A block as it was answered; undefined for what is none. */
export function asBlock(answer: Facts): Block | undefined {
  const isTimes = (list: unknown): boolean => Array.isArray(list) && list.every((ms) => typeof ms === 'number')
  const { events_ms, wall_ms, host_ms, value } = answer
  return [events_ms, wall_ms, host_ms].every(isTimes) && (typeof value === 'number' || value === null)
    ? ({ ...answer, value: value ?? Number.NaN } as unknown as Block) // a NaN comes as null
    : undefined
}
