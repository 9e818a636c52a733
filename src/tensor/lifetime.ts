// Who is alive: the registry behind garbage-collected device memory, `scope` and `memory.report()`.
import { AsyncLocalStorage } from 'node:async_hooks'
import type { Storage } from './device.ts'
import { bytesOf } from './dtype.ts'
import { showType } from './program.ts'
import { sizeOf } from './shape.ts'
import type { Tensor } from './tensor.ts'
import { type Tree, leavesOf } from './tree.ts'

/** The storages that tensors own, and where those were made, if that is noted. */
const entries = new Map<Storage, Error | undefined>()
const scopes = new AsyncLocalStorage<Set<Tensor>>()
let recordOrigins = false

/** Tensors are never taken off this list, which costs more than to hear of those whose storage is nobody's any more. */
const collected = new FinalizationRegistry<Storage>((storage) => {
  if (entries.delete(storage)) storage.device.release(storage)
})

/** @internal Notes a tensor that owns storage. */
export function register(tensor: Tensor, storage: Storage): void {
  entries.set(storage, recordOrigins ? new Error('made') : undefined)
  collected.register(tensor, storage)
  scopes.getStore()?.add(tensor)
}

/** @internal Forgets a tensor whose storage was given up. */
export function unregister(tensor: Tensor, storage: Storage): void {
  entries.delete(storage)
  scopes.getStore()?.delete(tensor)
}

/**
 * Runs `body` and frees every tensor made in it, but those it returns (in any tree).
 *
 * @example const loss = await scope(async () => mean(square(sub(f(x), y))));
 */
export async function scope<T>(body: () => T | Promise<T>): Promise<T> {
  const made = new Set<Tensor>()
  const outer = scopes.getStore()
  return scopes.run(made, async () => {
    try {
      const result = await body()
      const kept = new Set<unknown>(leavesOf(result as Tree<Tensor>))
      for (const tensor of made) {
        if (!kept.has(tensor)) continue
        made.delete(tensor)
        outer?.add(tensor) // only what was made here: a result may hold older tensors, and leaves that are none
      }
      return result
    } finally {
      for (const tensor of [...made]) tensor.dispose()
    }
  })
}

/** One live tensor in a memory report. */
export interface LiveTensor {
  readonly type: string
  readonly device: string
  readonly bytes: number
  /** Where it was made, if `memory.recordOrigins(true)` was called before. */
  readonly made: string | undefined
}

/** Which tensors hold device memory. */
export const memory = {
  /** The live tensors that own device memory, largest first. */
  report(): readonly LiveTensor[] {
    return [...entries]
      .map(([storage, made]) => ({
        type: showType(storage.type),
        device: storage.device.name,
        bytes: sizeOf(storage.type.shape) * bytesOf(storage.type.dtype),
        made: made?.stack?.split('\n').slice(2).join('\n'),
      }))
      .sort((a, b) => b.bytes - a.bytes)
  },

  /** Whether to note where each tensor is made (some microseconds each). Off at first. */
  recordOrigins(on: boolean): void {
    recordOrigins = on
  },
}
