// Sums that several parts or blocks share, in every dialect: where their partial results lie in scratch memory, and the
// kernel that adds them up in order. There are no floating-point atomics, so the same input gives the same bits.
import { type DType, bytesOf } from '../../tensor/dtype.ts'
import { at, range, sizeOf } from '../../tensor/shape.ts'
import type { Kernel, KernelReduction } from '../kernel.ts'
import { type RegisterClass, classOf } from './expression.ts'
import type { PlainPointer, PrintedLaunch } from './launch.ts'
import type { Nest, Placed } from './nest.ts'

/** The register class in which a reduction is accumulated; bool as 0 and 1. */
export function accumulator(kernel: Kernel, { node }: KernelReduction): Exclude<RegisterClass, 'b'> {
  const register = classOf(at(kernel.nodes, node).dtype)
  return register === 'b' ? 'i' : register
}

const partialTypes = { f: 'f32', d: 'f64', i: 'i32' } as const

/** The dtype of a reduction's partial results. */
export function partialType(kernel: Kernel, reduction: KernelReduction): 'f32' | 'f64' | 'i32' {
  return partialTypes[accumulator(kernel, reduction)]
}

/** Partial results: for each reduction [split, outer results, columns], dense. */
export interface Partials {
  readonly places: readonly Placed[]
  readonly offsets: readonly number[]
  readonly bytes: number
}

/** Regions of scratch memory begin at multiples of this. */
const alignment = 256

/** The places of the partial results of `splits` splits. */
export function layPartials(kernel: Kernel, nest: Nest, splits: number): Partials {
  const columns = nest.form === 'column' ? nest.column : 1
  const total = sizeOf(nest.map) * columns
  const map = nest.map.map((_extent, axis) => sizeOf(nest.map.slice(axis + 1)) * columns)
  const place: Placed = {
    offset: 0,
    map,
    reduce: [],
    row: 0,
    column: nest.form === 'column' ? 1 : 0,
    period: 0,
    split: total,
  }
  const offsets: number[] = []
  let bytes = 0
  for (const reduction of kernel.reductions) {
    offsets.push(bytes)
    bytes += Math.ceil((splits * total * bytesOf(partialType(kernel, reduction))) / alignment) * alignment
  }
  return { places: kernel.reductions.map(() => place), offsets, bytes }
}

/** The kernel that combines partial results: its inputs are they, the splits its reduced axis. */
export function combining(kernel: Kernel, nest: Nest, splits: number, partials: Partials): Kernel {
  const columns = nest.form === 'column'
  const extents = [...nest.map, ...(columns ? [nest.column] : [])]
  const dtypes: readonly DType[] = kernel.reductions.map((reduction) => partialType(kernel, reduction))
  return {
    axes: [{ extent: splits, role: 'reduce' }, ...extents.map((extent) => ({ extent, role: 'map' }) as const)],
    inputs: dtypes.map((dtype, i) => {
      const { map, split } = at(partials.places, i)
      return { dtype, offset: 0, strides: [split, ...map, ...(columns ? [1] : [])] }
    }),
    nodes: dtypes.map((dtype, input) => ({ op: 'load', dtype, input })),
    stores: [],
    reductions: kernel.reductions.map((reduction: KernelReduction, i) => {
      const { offset, map, column } = at(nest.reductions, i)
      return { ...reduction, node: i, offset, strides: [0, ...map, ...(columns ? [column] : [])] }
    }),
  }
}

/** The launch of that kernel, its operands those of the step. */
export function rebind(
  launch: PrintedLaunch<PlainPointer>,
  kernel: Kernel,
  partials: Partials,
): PrintedLaunch<PlainPointer> {
  const outputs = launch.pointers.slice(kernel.reductions.length).map((pointer) => {
    if (pointer.kind !== 'operand') throw new RangeError('internal: a combined result that is no output')
    return { kind: 'operand', index: pointer.index - kernel.reductions.length + kernel.inputs.length } as const
  })
  const scratch = partials.offsets.map((offset) => ({ kind: 'scratch', offset }) as const)
  return { ...launch, pointers: [...scratch, ...outputs] }
}

/** The pointers of a kernel's launch: its inputs, its stores, and its results or their partial ones. */
export function pointersOf(kernel: Kernel, partials: Partials | undefined): readonly PlainPointer[] {
  const operand = (index: number) => ({ kind: 'operand', index }) as const
  const output = (index: number) => operand(kernel.inputs.length + index)
  return [
    ...range(kernel.inputs.length).map(operand),
    ...kernel.stores.map((store) => output(store.output)),
    ...kernel.reductions.map((reduction, i) =>
      partials === undefined
        ? output(reduction.output)
        : ({ kind: 'scratch', offset: at(partials.offsets, i) } as const),
    ),
  ]
}
