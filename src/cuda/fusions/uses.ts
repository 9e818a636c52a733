// Who reads and who makes each buffer of a plan.
import type { KernelStep, Plan } from '../../compile/index.ts'
import { at } from '../../tensor/shape.ts'

/** For each buffer of a plan the steps that read and that make it, in order; and what the caller gets. */
export interface Uses {
  readonly plan: Plan
  readonly readers: readonly (readonly number[])[]
  readonly makers: readonly (readonly number[])[]
  readonly outputs: ReadonlySet<number>
}

/** The uses of a plan's buffers. */
export function usesOf(plan: Plan): Uses {
  const readers = plan.buffers.map((): number[] => [])
  const makers = plan.buffers.map((): number[] => [])
  plan.steps.forEach(({ inputs, outputs }, index) => {
    for (const buffer of new Set(inputs)) at(readers, buffer).push(index)
    for (const buffer of new Set(outputs)) at(makers, buffer).push(index)
  })
  return { plan, readers, makers, outputs: new Set(plan.outputs) }
}

/** The kernel at a position, if it is one. */
export function kernelAt({ plan }: Uses, index: number | undefined): KernelStep | undefined {
  const step = index === undefined ? undefined : at(plan.steps, index)
  return step?.kind === 'kernel' ? step : undefined
}

/** Whether one step alone makes a buffer. */
export function soleMaker({ makers }: Uses, buffer: number): boolean {
  return at(makers, buffer).length === 1
}
