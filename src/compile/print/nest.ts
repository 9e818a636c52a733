// Arranges a kernel's axes for a machine with vectors: which axis the lanes run along, which one is the row loop inside of
// a tile, and which are outside. Nothing here depends on the language that is printed.
import { type DType, bytesOf } from '../../tensor/dtype.ts'
import { at, range, zip } from '../../tensor/shape.ts'
import type { Access, Kernel } from '../kernel.ts'

/**
 * How the loops run.
 *
 * - 'pointwise': nothing is reduced; tiles of rows and columns.
 * - 'column': lanes lie along an axis of the results, rows are reduced: one accumulator for each column.
 * - 'row': lanes lie along a reduced axis: one accumulator for each result.
 */
export type Form = 'pointwise' | 'column' | 'row'

/** The place of an access in the arranged loops; strides in elements. */
export interface Placed {
  readonly offset: number
  /** Along the outer axes of the results. */
  readonly map: readonly number[]
  /** Along the outer reduced axes. */
  readonly reduce: readonly number[]
  readonly row: number
  readonly column: number
  /** Where columns were made of several rows, and this access begins again with each of them: after how many; else 0. */
  readonly period: number
  /** From the results of one split to those of the next; 0 but for partial results. */
  readonly split: number
}

/** A kernel's loops, arranged. Extents of the outer axes come outermost first; row is 1 where there is no row loop. */
export interface Nest {
  readonly form: Form
  readonly map: readonly number[]
  readonly reduce: readonly number[]
  readonly row: number
  readonly column: number
  readonly inputs: readonly Placed[]
  /** By node; undefined for nodes without an access of their own. */
  readonly nodes: readonly (Placed | undefined)[]
  readonly stores: readonly Placed[]
  readonly reductions: readonly Placed[]
  /** The accesses of the epilogue; empty where there is none. */
  readonly epilogue: Pick<Nest, 'inputs' | 'nodes' | 'stores'>
}

/** An axis with the stride of every access along it. */
interface Axis {
  readonly extent: number
  readonly reduced: boolean
  readonly strides: readonly number[]
}

/**
 * The kernel's loops in the order in which they are printed. Every extent must be positive. With `joinsRows` short rows
 * are joined to longer ones, and accesses may have periods.
 */
export function arrange(kernel: Kernel, joinsRows: boolean): Nest {
  const ofNodes = (part: Pick<Kernel, 'nodes'>) =>
    part.nodes.map((node) => ('access' in node ? node.access : undefined))
  const own = (list: readonly (Access | undefined)[]): Access[] => list.filter((access) => access !== undefined)
  const { epilogue = { inputs: [], nodes: [], stores: [] } } = kernel
  const [nodes, lastNodes] = [ofNodes(kernel), ofNodes(epilogue)]
  const accesses: readonly Access[] = [
    ...[...kernel.inputs, ...own(nodes), ...kernel.stores, ...kernel.reductions],
    ...[...epilogue.inputs, ...own(lastNodes), ...epilogue.stores],
  ]
  const axes = merge(
    kernel.axes.map(({ extent, role }, axis) => ({
      extent,
      reduced: role === 'reduce',
      strides: accesses.map(({ strides }) => at(strides, axis)),
    })),
  )
  const bytes = (list: readonly { readonly dtype: DType }[]): number[] => list.map(({ dtype }) => bytesOf(dtype))
  const moved = [
    ...[...bytes(kernel.inputs), ...own(nodes).map(() => 0), ...bytes(kernel.stores), ...bytes(kernel.reductions)],
    ...[...epilogue.inputs, ...own(lastNodes), ...epilogue.stores].map(() => 0),
  ]
  const plain = split(axes, innermost(axes, moved))
  const loops = joinsRows ? fold(plain, (k) => k < kernel.inputs.length) : plain
  const placed = accesses.map((access, k) => place(access, loops, k))
  const take = (count: number): Placed[] => placed.splice(0, count)
  const takeNodes = (list: readonly (Access | undefined)[]): (Placed | undefined)[] =>
    list.map((access) => (access === undefined ? undefined : take(1)[0]))
  const { form, map, reduce, row, column } = loops
  return {
    form,
    map: map.map(({ extent }) => extent),
    reduce: reduce.map(({ extent }) => extent),
    row: row?.extent ?? 1,
    column: column?.extent ?? 1,
    inputs: take(kernel.inputs.length),
    nodes: takeNodes(nodes),
    stores: take(kernel.stores.length),
    reductions: take(kernel.reductions.length),
    epilogue: {
      inputs: take(epilogue.inputs.length),
      nodes: takeNodes(lastNodes),
      stores: take(epilogue.stores.length),
    },
  }
}

/** Drops axes of extent 1 and joins neighbours that every access walks over as one. */
function merge(axes: readonly Axis[]): Axis[] {
  const merged: Axis[] = []
  for (const axis of axes.filter(({ extent }) => extent !== 1)) {
    const outer = merged.at(-1)
    const joins =
      outer?.reduced === axis.reduced &&
      zip(outer.strides, axis.strides).every(([far, near]) => far === near * axis.extent)
    if (joins) merged.pop()
    merged.push(joins ? { ...axis, extent: outer.extent * axis.extent } : axis)
  }
  return merged
}

/** The axis whose lanes cost the least: bytes moved, more where they do not lie together or vectors are not filled. */
function innermost(axes: readonly Axis[], moved: readonly number[]): number {
  const cost = ({ extent, strides }: Axis): number => {
    const filled = extent / (8 * Math.ceil(extent / 8))
    return zip(strides, moved).reduce((sum, [stride, bytes]) => sum + bytes * (stride > 1 ? 8 : 1), 1) / filled
  }
  return range(axes.length).reduce((best, i) => (cost(at(axes, i)) <= cost(at(axes, best)) ? i : best), 0)
}

interface Loops {
  readonly form: Form
  readonly map: readonly Axis[]
  readonly reduce: readonly Axis[]
  readonly row: Axis | undefined
  readonly column: Axis | undefined
  /** By access; set by `fold`. */
  readonly periods?: readonly number[]
}

/** Columns that vectors fill well enough without help. */
const enoughColumns = 32
/** Columns that several short rows are joined to, at most. */
const joinedColumns = 256

/**
 * Joins short rows (pixels of three channels) to longer ones, so that vectors are full: a number of rows that divides
 * theirs becomes part of the columns. Accesses walk on from row to row, or, if `mayRepeat`, begin again with each.
 */
function fold(loops: Loops, mayRepeat: (k: number) => boolean): Loops {
  const { form, row, column } = loops
  if (form !== 'pointwise' || row === undefined || column === undefined || column.extent >= enoughColumns) return loops
  const walksOn = zip(row.strides, column.strides).map(([far, near]) => far === near * column.extent)
  if (!walksOn.every((on, k) => on || (row.strides[k] === 0 && mayRepeat(k)))) return loops
  const factors = [256, 128, 64, 32, 16, 8, 4, 2].filter(
    (f) => f * column.extent <= joinedColumns && (f * column.extent) % 8 === 0 && row.extent % f === 0,
  )
  const [factor] = factors
  if (factor === undefined) return loops
  return {
    ...loops,
    row:
      row.extent === factor
        ? undefined
        : { ...row, extent: row.extent / factor, strides: row.strides.map((stride) => stride * factor) },
    column: { ...column, extent: column.extent * factor },
    periods: walksOn.map((on, k) => (on || column.strides[k] === 0 ? 0 : column.extent)),
  }
}

function split(axes: readonly Axis[], inner: number): Loops {
  const column = axes[inner]
  const rest = axes.filter((_axis, i) => i !== inner)
  const [map, reduce] = [merge(rest.filter(({ reduced }) => !reduced)), merge(rest.filter(({ reduced }) => reduced))]
  if (column?.reduced === true) return { form: 'row', map, reduce, row: undefined, column }
  if (reduce.length > 0) return { form: 'column', map, reduce: reduce.slice(0, -1), row: reduce.at(-1), column }
  return { form: 'pointwise', map: map.slice(0, -1), reduce, row: map.at(-1), column }
}

function place(access: Access, loops: Loops, k: number): Placed {
  const stride = (axis: Axis | undefined): number => (axis === undefined ? 0 : at(axis.strides, k))
  return {
    offset: access.offset,
    map: loops.map.map(stride),
    reduce: loops.reduce.map(stride),
    row: stride(loops.row),
    column: stride(loops.column),
    period: loops.periods?.[k] ?? 0,
    split: 0,
  }
}
