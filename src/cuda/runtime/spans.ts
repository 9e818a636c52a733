// Pieces of large allocations: best fit, splitting, and joining of neighbours. Bookkeeping only: the driver's part and the
// counting of holders are in allocator.ts.
import type { DevicePointer } from '../ffi/values.ts'
import { offset } from '../ffi/values.ts'

/** One allocation of the driver's, cut into spans. */
export interface Segment {
  readonly address: DevicePointer
  readonly bytes: number
}

/** A piece of a segment. */
export interface Span {
  readonly segment: Segment
  readonly start: number
  readonly bytes: number
  /** While it is free: work up to this ticket may still use it. */
  readonly after: number
}

/** The address of a span. */
export function addressOf({ segment, start }: Span): DevicePointer {
  return offset(segment.address, start)
}

/** The free spans of some segments. */
export class Spans {
  /** By bytes, then by address, so that the best fit is found by halving and is the same in every run. */
  readonly #free: Span[] = []
  readonly #segments = new Set<Segment>()

  /** `leastRest` is the fewest bytes worth being a span of their own. */
  constructor(private readonly leastRest: number) {}

  /** A new segment, all of it free. */
  add(segment: Segment): void {
    this.#segments.add(segment)
    this.#insert({ segment, start: 0, bytes: segment.bytes, after: 0 })
  }

  /** The smallest free span of at least `bytes` that `accept` takes, cut to size; undefined where there is none. */
  take(bytes: number, accept: (span: Span) => boolean = () => true): Span | undefined {
    for (let index = this.#search(bytes, 0n); index < this.#free.length; index++) {
      const found = this.#free[index]
      if (found === undefined || !accept(found)) continue
      this.#free.splice(index, 1)
      if (found.bytes - bytes < this.leastRest) return found
      this.#insert({ ...found, start: found.start + bytes, bytes: found.bytes - bytes })
      return { ...found, bytes }
    }
    return undefined
  }

  /** Makes a span free, to be used elsewhere after the ticket; it is joined with free neighbours of the same ticket. */
  give(span: Span, ticket: number): void {
    const beside = (other: Span): boolean => other.segment === span.segment && other.after === ticket
    const before = this.#extract((other) => beside(other) && other.start + other.bytes === span.start)
    const behind = this.#extract((other) => beside(other) && span.start + span.bytes === other.start)
    this.#insert({
      segment: span.segment,
      start: before?.start ?? span.start,
      bytes: (before?.bytes ?? 0) + span.bytes + (behind?.bytes ?? 0),
      after: ticket,
    })
  }

  /** Joins all free neighbours whose users are done by the ticket. */
  join(ticket: number): void {
    const free = this.#free.splice(0).sort((a, b) => compare(addressOf(a), addressOf(b)))
    let last: Span | undefined
    for (const span of free) {
      if (last?.segment === span.segment && last.start + last.bytes === span.start && atMost(ticket, last, span)) {
        last = { ...last, bytes: last.bytes + span.bytes, after: Math.max(last.after, span.after) }
        continue
      }
      if (last !== undefined) this.#insert(last)
      last = span
    }
    if (last !== undefined) this.#insert(last)
  }

  /** The segments that are wholly free and whose users are done by the ticket, largest first. */
  idle(ticket: number): readonly Segment[] {
    this.join(ticket)
    return this.#free
      .filter(({ segment, bytes, after }) => bytes === segment.bytes && after <= ticket)
      .map(({ segment }) => segment)
      .reverse()
  }

  /** Forgets a wholly free segment. */
  remove(segment: Segment): void {
    this.#extract((span) => span.segment === segment && span.bytes === segment.bytes)
    this.#segments.delete(segment)
  }

  /** All segments, used or not. */
  get segments(): ReadonlySet<Segment> {
    return this.#segments
  }

  /** Free bytes. */
  get freeBytes(): number {
    return this.#free.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  #insert(span: Span): void {
    this.#free.splice(this.#search(span.bytes, addressOf(span)), 0, span)
  }

  #extract(which: (span: Span) => boolean): Span | undefined {
    const index = this.#free.findIndex(which)
    return index < 0 ? undefined : this.#free.splice(index, 1)[0]
  }

  /** The first place whose span is at least as large, and at the same size not before the address. */
  #search(bytes: number, address: bigint): number {
    let [low, high] = [0, this.#free.length]
    while (low < high) {
      const middle = (low + high) >> 1
      const span = this.#free[middle]
      if (span !== undefined && (span.bytes < bytes || (span.bytes === bytes && addressOf(span) < address)))
        low = middle + 1
      else high = middle
    }
    return low
  }
}

function atMost(ticket: number, ...spans: readonly Span[]): boolean {
  return spans.every(({ after }) => after <= ticket)
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0
}
