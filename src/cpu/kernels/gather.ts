// Prints the C that reads pixels of an image (or rows of a matrix) into a dense block of the compute type: im2col on
// the fly, block by block, with zeros for padding and the 16-bit formats widened. Used by rows.ts and outer.ts.
import type { Numeric } from './numeric.ts'

/**
 * The int64 arguments that describe a gather. A "row" is a pixel of a grid (images x gridHeight x gridWidth); its
 * "depth" is a list of segments, each `segment` elements that lie side by side in the source and span `span` pixels.
 * Segment s of the pixel (y, x) begins at source pixel (y * strideY + table[2 s], x * strideX + table[2 s + 1]).
 */
export const gatherArguments = [
  'gridHeight',
  'gridWidth',
  'strideY',
  'strideX',
  'height',
  'width',
  'pixel',
  'segment',
  'span',
] as const

export type GatherArguments = Readonly<Record<(typeof gatherArguments)[number], number>>

/** Rows that are fetched ahead: rows are far apart, where the hardware does not foresee them. */
const ahead = 4

/**
 * C function `name(to, from, n, table, row, count, start, depth)`: elements start..start+depth of `count` rows, each row
 * at `pitch` elements in `to`. `n` points at the gather's arguments.
 */
export function printGather(name: string, numeric: Numeric, pitch: number): string {
  const { storage, compute, dtype } = numeric
  return `
static __attribute__((noinline)) void ${name}(${compute} *restrict to, const ${storage} *restrict from, const int64_t *n, const int64_t *table, int64_t row, int64_t count, int64_t start, int64_t depth) {
  ${gatherArguments.map((argument, index) => `const int64_t ${argument} = n[${index}];`).join(' ')}
  int64_t x = row % gridWidth, y = row / gridWidth % gridHeight, image = row / gridWidth / gridHeight;
  for (int64_t r = 0; r < count; ++r, to += ${pitch}) {
    int64_t s = start / segment, begin = start % segment;
    for (int64_t done = 0; done < depth; ++s, begin = 0) {
      const int64_t end = PB_MIN(segment, begin + depth - done);
      const int64_t sy = y * strideY + table[2 * s], sx = x * strideX + table[2 * s + 1];
      int64_t low = 0, high = segment;
      if (sy < 0 || sy >= height || sx + span <= 0 || sx >= width) low = high = 0;
      else if (span > 1) {
        low = PB_MAX(0, -sx) * pixel;
        high = PB_MIN(span, width - sx) * pixel;
      }
      low = PB_MIN(PB_MAX(low, begin), end);
      high = PB_MAX(PB_MIN(high, end), low);
      ${compute} *out = to + done - begin;
      const ${storage} *at = from + ((image * height + sy) * width + sx) * pixel;
      for (int64_t i = low; i < high; i += ${64 / numeric.storageBytes}) __builtin_prefetch(at + ${ahead} * strideX * pixel + i);
      for (int64_t i = begin; i < low; ++i) out[i] = 0;
      pb_widen_${dtype}(out + low, at + low, high - low);
      for (int64_t i = high; i < end; ++i) out[i] = 0;
      done += end - begin;
    }
    if (++x == gridWidth) { x = 0; if (++y == gridHeight) { y = 0; ++image; } }
  }
}
`
}
