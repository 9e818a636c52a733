// A plan with steps that stand for several: which of the fusions found may be one step, the order that follows, and places of
// buffers in which such a step writes no bytes that it reads.
import { type Plan, placeSteps } from '../../compile/index.ts'
import { at, range, zip } from '../../tensor/shape.ts'
import { rowsCandidate } from '../kernels/rows.ts'
import type { RowChain } from '../row-chain.ts'
import { castBiases } from './biases.ts'
import { contractionGroup } from './contraction-group.ts'
import type { CudaStep } from './fusion.ts'
import { type CudaUnplaced, type Group, asOne } from './group.ts'
import { earlySteps, gathered } from './order.ts'
import { findProducts } from './products.ts'
import { findFusions } from './recognize.ts'
import { type TakesRows, findRowChains } from './rows.ts'
import { type Units, joinAll, unitsInOrder, unitsOf } from './units.ts'
import { type Uses, usesOf } from './uses.ts'

/** A plan whose steps may stand for several. */
export interface CudaPlan extends Omit<Plan, 'steps'> {
  readonly steps: readonly CudaStep[]
}

/**
 * The plan with every fusion that may be: where no other step must come between its members. Steps keep their order
 * otherwise, but those that a fusion waits for move before it.
 *
 * @param verify Throws an InternalError if buffers that are alive at once share bytes.
 * @param takesRows Whether there is a kernel for a chain of rows.
 */
export function fuseSteps(given: Plan, verify = false, takesRows: TakesRows = hasKernel): CudaPlan {
  const plan = castBiases(given)
  const uses = usesOf(plan)
  const { units, groups } = findGroups(uses, takesRows)
  if (groups.length === 0) return given
  const steps = gathered(
    unitsInOrder(units, earlySteps(uses)).map((unit) => {
      const group = groups.find(({ members }) => members === unit)
      if (group === undefined) return { steps: unit.map((step) => at(plan.steps, step)), behind: [] }
      return { steps: [asOne(uses, group)], behind: group.behind }
    }),
  )
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

/**
 * What becomes one step each: first what saves passes over full-size tensors, then chains of rows, what is left of products
 * and biases, of which chains consist too, and small products that stand for themselves.
 */
function findGroups(uses: Uses, takesRows: TakesRows): { readonly units: Units; readonly groups: readonly Group[] } {
  const { plan } = uses
  const found = findFusions(uses)
  const [large, products] = [false, true].map((small) =>
    found.filter(({ way }) => (way.kind === 'product') === small).map(contractionGroup),
  )
  const first = joinAll(unitsOf(plan), large ?? [])
  const chains = joinAll(first.units, findRowChains(uses, first.units, takesRows))
  const biased = joinAll(chains.units, products ?? [])
  const { units, taken } = joinAll(biased.units, findProducts(uses, biased.units))
  return { units, groups: [...first.taken, ...chains.taken, ...biased.taken, ...taken] }
}

function hasKernel(chain: RowChain): boolean {
  return rowsCandidate(chain) !== undefined
}

/** The inputs that outputs have taken over. */
function donated(plan: Plan): readonly number[] {
  return plan.outputs.flatMap((buffer) => {
    const { place } = at(plan.buffers, buffer)
    return place.kind === 'input' && at(plan.inputs, place.index) !== buffer ? [place.index] : []
  })
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
