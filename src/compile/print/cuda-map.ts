// How the CUDA dialect spreads a nest over threads and blocks: from extents and alignment alone, so that the same input
// gives the same bits on every GPU.
import { type DType, bytesOf } from '../../tensor/dtype.ts'
import { sizeOf, zip } from '../../tensor/shape.ts'
import type { Kernel } from '../kernel.ts'
import type { Nest, Placed } from './nest.ts'

/** Threads of every block. */
export const blockThreads = 256
/** Threads that fill a large GPU once. */
const fullThreads = 2 ** 18
/** Rows of a pointwise kernel that one thread takes at most; what they have in common is computed once. */
const mostRows = 16
/** Vectors that a thread should at least reduce before more threads share the work. */
const leastUnits = 16
/** The most partial results for one result: one thread of the second kernel adds at most 1024 / depth of them. */
export const mostSplits = 1024

/** Elements along the columns that one thread holds: 16 bytes of the narrowest operand, less where alignment forbids. */
export type Width = 1 | 2 | 4 | 8

/** Threads of a pointwise kernel: [outer, rowLanes, columns / width], the last fastest. */
export interface PointMap {
  readonly threads: number
  readonly rowLanes: number
}

/**
 * Threads of a reducing kernel. A group is the results of one thread: `width` columns, or one sum along a row. `depth`
 * threads of a block share the units of a group (rows, or vectors of columns), and `splits` blocks do.
 */
export interface ReduceMap {
  readonly groups: number
  readonly units: number
  readonly depth: number
  readonly splits: number
  readonly unitsPerSplit: number
  /** Blocks of one split. */
  readonly slabs: number
  readonly blocks: number
}

/** Registers for each column, beyond which a thread has so many that too few threads share a multiprocessor. */
const mostKept = 10

/**
 * The width for a nest; `partials` are the places of the reductions' partial results, if there are any, and `held` counts
 * the values that stay in registers while a thread's units pass. A reduction stays twice: its run's and the whole.
 */
export function widthOf(kernel: Kernel, nest: Nest, partials: readonly Placed[], held: number): Width {
  const typed: readonly (readonly [{ readonly dtype: DType }, Placed])[] = [
    ...zip(kernel.inputs, nest.inputs),
    ...zip(kernel.stores, nest.stores),
    ...(nest.form === 'column' ? zip(kernel.reductions, nest.reductions) : []),
    ...(nest.form === 'column' ? zip(kernel.reductions.slice(0, partials.length), partials) : []),
  ]
  const adjoining = typed.filter(([, placed]) => placed.column === 1)
  if (adjoining.length === 0) return 1
  const narrowest = Math.min(...adjoining.map(([{ dtype }]) => bytesOf(dtype)))
  const most = Math.min(16 / narrowest, held + 2 * kernel.reductions.length > mostKept ? 4 : 8)
  const fits = (width: number): boolean =>
    width <= most &&
    nest.column % width === 0 &&
    adjoining.every(([{ dtype }, placed]) => isAligned(placed, Math.min(width, 16 / bytesOf(dtype))))
  const widths: readonly Width[] = [8, 4, 2]
  return widths.find(fits) ?? 1
}

/** Whether vectors of `count` elements begin at multiples of it. Buffers begin at multiples of 16 bytes and more. */
function isAligned({ offset, map, reduce, row, split }: Placed, count: number): boolean {
  return [offset, ...map, ...reduce, row, split].every((stride) => stride % count === 0)
}

/** The threads of a pointwise nest. */
export function mapPoints(nest: Nest, width: Width): PointMap {
  const across = sizeOf(nest.map) * (nest.column / width)
  const rows = Math.min(mostRows, Math.max(1, Math.floor((across * nest.row) / fullThreads)))
  const rowLanes = Math.ceil(nest.row / rows)
  return { threads: across * rowLanes, rowLanes }
}

/** The threads of a reducing nest, whose sums are shared by `most` blocks at most. */
export function mapReduction(nest: Nest, width: Width, most: number): ReduceMap {
  const vectors = nest.column / width
  const inColumns = nest.form === 'column'
  const groups = sizeOf(nest.map) * (inColumns ? vectors : 1)
  const units = sizeOf(nest.reduce) * (inColumns ? nest.row : vectors)
  const wanted = Math.min(fullThreads, (groups * units) / leastUnits)
  // Eight neighbouring vectors of 16 bytes are a line of the cache.
  const [least, deepest] = inColumns ? [1, blockThreads / Math.min(8, powerFrom(groups))] : [32, blockThreads]
  const depth = Math.min(deepest, powerFrom(units), Math.max(least, powerFrom(wanted / groups)))
  const shares = Math.min(most, Math.ceil(wanted / (groups * depth)), Math.ceil(units / depth))
  const unitsPerSplit = Math.ceil(units / Math.max(1, shares))
  const splits = Math.ceil(units / unitsPerSplit)
  const slabs = Math.ceil(groups / (blockThreads / depth))
  return { groups, units, depth, splits, unitsPerSplit, slabs, blocks: slabs * splits }
}

/** The smallest power of two that is not below. */
function powerFrom(count: number): number {
  return 2 ** Math.max(0, Math.ceil(Math.log2(count)))
}
