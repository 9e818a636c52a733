// Where the values of a chain of rows lie in a block's shared memory: those that are not needed at the same time may lie in
// one place. Which values and steps there are is rows-plan.ts's part.
import { type Placed, lowestFree } from '../../compile/memory.ts'
import { bytesOf } from '../../tensor/dtype.ts'
import { at, range, zip } from '../../tensor/shape.ts'
import { ceilDiv } from './launch.ts'
import type { RowStep, RowValue, RowsPlan, SharedPlace } from './rows-plan.ts'
import { blockRows, tileColumns } from './rows-text.ts'

/** A value without its place. */
type Placeless = Omit<RowValue, 'place'>

/** What every GPU since sm_80 has for a block. */
const mostSharedBytes = 99 * 1024

/** The plan with a place for every value that a step reads in shared memory; undefined where there is too little of it. */
export function placeRows(rows: number, values: readonly Placeless[], steps: readonly RowStep[]): RowsPlan | undefined {
  const placed: Placed[] = []
  let sharedBytes = 0
  const place = (start: number, end: number, bytes: number): number => {
    const size = ceilDiv(bytes, 128) * 128
    const offset = lowestFree(placed, { start, end }, size)
    placed.push({ offset, end: offset + size, life: { start, end } })
    placed.sort((a, b) => a.offset - b.offset)
    sharedBytes = Math.max(sharedBytes, offset + size)
    return offset
  }
  const places = values.map((value, i): SharedPlace | undefined => {
    const used = range(steps.length).filter((step) => readsOf(at(steps, step)).includes(i))
    const [last] = used.slice(-1)
    if (last === undefined) return undefined
    const pitch = pitchOf(value)
    const start = steps.findIndex((step) => writesOf(step).includes(i))
    return { offset: place(start, last, blockRows * pitch), pitch }
  })
  const settled = steps.map((step, i): RowStep => {
    if (step.kind !== 'dot' || step.shares === 1) return step
    const bytes = ceilDiv(step.n, tileColumns) * step.shares * tileColumns * blockRows * 4
    return { ...step, partial: place(i, i, bytes) }
  })
  if (sharedBytes > mostSharedBytes) return undefined
  return {
    rows,
    steps: settled,
    values: zip(values, places).map(([value, own]) => ({ ...value, place: own })),
    sharedBytes,
  }
}

/** Bytes from row to row: whole chunks, and an odd number of half lines, so that four rows lie in different banks. */
function pitchOf({ dtype, columns }: Placeless): number {
  const halves = ceilDiv(columns * bytesOf(dtype), 64)
  return (halves + ((halves + 1) % 2)) * 64
}

/** The values that a step reads in shared memory; a product's result is always there. */
function readsOf(step: RowStep): readonly number[] {
  switch (step.kind) {
    case 'stage':
      return []
    case 'keep':
      return [step.value]
    case 'dot':
      return [step.from, step.to]
    case 'map':
      return step.inputs.flatMap((input) => (input.kind === 'value' ? [input.value] : []))
    default:
      return step satisfies never
  }
}

function writesOf(step: RowStep): readonly number[] {
  switch (step.kind) {
    case 'stage':
      return [step.value]
    case 'keep':
      return []
    case 'dot':
      return [step.to]
    case 'map':
      return step.outputs
    default:
      return step satisfies never
  }
}
