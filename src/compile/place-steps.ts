// Steps in their order -> where each buffer lies and which steps must come before which. Devices that run several steps as one
// ask again, so that what such a step writes shares no bytes with what it reads.
import { zip } from '../tensor/shape.ts'
import { type Placement, placeBuffers, verifyMemory } from './memory.ts'
import { dependencies } from './order.ts'
import type { PlanBuffer, Step } from './plan.ts'

/** The places of all buffers, and for each step the earlier ones that must have finished. */
export interface PlacedSteps extends Placement {
  readonly after: readonly (readonly number[])[]
}

/**
 * Places the buffers of steps that run in this order. Outputs may take over donated inputs of their type.
 *
 * With `verify` an InternalError is thrown if two buffers that are alive at once share bytes.
 */
export function placeSteps(
  buffers: readonly Omit<PlanBuffer, 'place'>[],
  steps: readonly Omit<Step, 'after'>[],
  inputs: readonly number[],
  outputs: readonly number[],
  donate: readonly number[],
  verify = false,
): PlacedSteps {
  const { places, arenaBytes } = placeBuffers(buffers, steps, inputs, outputs, donate)
  const placed = zip(buffers, places).map(([buffer, place]) => ({ ...buffer, place }))
  if (verify) verifyMemory(placed, steps, inputs, outputs, arenaBytes)
  return { places, arenaBytes, after: dependencies(placed, steps) }
}
