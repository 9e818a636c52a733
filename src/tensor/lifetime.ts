// Who is alive: the registry behind garbage-collected device memory, `scope` and `memory.report()`.
import { AsyncLocalStorage } from 'node:async_hooks'
import type { Storage } from './device.ts'
import { bytesOf } from './dtype.ts'
import { showType } from './program.ts'
import { sizeOf } from './shape.ts'
import type { Tensor } from './tensor.ts'
import { type Tree, leavesOf } from './tree.ts'

/** A storage that a tensor owns, and where that was made, if that is noted. */
interface Owned {
  storage: Storage
  made: Error | undefined
}

const owned = new Set<Owned>()
const scopes = new AsyncLocalStorage<Set<Tensor>>()
let recordOrigins = false

/** Nothing is ever taken off this list, which costs more than to hear of storages that are nobody's any more. */
const collected = new FinalizationRegistry<Owned>((entry) => {
  if (owned.delete(entry)) entry.storage.device.release(entry.storage)
})

/**
 * A tensor's ownership of its storage; one tensor holds it, and when both are collected, the storage is released. A tensor
 * that is donated leaves its ownership to a result, with another storage: to have the collector watch one more object is
 * what costs most of a tensor, and a training step has a thousand of them.
 */
export class Ownership {
  readonly kind = 'stored'
  /** The last call of a compiled function that saw it: how a tensor is found that is passed twice. */
  seen = 0
  readonly #owned: Owned

  constructor(storage: Storage) {
    this.#owned = { storage, made: madeHere() }
    owned.add(this.#owned)
    collected.register(this, this.#owned)
  }

  get storage(): Storage {
    return this.#owned.storage
  }

  /** The storage from here on; the one before belongs to somebody else. */
  renew(storage: Storage): this {
    this.#owned.storage = storage
    if (recordOrigins || this.#owned.made !== undefined) this.#owned.made = madeHere()
    return this
  }

  /** The storage belongs to somebody else, or was released. */
  end(): void {
    owned.delete(this.#owned)
  }
}

function madeHere(): Error | undefined {
  return recordOrigins ? new Error('made') : undefined
}

/** @internal Notes tensors that were made, for the scope that is to free them, and others that own nothing any more. */
export function noteTensors(made: readonly Tensor[], given: readonly Tensor[] = []): void {
  const scope = scopes.getStore()
  if (scope === undefined) return
  for (const tensor of given) scope.delete(tensor)
  for (const tensor of made) scope.add(tensor)
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
    return [...owned]
      .map(({ storage, made }) => ({
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
