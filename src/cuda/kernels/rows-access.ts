// A pointwise kernel's loops as rows and columns: where each access is for row r and column c. Kernels whose loops cannot be
// cut so are refused; what is done with the accesses is rows-plan.ts's part and rows-map.ts's.
import type { Access, Kernel } from '../../compile/index.ts'
import { at, range, sizeOf, zip } from '../../tensor/shape.ts'

/** An access at offset + r row + c column, in elements. */
export interface RowAccess {
  readonly offset: number
  readonly row: number
  readonly column: number
}

/** A kernel's accesses by rows and columns. */
export interface RowAccesses {
  readonly columns: number
  readonly inputs: readonly RowAccess[]
  /** By node; undefined for nodes without an access of their own. */
  readonly nodes: readonly (RowAccess | undefined)[]
  readonly stores: readonly RowAccess[]
  /** Whether an access walks over a dense [rows, columns] from its beginning. */
  isDense(access: RowAccess): boolean
}

/** A part of a loop's axis: its index times `step` is part of the axis' index. */
interface Digit {
  readonly axis: number
  readonly extent: number
  readonly step: number
}

/** The accesses of a kernel over `rows` rows; undefined where it has reductions, or its loops are not rows and then columns. */
export function rowAccesses(kernel: Kernel, rows: number): RowAccesses | undefined {
  const { axes, reductions, epilogue } = kernel
  const columns = sizeOf(axes.map(({ extent }) => extent)) / rows
  const cut = cutAxes(kernel, rows)
  if (reductions.length > 0 || epilogue !== undefined || cut === undefined) return undefined
  const walk = (access: Access): RowAccess | undefined => {
    const [row, column] = [strideOf(access, cut.rows), strideOf(access, cut.columns)]
    return row === undefined || column === undefined ? undefined : { offset: access.offset, row, column }
  }
  const [inputs, stores] = [kernel.inputs.map(walk), kernel.stores.map(walk)]
  const nodes = kernel.nodes.map((node) => ('access' in node ? walk(node.access) : undefined))
  const walks = zip(kernel.nodes, nodes).every(([node, access]) => !('access' in node) || access !== undefined)
  if (!areAll(inputs) || !areAll(stores) || !walks) return undefined
  const isDense = ({ offset, row, column }: RowAccess): boolean =>
    offset === 0 && (rows === 1 || row === columns) && (columns === 1 || column === 1)
  return { columns, inputs, nodes, stores, isDense }
}

/** Whether none is missing. */
export function areAll<T>(list: readonly (T | undefined)[]): list is readonly T[] {
  return list.every((item) => item !== undefined)
}

/** The axes that are rows, outermost first, and those that are columns; one axis may be both. */
function cutAxes({ axes }: Kernel, rows: number): Record<'rows' | 'columns', readonly Digit[]> | undefined {
  const digits = { rows: [] as Digit[], columns: [] as Digit[] }
  let left = rows
  for (const axis of range(axes.length)) {
    const { extent, role } = at(axes, axis)
    if (extent === 0 || (role === 'reduce' && extent > 1)) return undefined
    if (extent === 1) continue
    if (left % extent === 0) digits.rows.push({ axis, extent, step: 1 })
    else if (extent % left === 0) {
      if (left > 1) digits.rows.push({ axis, extent: left, step: extent / left })
      digits.columns.push({ axis, extent: extent / left, step: 1 })
    } else return undefined
    left = Math.max(1, left / extent)
  }
  return left === 1 ? digits : undefined
}

/** The one stride with which an access walks over all digits; undefined where there is none. */
function strideOf({ strides }: Access, digits: readonly Digit[]): number | undefined {
  const steps = digits.map(({ axis, step }) => at(strides, axis) * step)
  const joins = range(Math.max(0, steps.length - 1)).every(
    (i) => at(steps, i) === at(steps, i + 1) * at(digits, i + 1).extent,
  )
  return joins ? (steps.at(-1) ?? 0) : undefined
}
