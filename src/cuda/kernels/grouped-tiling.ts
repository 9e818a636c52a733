// How a grouped 3x3 convolution is cut into blocks: from extents alone, so that the bits of a filter gradient do not depend
// on the GPU. The sizes aim at some 130 multiprocessors, which other numbers of them share well enough.
import type { ConvParams } from '../../tensor/primitives.ts'
import type { Shape } from '../../tensor/shape.ts'
import { at } from '../../tensor/shape.ts'
import type { Epilogue } from './grouped-epilogue.ts'

/** Which of the three. */
export type Direction = 'forward' | 'inputGrad' | 'filterGrad'

/** Channels of one group, in and out. */
export type GroupWidth = 4 | 8 | 16 | 32

/** What is computed together with a convolution. */
export interface Around {
  /** Whether x is read as its batch norm and ReLU. */
  readonly normalizes: boolean
  readonly epilogue: Epilogue
  /** What the mean in front of the convolution is of the vector that is given for it; 1 unless said. */
  readonly meanFactor?: number
}

/** One grouped 3x3 convolution with padding 1; the same record describes the forward pass and both gradients. */
export interface GroupedProblem extends Around {
  readonly direction: Direction
  readonly dtype: 'f16' | 'bf16'
  readonly groupWidth: GroupWidth
  readonly stride: 1 | 2
  readonly images: number
  readonly channels: number
  /** [height, width] of x. */
  readonly input: readonly [number, number]
  /** [height, width] of y. */
  readonly output: readonly [number, number]
}

/** A problem cut into blocks. */
export interface Tiling {
  /** Pairs of octets of pixels that a block computes at a time. */
  readonly pairs: 1 | 2
  /** Stages of source rows on their way to a block. */
  readonly stages: number
  readonly threads: number
  /** How many blocks shall fit into the registers of a multiprocessor. */
  readonly sharing: number
  readonly blocks: number
  readonly sharedBytes: number
  /** Blocks of the same 64 channels: the filter gradient's partials. */
  readonly parts: number
  /** In the order of `extentNames`. */
  readonly numbers: readonly number[]
}

/** The problem of a convolution's extents, if it is one that the grouped kernels compute. */
export function groupedProblem(
  direction: Direction,
  dtype: string,
  { x, filter, y }: Readonly<Record<'x' | 'filter' | 'y', Shape>>,
  { stride, padding, dilation, groups }: ConvParams,
  around: Around,
): GroupedProblem | undefined {
  const [channels, outChannels, groupWidth] = [at(x, 3), at(filter, 0), asGroupWidth(at(filter, 3))]
  const square = at(filter, 1) === 3 && at(filter, 2) === 3 && dilation.every((step) => step === 1)
  const padded = padding.every(([before, after]) => before === 1 && after === 1)
  const [step] = stride
  if ((dtype !== 'f16' && dtype !== 'bf16') || groupWidth === undefined || !square || !padded) return undefined
  if ((step !== 1 && step !== 2) || stride[1] !== step) return undefined
  if (outChannels !== channels || groups * groupWidth !== channels || channels % 16 !== 0) return undefined
  if (x.includes(0) || tooLarge(x)) return undefined
  const [input, output] = [[at(x, 1), at(x, 2)] as const, [at(y, 1), at(y, 2)] as const]
  return { direction, dtype, groupWidth, stride: step, images: at(x, 0), channels, input, output, ...around }
}

/** Places within the at most four images of a tile are 32-bit numbers. */
function tooLarge(x: Shape): boolean {
  return 4 * at(x, 1) * at(x, 2) * at(x, 3) >= 2 ** 31
}

function asGroupWidth(width: number): GroupWidth | undefined {
  return width === 4 || width === 8 || width === 16 || width === 32 ? width : undefined
}

/** How many blocks a problem is cut into, as far as its extents allow. */
export interface BlockCounts {
  /** With fewer blocks, images are cut into bands of rows. */
  readonly least: number
  /** Rather than more blocks, a block takes several groups of images. */
  readonly most: number
}

/** Cuts a problem into blocks. */
export function tile(problem: GroupedProblem, counts = wantedBlocks(problem)): Tiling {
  const { direction, groupWidth, stride, images, channels, input, output } = problem
  const [source, target] = direction === 'inputGrad' ? [output, input] : [input, output]
  const doubles = direction === 'inputGrad' && stride === 2
  const grid = doubles ? ([Math.ceil(target[0] / 2), Math.ceil(target[1] / 2)] as const) : target
  const pairs = groupWidth === 32 || (stride === 2 && !doubles) || isHeavy(problem) ? 1 : 2
  const octets = Math.min(2 * pairs, grid[1] > 16 ? 4 : grid[1] > 8 ? 2 : 1)
  const slabs = Math.ceil(channels / 64)
  const tiles = Math.ceil(grid[1] / (8 * octets))
  const tileImages = (2 * pairs) / octets
  const span = spanOf(problem, octets)
  const pitch = tileImages * span * 128
  const { least, most } = counts
  const tileGroups = Math.ceil(images / tileImages)
  const bands = Math.min(Math.ceil(grid[0] / 4), Math.max(1, Math.ceil(least / (slabs * tiles * tileGroups))))
  const rows = Math.ceil(grid[0] / bands)
  const usedBands = Math.ceil(grid[0] / rows)
  const turns = Math.ceil(tileGroups / Math.max(1, Math.floor(most / (slabs * tiles * usedBands))))
  const lanes = Math.ceil(tileGroups / turns)
  const parts = tiles * usedBands * lanes
  const stages = stagesOf(problem)
  const threads = 32 * pairs * (direction === 'filterGrad' && groupWidth === 32 ? 8 : 4)
  return {
    pairs,
    stages,
    threads,
    sharing: residentThreads(problem) / threads,
    blocks: slabs * parts,
    sharedBytes: sharedBytesOf(problem, pairs, stages, pitch),
    parts,
    numbers: [
      ...[images, channels, ...source, ...target, grid[0]],
      ...[octets, tileImages, span, pitch, rows, usedBands, tiles, tileGroups, lanes],
    ],
  }
}

/**
 * The forward pass and the input gradient want several blocks on each multiprocessor; groups of 32 share their larger
 * filters among images; the filter gradient's partials cost memory traffic.
 */
function wantedBlocks({ direction, groupWidth, normalizes }: GroupedProblem): BlockCounts {
  if (direction === 'filterGrad') {
    const blocks = groupWidth === 32 ? 132 : normalizes && groupWidth < 16 ? 396 : 264
    return { least: blocks, most: blocks }
  }
  return groupWidth === 32 ? { least: 264, most: 264 } : { least: 528, most: 1056 }
}

/** Threads of a multiprocessor for which all sums, filters and vectors fit into its 65536 registers: found by compiling. */
function residentThreads(problem: GroupedProblem): number {
  const { direction, groupWidth, stride } = problem
  if (groupWidth === 32) return direction === 'filterGrad' && !isHeavy(problem) ? 512 : 256
  if (isHeavy(problem)) return 384
  const small = direction !== 'filterGrad' && groupWidth < 16 && !(direction === 'inputGrad' && stride === 2)
  return small && !isFused(problem) ? 768 : 512
}

function isFused({ normalizes, epilogue }: GroupedProblem): boolean {
  return normalizes || epilogue !== 'none'
}

/** Whether what is around a convolution takes registers that its kernel does not have to spare. */
function isHeavy(problem: GroupedProblem): boolean {
  const { direction, groupWidth, stride, normalizes, epilogue } = problem
  if (direction === 'filterGrad') return normalizes
  const both = normalizes && epilogue !== 'none'
  return epilogue === 'mask' || (groupWidth === 16 && (stride === 2 ? isFused(problem) : both))
}

/** Narrow stages are small: more of them keep as many bytes on their way. */
function stagesOf({ direction, groupWidth, stride }: GroupedProblem): number {
  return groupWidth === 32 && (stride === 1 || direction === 'inputGrad') ? 8 : 4
}

/** Columns of the source that a tile of one image reads. */
function spanOf({ direction, stride }: GroupedProblem, octets: number): number {
  if (direction === 'inputGrad' && stride === 2) return 8 * octets + 1
  return 8 * stride * octets + 3 - stride
}

function sharedBytesOf({ direction, stride }: GroupedProblem, pairs: number, stages: number, pitch: number): number {
  if (direction === 'inputGrad') return stages * pitch
  if (direction === 'forward') return stages * stride * pitch
  const combining = pairs === 2 ? 72 * 4 * 32 * 4 : 0
  return Math.max(stages * (stride * pitch + 2 * pairs * 8 * 128), combining)
}
