// Lowers batched matrix products of row-major operands, each of which may be transposed.
import type { DotExtents } from '../../compile/index.ts'
import type { GatherArguments } from './gather.ts'
import { lowerDirectDot } from './direct.ts'
import { type Launch, type Lowered, type PointerRef, Scratch, listArguments, operand } from './launch.ts'
import { numericOf } from './numeric.ts'
import { maxOuterColumns, outerArguments, outerRows, printOuter } from './outer.ts'
import { type PackLayout, lowerPack, lowerSum, lowerTranspose, packedElements } from './pack.ts'
import { partitionOuter, partitionRows } from './partition.ts'
import { maxColumns, printRows, rowBlock, rowsArguments } from './rows.ts'

export type { DotExtents }

/** A matrix as an image of one pixel column: row r's elements are the channels of pixel (r, 0). */
function matrixGather(rows: number, columns: number): GatherArguments {
  return {
    ...{ gridHeight: rows, gridWidth: 1, strideY: 1, strideX: 1, height: rows, width: 1 },
    ...{ pixel: columns, segment: Math.max(1, columns), span: 1 },
  }
}

function lowerOuterDot({ dtype, batch, m, n, k }: DotExtents): Lowered {
  const numeric = numericOf(dtype)
  const scratch = new Scratch()
  const parts = partitionOuter({
    ...{ outer: batch, rows: m, columns: n, depth: k },
    ...{ maxRows: outerRows, maxColumns: maxOuterColumns(numeric), panel: numeric.panel },
  })
  const total = batch * m * n
  const numbers = listArguments(outerArguments, {
    ...matrixGather(k, n),
    ...parts,
    ...{ rows: m, columns: n, depth: k, leftPitch: m, leftOuter: k * m, rightOuter: k * n },
    ...{ outputOuter: m * n, outputPitch: n, partial: total },
  })
  const split = parts.splits > 1
  const result = split ? scratch.take(parts.splits * total * numeric.computeBytes) : operand(2)
  const launches: Launch[] = [
    {
      source: printOuter(dtype),
      parts: batch * parts.rowParts * parts.columnParts * parts.splits,
      pointers: [operand(0), operand(1), result],
      numbers: [...numbers, 0, 0],
    },
  ]
  if (split) launches.push(lowerSum(dtype, { count: total, splits: parts.splits }, result, operand(2)))
  return { launches, scratchBytes: scratch.bytes }
}

function lowerRowsDot(dot: DotExtents): Lowered {
  const { dtype, batch, m, n, k, transposeA, transposeB } = dot
  const numeric = numericOf(dtype)
  const scratch = new Scratch()
  const layout: PackLayout = {
    ...{ outer: batch, columns: n, group: n, taps: [0], depth: k, outerPitch: n * k, groupPitch: 0, tapPitch: 0 },
    ...(transposeB ? { columnPitch: k, depthPitch: 1 } : { columnPitch: 1, depthPitch: n }),
    panel: numeric.panel,
  }
  const packed = scratch.take(packedElements(layout) * numeric.computeBytes)
  const launches: Launch[] = [lowerPack(dtype, layout, operand(1), packed)]
  let source: PointerRef = operand(0)
  if (transposeA) {
    source = scratch.take(batch * m * k * numeric.storageBytes)
    launches.push(lowerTranspose(dtype, { batch, rows: k, columns: m }, operand(0), source))
  }
  const parts = partitionRows({
    outer: batch,
    rows: m,
    columns: n,
    rowBlock,
    maxColumns: maxColumns(numeric),
    panel: numeric.panel,
  })
  const numbers = listArguments(rowsArguments, {
    ...matrixGather(m, k),
    ...parts,
    ...{ rows: m, columns: n, depth: k, sourceOuter: m * k, weightOuter: packedElements(layout) / batch },
    ...{ weightPanel: k * numeric.panel, weightOrigin: 0, outputOuter: m * n, outputOrigin: 0 },
    ...{ imagePitch: 0, rowPitch: n, pixelPitch: 0 },
  })
  launches.push({
    source: printRows(dtype),
    parts: batch * parts.rowParts * parts.columnParts,
    pointers: [source, packed, operand(2)],
    numbers: [...numbers, 0, 0],
  })
  return { launches, scratchBytes: scratch.bytes }
}

/**
 * Lowers a batched matrix product of contiguous row-major operands A, B into C (operands 0, 1, 2).
 *
 * 16-bit types accumulate in f32 and are rounded once. An empty reduced axis gives zeros.
 */
export function lowerDot(dot: DotExtents): Lowered {
  const { dtype, batch, m, n, k, transposeA, transposeB } = dot
  if (batch * m * n === 0) return { launches: [], scratchBytes: 0 }
  if (m * n * k <= 16384) {
    return lowerDirectDot(dtype, {
      ...{ batch, rows: m, columns: n, depth: k },
      ...(transposeA ? { leftRow: 1, leftDepth: m } : { leftRow: k, leftDepth: 1 }),
      ...(transposeB ? { rightDepth: 1, rightColumn: k } : { rightDepth: n, rightColumn: 1 }),
    })
  }
  return transposeA && !transposeB ? lowerOuterDot(dot) : lowerRowsDot(dot)
}
