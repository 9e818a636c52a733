// Chains of products and pointwise kernels over the same rows in a plan, such as the products of an SE block with what stands
// before, between and behind them. What a chain is says row-chain.ts, whether there is a kernel for it kernels/.
import { InternalError } from '../../tensor/errors.ts'
import { at } from '../../tensor/shape.ts'
import type { DotEquation } from '../matmul/index.ts'
import type { RowChain, RowPart } from '../row-chain.ts'
import { fusedKey } from './fusion.ts'
import { type Group, type Unplaced, type Values, asOne } from './group.ts'
import { separateParts } from './row-parts.ts'
import { type RowStep, rowStepOf, rowsOf } from './row-steps.ts'
import { type Units, join, mayJoin } from './units.ts'
import { type Uses, soleMaker } from './uses.ts'

/** Whether there is a kernel for a chain. */
export type TakesRows = (chain: RowChain) => boolean

/** The search for one chain. */
interface Search {
  readonly uses: Uses
  readonly units: Units
  readonly takes: TakesRows
  readonly rows: number
  /** A step as a part of it; undefined where it is none. */
  readonly stepAt: (index: number) => RowStep | undefined
}

/** The chains of a plan that save a launch, each as long as may be; `units` are the steps that are joined already. */
export function findRowChains(uses: Uses, units: Units, takesRows: TakesRows): readonly Group[] {
  const takes = remembered(takesRows)
  const { plan } = uses
  const found: Group[] = []
  let joined = units
  plan.steps.forEach((step, start) => {
    const rows = step.kind === 'library' ? rowsOf(step) : undefined
    if (rows === undefined || joined.unitOf.has(start)) return
    if (!step.outputs.every((buffer) => soleMaker(uses, buffer))) return
    const known = new Map<number, RowStep | undefined>()
    const stepAt = (index: number): RowStep | undefined => {
      if (!known.has(index)) known.set(index, rowStepOf(at(plan.steps, index), rows, plan.buffers))
      return known.get(index)
    }
    const chain = longest({ uses, units: joined, takes, rows, stepAt }, start)
    if (chain === undefined) return
    found.push(chain)
    joined = join(joined, chain.members)
  })
  return found
}

/** Asked once about equal chains: an answer is a whole kernel's text. */
function remembered(takes: TakesRows): TakesRows {
  const known = new Map<string, boolean>()
  return (chain) => {
    const key = fusedKey(chain)
    const answer = known.get(key) ?? takes(chain)
    known.set(key, answer)
    return answer
  }
}

/** All that hangs together with a product, or, where there is no kernel for that, what there is one for. */
function longest(search: Search, start: number): Group | undefined {
  const isWorth = (members: readonly number[]): boolean => {
    const group = groupOf(search, members)
    const chain = chainOf(search, group)
    return saves(chain, group) > 0 && search.takes(chain)
  }
  const all = grown(search, start, () => true)
  const members = isWorth(all)
    ? all
    : grown(search, start, (some) => search.takes(chainOf(search, groupOf(search, some))))
  return isWorth(members) ? groupOf(search, members) : undefined
}

/** How many launches a chain saves. */
function saves(chain: RowChain, { behind }: Group): number {
  return separateParts(chain).length - 1 - behind.length
}

/** The steps that hang together with one, as far as `accepts` them, in order. */
function grown(search: Search, start: number, accepts: (members: readonly number[]) => boolean): readonly number[] {
  let members: readonly number[] = [start]
  for (;;) {
    const longer = neighbours(search, members)
      .map((index) => [...members, index].sort((a, b) => a - b))
      .find((some) => isRowWise(search, some) && mayJoin(search.units, some) && accepts(some))
    if (longer === undefined) return members
    members = longer
  }
}

/** The steps that read what some make, then those that make what they read, as far as they could be in a chain. */
function neighbours({ uses, stepAt }: Search, members: readonly number[]): readonly number[] {
  const steps = members.flatMap((index) => stepAt(index) ?? [])
  const behind = steps.flatMap(({ step }) => step.outputs.flatMap((buffer) => at(uses.readers, buffer)))
  const before = steps.flatMap(({ along }) => along.flatMap((buffer) => at(uses.makers, buffer)))
  const near = [...new Set([...behind, ...before])]
  return near.filter((index) => !members.includes(index) && isPart(uses, stepAt(index)))
}

/** Whether a step could be in a chain: it alone makes what it makes. */
function isPart(uses: Uses, step: RowStep | undefined): boolean {
  return step?.step.outputs.every((buffer) => soleMaker(uses, buffer)) === true
}

/** Whether steps give each other nothing but the rows that they work on. */
function isRowWise({ stepAt }: Search, members: readonly number[]): boolean {
  const steps = members.flatMap((index) => stepAt(index) ?? [])
  const made = new Set(steps.flatMap(({ step }) => step.outputs))
  const later = new Set(steps.flatMap(({ rest }) => rest?.outputs ?? []))
  return steps.every(
    ({ shared, along }) =>
      !shared.some((buffer) => made.has(buffer)) && ![...shared, ...along].some((buffer) => later.has(buffer)),
  )
}

function groupOf({ rows, stepAt }: Search, members: readonly number[]): Group {
  const found = members.map((index) => {
    const step = stepAt(index)
    if (step === undefined) throw new InternalError(`step ${index} in a chain that it is no part of`)
    return step
  })
  const steps = found.map(({ step }) => step)
  return {
    members,
    steps,
    behind: found.flatMap(({ rest }) => rest ?? []),
    known: [],
    label: `rows of ${steps.map(({ kind, label }) => (kind === 'kernel' ? 'map' : label)).join(', ')}`,
    fused: (values) => rowChain(rows, steps, values),
  }
}

function chainOf({ uses }: Search, group: Group): RowChain {
  const { fusion } = asOne(uses, group)
  if (fusion.kind !== 'rows') throw new InternalError(`a chain of rows that is a ${fusion.kind}`)
  return fusion
}

function rowChain(rows: number, steps: readonly Unplaced[], { inputs, outputs, inside, wire }: Values): RowChain {
  const parts = steps.map((step): RowPart => {
    const wires = [...step.inputs, ...step.outputs].map(wire)
    return step.kind === 'kernel'
      ? { kind: 'map', kernel: step.kernel, wires }
      : { kind: 'dot', equation: step.equation as DotEquation, wires }
  })
  return { kind: 'rows', rows, parts, inputs, outputs, inside }
}
