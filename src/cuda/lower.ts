// Plan -> works with places: each distinct step lowered once, its operands and scratch bound to slots. What is left for a run
// is the address of each slot; launching is launches.ts's part.
import { stepKey } from '../compile/index.ts'
import type { PrintedPointer } from '../compile/print/index.ts'
import { InternalError } from '../tensor/errors.ts'
import { at, range } from '../tensor/shape.ts'
import type { CudaPlan } from './fusions/arrange.ts'
import { type CudaStep, fusedKey } from './fusions/fusion.ts'
import { attempt } from './runtime/cleanup.ts'
import { arrangeSteps, launchTogether } from './together.ts'
import type { KernelLaunch, LibraryCall, Lowered, Work } from './work.ts'

/** Where a pointer leads: `offset` bytes into what the slot stands for in a run. */
export interface Place {
  readonly slot: number
  readonly offset: number
}

interface Bound {
  /** The step it belongs to: its index in the plan and what it is called. */
  readonly step: number
  readonly label: string
  /** More steps whose work it does too. */
  readonly joined?: readonly number[]
}

/** A kernel whose pointers have their places. */
export interface BoundKernel extends Bound, Omit<KernelLaunch, 'pointers'> {
  readonly places: readonly Place[]
}

/** A library call whose operands have their places. */
export interface BoundCall extends Bound, Pick<LibraryCall, 'kind' | 'enqueue'> {
  readonly operands: readonly Place[]
  readonly scratch: Place | undefined
}

/** One thing a stream is given. */
export type BoundWork = BoundKernel | BoundCall

/** How a step is done. */
export interface Way {
  /** The candidate that was chosen, where there was a choice. */
  readonly id: string | undefined
  readonly scratchBytes: number
}

/** A plan in terms of the GPU. The slots are the inputs, the outputs, the executable's own memory, and the counters. */
export interface LoweredPlan {
  readonly works: readonly BoundWork[]
  /** For each step of the plan how it is done. */
  readonly ways: readonly Way[]
  /** Bytes of each slot of the executable's own memory: one arena with the scratch behind it, or a slot for each buffer. */
  readonly memory: readonly number[]
  /** Bytes of counters; with 0 they have no slot. */
  readonly counterBytes: number
  /** Gives back what library calls hold. */
  release(): void
}

/** How the steps of a plan are lowered: kernels through the printer, library steps and fused ones through library.ts. */
export interface Lowering {
  /** Hears of all steps before the first of them is lowered. */
  readonly prepare?: (steps: readonly CudaStep[]) => void
  readonly lower: (step: CudaStep) => Lowered
}

const alignment = 256

/**
 * Lowers all steps of a plan.
 *
 * `separate` gives each temporary and each step's scratch a slot of its own instead of places in one arena: more memory,
 * the same results, and any access outside of a buffer is one outside of an allocation.
 */
export function lowerPlan(plan: CudaPlan, lowering: Lowering, separate = false): LoweredPlan {
  lowering.prepare?.(plan.steps)
  const { lowered, release } = lowerSteps(plan.steps, lowering.lower)
  const order = arrangeSteps(plan.steps, lowered)
  const layout = separate ? separateLayout(plan, lowered) : arenaLayout(plan, lowered, order)
  const works = order.flatMap((steps) =>
    launchTogether(steps.map((step) => bindWorks(plan, step, at(lowered, step), layout))),
  )
  const ways = lowered.map(({ id, scratchBytes }) => ({ id, scratchBytes }))
  return { works, ways, memory: layout.memory, counterBytes: layout.counterBytes, release }
}

/** Where temporaries and scratch lie. */
interface Layout {
  readonly memory: readonly number[]
  readonly counterBytes: number
  temporary(buffer: number, offset: number): Place
  scratch(step: number): Place
  counters(step: number): Place
}

/** Each step has counters of its own. */
function layCounters(
  plan: CudaPlan,
  lowered: readonly Lowered[],
  memory: readonly number[],
): Pick<Layout, 'counterBytes' | 'counters'> {
  const slot = plan.inputs.length + plan.outputs.length + memory.length
  const offsets: number[] = []
  let counterBytes = 0
  for (const { counterBytes: bytes = 0 } of lowered) {
    offsets.push(counterBytes)
    counterBytes += bytes
  }
  return { counterBytes, counters: (step) => ({ slot, offset: at(offsets, step) }) }
}

/** The scratch of steps that run together lies side by side, that of others in the same place. */
function arenaLayout(plan: CudaPlan, lowered: readonly Lowered[], order: readonly (readonly number[])[]): Layout {
  const slot = plan.inputs.length + plan.outputs.length
  const scratchAt = Math.ceil(plan.arenaBytes / alignment) * alignment
  const offsets = new Map<number, number>()
  let scratchBytes = 0
  for (const steps of order) {
    let used = 0
    for (const step of steps) {
      offsets.set(step, scratchAt + used)
      used += Math.ceil(at(lowered, step).scratchBytes / alignment) * alignment
    }
    scratchBytes = Math.max(scratchBytes, used)
  }
  const bytes = scratchBytes === 0 ? plan.arenaBytes : scratchAt + scratchBytes
  const memory = bytes === 0 ? [] : [bytes]
  return {
    memory,
    ...layCounters(plan, lowered, memory),
    temporary: (_buffer, offset) => ({ slot, offset }),
    scratch: (step) => ({ slot, offset: offsets.get(step) ?? scratchAt }),
  }
}

function separateLayout(plan: CudaPlan, lowered: readonly Lowered[]): Layout {
  const first = plan.inputs.length + plan.outputs.length
  const memory: number[] = []
  const reserve = (bytes: number): Place => ({ slot: first + memory.push(bytes) - 1, offset: 0 })
  const temporaries = plan.buffers.map(({ place, bytes }) => (place.kind === 'arena' ? reserve(bytes) : undefined))
  const scratches = lowered.map(({ scratchBytes }) => (scratchBytes > 0 ? reserve(scratchBytes) : undefined))
  const known = (place: Place | undefined): Place => {
    if (place === undefined) throw new InternalError('a step uses memory that was not reserved')
    return place
  }
  return {
    memory,
    ...layCounters(plan, lowered, memory),
    temporary: (buffer) => known(temporaries[buffer]),
    scratch: (step) => known(scratches[step]),
  }
}

/** Steps that differ only in their buffers are lowered once; where one cannot be, what the others hold is given back. */
function lowerSteps(
  steps: readonly CudaStep[],
  lowerStep: Lowering['lower'],
): { lowered: readonly Lowered[]; release: () => void } {
  const known = new Map<string, Lowered>()
  const release = (): void => {
    for (const lowered of known.values()) lowered.release?.()
    known.clear()
  }
  try {
    const lowered = steps.map((step) => {
      const key = keyOf(step)
      const made = known.get(key) ?? lowerStep(step)
      known.set(key, made)
      return made
    })
    return { lowered, release }
  } catch (error) {
    attempt(release)
    throw error
  }
}

/** Equal for steps that are lowered alike. */
function keyOf(step: CudaStep): string {
  return step.kind === 'fused' ? `fused ${fusedKey(step.fusion)}` : stepKey(step)
}

function bindWorks(plan: CudaPlan, step: number, lowered: Lowered, layout: Layout): BoundWork[] {
  const { inputs, outputs, label } = at(plan.steps, step)
  const operands = [...inputs, ...outputs].map((buffer) => placeOf(plan, buffer, layout))
  const scratch = lowered.scratchBytes > 0 ? layout.scratch(step) : undefined
  return bind(lowered.works, { operands, scratch, counters: layout.counters(step) }, { step, label })
}

/**
 * The works of a lowered step by itself: slot i is operand i, behind the operands are the scratch, where it has some, and
 * the counters. For running one candidate outside of a plan.
 */
export function bindAlone(lowered: Lowered, operands: number, label: string): readonly BoundWork[] {
  const places = range(operands).map((slot) => ({ slot, offset: 0 }))
  const scratch = lowered.scratchBytes > 0 ? { slot: operands, offset: 0 } : undefined
  const counters = { slot: operands + (scratch === undefined ? 0 : 1), offset: 0 }
  return bind(lowered.works, { operands: places, scratch, counters }, { step: 0, label })
}

/** What the pointers of a step's works lead to. */
interface Places {
  readonly operands: readonly Place[]
  readonly scratch: Place | undefined
  readonly counters: Place
}

function bind(works: readonly Work[], { operands, scratch, counters }: Places, { step, label }: Bound): BoundWork[] {
  const place = (pointer: PrintedPointer): Place => {
    if (pointer.kind === 'operand') return at(operands, pointer.index)
    if (pointer.kind === 'counters') return { slot: counters.slot, offset: counters.offset + pointer.offset }
    if (scratch === undefined) throw new InternalError(`${label} points into scratch memory and has none`)
    return { slot: scratch.slot, offset: scratch.offset + pointer.offset }
  }
  return works.map((work): BoundWork => {
    if (work.kind === 'call') return { ...callOf(work), operands, scratch, step, label: `${label}, ${work.label}` }
    const { pointers, ...kernel } = work
    return { ...kernel, places: pointers.map(place), step, label: `${label}, kernel ${kernel.source.name}` }
  })
}

/** The call with its object, whose own state `enqueue` may need. */
function callOf(work: LibraryCall): Pick<LibraryCall, 'kind' | 'enqueue'> {
  return { kind: 'call', enqueue: (stream, operands, scratch) => work.enqueue(stream, operands, scratch) }
}

function placeOf(plan: CudaPlan, buffer: number, layout: Layout): Place {
  const { place } = at(plan.buffers, buffer)
  switch (place.kind) {
    case 'input':
      return { slot: place.index, offset: 0 }
    case 'output':
      return { slot: plan.inputs.length + place.index, offset: 0 }
    case 'arena':
      return layout.temporary(buffer, place.offset)
    default:
      return place satisfies never
  }
}
