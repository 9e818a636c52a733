// In which order the steps of a plan stand, so that small kernels of one text meet and can be launched together: what needs
// only the program's inputs comes first, and what is left of groups waits until it is needed.
import { at } from '../../tensor/shape.ts'
import type { CudaUnplaced, Unplaced } from './group.ts'
import { type Uses, soleMaker } from './uses.ts'

/** Kernels that move more bytes than this stay where they are. */
const smallBytes = 2 ** 24
/** The most that kernels which wait may read and write together: what they read stays in memory. */
const waitingBytes = 2 ** 24

/**
 * The positions of small kernels that need nothing but inputs, and of those that need nothing but what these make. What several
 * steps make, such as a padded tensor, is complete only behind the last of them: those stay where they are, and who reads it.
 */
export function earlySteps(uses: Uses): readonly number[] {
  const { plan, makers, outputs: wanted } = uses
  const ready = new Set(plan.inputs)
  for (const buffer of plan.inputs) if (at(makers, buffer).length > 0) ready.delete(buffer) // something takes it over
  return plan.steps.flatMap((step, index) => {
    const isEarly =
      step.kind === 'kernel' && step.bytes <= smallBytes && step.inputs.every((buffer) => ready.has(buffer))
    const isAlone = step.outputs.every((buffer) => soleMaker(uses, buffer) && !wanted.has(buffer))
    if (!isEarly || !isAlone) return []
    for (const buffer of step.outputs) ready.add(buffer)
    return [index]
  })
}

/** A unit of a plan as steps, and what is left behind it. */
export interface Ordered {
  readonly steps: readonly CudaUnplaced[]
  readonly behind: readonly Unplaced[]
}

/** The steps of units in order; what is left behind some stands together where one of it is needed, or when it is much. */
export function gathered(units: readonly Ordered[]): readonly CudaUnplaced[] {
  const order: CudaUnplaced[] = []
  let waiting: readonly Unplaced[] = []
  const release = (): void => {
    order.push(...waiting)
    waiting = []
  }
  for (const { steps, behind } of units) {
    const wanted = new Set(waiting.flatMap(({ outputs }) => outputs))
    if (steps.some(({ inputs, outputs }) => [...inputs, ...outputs].some((buffer) => wanted.has(buffer)))) release()
    order.push(...steps)
    waiting = [...waiting, ...behind]
    if (waiting.reduce((sum, { bytes }) => sum + bytes, 0) > waitingBytes) release()
  }
  release()
  return order
}
