// Copies between JavaScript's arrays and the GPU by way of pinned memory, in pieces, on the copy stream. Uploads go through as
// many slots in turn as are under way at once, so that none of them waits for the GPU; reads have slots of their own.
import { at } from '../../tensor/shape.ts'
import type { Driver } from '../ffi/driver.ts'
import type { Event } from '../ffi/driver-queues.ts'
import type { Native } from '../ffi/loader.ts'
import { type DevicePointer, type HostPointer, offset } from '../ffi/values.ts'
import { type Cleanup, allOrNothing } from './cleanup.ts'
import { isOutOfMemory } from './failure.ts'
import type { Queue } from './queue.ts'

/** Where a read finds the elements: it may move while a long read is under way. */
export interface ReadPlace {
  readonly address: DevicePointer
  /** The ticket of the work that writes it. */
  readonly ready: number
}

/** Bytes of a slot; larger arrays travel in pieces, smaller ones side by side. */
const slotBytes = 4 * 2 ** 20
/** The most slots for uploads: 512 MiB of pinned memory. Where more is under way, an upload waits for an earlier one. */
const mostUploadSlots = 128
/** Where pieces begin. */
const alignment = 256

interface Slot {
  readonly address: HostPointer
  readonly bytes: Uint8Array
  /** Behind the last copy from or to the slot, if there was one. */
  readonly event: Event
  used: boolean
  /** Bytes that are taken by uploads. */
  filled: number
}

/** Pinned memory and what goes through it. */
export class Staging {
  readonly #uploads: Slot[] = []
  readonly #reads: Slot[] = []
  /** The slot that uploads are filling. */
  #filling = 0
  /** The last of the reads that take turns. */
  #turn: Promise<void> = Promise.resolve()

  /** Slots are made when they are first needed; `cleanup` is told how to give them back. */
  constructor(
    private readonly driver: Driver,
    private readonly native: Native,
    private readonly queue: Queue,
    private readonly cleanup: Cleanup,
    private readonly mostSlots = mostUploadSlots,
  ) {}

  /**
   * Copies an array to the GPU; it may be changed as soon as this returns, and later work sees the elements. Does not wait for
   * the GPU as long as what is under way fits into the pinned memory there may be.
   */
  upload(to: DevicePointer, data: NodeJS.TypedArray): void {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    for (let start = 0; start < bytes.length; start += slotBytes) {
      const piece = bytes.subarray(start, start + slotBytes)
      const slot = this.#orSettled(() => this.#roomFor(piece.length))
      slot.bytes.set(piece, slot.filled)
      this.#orSettled(() => {
        this.driver.copyToDevice(offset(to, start), offset(slot.address, slot.filled), piece.length, this.queue.copy)
        this.#record(slot)
        if (start + slotBytes >= bytes.length) this.queue.computeWaits(slot.event)
      })
      slot.filled += Math.ceil(piece.length / alignment) * alignment
    }
  }

  /** Reads from the GPU into `out`, waiting without blocking. `place` is asked before each piece. */
  async read(out: Uint8Array, place: () => ReadPlace): Promise<void> {
    await this.queue.wait(place().ready)
    const before = this.#turn
    let leave = (): void => undefined
    this.#turn = new Promise((resolve) => (leave = resolve))
    try {
      await before
      for (let start = 0; start < out.length; start += slotBytes) {
        const piece = out.subarray(start, start + slotBytes)
        const slot = await this.#fetchWhenReady(place, start, piece.length)
        await this.queue.until(() => this.driver.eventDone(slot.event))
        piece.set(slot.bytes.subarray(0, piece.length))
      }
    } finally {
      leave()
    }
  }

  /** The same, blocking. */
  readSync(out: Uint8Array, { address, ready }: ReadPlace): void {
    this.queue.waitSync(ready)
    for (let start = 0; start < out.length; start += slotBytes) {
      const slot = this.#slot(this.#reads, 1)
      const piece = out.subarray(start, start + slotBytes)
      this.#fetch(slot, address, start, piece.length)
      this.queue.guard(() => this.driver.synchronizeEvent(slot.event))
      piece.set(slot.bytes.subarray(0, piece.length))
    }
  }

  /** Later work on the compute stream waits for the pieces that are being read now. */
  computeWaitsForReads(): void {
    for (const { event, used } of this.#reads) if (used) this.queue.computeWaits(event)
  }

  /** Resolves when no read uses pinned memory any more. */
  async finish(): Promise<void> {
    await this.#turn
  }

  /** Between asking for the place and enqueuing the copy nothing else may run, or the place might move. */
  async #fetchWhenReady(place: () => ReadPlace, start: number, bytes: number): Promise<Slot> {
    for (;;) {
      const { address, ready } = place()
      if (this.queue.reached(ready)) {
        const slot = this.#slot(this.#reads, 0)
        this.#fetch(slot, address, start, bytes)
        return slot
      }
      await this.queue.wait(ready)
    }
  }

  #fetch(slot: Slot, from: DevicePointer, start: number, bytes: number): void {
    this.#orSettled(() => {
      this.driver.copyToHost(slot.address, offset(from, start), bytes, this.queue.copy)
      this.#record(slot)
    })
  }

  /** The slot with room for a piece: the one that is being filled, or the next one if its pieces have arrived, or a new one. */
  #roomFor(bytes: number): Slot {
    const current = this.#slot(this.#uploads, this.#filling)
    if (current.filled + bytes <= slotBytes) return current
    const next = (this.#filling + 1) % this.#uploads.length
    const slot = at(this.#uploads, next)
    if (this.queue.guard(() => slot.used && !this.driver.eventDone(slot.event))) return this.#oneMore(slot, next)
    return this.#refill(slot, next)
  }

  /** A new slot in front of one that is under way; where there may or can be none, that one when it has arrived. */
  #oneMore(busy: Slot, index: number): Slot {
    if (this.#uploads.length < this.mostSlots) {
      try {
        const made = this.#make()
        this.#uploads.splice(index, 0, made)
        return this.#refill(made, index)
      } catch (error) {
        if (!isOutOfMemory(error)) throw this.queue.explain(error)
      }
    }
    this.queue.guard(() => this.driver.synchronizeEvent(busy.event))
    return this.#refill(busy, index)
  }

  #refill(slot: Slot, index: number): Slot {
    this.#filling = index
    slot.filled = 0
    return slot
  }

  #record(slot: Slot): void {
    this.driver.recordEvent(slot.event, this.queue.copy)
    slot.used = true
  }

  /** A slot, or a copy and the event behind it. Where one of the calls fails, nothing is under way afterwards. */
  #orSettled<T>(enqueue: () => T): T {
    try {
      return enqueue()
    } catch (error) {
      this.queue.settleCopies()
      throw this.queue.explain(error)
    }
  }

  #slot(slots: Slot[], index: number): Slot {
    while (slots.length <= index) slots.push(this.#make())
    return at(slots, index)
  }

  #make(): Slot {
    const { value: slot, cleanup } = allOrNothing((noted) => {
      const address = noted.own(this.driver.allocateHost(slotBytes, 0), (host) => this.driver.freeHost(host))
      const event = noted.own(this.queue.createEvent(), (made) => this.driver.destroyEvent(made))
      return { address, bytes: new Uint8Array(this.native.view(address, slotBytes)), event, used: false, filled: 0 }
    })
    this.cleanup.later(() => cleanup.release())
    return slot
  }
}
