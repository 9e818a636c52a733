// A plan with steps that stand for several: which of the fusions found may be one step, the order that follows, and places of
// buffers in which such a step writes no bytes that it reads.
import { type Plan, placeSteps } from '../../compile/index.ts'
import { at, range, zip } from '../../tensor/shape.ts'
import type { Wire } from '../wires.ts'
import { castBiases } from './biases.ts'
import { contractionGroup } from './contraction-group.ts'
import type { CudaStep, FusedStep } from './fusion.ts'
import type { Group, Unplaced } from './group.ts'
import { findFusions } from './recognize.ts'

/** A plan whose steps may stand for several. */
export interface CudaPlan extends Omit<Plan, 'steps'> {
  readonly steps: readonly CudaStep[]
}

type CudaUnplaced = Unplaced | Omit<FusedStep, 'after'>

/**
 * The plan with every fusion that may be: where no other step must come between its members. Steps keep their order
 * otherwise, but those that a fusion waits for move before it.
 *
 * @param verify Throws an InternalError if buffers that are alive at once share bytes.
 */
export function fuseSteps(given: Plan, verify = false): CudaPlan {
  const plan = castBiases(given)
  const groups = compatible(plan, findFusions(plan).map(contractionGroup))
  if (groups.length === 0) return given
  const steps = unitsInOrder(plan, groups).flatMap((unit): readonly CudaUnplaced[] => {
    const group = groups.find(({ members }) => members === unit)
    return group === undefined ? unit.map((step) => at(plan.steps, step)) : [fusedStep(plan, group), ...group.behind]
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
function compatible(plan: Plan, found: readonly Group[]): readonly Group[] {
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
function unitsInOrder(plan: Plan, groups: readonly Group[]): readonly (readonly number[])[] {
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
function usedBuffers(plan: Plan, steps: readonly CudaUnplaced[]): readonly number[] {
  const used = new Set([
    ...plan.inputs,
    ...plan.outputs,
    ...steps.flatMap(({ inputs, outputs }) => [...inputs, ...outputs]),
  ])
  return range(plan.buffers.length).filter((buffer) => used.has(buffer))
}

/** A group as one step; its operands are the buffers that others know. */
function fusedStep(plan: Plan, { members, steps, behind, known, label, fused }: Group): Omit<FusedStep, 'after'> {
  const made = new Set(steps.flatMap(({ outputs }) => outputs))
  const inputs = [...new Set(steps.flatMap((step) => step.inputs.filter((buffer) => !made.has(buffer))))]
  const others = [...plan.steps.filter((_, index) => !members.includes(index)), ...behind]
  const read = others.flatMap((step) => step.inputs.filter((buffer) => made.has(buffer)))
  const needed = new Set([...known, ...plan.outputs, ...read])
  const outputs = [...made].filter((buffer) => needed.has(buffer))
  const inside = [...made].filter((buffer) => !needed.has(buffer))
  const wire = (buffer: number): Wire =>
    inside.includes(buffer)
      ? { kind: 'inside', index: inside.indexOf(buffer) }
      : { kind: 'operand', index: [...inputs, ...outputs].indexOf(buffer) }
  const typesOf = (buffers: readonly number[]) => buffers.map((buffer) => at(plan.buffers, buffer).type)
  const fusion = fused({ inputs: typesOf(inputs), outputs: typesOf(outputs), inside: typesOf(inside), wire })
  const sum = (of: 'bytes' | 'flops'): number => steps.reduce((total, step) => total + step[of], 0)
  return { kind: 'fused', fusion, inputs, outputs, bytes: sum('bytes'), flops: sum('flops'), label }
}
