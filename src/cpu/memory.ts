// Device memory in JavaScript's hands: blocks by size class, reused in the order of the queue. A freed block may be handed
// to work that is enqueued later at once, since that runs later too; the host may write to it only once its users are done.
import { PullbackError } from '../tensor/errors.ts'
import type { DeviceMemory } from '../tensor/device.ts'
import type { Pointer, RuntimeCalls } from './ffi/runtime.ts'

/** A piece of native memory, 64-byte aligned. */
export interface Block {
  readonly address: Pointer
  readonly bytes: number
}

/** What the memory needs to know of the queue. */
export interface Order {
  readonly submitted: number
  readonly completed: number
  waitSync(ticket: number): void
}

interface Cached {
  readonly block: Block
  /** Work up to this ticket may still use the block. */
  readonly ticket: number
}

/** Freed blocks kept at least, in bytes; beyond that at most half of what is in use. */
const keptAtLeast = 256 * 2 ** 20

/** Allocates blocks for storages and arenas. */
export class Memory {
  readonly #cached = new Map<number, Cached[]>()
  #inUse = 0
  #peak = 0
  #cachedBytes = 0

  constructor(
    private readonly calls: Pick<RuntimeCalls, 'alloc' | 'free'>,
    private readonly order: Order,
    /** Names the largest owners for the error of running out. */
    private readonly owners: () => string,
  ) {}

  /**
   * A block of at least `bytes`, first touched by work enqueued from now on ('queue') or by the host at once ('host').
   *
   * @throws PullbackError `out-of-memory` with the bytes asked for, in use and cached, and the largest owners.
   */
  allocate(bytes: number, user: 'queue' | 'host'): Block {
    const size = sizeClass(bytes)
    const block = this.reuse(size, user) ?? this.fresh(size)
    this.#inUse += size
    this.#peak = Math.max(this.#peak, this.#inUse)
    return block
  }

  /** Gives a block back; what was enqueued so far may still use it. */
  free(block: Block): void {
    const list = this.#cached.get(block.bytes) ?? []
    this.#cached.set(block.bytes, list)
    list.push({ block, ticket: this.order.submitted })
    this.#inUse -= block.bytes
    this.#cachedBytes += block.bytes
    this.trim(Math.max(keptAtLeast, this.#inUse / 2))
  }

  /** Returns cached blocks to the system until at most `limit` bytes are kept or the rest is still needed. */
  trim(limit: number): void {
    if (this.#cachedBytes <= limit) return
    const { completed } = this.order
    for (const [size, list] of [...this.#cached].sort(([a], [b]) => b - a)) {
      while (this.#cachedBytes > limit) {
        const [oldest] = list
        if (oldest === undefined || oldest.ticket > completed) break
        list.shift()
        this.calls.free(oldest.block.address)
        this.#cachedBytes -= size
      }
      if (list.length === 0) this.#cached.delete(size)
    }
  }

  statistics(): DeviceMemory {
    return { inUse: this.#inUse, peak: this.#peak, cached: this.#cachedBytes }
  }

  private reuse(size: number, user: 'queue' | 'host'): Block | undefined {
    const list = this.#cached.get(size)
    if (list === undefined) return undefined
    const [oldest] = list
    const found =
      user === 'queue'
        ? list.pop()
        : oldest !== undefined && oldest.ticket <= this.order.completed
          ? list.shift()
          : undefined
    if (list.length === 0) this.#cached.delete(size)
    if (found === undefined) return undefined
    this.#cachedBytes -= size
    return found.block
  }

  private fresh(size: number): Block {
    let address = this.calls.alloc(size)
    if (address === undefined) {
      this.order.waitSync(this.order.submitted)
      this.trim(0)
      address = this.calls.alloc(size)
    }
    if (address !== undefined) return { address, bytes: size }
    throw new PullbackError(
      'out-of-memory',
      `[cpu] expected ${size} bytes of memory, got none: ${this.#inUse} are in use, ${this.#cachedBytes} cached. ` +
        `Largest: ${this.owners()}. Use a smaller batch, or dispose of tensors that are no longer needed.`,
    )
  }
}

/** Bytes rounded up to an eighth of a power of two, at least 64: few classes, at most 12.5 % more. */
export function sizeClass(bytes: number): number {
  const step = Math.max(64, 2 ** Math.floor(Math.log2(Math.max(1, bytes))) / 8)
  return Math.max(64, Math.ceil(bytes / step) * step)
}
