// A plan with steps that stand for several: which of the fusions found may be one step, the order that follows, and places of
// buffers in which such a step writes no bytes that it reads.
import { type KernelStep, type Plan, type Step, epilogueAlone, placeSteps } from '../../compile/index.ts'
import type { TensorType } from '../../tensor/program.ts'
import { at, range, zip } from '../../tensor/shape.ts'
import type { Contraction } from '../kernels/index.ts'
import type { Wire, WiredKernel } from '../wires.ts'
import { castBiases } from './biases.ts'
import type { CudaStep, FusedStep, FusedWay, Fusion, WiredActivation } from './fusion.ts'
import type { Activation } from './masks.ts'
import { type Found, findFusions } from './recognize.ts'

/** A plan whose steps may stand for several. */
export interface CudaPlan extends Omit<Plan, 'steps'> {
  readonly steps: readonly CudaStep[]
}

/** A step without what its place says. */
type Unplaced = Omit<FusedStep, 'after'> | Step

/**
 * The plan with every fusion that may be: where no other step must come between its members. Steps keep their order
 * otherwise, but those that a fusion waits for move before it.
 *
 * @param verify Throws an InternalError if buffers that are alive at once share bytes.
 */
export function fuseSteps(given: Plan, verify = false): CudaPlan {
  const plan = castBiases(given)
  const groups = compatible(plan, findFusions(plan))
  if (groups.length === 0) return given
  const steps = unitsInOrder(plan, groups).map((unit): Unplaced => {
    const found = groups.find(({ members }) => members[0] === unit[0])
    return found === undefined ? at(plan.steps, at(unit, 0)) : fusedStep(plan, found)
  })
  const kept = usedBuffers(plan, steps)
  const renumbered = new Map(kept.map((buffer, index) => [buffer, index]))
  const number = (buffer: number): number => renumbered.get(buffer) ?? -1
  const buffers = kept.map((buffer) => at(plan.buffers, buffer))
  const moved = steps.map((step) => ({ ...step, inputs: step.inputs.map(number), outputs: step.outputs.map(number) }))
  const [inputs, outputs] = [plan.inputs.map(number), plan.outputs.map(number)]
  // To the memory plan a fused step is a library call: it writes nothing in place.
  const plain = moved.map((step) => (step.kind === 'fused' ? { ...step, kind: 'library' as const } : step))
  const { places, arenaBytes, after } = placeSteps(buffers, plain, inputs, outputs, donated(plan), verify)
  return {
    buffers: zip(buffers, places).map(([buffer, place]) => ({ ...buffer, place })),
    steps: moved.map((step, index) => ({ ...step, after: at(after, index) })),
    arenaBytes,
    inputs,
    outputs,
  }
}

/** The inputs that outputs have taken over. */
function donated(plan: Plan): readonly number[] {
  return plan.outputs.flatMap((buffer) => {
    const { place } = at(plan.buffers, buffer)
    return place.kind === 'input' && at(plan.inputs, place.index) !== buffer ? [place.index] : []
  })
}

/** Steps by the buffers they need: for each the earlier steps that make what it reads. */
function sources(plan: Plan): readonly (readonly number[])[] {
  const makers = plan.buffers.map((): number[] => [])
  return plan.steps.map((step, index) => {
    const needed = [...new Set(step.inputs.flatMap((buffer) => at(makers, buffer)))]
    for (const buffer of new Set(step.outputs)) at(makers, buffer).push(index)
    return needed
  })
}

/** The fusions that can all be steps at once, the earlier before the later where they exclude each other. */
function compatible(plan: Plan, found: readonly Found[]): readonly Found[] {
  const needed = sources(plan)
  const unitOf = new Map<number, readonly number[]>()
  const accepted = found.filter((candidate) => {
    const { members } = candidate
    if (members.some((member) => unitOf.has(member)) || needsItself(members, needed, unitOf)) return false
    for (const member of members) unitOf.set(member, members)
    return true
  })
  return accepted
}

/** Whether something outside of a unit is needed by it and needs it. */
function needsItself(
  members: readonly number[],
  needed: readonly (readonly number[])[],
  unitOf: ReadonlyMap<number, readonly number[]>,
): boolean {
  const seen = new Set<number>()
  const open = members.flatMap((member) => at(needed, member)).filter((source) => !members.includes(source))
  for (let step = open.pop(); step !== undefined; step = open.pop()) {
    if (seen.has(step)) continue
    for (const member of unitOf.get(step) ?? [step]) {
      seen.add(member)
      for (const source of at(needed, member)) {
        if (members.includes(source)) return true
        open.push(source)
      }
    }
  }
  return false
}

/** The units in an order in which they can run: each where its first member was, behind what it needs. */
function unitsInOrder(plan: Plan, groups: readonly Found[]): readonly (readonly number[])[] {
  const needed = sources(plan)
  const unitOf = new Map(groups.flatMap(({ members }) => members.map((member) => [member, members] as const)))
  const order: (readonly number[])[] = []
  const done = new Set<number>()
  const emit = (step: number): void => {
    if (done.has(step)) return
    const unit = unitOf.get(step) ?? [step]
    for (const member of unit) done.add(member)
    for (const member of unit) at(needed, member).forEach(emit)
    order.push(unit)
  }
  range(plan.steps.length).forEach(emit)
  return order
}

/** The buffers that some step, or the caller, knows, in order. */
function usedBuffers(plan: Plan, steps: readonly Unplaced[]): readonly number[] {
  const used = new Set([
    ...plan.inputs,
    ...plan.outputs,
    ...steps.flatMap(({ inputs, outputs }) => [...inputs, ...outputs]),
  ])
  return range(plan.buffers.length).filter((buffer) => used.has(buffer))
}

/** The fused step of what was found; its operands are the buffers that others know. */
function fusedStep(plan: Plan, found: Found): Omit<FusedStep, 'after'> {
  const { library, before = [], kernels, members } = found
  const steps: readonly Step[] = [...before, library, ...kernels]
  const made = new Set(steps.flatMap(({ outputs }) => outputs))
  const inputs = [...new Set(steps.flatMap((step) => step.inputs.filter((buffer) => !made.has(buffer))))]
  const { way } = found
  const sums = sumsOf(way) // by these its ways are told apart
  const isKnown = (buffer: number): boolean =>
    sums.includes(buffer) ||
    plan.outputs.includes(buffer) ||
    plan.steps.some((step, index) => !members.includes(index) && step.inputs.includes(buffer))
  const outputs = [...made].filter(isKnown)
  const inside = [...made].filter((buffer) => !isKnown(buffer))
  const wire = (buffer: number): Wire =>
    inside.includes(buffer)
      ? { kind: 'inside', index: inside.indexOf(buffer) }
      : { kind: 'operand', index: [...inputs, ...outputs].indexOf(buffer) }
  const typeOf = (buffer: number): TensorType => at(plan.buffers, buffer).type
  const wired = ({ kernel, inputs: read, outputs: written }: KernelStep): WiredKernel => ({
    kernel,
    wires: [...read, ...written].map(wire),
  })
  const fusion: Fusion = {
    contraction: {
      equation: library.equation as Contraction,
      wires: [...library.inputs, ...library.outputs].map(wire),
    },
    ...{ before: before.map(wired), kernels: kernels.map(wired) },
    inputs: inputs.map(typeOf),
    outputs: outputs.map(typeOf),
    inside: inside.map(typeOf),
    way: wiredWay(found, wire),
  }
  const sum = (of: 'bytes' | 'flops'): number => steps.reduce((total, step) => total + step[of], 0)
  const label = `${library.label} with ${fusion.way.kind}`
  return { kind: 'fused', fusion, inputs, outputs, bytes: sum('bytes'), flops: sum('flops'), label }
}

function wiredWay({ way, kernels }: Found, wire: (buffer: number) => Wire): FusedWay {
  const kernel = at(kernels, 0)
  switch (way.kind) {
    case 'statistics': {
      const front = way.front && wiredActivation(way.front, wire)
      return {
        kind: 'statistics',
        sum: wire(way.sum),
        squares: wire(way.squares),
        last: wiredLast(way.of, wire),
        front,
      }
    }
    case 'masked':
      return { ...wiredActivation(way, wire), kind: 'masked', sum: wire(way.sum), products: wire(way.products) }
    case 'product': {
      const { kind, epilogue, bias } = way
      return { kind, epilogue, bias: wire(bias), result: wire(at(kernel.outputs, 0)) }
    }
    case 'chain': {
      const { epilogue, inputs, output } = way.chain
      const store = wire(at(kernel.outputs, output))
      const operands = inputs.map((input) => wire(at(kernel.inputs, input)))
      return { kind: 'chain', epilogue, operands, store, rest: wiredRest(way.chain, kernel, wire) }
    }
    default:
      return way satisfies never
  }
}

function wiredActivation(
  { source, vectors: [mean, scale, shift], meanFactor }: Activation,
  wire: (buffer: number) => Wire,
): WiredActivation {
  return { source: wire(source), vectors: [wire(mean), wire(scale), wire(shift)], meanFactor }
}

function sumsOf(way: Found['way']): readonly number[] {
  if (way.kind === 'statistics') return [way.sum, way.squares]
  return way.kind === 'masked' ? [way.sum, way.products] : []
}

/** The epilogue of a step as a kernel of its own. */
function wiredLast({ kernel, inputs, outputs }: KernelStep, wire: (buffer: number) => Wire): WiredKernel | undefined {
  const alone = epilogueAlone(kernel)
  if (alone === undefined) return undefined
  const operands = [...inputs, ...outputs]
  return {
    kernel: alone.kernel,
    wires: [...alone.operands.map((operand) => at(operands, operand)), ...outputs].map(wire),
  }
}

function wiredRest(
  { rest, output }: Extract<Found['way'], { kind: 'chain' }>['chain'],
  kernel: KernelStep,
  wire: (buffer: number) => Wire,
): WiredKernel | undefined {
  if (rest === undefined) return undefined
  const inputs = rest.inputs.map((input) =>
    at(input === 'stored' ? kernel.outputs : kernel.inputs, input === 'stored' ? output : input),
  )
  return { kernel: rest.kernel, wires: [...inputs, ...rest.outputs.map((made) => at(kernel.outputs, made))].map(wire) }
}
