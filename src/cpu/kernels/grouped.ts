// Grouped convolutions with as many channels out as in per group (4, or a multiple of 8), as ResNeXt has: forward and
// input gradient. A band of the image lies in L1 as a slab; a row of pixels x 8 channels stays in registers over all taps.
// 4-channel groups go two to a vector. Filter gradients are grouped-filter.ts's, other shapes dense.ts's.
import type { FloatDType } from '../../tensor/dtype.ts'
import { type ConvExtents, type Tap, forwardTaps, inputPhases } from './geometry.ts'
import {
  type KernelSource,
  type Launch,
  type Lowered,
  type PointerRef,
  Scratch,
  ceilDiv,
  listArguments,
  operand,
  printArguments,
} from './launch.ts'
import { numericOf } from './numeric.ts'
import { type PackLayout, lowerPack, packedElements } from './pack.ts'
import { blockChannels, printSlab } from './slab.ts'

/** Floats of a slab that fit (64 KB), and that are preferred (so that it stays in L1). */
const slabLimit = 16384
const slabAim = 8192

/** Pixels a register tile may have; twelve or more hide the latency of the multiply-adds. */
const tilePixels = [14, 8, 7, 4, 2, 1] as const

/** Whether this file (and grouped-filter.ts) can lower the convolution, as far as its groups are concerned. */
export function isSquareGrouped(conv: ConvExtents): boolean {
  const { dtype, channels, outChannels, groups } = conv
  const perGroup = channels / groups
  return (
    dtype !== 'f64' &&
    channels === outChannels &&
    channels % blockChannels === 0 &&
    (perGroup === 4 || perGroup % blockChannels === 0)
  )
}

/** Blocks of 8 channels that belong together: the group, or two groups of 4. */
export function blocksPerUnit(conv: ConvExtents): number {
  return Math.max(1, conv.channels / conv.groups / blockChannels)
}

const groupedArguments = [
  ...(['height', 'width', 'channels', 'gridHeight', 'gridWidth', 'strideY', 'strideX'] as const),
  ...(['blocks', 'units', 'taps', 'weightPanel', 'weightOrigin'] as const),
  ...(['outputOrigin', 'imagePitch', 'rowPitch', 'pixelPitch'] as const),
  ...(['originY', 'originX', 'spanY', 'slabColumns', 'tile', 'rowsPerPart', 'unitsPerPart', 'rowParts', 'unitParts'] as const),
] as const

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index)
}

type Kind = 'four' | 'eights'

/** `pixels` pixels of a row x one block of output channels: taps, then the unit's input channels. */
function printTile(name: string, kind: Kind, dtype: FloatDType, pixels: number, stride: number): string {
  const { storage } = numericOf(dtype)
  const rows = range(pixels)
  const step = stride * blockChannels
  const wide = `
    for (int64_t b = 0; b < blocks; ++b, x += blockPitch)
      for (int64_t i = 0; i < 8; ++i, w += 8) {
        const pb_f32x8 weight = pb_read_f32x8(w);
        ${rows.map((r) => `c${r} = pb_fma_f32x8(pb_splat_f32x8(x[${r * step} + i]), weight, c${r});`).join(' ')}
      }`
  const narrow = range(4)
    .map(
      (i) => `
    { const pb_f32x8 weight = pb_read_f32x8(w + ${i * 8});
      ${rows.map((r) => `c${r} = pb_fma_f32x8(pb_spread4(pb_read_f32x8(x + ${r * step}), ${i}), weight, c${r});`).join(' ')} }`,
    )
    .join('')
  return `
static __attribute__((noinline)) void ${name}_${pixels}_${stride}(const float *restrict slab, const float *restrict w, const int64_t *restrict table, int64_t taps, int64_t columns, int64_t blocks, int64_t blockPitch, ${storage} *restrict to, int64_t pitch) {
  pb_f32x8 ${rows.map((r) => `c${r}`).join(', ')};
  ${rows.map((r) => `c${r} =`).join(' ')} pb_splat_f32x8(0);
  (void)blocks; (void)blockPitch;
  for (int64_t t = 0; t < taps; ++t) {
    const float *x = slab + (table[2 * t] * columns + table[2 * t + 1]) * 8;${kind === 'four' ? `${narrow}\n    w += 32;` : wide}
  }
  ${rows.map((r) => `pb_store_${dtype}(to + ${r} * pitch, c${r});`).join(' ')}
}
`
}

function printGrouped(kind: Kind, dtype: FloatDType): KernelSource {
  const numeric = numericOf(dtype)
  const { storage } = numeric
  const name = `pb_grouped_${kind}_${dtype}`
  const variants = [1, 2].flatMap((stride) => tilePixels.map((pixels) => [pixels, stride] as const))
  const text = `${printSlab(`${name}_slab`, numeric)}${variants.map(([pixels, stride]) => printTile(name, kind, dtype, pixels, stride)).join('')}
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(groupedArguments)}
  const int64_t *table = n + ${groupedArguments.length};
  void (*run)(const float *, const float *, const int64_t *, int64_t, int64_t, int64_t, int64_t, ${storage} *, int64_t);
  switch (tile * 2 + strideX - 1) {
    ${variants.map(([pixels, stride]) => `case ${pixels * 2 + stride - 1}: run = ${name}_${pixels}_${stride}; break;`).join('\n    ')}
    default: return;
  }
  const int64_t unitPart = part % unitParts, row = part / unitParts % rowParts * rowsPerPart, image = part / unitParts / rowParts;
  const int64_t rows = PB_MIN(rowsPerPart, gridHeight - row), slabRows = (rows - 1) * strideY + spanY, blockPitch = slabRows * slabColumns * 8;
  float slab[${slabLimit}] __attribute__((aligned(64)));
  for (int64_t unit = unitPart * unitsPerPart; unit < PB_MIN(units, (unitPart + 1) * unitsPerPart); ++unit) {
    ${name}_slab(slab, (const ${storage} *)p[0] + image * height * width * channels + unit * blocks * 8, height, width, channels, blocks, row * strideY + originY, slabRows, originX, slabColumns);
    for (int64_t b = 0; b < blocks; ++b) {
      const float *w = (const float *)p[1] + (unit * blocks + b) * weightPanel + weightOrigin;
      ${storage} *to = (${storage} *)p[2] + outputOrigin + image * imagePitch + row * rowPitch + (unit * blocks + b) * 8;
      for (int64_t y = 0; y < rows; ++y)
        for (int64_t x = 0; x < gridWidth; x += tile) {
          const int64_t from = PB_MIN(x, gridWidth - tile);
          run(slab + (y * strideY * slabColumns + from * strideX) * 8, w, table, taps, slabColumns, blocks, blockPitch, to + y * rowPitch + from * pixelPitch, pixelPitch);
        }
    }
  }
}
`
  return { name, text }
}

/** The tile whose last, overlapping copy wastes least; a short tile costs as much as one of 8. */
function chooseTile(width: number): number {
  const cost = (pixels: number) => ceilDiv(width, pixels) * Math.max(8, pixels)
  const fitting = tilePixels.filter((pixels) => pixels <= width)
  return fitting.reduce((best, pixels) => (cost(pixels) < cost(best) ? pixels : best), 1)
}

/** A convolution with unit or double stride from `source` pixels to a grid of destination pixels. */
interface Pass {
  readonly height: number
  readonly width: number
  readonly gridHeight: number
  readonly gridWidth: number
  readonly stride: readonly [number, number]
  readonly taps: readonly Tap[]
}

/** The slab a pass needs, or undefined where it has a shape or a size the kernel is not made for. */
function planSlab(pass: Pass, blocks: number) {
  const { gridHeight, gridWidth, stride, taps } = pass
  if (taps.length === 0 || stride[1] > 2) return undefined
  const originY = Math.min(...taps.map(({ y }) => y))
  const originX = Math.min(...taps.map(({ x }) => x))
  const spanY = Math.max(...taps.map(({ y }) => y)) - originY + 1
  const spanX = Math.max(...taps.map(({ x }) => x)) - originX + 1
  const slabColumns = (gridWidth - 1) * stride[1] + spanX
  const perRow = slabColumns * blocks * blockChannels
  if (spanY * perRow > slabLimit) return undefined
  const fits = Math.max(1, Math.floor((Math.floor(slabAim / perRow) - spanY) / stride[0]) + 1)
  const rowsPerPart = ceilDiv(gridHeight, ceilDiv(gridHeight, fits))
  return { originY, originX, spanY, slabColumns, rowsPerPart, rowParts: ceilDiv(gridHeight, rowsPerPart) }
}

/** Where a pass finds its weights (floats from one panel to the next, and of the first tap) and leaves its pixels. */
interface Placement {
  readonly weightPanel: number
  readonly weightOrigin: number
  readonly outputOrigin: number
  readonly imagePitch: number
  readonly rowPitch: number
  readonly pixelPitch: number
}

function lowerPass(conv: ConvExtents, pass: Pass, packed: PointerRef, placement: Placement): Launch | undefined {
  const { dtype, batch, channels, groups } = conv
  const blocks = blocksPerUnit(conv)
  const slab = planSlab(pass, blocks)
  if (slab === undefined) return undefined
  const units = channels / (blocks * blockChannels)
  const enough = (size: number) => batch * slab.rowParts * ceilDiv(units, size) >= 32
  const unitsPerPart = [4, 2].find(enough) ?? 1
  const unitParts = ceilDiv(units, unitsPerPart)
  const numbers = listArguments(groupedArguments, {
    ...{ height: pass.height, width: pass.width, gridHeight: pass.gridHeight, gridWidth: pass.gridWidth },
    ...{ strideY: pass.stride[0], strideX: pass.stride[1], channels, blocks, units, taps: pass.taps.length },
    ...placement,
    ...slab,
    ...{ tile: chooseTile(pass.gridWidth), unitsPerPart, unitParts },
  })
  const table = pass.taps.flatMap(({ y, x }) => [y - slab.originY, x - slab.originX])
  return {
    source: printGrouped(channels / groups === 4 ? 'four' : 'eights', dtype),
    parts: batch * slab.rowParts * unitParts,
    pointers: [operand(0), packed, operand(2)],
    numbers: [...numbers, ...table],
  }
}

/** y = conv(x, w) for square groups; operands x, w, y. Undefined where the shape is none of this kernel's. */
export function lowerGroupedForward(conv: ConvExtents): Lowered | undefined {
  if (!isSquareGrouped(conv)) return undefined
  const { dtype, channels, groups, outHeight, outWidth, height, width, stride } = conv
  const depth = conv.kernelHeight * conv.kernelWidth * (channels / groups)
  const layout: PackLayout = {
    ...{ outer: 1, columns: channels, group: channels, taps: [0], depth, outerPitch: 0, groupPitch: 0 },
    ...{ columnPitch: depth, tapPitch: 0, depthPitch: 1, panel: blockChannels },
  }
  const scratch = new Scratch()
  const packed = scratch.take(packedElements(layout) * 4)
  const pass = { height, width, gridHeight: outHeight, gridWidth: outWidth, stride, taps: forwardTaps(conv) }
  const launch = lowerPass(conv, pass, packed, {
    ...{ weightPanel: depth * blockChannels, weightOrigin: 0 },
    ...{ outputOrigin: 0, imagePitch: outHeight * outWidth * channels, rowPitch: outWidth * channels, pixelPitch: channels },
  })
  if (launch === undefined) return undefined
  return { launches: [lowerPack(dtype, layout, operand(1), packed), launch], scratchBytes: scratch.bytes }
}

/** The cotangent of the input for square groups; operands dy, w, dx. Undefined where the shape is none of this kernel's. */
export function lowerGroupedInputGrad(conv: ConvExtents): Lowered | undefined {
  if (!isSquareGrouped(conv)) return undefined
  const { dtype, channels, groups, outHeight, outWidth, height, width, stride } = conv
  const perGroup = channels / groups
  const kernel = conv.kernelHeight * conv.kernelWidth
  const phases = inputPhases(conv)
  const layout: PackLayout = {
    ...{ outer: 1, columns: channels, group: perGroup, depth: perGroup, outerPitch: 0 },
    taps: phases.flatMap(({ taps }) => taps.map(({ index }) => index)),
    ...{ groupPitch: perGroup * kernel * perGroup, columnPitch: 1, tapPitch: perGroup, depthPitch: kernel * perGroup },
    panel: blockChannels,
  }
  const scratch = new Scratch()
  const packed = scratch.take(packedElements(layout) * 4)
  const launches = [lowerPack(dtype, layout, operand(1), packed)]
  let weightOrigin = 0
  for (const { originY, originX, gridHeight, gridWidth, taps } of phases) {
    const pass: Pass = { height: outHeight, width: outWidth, gridHeight, gridWidth, stride: [1, 1], taps }
    const launch = lowerPass(conv, pass, packed, {
      weightPanel: layout.taps.length * perGroup * blockChannels,
      weightOrigin,
      outputOrigin: (originY * width + originX) * channels,
      imagePitch: height * width * channels,
      rowPitch: stride[0] * width * channels,
      pixelPitch: stride[1] * channels,
    })
    if (launch === undefined) return undefined
    launches.push(launch)
    weightOrigin += taps.length * perGroup * blockChannels
  }
  return { launches, scratchBytes: scratch.bytes }
}
