// The filter gradient of the grouped convolutions of grouped.ts: for each unit of channels, bands of the input and of the
// cotangent lie in L1 as slabs, and 4 output channels x 3 taps x 8 input channels stay in registers over all their pixels.
import type { FloatDType } from '../../tensor/dtype.ts'
import type { ConvExtents } from './geometry.ts'
import { blocksPerUnit, isSquareGrouped } from './grouped.ts'
import {
  type KernelSource,
  type Launch,
  type Lowered,
  Scratch,
  ceilDiv,
  listArguments,
  operand,
  printArguments,
} from './launch.ts'
import { numericOf } from './numeric.ts'
import { lowerSum } from './pack.ts'
import { blockChannels, printSlab } from './slab.ts'

/** Floats of the slabs and of the unit's filter that fit, and of both slabs together that are preferred. */
const inputLimit = 12288
const cotangentLimit = 8192
const filterLimit = 9216
const slabsAim = 8192

const filterArguments = [
  ...(['batch', 'height', 'width', 'channels', 'outHeight', 'outWidth', 'strideY', 'strideX'] as const),
  ...(['kernelHeight', 'kernelWidth', 'dilationY', 'dilationX', 'padY', 'padX', 'blocks', 'units'] as const),
  ...(['rowsPerSlab', 'slabColumns', 'imagesPerSplit', 'splits', 'partial'] as const),
] as const

type Kind = 'four' | 'eights'

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index)
}

/** Adds the products of a slab's pixels to `taps` adjacent taps x 4 output channels x 8 input channels. */
function printTaps(name: string, kind: Kind, taps: number): string {
  const cells = range(taps).flatMap((t) => range(4).map((j) => `c${t}_${j}`))
  const value = (j: number) => (kind === 'four' ? `pb_spread4(pb_read_f32x8(d), ${j})` : `pb_splat_f32x8(d[${j}])`)
  return `
static __attribute__((noinline)) void ${name}_${taps}(const float *restrict x, const float *restrict d, float *restrict to, int64_t rows, int64_t columns, int64_t xRow, int64_t xStep, int64_t tapStep) {
  pb_f32x8 ${cells.map((cell, i) => `${cell} = pb_read_f32x8(to + ${i * 8})`).join(', ')};
  (void)tapStep;
  for (int64_t i = 0; i < rows; ++i, x += xRow) {
    const float *at = x;
    for (int64_t j = 0; j < columns; ++j, at += xStep, d += 8) {
      pb_f32x8 ${range(taps)
        .map((t) => `x${t} = pb_read_f32x8(at + ${t} * tapStep)`)
        .join(', ')};
      ${range(taps)
        .map((t) => `PB_KEEP(x${t});`)
        .join(' ')}
      pb_f32x8 v;
      ${range(4)
        .map(
          (j) =>
            `v = ${value(j)}; ${range(taps)
              .map((t) => `c${t}_${j} = pb_fma_f32x8(v, x${t}, c${t}_${j});`)
              .join(' ')}`,
        )
        .join('\n      ')}
    }
  }
  ${cells.map((cell, i) => `pb_write_f32x8(to + ${i * 8}, ${cell});`).join(' ')}
}
`
}

/** Writes the unit's sums, kept as [output quad][input block][tap][4][8], to the filter's layout. */
function printWrite(name: string, kind: Kind, dtype: FloatDType): string {
  const { storage } = numericOf(dtype)
  const wide = `
    const int64_t quad = i / 32 / taps / blocks, block = i / 32 / taps % blocks, tap = i / 32 % taps, j = i / 8 % 4;
    const int64_t at = (((unit * blocks * 8 + quad * 4 + j) * taps + tap) * blocks + block) * 8;
    if (splits > 1) pb_write_f32x8((float *)p[2] + split * partial + at, pb_read_f32x8(sums + i));
    else pb_store_${dtype}((${storage} *)p[2] + at, pb_read_f32x8(sums + i));`
  const narrow = `
    const int64_t tap = i / 32, j = i / 8 % 4;
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t at = ((unit * 8 + half * 4 + j) * taps + tap) * 4;
      if (splits > 1) memcpy((float *)p[2] + split * partial + at, sums + i + half * 4, 16);
      else pb_narrow_${dtype}((${storage} *)p[2] + at, sums + i + half * 4, 4);
    }`
  return `
static void ${name}_write(void *const *p, const int64_t *n, const float *sums, int64_t unit, int64_t split) {
  ${printArguments(filterArguments)}
  const int64_t taps = kernelHeight * kernelWidth, count = ${kind === 'four' ? 'taps * 32' : 'blocks * blocks * 2 * taps * 32'};
  for (int64_t i = 0; i < count; i += 8) {${kind === 'four' ? narrow : wide}
  }
}
`
}

function printFilter(kind: Kind, dtype: FloatDType): KernelSource {
  const numeric = numericOf(dtype)
  const { storage } = numeric
  const name = `pb_grouped_filter_${kind}_${dtype}`
  const text = `${printSlab(`${name}_slab`, numeric)}${[1, 2, 3].map((taps) => printTaps(name, kind, taps)).join('')}${printWrite(name, kind, dtype)}
static void ${name}_band(const float *x, const float *d, float *sums, const int64_t *n, int64_t rows, int64_t slabRows) {
  ${printArguments(filterArguments)}
  const int64_t taps = kernelHeight * kernelWidth, xPitch = slabRows * slabColumns * 8, dPitch = rows * outWidth * 8;
  for (int64_t quad = 0; quad < ${kind === 'four' ? '1' : 'blocks * 2'}; ++quad)
    for (int64_t b = 0; b < blocks; ++b)
      for (int64_t ky = 0; ky < kernelHeight; ++ky)
        for (int64_t kx = 0; kx < kernelWidth; kx += 3) {
          const float *from = x + b * xPitch + (ky * dilationY * slabColumns + kx * dilationX) * 8, *over = d + quad / 2 * dPitch + quad % 2 * 4;
          float *to = sums + ((quad * blocks + b) * taps + ky * kernelWidth + kx) * 32;
          const int64_t xRow = strideY * slabColumns * 8, left = kernelWidth - kx;
          if (left >= 3) ${name}_3(from, over, to, rows, outWidth, xRow, strideX * 8, dilationX * 8);
          else if (left == 2) ${name}_2(from, over, to, rows, outWidth, xRow, strideX * 8, dilationX * 8);
          else ${name}_1(from, over, to, rows, outWidth, xRow, strideX * 8, dilationX * 8);
        }
}
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(filterArguments)}
  const int64_t unit = part % units, split = part / units, spanY = (kernelHeight - 1) * dilationY + 1;
  float x[${inputLimit}] __attribute__((aligned(64))), d[${cotangentLimit}] __attribute__((aligned(64))), sums[${filterLimit}] __attribute__((aligned(64)));
  memset(sums, 0, sizeof(sums));
  for (int64_t image = split * imagesPerSplit; image < PB_MIN(batch, (split + 1) * imagesPerSplit); ++image) {
    const ${storage} *input = (const ${storage} *)p[0] + image * height * width * channels + unit * blocks * 8;
    const ${storage} *cotangent = (const ${storage} *)p[1] + image * outHeight * outWidth * channels + unit * blocks * 8;
    for (int64_t row = 0; row < outHeight; row += rowsPerSlab) {
      const int64_t rows = PB_MIN(rowsPerSlab, outHeight - row), slabRows = (rows - 1) * strideY + spanY;
      ${name}_slab(x, input, height, width, channels, blocks, row * strideY - padY, slabRows, -padX, slabColumns);
      ${name}_slab(d, cotangent, outHeight, outWidth, channels, blocks, row, rows, 0, outWidth);
      ${name}_band(x, d, sums, n, rows, slabRows);
    }
  }
  ${name}_write(p, n, sums, unit, split);
}
`
  return { name, text }
}

/** Output rows whose slabs fit (L1 if they can), or undefined where not even one row's do. */
function planRows(conv: ConvExtents, slabColumns: number): number | undefined {
  const perRow = blocksPerUnit(conv) * blockChannels
  const inputFloats = (rows: number) =>
    ((rows - 1) * conv.stride[0] + (conv.kernelHeight - 1) * conv.dilation[0] + 1) * slabColumns * perRow
  const cotangentFloats = (rows: number) => rows * conv.outWidth * perRow
  if (inputFloats(1) > inputLimit || cotangentFloats(1) > cotangentLimit) return undefined
  let rows = 1
  while (rows < conv.outHeight && inputFloats(rows + 1) + cotangentFloats(rows + 1) <= slabsAim) rows++
  return ceilDiv(conv.outHeight, ceilDiv(conv.outHeight, rows))
}

/** The cotangent of the filter for square groups; operands x, dy, dw. Undefined where the shape is none of this kernel's. */
export function lowerGroupedFilterGrad(conv: ConvExtents): Lowered | undefined {
  if (!isSquareGrouped(conv)) return undefined
  const { dtype, batch, channels, groups, kernelHeight, kernelWidth, stride, padding, dilation } = conv
  const perGroup = channels / groups
  const slabColumns = (conv.outWidth - 1) * stride[1] + (kernelWidth - 1) * dilation[1] + 1
  const rowsPerSlab = planRows(conv, slabColumns)
  const blocks = blocksPerUnit(conv)
  const total = channels * kernelHeight * kernelWidth * perGroup
  const units = channels / (blocks * blockChannels)
  if (rowsPerSlab === undefined || total / units > filterLimit) return undefined
  const imagesPerSplit = ceilDiv(batch, Math.min(batch, ceilDiv(32, units)))
  const splits = ceilDiv(batch, imagesPerSplit)
  const scratch = new Scratch()
  const result = splits > 1 ? scratch.take(splits * total * 4) : operand(2)
  const numbers = listArguments(filterArguments, {
    ...{ batch, height: conv.height, width: conv.width, channels, outHeight: conv.outHeight, outWidth: conv.outWidth },
    ...{
      strideY: stride[0],
      strideX: stride[1],
      kernelHeight,
      kernelWidth,
      dilationY: dilation[0],
      dilationX: dilation[1],
    },
    ...{ padY: padding[0][0], padX: padding[1][0], blocks, units },
    ...{ rowsPerSlab, slabColumns, imagesPerSplit, splits, partial: total },
  })
  const launches: Launch[] = [
    {
      source: printFilter(perGroup === 4 ? 'four' : 'eights', dtype),
      parts: units * splits,
      pointers: [operand(0), operand(1), result],
      numbers,
    },
  ]
  if (splits > 1) launches.push(lowerSum(dtype, { count: total, splits }, result, operand(2)))
  return { launches, scratchBytes: scratch.bytes }
}
