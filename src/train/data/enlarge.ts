// Bilinear enlargement of 8-bit RGB pixels with pixel centres at half integers, as PIL and PyTorch define it.
// Needed because libvips enlarges on another grid (half an output pixel to the side); it shrinks correctly, and decode.ts lets it.

import type { Box, Extent } from './crop.ts'

/** For each output position: the two source positions and the weight of the second. */
interface Axis {
  readonly first: Int32Array
  readonly second: Int32Array
  readonly weight: Float64Array
}

function axis(source: number, target: number, start: number, count: number): Axis {
  const first = new Int32Array(count)
  const second = new Int32Array(count)
  const weight = new Float64Array(count)
  for (let i = 0; i < count; i++) {
    const centre = ((start + i + 0.5) * source) / target - 0.5
    const floor = Math.floor(centre)
    first[i] = Math.max(0, floor)
    second[i] = Math.min(source - 1, floor + 1)
    weight[i] = centre - floor
  }
  return { first, second, weight }
}

/**
 * Scales RGB pixels `[height, width, 3]` up to `target` and returns `window` of the result, `[h, w, 3]`.
 * Columns first, then rows, each rounded to 8 bits, as PIL does. Only what `window` needs is computed.
 */
export function enlarge(pixels: Uint8Array, extent: Extent, target: Extent, window: Box): Uint8Array {
  const columns = axis(extent.width, target.width, window.left, window.width)
  const rows = axis(extent.height, target.height, window.top, window.height)
  const firstRow = rows.first[0] ?? 0
  const rowCount = (rows.second[window.height - 1] ?? 0) - firstRow + 1
  const wide = enlargeColumns(pixels.subarray(firstRow * extent.width * 3), extent.width, rowCount, columns)
  return enlargeRows(wide, window.width * 3, rows, firstRow)
}

function enlargeColumns(pixels: Uint8Array, width: number, rowCount: number, columns: Axis): Uint8Array {
  const count = columns.weight.length
  const out = new Uint8Array(rowCount * count * 3)
  for (let row = 0, o = 0; row < rowCount; row++) {
    const base = row * width
    for (let x = 0; x < count; x++) {
      const a = (base + (columns.first[x] ?? 0)) * 3
      const b = (base + (columns.second[x] ?? 0)) * 3
      const weight = columns.weight[x] ?? 0
      for (let channel = 0; channel < 3; channel++) out[o++] = blend(pixels[a + channel], pixels[b + channel], weight)
    }
  }
  return out
}

function enlargeRows(pixels: Uint8Array, rowLength: number, rows: Axis, firstRow: number): Uint8Array {
  const count = rows.weight.length
  const out = new Uint8Array(count * rowLength)
  for (let y = 0, o = 0; y < count; y++) {
    const a = ((rows.first[y] ?? 0) - firstRow) * rowLength
    const b = ((rows.second[y] ?? 0) - firstRow) * rowLength
    const weight = rows.weight[y] ?? 0
    for (let i = 0; i < rowLength; i++) out[o++] = blend(pixels[a + i], pixels[b + i], weight)
  }
  return out
}

const blend = (a = 0, b = 0, weight: number): number => a + (b - a) * weight + 0.5
