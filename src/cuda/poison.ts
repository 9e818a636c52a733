// Memory of temporaries that are allocations of their own, filled with NaN before a run and again behind the last work that
// knows them: whoever reads too early or too late reads NaN.
import { at } from '../tensor/shape.ts'
import type { Driver } from './ffi/driver.ts'
import type { Stream } from './ffi/driver-queues.ts'
import type { DevicePointer } from './ffi/values.ts'
import type { BoundWork } from './lower.ts'

/** What is filled when. */
export class Poison {
  /** For each work the slots that no work behind it knows. */
  readonly #last: readonly (readonly number[])[]

  /** `first` is the slot of the first of these pieces of memory. */
  constructor(
    private readonly driver: Pick<Driver, 'fill8'>,
    works: readonly BoundWork[],
    first: number,
    private readonly bytes: readonly number[],
  ) {
    const lastOf = new Map<number, number>()
    works.forEach((work, index) => {
      for (const slot of slotsOf(work)) lastOf.set(slot - first, index)
    })
    const last = works.map((): number[] => [])
    for (const [slot, work] of lastOf) if (bytes[slot] !== undefined) at(last, work).push(slot)
    this.#last = last
  }

  /** Fills everything; `memory` are the addresses in this run. */
  before(stream: Stream, memory: readonly DevicePointer[]): void {
    for (const slot of this.bytes.keys()) this.#fill(stream, memory, slot)
  }

  /** Fills what nobody knows behind a work. */
  behind(work: number, stream: Stream, memory: readonly DevicePointer[]): void {
    for (const slot of at(this.#last, work)) this.#fill(stream, memory, slot)
  }

  #fill(stream: Stream, memory: readonly DevicePointer[], slot: number): void {
    const bytes = at(this.bytes, slot)
    if (bytes > 0) this.driver.fill8(at(memory, slot), 0xff, bytes, stream)
  }
}

function slotsOf(work: BoundWork): readonly number[] {
  if (work.kind === 'kernel') return work.places.map(({ slot }) => slot)
  return [...work.operands, ...(work.scratch === undefined ? [] : [work.scratch])].map(({ slot }) => slot)
}
