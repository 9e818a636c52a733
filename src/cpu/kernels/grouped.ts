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

/** Floats of a slab that fit (128 KB), and that are preferred for each unit of it (so that the unit stays in L1). */
const slabLimit = 32768
const slabAim = 8192

/** Channels read and written together, so that whole cache lines are used: 128 bytes of floats. */
const sharedChannels = 32

/** Floats of weights that are cycled through for each row of pixels: 16 KB. */
const weightAim = 4096

/** Pixels a register tile may have for a run of 1, 2 or 3 adjacent taps, whose weights share the 16 registers. */
const tilePixels = { 1: [14, 8, 7, 4, 2, 1], 2: [8, 7, 4, 2, 1], 3: [8, 7, 4, 2, 1] } as const
type Run = keyof typeof tilePixels

/** Whether this file (and grouped-filter.ts) can lower the convolution, as far as its groups are concerned. */
export function isSquareGrouped(conv: ConvExtents): boolean {
  const { dtype, channels, outChannels, groups } = conv
  const perGroup = channels / groups
  return (
    dtype !== 'f64' &&
    channels === outChannels &&
    channels % blockChannels === 0 &&
    (perGroup === 4 || (perGroup % blockChannels === 0 && perGroup <= sharedChannels))
  )
}

/** Blocks of 8 channels that belong together: the group, or two groups of 4. */
export function blocksPerUnit(conv: ConvExtents): number {
  return Math.max(1, conv.channels / conv.groups / blockChannels)
}

const groupedArguments = [
  ...(['height', 'width', 'channels', 'gridHeight', 'gridWidth', 'strideY', 'strideX'] as const),
  ...(['blocks', 'units', 'runs', 'weightPanel', 'weightOrigin'] as const),
  ...(['outputOrigin', 'imagePitch', 'rowPitch', 'pixelPitch'] as const),
  ...([
    'originY',
    'originX',
    'spanY',
    'slabColumns',
    'tile',
    'variant',
    'rowsPerPart',
    'unitsPerPart',
    'blocksPerSet',
    'rowParts',
    'unitParts',
  ] as const),
] as const

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index)
}

type Kind = 'four' | 'eights'

interface Variant {
  readonly pixels: number
  readonly stride: 1 | 2
  readonly run: Run
}

/** Two taps side by side only come about where a stride of 2 leaves two of three to a phase, which has stride 1. */
const shapes = [
  { run: 1, stride: 1 },
  { run: 1, stride: 2 },
  { run: 2, stride: 1 },
  { run: 3, stride: 1 },
  { run: 3, stride: 2 },
] as const

const variants: readonly Variant[] = shapes.flatMap((shape) =>
  tilePixels[shape.run].map((pixels) => ({ pixels, ...shape })),
)

/** The multiply-adds of one input channel: each source pixel is read once for all the taps of the run that need it. */
function printSteps({ pixels, stride, run }: Variant, value: (pixel: number) => string): string {
  const positions = range((pixels - 1) * stride + run).map((position) => {
    const uses = range(run)
      .map((tap) => ({ tap, pixel: (position - tap) / stride }))
      .filter(({ pixel }) => Number.isInteger(pixel) && pixel >= 0 && pixel < pixels)
    const adds = uses.map(({ tap, pixel }) => `c${pixel} = pb_fma_f32x8(v, w${tap}, c${pixel});`)
    return uses.length === 0 ? '' : `v = ${value(position)}; ${adds.join(' ')}`
  })
  return positions.join('\n        ')
}

function variantName(name: string, { pixels, stride, run }: Variant): string {
  return `${name}_${pixels}_${stride}_${run}`
}

/** `pixels` pixels of a row x one block of output channels: runs of taps, then the unit's input channels. */
function printTile(name: string, kind: Kind, dtype: FloatDType, variant: Variant): string {
  const { storage } = numericOf(dtype)
  const rows = range(variant.pixels)
  const weights = (at: string) =>
    range(variant.run)
      .map((tap) => `w${tap} = pb_read_f32x8(w + ${at} + ${tap} * tapPitch)`)
      .join(', ')
  const eights = `
    for (int64_t b = 0; b < blocks; ++b, x += blockPitch)
      for (int64_t i = 0; i < 8; ++i, w += 8) {
        const pb_f32x8 ${weights('0')};
        pb_f32x8 v;
        ${printSteps(variant, (position) => `pb_splat_f32x8(x[${position * blockChannels} + i])`)}
      }
    w += ${variant.run - 1} * tapPitch;`
  const four = `
    #pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, w += 8) {
      const pb_f32x8 ${weights('0')};
      pb_f32x8 v;
      ${printSteps(variant, (position) => `pb_spread4(pb_read_f32x8(x + ${position * blockChannels}), i)`)}
    }
    w += ${variant.run - 1} * tapPitch;`
  return `
static __attribute__((noinline)) void ${variantName(name, variant)}(const float *restrict slab, const float *restrict w, const int64_t *restrict table, int64_t runs, int64_t columns, int64_t blocks, int64_t blockPitch, ${storage} *restrict to, int64_t pitch) {
  pb_f32x8 ${rows.map((r) => `c${r}`).join(', ')};
  ${rows.map((r) => `c${r} =`).join(' ')} pb_splat_f32x8(0);
  const int64_t tapPitch = ${kind === 'four' ? '32' : 'blocks * 64'};
  (void)blockPitch; (void)tapPitch; (void)blocks;
  for (int64_t t = 0; t < runs; ++t) {
    const float *x = slab + (table[2 * t] * columns + table[2 * t + 1]) * 8;${kind === 'four' ? four : eights}
  }
  ${rows.map((r) => `pb_store_${dtype}(to + ${r} * pitch, c${r});`).join(' ')}
}
`
}

function printGrouped(kind: Kind, dtype: FloatDType): KernelSource {
  const numeric = numericOf(dtype)
  const { storage } = numeric
  const name = `pb_grouped_${kind}_${dtype}`
  const text = `${printSlab(`${name}_slab`, numeric)}${variants.map((variant) => printTile(name, kind, dtype, variant)).join('')}
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(groupedArguments)}
  const int64_t *table = n + ${groupedArguments.length};
  void (*run)(const float *, const float *, const int64_t *, int64_t, int64_t, int64_t, int64_t, ${storage} *, int64_t);
  switch (variant) {
    ${variants.map((variant, index) => `case ${index}: run = ${variantName(name, variant)}; break;`).join('\n    ')}
    default: return;
  }
  const int64_t unitPart = part % unitParts, row = part / unitParts % rowParts * rowsPerPart, image = part / unitParts / rowParts;
  const int64_t rows = PB_MIN(rowsPerPart, gridHeight - row), slabRows = (rows - 1) * strideY + spanY, blockPitch = slabRows * slabColumns * 8;
  const int64_t first = unitPart * unitsPerPart * blocks, last = PB_MIN(units, (unitPart + 1) * unitsPerPart) * blocks;
  float slab[${slabLimit}] __attribute__((aligned(64)));
  ${name}_slab(slab, (const ${storage} *)p[0] + image * height * width * channels + first * 8, height, width, channels, last - first, row * strideY + originY, slabRows, originX, slabColumns);
  for (int64_t set = first; set < last; set += blocksPerSet)
    for (int64_t y = 0; y < rows; ++y)
      for (int64_t b = set; b < PB_MIN(last, set + blocksPerSet); ++b) {
        const float *x = slab + (b / blocks * blocks - first) * blockPitch + y * strideY * slabColumns * 8;
        const float *w = (const float *)p[1] + b * weightPanel + weightOrigin;
        ${storage} *to = (${storage} *)p[2] + outputOrigin + image * imagePitch + (row + y) * rowPitch + b * 8;
        for (int64_t i = 0; i < gridWidth; i += tile) {
          const int64_t at = PB_MIN(i, gridWidth - tile);
          run(x + at * strideX * 8, w, table, runs, slabColumns, blocks, blockPitch, to + at * pixelPitch, pixelPitch);
        }
      }
}
`
  return { name, text }
}

/** The tile whose last, overlapping copy wastes least; a short tile costs as much as one of 8. */
function chooseTile(width: number, run: Run): number {
  const cost = (pixels: number) => ceilDiv(width, pixels) * Math.max(8, pixels)
  const fitting = tilePixels[run].filter((pixels) => pixels <= width)
  return fitting.reduce<number>((best, pixels) => (cost(pixels) < cost(best) ? pixels : best), 1)
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

/** Three taps side by side in a row, or two, are one run; anything else is runs of one. */
function findRuns({ taps, stride }: Pass): { readonly run: Run; readonly firsts: readonly Tap[] } {
  for (const run of [3, 2] as const) {
    if (!shapes.some((shape) => shape.run === run && shape.stride === stride[1])) continue
    const firsts = taps.filter((_, index) => index % run === 0)
    const adjacent = taps.every(({ y, x }, index) => {
      const first = firsts[Math.floor(index / run)]
      return y === first?.y && x === first.x + (index % run)
    })
    if (taps.length % run === 0 && adjacent) return { run, firsts }
  }
  return { run: 1, firsts: taps }
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
  const fits = Math.max(1, Math.floor((Math.floor(slabAim / perRow) - spanY) / stride[0]) + 1)
  const rowsPerPart = ceilDiv(gridHeight, ceilDiv(gridHeight, fits))
  const perUnit = ((rowsPerPart - 1) * stride[0] + spanY) * perRow
  if (perUnit > slabLimit) return undefined
  const shared = Math.max(1, sharedChannels / (blocks * blockChannels))
  const unitsPerPart = Math.max(1, Math.floor(Math.min(shared, slabLimit / perUnit)))
  return { originY, originX, spanY, slabColumns, rowsPerPart, rowParts: ceilDiv(gridHeight, rowsPerPart), unitsPerPart }
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
  const unitParts = ceilDiv(units, slab.unitsPerPart)
  const { run, firsts } = findRuns(pass)
  const tile = chooseTile(pass.gridWidth, run)
  const variant = variants.findIndex((v) => v.pixels === tile && v.stride === pass.stride[1] && v.run === run)
  const blockWeights = pass.taps.length * (channels / groups) * blockChannels
  const numbers = listArguments(groupedArguments, {
    ...{ height: pass.height, width: pass.width, gridHeight: pass.gridHeight, gridWidth: pass.gridWidth },
    ...{ strideY: pass.stride[0], strideX: pass.stride[1], channels, blocks, units, runs: firsts.length },
    ...placement,
    ...slab,
    ...{ tile, variant, unitParts, blocksPerSet: Math.max(1, Math.floor(weightAim / blockWeights)) },
  })
  const table = firsts.flatMap(({ y, x }) => [y - slab.originY, x - slab.originX])
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
    ...{
      outputOrigin: 0,
      imagePitch: outHeight * outWidth * channels,
      rowPitch: outWidth * channels,
      pixelPitch: channels,
    },
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
