// Plan -> launches with places: each step once, kernels through the printer and library steps through kernels/. What is
// left for a run is the table of its inputs' and outputs' addresses.
import { type Plan, type Step, stepKey } from '../compile/index.ts'
import { cDialect, printKernel } from '../compile/print/index.ts'
import { at } from '../tensor/shape.ts'
import type { Lowered, PointerRef } from './kernels/launch.ts'
import { lowerLibrary } from './library.ts'
import type { BoundLaunch, BoundPointer } from './program.ts'

/** A plan in terms of the native runtime. The io table of a run is the inputs, then the outputs. */
export interface NativePlan {
  readonly launches: readonly BoundLaunch[]
  /** The plan's arena and behind it the scratch that every step may use while it runs. */
  readonly arenaBytes: number
  readonly io: number
}

const alignment = 256

/** Lowers all steps of a plan. */
export function lowerPlan(plan: Plan): NativePlan {
  const lowered = lowerSteps(plan.steps)
  const scratchAt = Math.ceil(plan.arenaBytes / alignment) * alignment
  const scratchBytes = lowered.reduce((most, step) => Math.max(most, step.scratchBytes), 0)
  const launches = lowered.flatMap((step, index) => bindLaunches(plan, index, step, scratchAt))
  return {
    launches,
    arenaBytes: scratchBytes === 0 ? plan.arenaBytes : scratchAt + scratchBytes,
    io: plan.inputs.length + plan.outputs.length,
  }
}

/** Steps that differ only in their buffers are lowered once. */
function lowerSteps(steps: readonly Step[]): readonly Lowered[] {
  const known = new Map<string, Lowered>()
  return steps.map((step) => {
    const key = stepKey(step)
    const lowered = known.get(key) ?? lowerStep(step)
    known.set(key, lowered)
    return lowered
  })
}

function lowerStep(step: Step): Lowered {
  return step.kind === 'kernel' ? printKernel(step.kernel, cDialect) : lowerLibrary(step.equation)
}

function bindLaunches(plan: Plan, index: number, { launches }: Lowered, scratchAt: number): BoundLaunch[] {
  const step = at(plan.steps, index)
  const operands = [...step.inputs, ...step.outputs].map((buffer) => placeOf(plan, buffer))
  const bind = (pointer: PointerRef): BoundPointer =>
    pointer.kind === 'operand' ? at(operands, pointer.index) : { base: 'arena', offset: scratchAt + pointer.offset }
  return launches.map((launch) => ({ ...launch, pointers: launch.pointers.map(bind), step: index }))
}

function placeOf(plan: Plan, buffer: number): BoundPointer {
  const { place } = at(plan.buffers, buffer)
  switch (place.kind) {
    case 'input':
      return { base: place.index, offset: 0 }
    case 'output':
      return { base: plan.inputs.length + place.index, offset: 0 }
    case 'arena':
      return { base: 'arena', offset: place.offset }
    default:
      return place satisfies never
  }
}
