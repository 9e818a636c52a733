// Prints the C that lays a band of an image out for grouped convolutions: the channels of a few groups in blocks of eight,
// each block's pixels side by side, padding written as zeros, 16-bit formats widened.
import type { Numeric } from './numeric.ts'

/** Channels of a block: one 32-byte vector of floats. */
export const blockChannels = 8

/**
 * C function `name(slab, from, height, width, channels, blocks, top, rows, left, columns)`: rows top..top+rows and columns
 * left..left+columns of the image at `from` (its first channel wanted), `rows * columns * 8` floats for each block.
 */
export function printSlab(name: string, { storage, dtype }: Numeric): string {
  return `
static __attribute__((noinline)) void ${name}(float *restrict slab, const ${storage} *restrict from, int64_t height, int64_t width, int64_t channels, int64_t blocks, int64_t top, int64_t rows, int64_t left, int64_t columns) {
  const int64_t blockPitch = rows * columns * 8;
  const int64_t low = PB_MIN(PB_MAX(0, -left), columns), high = PB_MAX(low, PB_MIN(columns, width - left));
  for (int64_t r = 0; r < rows; ++r) {
    float *row = slab + r * columns * 8;
    const int inside = top + r >= 0 && top + r < height;
    const int64_t begin = inside ? low : columns, end = inside ? high : columns;
    for (int64_t b = 0; b < blocks; ++b) {
      for (int64_t i = 0; i < begin; ++i) pb_write_f32x8(row + b * blockPitch + i * 8, pb_splat_f32x8(0));
      for (int64_t i = end; i < columns; ++i) pb_write_f32x8(row + b * blockPitch + i * 8, pb_splat_f32x8(0));
    }
    const ${storage} *line = from + (top + r) * width * channels;
    for (int64_t i = begin; i < end; ++i)
      for (int64_t b = 0; b < blocks; ++b)
        pb_write_f32x8(row + b * blockPitch + i * 8, pb_load_${dtype}(line + (left + i) * channels + b * 8));
  }
}
`
}
