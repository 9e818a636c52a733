// Which groups of a plan's steps may be one step each, all at once: no other step may have to come between the members of one.
import type { Plan } from '../../compile/index.ts'
import { at, range } from '../../tensor/shape.ts'

/** The steps of a plan, some of them joined: a unit runs as one. */
export interface Units {
  /** For each step the earlier steps that make what it reads. */
  readonly needed: readonly (readonly number[])[]
  /** The members of the unit of each step that is joined with others. */
  readonly unitOf: ReadonlyMap<number, readonly number[]>
  /** The units that are done where their last member was. */
  readonly late: ReadonlySet<readonly number[]>
}

/** A plan's steps, each by itself. */
export function unitsOf(plan: Plan): Units {
  const makers = plan.buffers.map((): number[] => [])
  const needed = plan.steps.map((step, index) => {
    const before = [...new Set(step.inputs.flatMap((buffer) => at(makers, buffer)))]
    for (const buffer of new Set(step.outputs)) at(makers, buffer).push(index)
    return before
  })
  return { needed, unitOf: new Map(), late: new Set() }
}

/** Whether steps may become a unit: none is in another, and nothing outside is needed by them and needs them. */
export function mayJoin({ needed, unitOf }: Units, members: readonly number[]): boolean {
  if (members.some((member) => unitOf.has(member))) return false
  const own = new Set(members)
  const seen = new Set<number>()
  const open = members.flatMap((member) => at(needed, member)).filter((source) => !own.has(source))
  for (let step = open.pop(); step !== undefined; step = open.pop()) {
    if (seen.has(step)) continue
    for (const member of unitOf.get(step) ?? [step]) {
      seen.add(member)
      for (const source of at(needed, member)) {
        if (own.has(source)) return false
        open.push(source)
      }
    }
  }
  return true
}

/** The steps with these joined, and done where the last of them was if that is said. */
export function join(
  { needed, unitOf, late }: Units,
  members: readonly number[],
  stands: 'first' | 'last' = 'first',
): Units {
  return {
    needed,
    unitOf: new Map([...unitOf, ...members.map((member) => [member, members] as const)]),
    late: stands === 'first' ? late : new Set([...late, members]),
  }
}

/** The groups that can all be units at once, the earlier before the later where they exclude each other. */
export function joinAll<G extends { readonly members: readonly number[]; readonly stands?: 'first' | 'last' }>(
  units: Units,
  groups: readonly G[],
): { readonly units: Units; readonly taken: readonly G[] } {
  let joined = units
  const taken = groups.filter(({ members, stands }) => {
    if (!mayJoin(joined, members)) return false
    joined = join(joined, members, stands)
    return true
  })
  return { units: joined, taken }
}

/**
 * The units in an order in which they can run: those of the steps `first`, then each where its first member was, or its last,
 * behind what it needs.
 */
export function unitsInOrder(
  { needed, unitOf, late }: Units,
  first: readonly number[] = [],
): readonly (readonly number[])[] {
  const order: (readonly number[])[] = []
  const done = new Set<number>()
  const emit = (step: number): void => {
    if (done.has(step)) return
    const unit = unitOf.get(step) ?? [step]
    for (const member of unit) done.add(member)
    for (const member of unit) at(needed, member).forEach(emit)
    order.push(unit)
  }
  for (const step of [...first, ...range(needed.length)]) {
    const unit = unitOf.get(step)
    if (unit === undefined || !late.has(unit) || unit.at(-1) === step) emit(step)
  }
  return order
}
