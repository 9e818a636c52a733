// Dependencies between steps: who reads what whom wrote, and who may overwrite bytes that somebody else still needs.
import { at, range, zip } from '../tensor/shape.ts'
import type { KernelStep, PlanBuffer, Step } from './plan.ts'

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
    for (const output of step.outputs) {
      for (const user of at(touching, output)) if (!fillOtherParts(steps, user, index, output)) after.add(user)
      for (const other of at(sharing, output)) for (const user of at(touching, other)) after.add(user)
    }
    for (const buffer of [...step.inputs, ...step.outputs]) at(touching, buffer).push(index)
    for (const buffer of step.outputs) at(writing, buffer).push(index)
    after.delete(index)
    return [...after].sort((a, b) => a - b)
  })
}

/** Whether two steps only write a buffer, and different parts of it: those of a concatenation wait for nobody. */
function fillOtherParts(steps: readonly Omit<Step, 'after'>[], a: number, b: number, buffer: number): boolean {
  const [first, second] = [partOf(at(steps, a), buffer), partOf(at(steps, b), buffer)]
  return first !== undefined && second !== undefined && (first.end <= second.start || second.end <= first.start)
}

/** The elements of a buffer from the first to the last that a kernel stores; undefined if it does anything else there. */
function partOf(
  step: Omit<Step, 'after'>,
  buffer: number,
): { readonly start: number; readonly end: number } | undefined {
  if (step.kind !== 'kernel' || step.inputs.includes(buffer)) return undefined
  const { kernel } = step as KernelStep
  const isHere = ({ output }: { readonly output: number }): boolean => at(step.outputs, output) === buffer
  const [store, ...more] = kernel.stores.filter(isHere)
  if (store === undefined || more.length > 0 || kernel.reductions.some(isHere)) return undefined
  if (kernel.epilogue?.stores.some(isHere) === true) return undefined
  const last = zip(kernel.axes, store.strides).reduce((sum, [{ extent }, stride]) => sum + (extent - 1) * stride, 0)
  return { start: store.offset, end: store.offset + last + 1 }
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
