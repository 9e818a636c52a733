// Small products in a plan that do not wait for each other, and for whose results nobody waits soon, such as the gradients of an
// SE block's weights: all of them may be one launch. How that is done is product-tasks.ts's part.
import { type LibraryStep, dotExtents } from '../../compile/index.ts'
import { at } from '../../tensor/shape.ts'
import { transposedProduct } from '../kernels/transposed.ts'
import type { DotEquation } from '../matmul/index.ts'
import type { Group } from './group.ts'
import { type Units, mayJoin } from './units.ts'
import { type Uses, soleMaker } from './uses.ts'

/** Larger products fill a GPU by themselves. */
const mostFlops = 5e8
const mostBytes = 8e6
/** What a group's operands may have together: they are kept until its last product. */
const mostKept = 64e6

/** A product that could stand with others. */
interface Small {
  readonly index: number
  readonly step: LibraryStep
  /** The first step that reads its result, or the end. */
  readonly wanted: number
  readonly bytes: number
}

/** Groups of products that save launches, each where its last one stands; `units` are the steps that are joined already. */
export function findProducts(uses: Uses, units: Units): readonly Group[] {
  const groups: Small[][] = []
  for (const small of smallProducts(uses)) {
    if (units.unitOf.has(small.index)) continue
    const group = groups.at(-1)
    const longer = [...(group ?? []), small]
    if (group !== undefined && isGroup(longer, units)) group.push(small)
    else groups.push([small])
  }
  return groups.filter((group) => group.length > 1).map(asGroup)
}

/** Whether all results are wanted behind the last product, what is kept for it is little, and none waits for another. */
function isGroup(group: readonly Small[], units: Units): boolean {
  const last = at(group, group.length - 1).index
  const kept = group.reduce((sum, { bytes }) => sum + bytes, 0)
  return (
    group.every(({ wanted }) => wanted > last) &&
    kept <= mostKept &&
    mayJoin(
      units,
      group.map(({ index }) => index),
    )
  )
}

/** The small products that there is a kernel for, in order. */
function smallProducts(uses: Uses): readonly Small[] {
  const { plan, readers } = uses
  return plan.steps.flatMap((step, index): Small[] => {
    if (step.kind !== 'library' || step.equation.primitive !== 'dot') return []
    const { bytes, flops, outputs } = step
    const result = at(outputs, 0)
    if (flops > mostFlops || bytes > mostBytes || !soleMaker(uses, result)) return []
    if (transposedProduct(dotExtents(step.equation)) === undefined) return []
    return [{ index, step, wanted: Math.min(plan.steps.length, ...at(readers, result)), bytes }]
  })
}

function asGroup(group: readonly Small[]): Group {
  const steps = group.map(({ step }) => step)
  return {
    members: group.map(({ index }) => index),
    steps,
    behind: [],
    known: [],
    stands: 'last',
    label: `${group.length} products`,
    fused: ({ inputs, outputs, wire }) => ({
      kind: 'products',
      products: steps.map((step) => ({
        equation: step.equation as DotEquation,
        wires: [...step.inputs, ...step.outputs].map(wire),
      })),
      inputs,
      outputs,
    }),
  }
}
