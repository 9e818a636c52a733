// Steps that are launched together: a training step has hundreds of small kernels of one text (casts of weights, tests of
// gradients, the optimizer) that wait for nobody in between, and a launch costs more than they do. Which steps may be
// together is decided here, and how one launch does what many did.
import { InternalError } from '../tensor/errors.ts'
import { at, range } from '../tensor/shape.ts'
import type { CudaStep } from './fusions/fusion.ts'
import type { BoundKernel, BoundWork } from './lower.ts'
import { argumentBytes, mixedLaunches } from './mixed.ts'
import type { Lowered } from './work.ts'

/** Kernels that move more bytes than this are worth a launch of their own, and stay near those whose results they read. */
const smallBytes = 64e6
/** How many launches one text takes: few sizes, so that few texts are compiled. */
const sizes = [8, 32, 128] as const
/** So many kernels are worth a text that no other program has: then one launch takes kernels of several. */
const many = 32

/**
 * The steps in the order in which they are to be enqueued, those that are launched together in one list.
 *
 * A step waits for its companions as long as nothing needs what it makes: it is moved behind later steps, never before one
 * that it depends on. `after` names every step that must come before, those that use the same bytes included.
 */
export function arrangeSteps(steps: readonly CudaStep[], lowered: readonly Lowered[]): readonly (readonly number[])[] {
  const order: Group[] = []
  const waiting = new Map<string, number[]>()
  const keys = new Map<number, string>()
  const flush = (key: string): void => {
    const group = waiting.get(key) ?? []
    waiting.delete(key)
    for (const step of group) keys.delete(step)
    if (group.length > 0) order.push({ steps: group, joins: true })
  }
  steps.forEach((step, index) => {
    for (const before of step.after) {
      const key = keys.get(before)
      if (key !== undefined) flush(key)
    }
    const key = textOf(step, at(lowered, index))
    if (key === undefined) {
      order.push({ steps: [index], joins: false })
      return
    }
    waiting.set(key, [...(waiting.get(key) ?? []), index])
    keys.set(index, key)
  })
  for (const key of [...waiting.keys()]) flush(key)
  return mergeGroups(steps, order)
}

/** Steps that are launched together, and whether others may be with them. */
interface Group {
  readonly steps: readonly number[]
  readonly joins: boolean
}

/**
 * The groups, those of several texts together where nothing between them comes before one and behind the other: each joins
 * the largest that stands behind all it needs. Too small ones stay as they were.
 */
function mergeGroups(steps: readonly CudaStep[], order: readonly Group[]): readonly (readonly number[])[] {
  const merged: { readonly groups: Group[]; count: number }[] = []
  const placeOf = new Map<number, number>()
  for (const group of order) {
    const needed = group.steps.flatMap((step) => at(steps, step).after.map((before) => placeOf.get(before) ?? -1))
    const earliest = needed.reduce((latest, place) => Math.max(latest, place), -1) + 1
    let best = merged.length
    if (group.joins)
      for (let place = earliest; place < merged.length; place++) {
        const there = at(merged, place)
        if (at(there.groups, 0).joins && there.count > (merged[best]?.count ?? 0)) best = place
      }
    const there = merged[best]
    if (there === undefined) merged.push({ groups: [group], count: group.steps.length })
    else {
      there.groups.push(group)
      there.count += group.steps.length
    }
    for (const step of group.steps) placeOf.set(step, best)
  }
  return merged.flatMap(({ groups, count }) =>
    count >= many ? [groups.flatMap(({ steps }) => steps)] : groups.map(({ steps }) => steps),
  )
}

/** The text of a step that may be launched together with others; undefined for others. */
function textOf(step: CudaStep, { works }: Lowered): string | undefined {
  const [work, another] = works
  if (step.kind !== 'kernel' || step.bytes > smallBytes || work?.kind !== 'kernel' || another !== undefined)
    return undefined
  return work.source.name
}

/** The works of steps that are launched together: one, or more where one launch cannot have them all. */
export function launchTogether(members: readonly (readonly BoundWork[])[]): readonly BoundWork[] {
  const [first] = members
  if (first === undefined || members.length === 1) return first ?? []
  const kernels = members.map((works) => kernelOf(works))
  const { source, places, numbers } = at(kernels, 0)
  const alike = kernels.every((kernel) => kernel.source.name === source.name)
  const size = sizes.find((enough) => enough >= kernels.length)
  const fits = size !== undefined && 8 * size * (places.length + numbers.length + 1) <= argumentBytes
  return alike && fits ? [asOne(kernels, size)] : mixedLaunches(kernels)
}

function kernelOf([work, another]: readonly BoundWork[]): BoundKernel {
  if (work?.kind === 'kernel' && another === undefined) return work
  throw new InternalError(`${work?.label ?? 'a step'} cannot be launched together with others`)
}

/** One launch whose blocks are those of all; the arguments behind the last are the last one's again, and have no blocks. */
function asOne(kernels: readonly BoundKernel[], size: number): BoundKernel {
  const first = at(kernels, 0)
  const [pointers, numbers] = [first.places.length, first.numbers.length]
  const padded = range(size).map((index) => at(kernels, Math.min(index, kernels.length - 1)))
  const firstBlocks: number[] = []
  let blocks = 0
  for (const index of range(size)) {
    firstBlocks.push(blocks)
    blocks += kernels[index]?.blocks ?? 0
  }
  const name = `${first.source.name}_${size}`
  const counts = [pointers * size, (numbers + 1) * size, pointers, numbers, size]
  const head = `PB_KERNEL(${first.source.name}, ${pointers}, ${numbers})`
  if (!first.source.text.includes(head)) throw new InternalError(`${first.source.name} has another head than ${head}`)
  return {
    ...first,
    source: { name, text: first.source.text.replace(head, `PB_KERNEL_MANY(${name}, ${counts.join(', ')})`) },
    blocks,
    places: padded.flatMap((kernel) => kernel.places),
    numbers: [...padded.flatMap((kernel) => kernel.numbers), ...firstBlocks],
    joined: kernels.slice(1).map(({ step }) => step),
    label: `${first.label} and ${kernels.length - 1} like it`,
  }
}
