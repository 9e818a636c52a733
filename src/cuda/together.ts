// Steps that are launched together: a training step has hundreds of small kernels of one text (casts of weights, tests of
// gradients, the optimizer) that wait for nobody in between, and a launch costs more than they do. Which steps may be
// together is decided here, and how one launch does what many did.
import { InternalError } from '../tensor/errors.ts'
import { at, range } from '../tensor/shape.ts'
import type { CudaStep } from './fusions/fusion.ts'
import type { BoundKernel, BoundWork } from './lower.ts'
import type { Lowered } from './work.ts'

/** Kernels that move more bytes than this are worth a launch of their own, and stay near those whose results they read. */
const smallBytes = 64e6
/** Bytes that the arguments of a launch may have (CUDA 12.1 and newer), with room to spare. */
const argumentBytes = 32_000
/** How many launches one text takes: few sizes, so that few texts are compiled. */
const sizes = [128, 32, 8] as const

/**
 * The steps in the order in which they are to be enqueued, those that are launched together in one list.
 *
 * A step waits for its companions as long as nothing needs what it makes: it is moved behind later steps, never before one
 * that it depends on. `after` names every step that must come before, those that use the same bytes included.
 */
export function arrangeSteps(steps: readonly CudaStep[], lowered: readonly Lowered[]): readonly (readonly number[])[] {
  const order: number[][] = []
  const waiting = new Map<string, number[]>()
  const keys = new Map<number, string>()
  const flush = (key: string): void => {
    const group = waiting.get(key) ?? []
    waiting.delete(key)
    for (const step of group) keys.delete(step)
    if (group.length > 0) order.push(group)
  }
  steps.forEach((step, index) => {
    for (const before of step.after) {
      const key = keys.get(before)
      if (key !== undefined) flush(key)
    }
    const { key, most } = companionsOf(step, at(lowered, index))
    if (key === undefined) {
      order.push([index])
      return
    }
    const group = [...(waiting.get(key) ?? []), index]
    waiting.set(key, group)
    keys.set(index, key)
    if (group.length === most) flush(key)
  })
  for (const key of [...waiting.keys()]) flush(key)
  return order
}

/** The key that the steps share which may be launched together with this one, and how many fit into one launch. */
function companionsOf(step: CudaStep, { works }: Lowered): { readonly key: string | undefined; readonly most: number } {
  const kernels = works.filter((work) => work.kind === 'kernel')
  const alone = { key: undefined, most: 1 }
  if (step.kind !== 'kernel' || step.bytes > smallBytes || kernels.length !== works.length || works.length === 0)
    return alone
  const most = Math.min(...kernels.map(({ pointers, numbers }) => capacity(pointers.length, numbers.length, sizes[0])))
  return most === 1 ? alone : { key: kernels.map(({ source }) => source.name).join(' '), most }
}

/** The largest size up to `wanted` whose arguments fit; 1 if none does. */
function capacity(pointers: number, numbers: number, wanted: number): number {
  return sizes.find((size) => size <= wanted && 8 * size * (pointers + numbers + 1) <= argumentBytes) ?? 1
}

/** The works of steps that are launched together: the first of each as one, then the second of each, and so on. */
export function launchTogether(members: readonly (readonly BoundWork[])[]): readonly BoundWork[] {
  const [first] = members
  if (first === undefined || members.length === 1) return first ?? []
  return range(first.length).map((index) => asOne(members.map((works) => kernelOf(at(works, index)))))
}

function kernelOf(work: BoundWork): BoundKernel {
  if (work.kind === 'kernel') return work
  throw new InternalError(`${work.label} cannot be launched together with others`)
}

/** One launch whose blocks are those of all; the arguments behind the last are the last one's again, and have no blocks. */
function asOne(kernels: readonly BoundKernel[]): BoundKernel {
  const first = at(kernels, 0)
  const [pointers, numbers] = [first.places.length, first.numbers.length]
  const size = [...sizes].reverse().find((enough) => enough >= kernels.length) ?? sizes[0]
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
