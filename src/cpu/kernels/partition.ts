// How a product's rows, columns and reduced axis are cut into parts. Only extents decide, so the parts, and with them the
// order of every sum, are the same on every machine.
import { ceilDiv } from './launch.ts'

/** Parts a launch should have so that the cores of an ordinary machine stay busy to the end. */
const wantedParts = 32

/** Cuts `length` into equal pieces of at most `most`, each but the last a multiple of `unit`. */
export function pieces(length: number, most: number, unit: number): { readonly size: number; readonly count: number } {
  const size = Math.max(unit, ceilDiv(ceilDiv(length, ceilDiv(length, most)), unit) * unit)
  return { size, count: Math.max(1, ceilDiv(length, size)) }
}

/** Rows and columns per part of a product with packed B; columns stay wide, for every part gathers its rows of A anew. */
export function partitionRows(extents: {
  readonly outer: number
  readonly rows: number
  readonly columns: number
  readonly rowBlock: number
  readonly maxColumns: number
  readonly panel: number
}) {
  const { outer, rows, columns, rowBlock, maxColumns, panel } = extents
  let column = pieces(columns, maxColumns, panel)
  const blocks = ceilDiv(rows, rowBlock)
  const wantedRowParts = ceilDiv(wantedParts, outer * column.count)
  const row = pieces(rows, Math.max(1, Math.floor(blocks / wantedRowParts)) * rowBlock, 12)
  while (outer * row.count * column.count < wantedParts / 2 && column.size > 4 * panel) {
    column = pieces(columns, ceilDiv(column.size, 2), panel)
  }
  return { rowsPerPart: row.size, rowParts: row.count, columnsPerPart: column.size, columnParts: column.count }
}

/** Rows, columns and steps per part of a product that reduces over its operands' slow axis. */
export function partitionOuter(extents: {
  readonly outer: number
  readonly rows: number
  readonly columns: number
  readonly depth: number
  readonly maxRows: number
  readonly maxColumns: number
  readonly panel: number
}) {
  const { outer, rows, columns, depth, maxRows, maxColumns, panel } = extents
  const row = pieces(rows, maxRows, 12)
  const column = pieces(columns, maxColumns, panel)
  const wantedSplits = Math.min(ceilDiv(wantedParts / 2, outer * row.count * column.count), ceilDiv(depth, 512))
  const step = pieces(depth, ceilDiv(depth, wantedSplits), 128)
  return {
    rowsPerPart: row.size,
    rowParts: row.count,
    columnsPerPart: column.size,
    columnParts: column.count,
    depthPerPart: step.size,
    splits: step.count,
  }
}
