// Dependencies between steps: who reads what whom wrote, and who may overwrite bytes that somebody else still needs.
import { at, range } from '../tensor/shape.ts'
import type { PlanBuffer, Step } from './plan.ts'

/** For each step the earlier steps that must have finished, in increasing order. */
export function dependencies(
  buffers: readonly PlanBuffer[],
  steps: readonly Omit<Step, 'after'>[],
): readonly (readonly number[])[] {
  const touching = buffers.map(() => [] as number[])
  const writing = buffers.map(() => [] as number[])
  const sharing = sharedBytes(buffers)
  return steps.map((step, index) => {
    const after = new Set<number>()
    for (const input of step.inputs) for (const writer of at(writing, input)) after.add(writer)
    for (const output of step.outputs)
      for (const other of [output, ...at(sharing, output)]) for (const user of at(touching, other)) after.add(user)
    for (const buffer of [...step.inputs, ...step.outputs]) at(touching, buffer).push(index)
    for (const buffer of step.outputs) at(writing, buffer).push(index)
    after.delete(index)
    return [...after].sort((a, b) => a - b)
  })
}

/** For each buffer the others that have bytes in common with it. */
function sharedBytes(buffers: readonly PlanBuffer[]): readonly (readonly number[])[] {
  const result = buffers.map(() => [] as number[])
  const order = range(buffers.length).sort((a, b) => offsetOf(at(buffers, a)) - offsetOf(at(buffers, b)))
  const byInput = new Map<number, number>()
  let open: number[] = []
  for (const index of order) {
    const buffer = at(buffers, index)
    if (buffer.place.kind === 'input') {
      const twin = byInput.get(buffer.place.index)
      if (twin !== undefined) link(result, twin, index)
      byInput.set(buffer.place.index, index)
    }
    if (buffer.place.kind !== 'arena') continue
    const { offset } = buffer.place
    open = open.filter((other) => offsetOf(at(buffers, other)) + at(buffers, other).bytes > offset)
    for (const other of open) link(result, other, index)
    open.push(index)
  }
  return result
}

function link(lists: readonly number[][], a: number, b: number): void {
  at(lists, a).push(b)
  at(lists, b).push(a)
}

function offsetOf(buffer: PlanBuffer): number {
  return buffer.place.kind === 'arena' ? buffer.place.offset : -1
}
