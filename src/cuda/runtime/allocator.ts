// Device memory: blocks cut from large allocations and kept for reuse. A freed block may be handed to work on the compute
// stream at once, since that runs later; copies are given memory whose users are done, or wait for them.
import { InternalError, PullbackError } from '../../tensor/errors.ts'
import type { DeviceMemory } from '../../tensor/device.ts'
import type { MemoryCalls } from '../ffi/driver-memory.ts'
import { CudaError } from '../ffi/status.ts'
import type { DevicePointer } from '../ffi/values.ts'
import { allOf, attempt } from './cleanup.ts'
import { isOutOfMemory } from './failure.ts'
import { type Segment, type Span, Spans, addressOf } from './spans.ts'

/** A piece of device memory with one or more holders; 512-byte aligned, and free again when the last one lets go. */
export class Block {
  #holders = 1

  /** Made by the allocator. */
  constructor(
    readonly address: DevicePointer,
    readonly bytes: number,
    private readonly free: (block: Block) => void,
  ) {}

  /** How many hold it. */
  get holders(): number {
    return this.#holders
  }

  /** One holder more. */
  retain(): this {
    this.#holders += 1
    return this
  }

  /** One holder less. What was enqueued so far may still use the memory. Never throws. */
  release(): void {
    this.#holders -= 1
    if (this.#holders === 0) this.free(this)
  }
}

/** Device memory that is not there; says what there is. */
export class OutOfMemoryError extends PullbackError {
  constructor(
    message: string,
    /** Bytes asked for; 0 where a library took them and did not say. */
    readonly asked: number,
    /** Bytes that could have been had. */
    readonly available: number,
    options: ErrorOptions,
  ) {
    super('out-of-memory', message, options)
    this.name = 'OutOfMemoryError'
  }

  /** The same with more to say. */
  adding(sentence: string): OutOfMemoryError {
    return new OutOfMemoryError(`${this.message}${sentence}`, this.asked, this.available, { cause: this.cause })
  }
}

/** What the allocator needs to know of the queue. */
export interface Order {
  readonly submitted: number
  readonly completed: number
  waitSync(ticket: number): void
  copyWaits(ticket: number): void
}

/** Who touches a block first: work on the compute stream, or a copy on the other one. */
export type User = 'compute' | 'copy'

/** How memory is taken from the driver. */
export interface AllocatorOptions {
  /** Each block an allocation of its own, never used twice: for finding accesses outside of blocks. */
  readonly separate?: boolean
}

const granularity = 512
const smallest = 2 ** 20
/** Bytes kept free that copies need not wait for; beyond that they use what is there, and wait. */
const ahead = 2 ** 29
const smallSegment = 2 * 2 ** 20
const largeSegment = 20 * 2 ** 20
/** What is free is plenty for this many times what would lie idle in a segment. */
const plenty = 16

/** Allocates the device memory of one GPU. */
export class Allocator {
  readonly #small = new Spans(granularity)
  readonly #large = new Spans(smallest)
  readonly #spans = new Map<Block, Span>()
  #inUse = 0
  #peak = 0

  constructor(
    private readonly driver: Pick<MemoryCalls, 'allocate' | 'free' | 'memoryInfo'>,
    private readonly order: Order,
    /** Names the largest owners for the error of running out. */
    private readonly owners: () => string,
    private readonly options: AllocatorOptions = {},
  ) {}

  /**
   * A block of at least `bytes` with one holder, first touched by work on the compute stream, or by a copy.
   *
   * @throws OutOfMemoryError with the bytes asked for, free, in use and cached, and the largest owners.
   */
  allocate(bytes: number, user: User = 'compute'): Block {
    const size = this.options.separate === true ? Math.max(1, bytes) : roundUp(Math.max(1, bytes), granularity)
    const spans = this.#pool(size)
    const span = this.#reuse(spans, size, user) ?? this.#fresh(spans, size, user)
    const block = new Block(addressOf(span), span.bytes, (freed) => this.#free(freed))
    this.#spans.set(block, span)
    this.#inUse += span.bytes
    this.#peak = Math.max(this.#peak, this.#inUse)
    return block
  }

  /**
   * Does what takes memory from the driver by itself, as loading code does: where there is none, once more after everything
   * enqueued has run and what nobody uses has gone back. Nothing may be under capture.
   *
   * @throws OutOfMemoryError with what is free, in use and cached, and the largest owners.
   */
  relieved<T>(take: () => T): T {
    try {
      return take()
    } catch (error) {
      if (!isOutOfMemory(error)) throw error
    }
    this.#settle()
    this.trim()
    try {
      return take()
    } catch (error) {
      throw this.explain(error)
    }
  }

  /** A lack of the GPU's memory with the figures, if it has none yet; any other error as it is. */
  explain(error: unknown): unknown {
    const known = !isOutOfMemory(error) || isOfHost(error) || hasFigures(error)
    return known ? error : this.#exhausted(0, error)
  }

  /** Returns to the driver what nobody holds and no work uses any more. */
  trim(): void {
    const done = this.order.completed
    const pools = [this.#small, this.#large]
    allOf(pools.flatMap((spans) => spans.idle(done).map((segment) => () => this.#return(spans, segment))))
  }

  statistics(): DeviceMemory {
    return { inUse: this.#inUse, peak: this.#peak, cached: this.#cached }
  }

  /** Returns everything to the driver, held or not; nothing may run any more. Throws the first failure, after all. */
  close(): void {
    this.#spans.clear()
    const pools = [this.#small, this.#large]
    allOf(pools.flatMap((spans) => [...spans.segments].map((segment) => () => this.#return(spans, segment))))
  }

  get #cached(): number {
    return this.#small.freeBytes + this.#large.freeBytes
  }

  #pool(size: number): Spans {
    return size <= smallest ? this.#small : this.#large
  }

  /** A free span: for copies one whose users are done, or, where too much is kept free already, one that they wait for. */
  #reuse(spans: Spans, size: number, user: User): Span | undefined {
    if (this.options.separate === true) return undefined
    const done = user === 'compute' ? Number.POSITIVE_INFINITY : this.order.completed
    const found = this.#takeJoined(spans, size, done)
    return found !== undefined || this.#cached < ahead ? found : this.#awaited(spans, size)
  }

  /** A free span that is still in use; copies wait for that. */
  #awaited(spans: Spans, size: number): Span | undefined {
    const awaited = this.#takeJoined(spans, size, Number.POSITIVE_INFINITY)
    if (awaited !== undefined) this.order.copyWaits(awaited.after)
    return awaited
  }

  /** A free span whose users are done by the ticket, made of neighbours if need be. */
  #takeJoined(spans: Spans, size: number, ticket: number): Span | undefined {
    const accept = ({ after }: Span): boolean => after <= ticket
    const found = spans.take(size, accept)
    if (found !== undefined) return found
    spans.join(ticket)
    return spans.take(size, accept)
  }

  /**
   * A span of a new segment. Where there is no memory copies take what they have to wait for on the GPU; if there is nothing
   * either, once more after everything enqueued has run.
   */
  #fresh(spans: Spans, size: number, user: User): Span {
    try {
      return this.#cutNew(spans, this.#segmentFor(size), size)
    } catch (error) {
      if (!isOutOfMemory(error)) throw error
    }
    const shared = this.options.separate !== true
    const awaited = shared && user === 'copy' ? this.#awaited(spans, size) : undefined
    if (awaited !== undefined) return awaited
    this.#settle()
    const found = shared ? this.#takeJoined(spans, size, this.order.completed) : undefined
    if (found !== undefined) return found
    this.trim()
    try {
      return this.#cutNew(spans, size, size)
    } catch (error) {
      throw isOutOfMemory(error) ? this.#exhausted(size, error) : error
    }
  }

  /** Waits for everything that was enqueued: what was to be given back behind it is. */
  #settle(): void {
    this.order.waitSync(this.order.submitted)
  }

  /** A segment is larger than what is asked for where that is little of what is free. */
  #segmentFor(size: number): number {
    const bytes = this.options.separate === true ? size : segmentBytes(size)
    return bytes > size && bytes - size > this.driver.memoryInfo().free / plenty ? size : bytes
  }

  /** The beginning of a new segment. */
  #cutNew(spans: Spans, bytes: number, size: number): Span {
    const segment = { address: this.driver.allocate(bytes), bytes }
    spans.add(segment)
    const span = spans.take(size, (candidate) => candidate.segment === segment)
    if (span === undefined) throw new InternalError(`no span of ${size} bytes in a new segment`)
    return span
  }

  #exhausted(asked: number, cause: unknown): OutOfMemoryError {
    const { free, total } = this.driver.memoryInfo()
    const cached = this.#cached
    const others = total - free - this.#inUse - cached
    const elsewhere = others > total / 16 ? ` ${others} bytes are held by others: see nvidia-smi.` : ''
    const wanted = asked === 0 ? `device memory for ${takerOf(cause)}` : `${asked} bytes of device memory`
    return new OutOfMemoryError(
      `[cuda] expected ${wanted}, got none: ${free} of ${total} are free, ${this.#inUse} in use here, ` +
        `${cached} cached in smaller pieces.${elsewhere} Largest: ${this.owners()}. Use a smaller batch, or dispose of tensors that are no longer needed.`,
      asked,
      free,
      { cause },
    )
  }

  #free(block: Block): void {
    const span = this.#spans.get(block)
    if (!this.#spans.delete(block) || span === undefined) return // the allocator was closed before
    this.#inUse -= span.bytes
    this.#poolOf(span).give(span, this.order.submitted)
    if (this.options.separate === true) attempt(() => this.trim()) // what runs still is returned later
  }

  #poolOf({ segment }: Span): Spans {
    return this.#small.segments.has(segment) ? this.#small : this.#large
  }

  #return(spans: Spans, segment: Segment): void {
    spans.remove(segment)
    this.driver.free(segment.address)
  }
}

/** Small blocks share small segments, middling ones large segments; the rest have their own. */
function segmentBytes(size: number): number {
  if (size <= smallest) return smallSegment
  return size <= largeSegment / 2 ? largeSegment : roundUp(size, smallSegment)
}

function roundUp(bytes: number, multiple: number): number {
  return Math.ceil(bytes / multiple) * multiple
}

/** Whether the error, or what caused it, has the figures already. */
function hasFigures(error: unknown): boolean {
  return error instanceof OutOfMemoryError || (error instanceof Error && hasFigures(error.cause))
}

/** Whether it is this machine's memory that there is not enough of. */
function isOfHost(error: unknown): boolean {
  return error instanceof CudaError && error.call === 'cuMemHostAlloc'
}

/** Who took memory that is not there, as far as the error tells. */
function takerOf(error: unknown): string {
  if (error instanceof CudaError) return `${error.call} (${error.library})`
  if (error instanceof Error && error.cause !== undefined) return takerOf(error.cause)
  return error instanceof Error ? error.message : String(error)
}
