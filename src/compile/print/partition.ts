// How the C dialect cuts a nest into tiles and parts: from extents alone, so that the bits do not depend on the machine.
import { sizeOf } from '../../tensor/shape.ts'
import type { Nest } from './nest.ts'

/** Elements that one part should at least have, so that sharing it out is worth the while. */
const partElements = 16384
/** The most parts that a reduction is cut into. */
const mostParts = 64
/** Columns that have accumulators or buffered values in the first-level cache. */
export const cachedColumns = 512
/** Columns of a tile whose rows lie together in memory: so many cache lines are read again for each row. */
const transposedColumns = 16
/**
 * Rows summed in one go before their sum is added to the total: keeps f32 sums accurate. A sum of n terms of one sign
 * drifts by about sqrt(n) / 4 roundings; blocks of half as many rows gain little more and take longer.
 */
const blockRows = 32
/** Columns summed in one go where lanes lie along a reduced axis. */
const blockColumns = 4096

/**
 * A group is a tile of a pointwise nest, or all results that one set of accumulators holds; units are the blocks that are
 * reduced into it, shared among `splits` parts whose partial results are combined afterwards.
 */
export interface Partition {
  readonly rowChunk: number
  readonly columnChunk: number
  readonly rowChunks: number
  readonly columnChunks: number
  readonly groups: number
  readonly groupsPerPart: number
  readonly units: number
  readonly unitsPerSplit: number
  readonly splits: number
  readonly parts: number
}

/** The partition of a nest, whose sums `most` parts share at most; `cached`: whether columns have buffers or accumulators. */
export function partition(nest: Nest, cached: boolean, most: number = mostParts): Partition {
  const outer = sizeOf(nest.map)
  if (nest.form === 'pointwise') {
    const columnChunk = even(nest.column, cached ? cachedColumns : transposes(nest) ? transposedColumns : partElements)
    const rowChunk = Math.min(nest.row, Math.max(1, Math.floor(partElements / columnChunk)))
    const [rowChunks, columnChunks] = [Math.ceil(nest.row / rowChunk), Math.ceil(nest.column / columnChunk)]
    const groups = outer * rowChunks * columnChunks
    const groupsPerPart = Math.max(1, Math.floor(partElements / (rowChunk * columnChunk)))
    return finish({ rowChunk, columnChunk, rowChunks, columnChunks, groups, groupsPerPart, units: 1, unitsPerSplit: 1 })
  }
  const inColumns = nest.form === 'column'
  const columnChunk = even(nest.column, inColumns ? cachedColumns : blockColumns)
  const rowChunk = even(nest.row, blockRows, 1)
  const [rowChunks, columnChunks] = [Math.ceil(nest.row / rowChunk), Math.ceil(nest.column / columnChunk)]
  const groups = outer * (inColumns ? columnChunks : 1)
  const units = sizeOf(nest.reduce) * (inColumns ? rowChunks : columnChunks)
  const wanted = Math.max(
    1,
    Math.min(mostParts, Math.floor((outer * sizeOf(nest.reduce) * nest.row * nest.column) / partElements)),
  )
  const unitsPerSplit = Math.ceil(units / Math.max(1, Math.min(units, most, Math.ceil(wanted / groups))))
  const groupsPerPart = Math.max(1, Math.floor(groups / wanted))
  return finish({ rowChunk, columnChunk, rowChunks, columnChunks, groups, groupsPerPart, units, unitsPerSplit })
}

function transposes({ inputs, stores }: Nest): boolean {
  return [...inputs, ...stores].some(({ row, column }) => row === 1 && column > 1)
}

function finish(cut: Omit<Partition, 'splits' | 'parts'>): Partition {
  const splits = Math.ceil(cut.units / cut.unitsPerSplit)
  return { ...cut, splits, parts: Math.ceil(cut.groups / cut.groupsPerPart) * splits }
}

/** Chunks of about equal size, at most `most`, a multiple of `step`. */
function even(extent: number, most: number, step = 8): number {
  const chunks = Math.ceil(extent / most)
  return Math.min(most, Math.ceil(Math.ceil(extent / chunks) / step) * step)
}
