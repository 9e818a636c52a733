// Tiled products on the GPU's ordinary arithmetic: blocks of 256 threads, four by four sums a thread, the sides of a tile in
// shared memory. What lies where in the operands is said by the sides, which dot.ts and conv*.ts write.
import { type FloatDType, accumulationType } from '../../tensor/dtype.ts'
import type { Lowered } from '../work.ts'
import { type Index, ceilDiv, launchOf, operand, printDigits, scratch } from './launch.ts'
import { addPartials, partialBytes, sharesOf } from './partials.ts'

/** One operand of a product, as rows (for the right one: columns) by depth. */
export interface Side {
  /** Which of the step's operands it is. */
  readonly operand: 0 | 1
  /** Whether its elements lie together along the depth, or else along the rows. */
  readonly deep: boolean
  /** Whether four neighbours from a multiple of four on are inside together and lie on a multiple of four. */
  readonly wide: boolean
  /** Statements that set `from` to the place of row `r` at depth `d`, and return false where there is no element. */
  readonly place: string
}

/** result[outer, row, column] = sum over depth of left[outer, row, depth] right[outer, column, depth]. */
export interface Product {
  readonly name: string
  readonly dtype: FloatDType
  readonly outers: number
  readonly rows: number
  readonly columns: number
  readonly depth: number
  readonly left: Side
  readonly right: Side
  /**
   * Statements that run before the loop, where `outer`, `firstRow` and `firstColumn` are known. They define `rows` and
   * `depth` where those depend on `outer` (and the extents above are the largest), else `numbers` do.
   */
  readonly setup: string
  /** The place of the result in row `r`, column 0. */
  readonly result: string
  /** Elements of the result. */
  readonly total: number
  readonly numbers: Readonly<Record<string, number>>
  /** Wide enough for the sizes of operands and result, and for extents with their padding. */
  readonly index: Index
  readonly tile: Tile
}

/** Rows and columns of a block's part of the result. */
export interface Tile {
  readonly rows: number
  readonly columns: number
}

const squareTile: Tile = { rows: 64, columns: 64 }
const tiles: readonly Tile[] = [squareTile, { rows: 256, columns: 16 }, { rows: 16, columns: 256 }]
/** Depth of a tile. */
const tileDepth = 16
/** Products that an f32 sum takes before it is added to its total, so that it stays accurate. */
const run = 256

/** The tile that wastes the least at the edges of a result; the long sides of the others take too many registers in f64. */
export function tileOf(dtype: FloatDType, rows: number, columns: number): Tile {
  if (dtype === 'f64') return squareTile
  const covered = (tile: Tile): number => ceilDiv(rows, tile.rows) * ceilDiv(columns, tile.columns)
  return tiles.reduce((best, tile) => (covered(tile) < covered(best) ? tile : best))
}

/**
 * The launches of a product, into operand 2: one, or where its blocks are few and deep, shares of the
 * depth and their sum.
 */
export function lowerProduct(product: Product): Lowered {
  const { dtype, index, tile, outers, rows, columns, depth, total } = product
  const [rowTiles, columnTiles] = [ceilDiv(rows, tile.rows), ceilDiv(columns, tile.columns)]
  const blocks = outers * rowTiles * columnTiles
  const shares = sharesOf(depth, blocks, tileDepth, run)
  const split = shares.count > 1
  const multiply = launchOf({
    name: `${product.name}_${dtype}`,
    index,
    blocks: blocks * shares.count,
    pointers: [operand(product.left.operand), operand(product.right.operand), split ? scratch(0) : operand(2)],
    numbers: { ...product.numbers, columns, rowTiles, columnTiles, outers, share: shares.size, elements: total },
    body: printProduct(product, split ? accumulationType(dtype) : dtype),
  })
  const works = split ? [multiply, addPartials(dtype, total, shares, 2)] : [multiply]
  return { works, scratchBytes: partialBytes(dtype, total, shares) }
}

function printProduct(product: Product, result: FloatDType): string {
  const { dtype, index, tile, left, right } = product
  const t = `pb_${dtype}`
  const extents = { columnTile: 'columnTiles', rowTile: 'rowTiles', outer: 'outers' }
  const inRuns = dtype !== 'f64'
  const fetch = (depth: string): string =>
    `${printFetch(product, 'left', depth)}\n      ${printFetch(product, 'right', depth)}`
  return `
  PB_SHARED pb_quad<${t}::value> left[pb_side<${tile.rows}>::quads], right[pb_side<${tile.columns}>::quads];
  ${printDigits(index, `(${index})pb_block()`, extents, 'split')}
  const ${index} firstRow = rowTile * ${tile.rows}, firstColumn = columnTile * ${tile.columns};
  ${product.setup.trim()}
  const ${index} first = split * share, end = PB_MIN(depth, first + share);
  const auto leftPlace = [&](${index} r, ${index} d, ${index} &from) {
    ${left.place.trim()}
  };
  const auto rightPlace = [&](${index} r, ${index} d, ${index} &from) {
    ${right.place.trim()}
  };
  ${t}::value leftRun[4 * pb_side<${tile.rows}>::runs], rightRun[4 * pb_side<${tile.columns}>::runs];
  ${t}::value sums[16] = {0}${inRuns ? ', totals[16] = {0}' : ''};
  if (first < end) {
      ${fetch('first')}
  }
  for (${index} at = first; at < end; at += ${tileDepth}) {
    pb_barrier();
    pb_stage<${tile.rows}, ${left.deep}>(left, leftRun);
    pb_stage<${tile.columns}, ${right.deep}>(right, rightRun);
    pb_barrier();
    if (at + ${tileDepth} < end) {
      ${fetch(`at + ${tileDepth}`)}
    }
    pb_multiply<${tile.rows}, ${tile.columns}>(left, right, sums);
    ${inRuns ? `if ((at - first) % ${run} == ${run - tileDepth}) pb_flush(totals, sums);` : ''}
  }
  ${inRuns ? 'pb_flush(totals, sums);' : ''}
  ${printResult(product, result)}`
}

function printFetch({ dtype, tile, left, right }: Product, which: 'left' | 'right', depth: string): string {
  const [side, extent, p, first] =
    which === 'left' ? ([left, tile.rows, 0, 'firstRow'] as const) : ([right, tile.columns, 1, 'firstColumn'] as const)
  const types = `pb_${dtype}, ${extent}, ${side.deep}, ${side.wide}`
  return `pb_fetch<${types}>(a.p[${p}], ${first}, ${depth}, ${which}Run, ${which}Place);`
}

/** Writes the sums of this thread, to the operand or to its share of the partial results. */
function printResult({ dtype, index, tile, columns, result: place }: Product, result: FloatDType): string {
  const t = `pb_${result}`
  const sums = dtype === 'f64' ? 'sums' : 'totals'
  const store =
    columns % 4 === 0
      ? `pb_store<${t}, 4>(to, ${sums} + 4 * m);`
      : `PB_UNROLL
      for (int k = 0; k < 4; ++k)
        if (c + k < columns) pb_put<${t}>(to + k, ${sums}[4 * m + k]);`
  return `const ${index} c = firstColumn + (${index})pb_thread() % ${tile.columns / 4} * 4;
  PB_UNROLL
  for (int m = 0; m < 4; ++m) {
    const ${index} r = firstRow + (${index})pb_thread() / ${tile.columns / 4} * 4 + m;
    if (r < rows && c < columns) {
      ${t}::bits *const to = (${t}::bits *)a.p[2] + (split * elements + ${place} + c);
      ${store}
    }
  }`
}
