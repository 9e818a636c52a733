// Matrix products of any floating type as tiled products.
import type { DotExtents } from '../../compile/index.ts'
import type { Lowered } from '../work.ts'
import { indexFor, nothing } from './launch.ts'
import { type Side, lowerProduct, tileOf } from './products.ts'

/**
 * Lowers a batched matrix product; operands A, B, C. Sums are fused multiply-adds in f32 (f64 for f64), in an order that
 * extents alone decide, and rounded once. An empty sum is zero.
 */
export function lowerPlainDot({ dtype, batch, m, n, k, transposeA, transposeB }: DotExtents): Lowered {
  if (batch * m * n === 0) return nothing
  return lowerProduct({
    name: `dot${transposeA ? 'T' : 'N'}${transposeB ? 'T' : 'N'}`,
    dtype,
    index: indexFor(batch * m * k, batch * n * k, batch * m * n, batch, k),
    tile: tileOf(dtype, m, n),
    ...{ outers: batch, rows: m, columns: n, depth: k, total: batch * m * n },
    left: matrix(0, 'rows', !transposeA, transposeA ? m : k),
    right: matrix(1, 'columns', transposeB, transposeB ? k : n),
    setup: '',
    result: '(outer * rows + r) * columns',
    numbers: { rows: m, depth: k },
  })
}

/** A batch of dense matrices, [row, depth] if deep, else [depth, row]; `inner` is the extent that lies together. */
function matrix(operand: 0 | 1, rows: 'rows' | 'columns', deep: boolean, inner: number): Side {
  return {
    operand,
    deep,
    wide: inner % 4 === 0,
    place: `
    if (r >= ${rows} || d >= end) return false;
    from = ${deep ? `(outer * ${rows} + r) * depth + d` : `(outer * depth + d) * ${rows} + r`};
    return true;`,
  }
}
