// The memory plan: one place for every buffer. Temporaries share one arena by lifetime, outputs that can take over a
// donated input's storage do, the others are fresh. A verifier proves that no two live buffers overlap.
import { InternalError } from '../tensor/errors.ts'
import { sameType } from '../tensor/program.ts'
import { at, range, sameShape } from '../tensor/shape.ts'
import type { KernelStore } from './kernel.ts'
import type { Place, PlanBuffer, Step } from './plan.ts'

/** The first step that writes a buffer (-1 for inputs) and the last that touches it (the number of steps for outputs). */
export interface Lifetime {
  readonly start: number
  readonly end: number
}

const alignment = 256

/** When each buffer is alive. */
export function lifetimes(
  count: number,
  steps: readonly Omit<Step, 'after'>[],
  inputs: readonly number[],
  outputs: readonly number[],
): Lifetime[] {
  const starts = new Array<number>(count).fill(Number.POSITIVE_INFINITY)
  const ends = new Array<number>(count).fill(-1)
  for (const input of inputs) starts[input] = -1
  steps.forEach((step, index) => {
    for (const buffer of step.outputs) starts[buffer] = Math.min(at(starts, buffer), index)
    for (const buffer of [...step.inputs, ...step.outputs]) ends[buffer] = index
  })
  for (const output of outputs) ends[output] = steps.length
  return range(count).map((buffer) => ({ start: at(starts, buffer), end: at(ends, buffer) }))
}

export interface Placement {
  readonly places: readonly Place[]
  readonly arenaBytes: number
}

/** Chooses every buffer's place. */
export function placeBuffers(
  buffers: readonly Omit<PlanBuffer, 'place'>[],
  steps: readonly Omit<Step, 'after'>[],
  inputs: readonly number[],
  outputs: readonly number[],
  donate: readonly number[],
): Placement {
  const lives = lifetimes(buffers.length, steps, inputs, outputs)
  const places = new Map<number, Place>()
  inputs.forEach((buffer, index) => places.set(buffer, { kind: 'input', index }))
  const takeovers = matchDonations(buffers, steps, lives, inputs, outputs, donate)
  outputs.forEach((buffer, index) => {
    const input = takeovers.get(buffer)
    if (!places.has(buffer))
      places.set(buffer, input === undefined ? { kind: 'output', index } : { kind: 'input', index: input })
  })
  const temporaries = range(buffers.length).filter((buffer) => !places.has(buffer))
  const arenaBytes = packArena(temporaries, buffers, lives, places)
  return {
    places: range(buffers.length).map((buffer) => places.get(buffer) ?? { kind: 'arena', offset: 0 }),
    arenaBytes,
  }
}

/** Which donated input each output overwrites: one of its type whose last reader is before, or reads exactly the element that is written. */
function matchDonations(
  buffers: readonly Omit<PlanBuffer, 'place'>[],
  steps: readonly Omit<Step, 'after'>[],
  lives: readonly Lifetime[],
  inputs: readonly number[],
  outputs: readonly number[],
  donate: readonly number[],
): ReadonlyMap<number, number> {
  const free = new Set(donate.filter((index) => !outputs.includes(at(inputs, index))))
  const matches = new Map<number, number>()
  const fits = (output: number, input: number): boolean => sameType(at(buffers, output).type, at(buffers, input).type)
  const attempt = (accept: (output: number, input: number, start: number) => boolean): void => {
    for (const output of outputs) {
      const { start } = at(lives, output)
      if (matches.has(output) || start < 0) continue
      const found = [...free].find(
        (index) => fits(output, at(inputs, index)) && accept(output, at(inputs, index), start),
      )
      if (found === undefined) continue
      matches.set(output, found)
      free.delete(found)
    }
  }
  attempt(
    (output, input, start) => at(lives, input).end === start && readsWhatItWrites(at(steps, start), input, output),
  )
  attempt((_output, input, start) => at(lives, input).end < start)
  return matches
}

/** Whether each element of the input is read where the output's is written, and nowhere else. */
function readsWhatItWrites(step: Omit<Step, 'after'>, input: number, output: number): boolean {
  if (step.kind !== 'kernel') return false
  const { kernel } = step as Extract<Step, { kind: 'kernel' }>
  const operands = kernel.epilogue?.inputs.filter(({ reduction }) => reduction === undefined) ?? []
  const isHere = (store: KernelStore): boolean => at(step.outputs, store.output) === output
  const isRead = (offset: number) => (_read: unknown, index: number) => at(step.inputs, offset + index) === input
  const [early, late] = [kernel.stores.filter(isHere), (kernel.epilogue?.stores ?? []).filter(isHere)]
  const [first, last] = [kernel.inputs.filter(isRead(0)), operands.filter(isRead(kernel.inputs.length))]
  const [reads, others] = early.length > 0 ? [first, last] : [last, first]
  const [store, ...more] = [...early, ...late]
  if (store === undefined || more.length > 0 || others.length > 0) return false
  return reads.every((read) => read.offset === store.offset && sameShape(read.strides, store.strides))
}

/** Bytes that are taken, and when. */
export interface Placed {
  readonly offset: number
  readonly end: number
  readonly life: Lifetime
}

/**
 * Temporaries of up to this many bytes share theirs with nobody where all of them together are next to nothing: steps would
 * wait for each other.
 */
const smallBytes = 16_384
const always: Lifetime = { start: -1, end: Number.POSITIVE_INFINITY }

/** Largest first, each at the lowest offset free during its whole life. */
function packArena(
  temporaries: readonly number[],
  buffers: readonly Omit<PlanBuffer, 'place'>[],
  lives: readonly Lifetime[],
  places: Map<number, Place>,
): number {
  const placed: Placed[] = [] // by offset
  let total = 0
  const sizeOf = (buffer: number): number => Math.ceil(Math.max(1, at(buffers, buffer).bytes) / alignment) * alignment
  const place = (buffer: number, life: Lifetime): void => {
    const size = sizeOf(buffer)
    const offset = lowestFree(placed, life, size)
    const index = placed.findIndex((other) => other.offset > offset)
    placed.splice(index < 0 ? placed.length : index, 0, { offset, end: offset + size, life })
    places.set(buffer, { kind: 'arena', offset })
    total = Math.max(total, offset + size)
  }
  const order = [...temporaries].sort((a, b) => at(buffers, b).bytes - at(buffers, a).bytes || a - b)
  const small = order.filter((buffer) => at(buffers, buffer).bytes <= smallBytes)
  for (const buffer of order.slice(0, order.length - small.length)) place(buffer, at(lives, buffer))
  const negligible = small.reduce((sum, buffer) => sum + sizeOf(buffer), 0) * 64 <= total
  for (const buffer of small) place(buffer, negligible ? always : at(lives, buffer))
  return total
}

/** The lowest offset at which `size` bytes are free during a whole life; `placed` come by offset. */
export function lowestFree(placed: readonly Placed[], life: Lifetime, size: number): number {
  let offset = 0
  for (const other of placed) {
    if (other.life.start > life.end || life.start > other.life.end) continue
    if (offset + size <= other.offset) break
    offset = Math.max(offset, other.end)
  }
  return offset
}

/**
 * Throws an InternalError if two buffers alive at once share bytes, a donated input is overwritten while it is needed, or a
 * step reads what it writes itself, or what nobody has made.
 */
export function verifyMemory(
  buffers: readonly PlanBuffer[],
  steps: readonly Omit<Step, 'after'>[],
  inputs: readonly number[],
  outputs: readonly number[],
  arenaBytes: number,
): void {
  const lives = lifetimes(buffers.length, steps, inputs, outputs)
  steps.forEach((step, index) => {
    const own = step.inputs.find((buffer) => step.outputs.includes(buffer))
    if (own !== undefined) throw new InternalError(`step ${index} reads buffer ${own}, which it writes`)
    const early = step.inputs.find((buffer) => at(lives, buffer).start >= index)
    if (early !== undefined) throw new InternalError(`step ${index} reads buffer ${early}, which nobody has made`)
  })
  const overlaps = (a: number, b: number): boolean =>
    at(lives, a).start <= at(lives, b).end && at(lives, b).start <= at(lives, a).end
  for (const a of range(buffers.length)) {
    const first = at(buffers, a)
    if (first.place.kind === 'arena' && first.place.offset + first.bytes > arenaBytes)
      throw new InternalError(`buffer ${a} ends outside the arena`)
    if (first.place.kind === 'arena' && outputs.includes(a))
      throw new InternalError(`output buffer ${a} is in the arena`)
    for (let b = 0; b < a; b++) {
      const second = at(buffers, b)
      if (!shareBytes(first, second) || !overlaps(a, b)) continue
      const [input, output] = at(lives, a).start < at(lives, b).start ? [a, b] : [b, a]
      const meet = at(lives, output).start
      const inPlace =
        first.place.kind === 'input' &&
        at(lives, input).end === meet &&
        readsWhatItWrites(at(steps, meet), input, output)
      if (!inPlace) throw new InternalError(`buffers ${b} and ${a} are alive at once and share bytes`)
    }
  }
}

function shareBytes(a: PlanBuffer, b: PlanBuffer): boolean {
  if (a.place.kind === 'arena' && b.place.kind === 'arena')
    return a.place.offset < b.place.offset + b.bytes && b.place.offset < a.place.offset + a.bytes
  if (a.place.kind === 'arena' || b.place.kind === 'arena') return false
  return a.place.kind === b.place.kind && a.place.index === b.place.index
}
