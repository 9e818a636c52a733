// Batches of an image folder: which image goes into which row, and what replaces one that cannot be read.
// A batch is a pure function of (folder, seed, epoch, step), so that a run resumes anywhere with the same bits.

import { PullbackError, ValueError } from '../../tensor/errors.ts'
import type { Batch, BatchStream } from './batch.ts'
import { brokenImages } from './broken.ts'
import type { BrokenImages } from './broken.ts'
import { evaluationCut, randomResizedCrop, trainingCut } from './crop.ts'
import type { Cut } from './crop.ts'
import { imageDecoder } from './decode.ts'
import type { DecodeImage } from './decode.ts'
import { drawWords, shuffledOrder } from './draws.ts'
import type { ImageFolder } from './folder.ts'
import { limiter, prefetched } from './prefetch.ts'

/** How batches are read from a folder. */
export interface FolderBatchesOptions {
  readonly folder: ImageFolder
  /** Pixels of an image's side. */
  readonly size: number
  readonly batchSize: number
  /** Images decoded at a time; more than libuv's threads (4, or UV_THREADPOOL_SIZE) does not help. */
  readonly workers: number
  /** Batches made ahead of the one in use. */
  readonly prefetch: number
  /** The first batch to give; those before it are not decoded. Default 0. */
  readonly startStep?: number
  /** Where unreadable images are recorded; give the same record to every epoch. */
  readonly broken?: BrokenImages
}

/** The same, with what makes training batches random. */
export interface TrainBatchesOptions extends FolderBatchesOptions {
  readonly seed: number
  readonly epoch: number
}

/** One row of a batch: pixels `[size, size, 3]` and the class; undefined where the row does not count. */
type Row = { readonly pixels: Uint8Array; readonly label: number } | undefined
type ReadRow = (decode: DecodeImage, position: number, signal: AbortSignal) => Promise<Row>

/** Steps of a training epoch: whole batches only, the remainder is dropped. */
export const trainSteps = (images: number, batchSize: number): number => Math.floor(images / batchSize)
/** Steps of an evaluation: the last batch is padded. */
export const evalSteps = (images: number, batchSize: number): number => Math.ceil(images / batchSize)

/**
 * The batches of one training epoch: shuffled, with random resized crops and mirrors, remainder dropped.
 *
 * Order and augmentation are drawn from (seed, epoch, position in the epoch) alone. An unreadable image is recorded
 * and replaced by the next readable one of the epoch's order, under the draws of the position it fills.
 *
 * @throws PullbackError `data` when the folder has fewer images than one batch, or (while iterating) none is readable
 */
export function trainBatches(options: TrainBatchesOptions): BatchStream {
  const { folder, batchSize, seed, epoch, size } = options
  const total = folder.paths.length
  if (total < batchSize) {
    throw new PullbackError(
      'data',
      `[data] expected at least one batch of ${batchSize} images in ${folder.dir}/${folder.split}, got ${total}. Lower the batch size.`,
    )
  }
  const broken = options.broken ?? brokenImages()
  return stream(options, trainSteps(total, batchSize), () => {
    const order = shuffledOrder(seed, epoch, total)
    return async (decode, position, signal) => {
      const cut = trainingCutAt(seed, epoch, position, size)
      for (let offset = 0; offset < total && !signal.aborted; offset++) {
        const index = order[(position + offset) % total] ?? 0
        const row = await readImage(decode, folder, index, cut, broken)
        if (row !== undefined) return row
      }
      if (signal.aborted) return undefined
      throw allBroken(folder)
    }
  })
}

/**
 * The batches of one evaluation: in order, centre crops, the last batch padded with rows of weight 0.
 *
 * Every image counts once. An unreadable one is recorded and its row has weight 0 (and black pixels): replacing it
 * would count another image twice.
 *
 * @throws PullbackError `data` while iterating, when no image is readable
 */
export function evalBatches(options: FolderBatchesOptions): BatchStream {
  const { folder, batchSize, size } = options
  const total = folder.paths.length
  const broken = options.broken ?? brokenImages()
  return stream(options, evalSteps(total, batchSize), () => async (decode, position, signal) => {
    if (position >= total || signal.aborted) return undefined
    const row = await readImage(decode, folder, position, (width, height) => evaluationCut(width, height, size), broken)
    if (row === undefined && folder.paths.every((path) => broken.has(path))) throw allBroken(folder)
    return row
  })
}

function trainingCutAt(seed: number, epoch: number, index: number, size: number) {
  return (width: number, height: number): Cut => {
    const box = randomResizedCrop(width, height, (block) => drawWords({ seed, stream: 'crop', epoch, index, block }))
    const [coin] = drawWords({ seed, stream: 'flip', epoch, index })
    return trainingCut(box, size, coin >= 2 ** 31)
  }
}

/** Decodes one image; an unreadable one is recorded and gives undefined. */
async function readImage(
  decode: DecodeImage,
  folder: ImageFolder,
  index: number,
  cut: (width: number, height: number) => Cut,
  broken: BrokenImages,
): Promise<Row> {
  const path = folder.paths[index] ?? ''
  if (broken.has(path)) return undefined
  try {
    return { pixels: await decode(path, cut), label: folder.labels[index] ?? 0 }
  } catch (error) {
    broken.add(path, error instanceof Error ? error : new Error(String(error)))
    return undefined
  }
}

const allBroken = ({ dir, split, paths }: ImageFolder): PullbackError =>
  new PullbackError(
    'data',
    `[data] expected readable images in ${dir}/${split}, got ${paths.length} that all fail to decode.`,
  )

/** A stream of batches `startStep` to `steps - 1`; `begin` is called once for each iteration. */
function stream(options: FolderBatchesOptions, steps: number, begin: () => ReadRow): BatchStream {
  const { batchSize, size, workers, prefetch, startStep = 0 } = options
  checkWhole('batchSize', batchSize, 1)
  checkWhole('size', size, 1)
  checkWhole('workers', workers, 1)
  checkWhole('prefetch', prefetch, 0)
  checkWhole('startStep', startStep, 0)
  return {
    length: Math.max(0, steps - startStep),
    async *[Symbol.asyncIterator]() {
      const decode = await imageDecoder()
      const readRow = begin()
      const inTurn = limiter(workers)
      const make = (step: number, signal: AbortSignal): Promise<Batch> =>
        makeBatch(batchSize, size, (row) => inTurn(() => readRow(decode, step * batchSize + row, signal)))
      yield* prefetched(make, startStep, steps, prefetch)
    },
  }
}

async function makeBatch(batchSize: number, size: number, read: (row: number) => Promise<Row>): Promise<Batch> {
  const pixelsPerImage = size * size * 3
  const images = new Uint8Array(batchSize * pixelsPerImage)
  const labels = new Int32Array(batchSize)
  const weights = new Float32Array(batchSize)
  const fill = async (row: number): Promise<void> => {
    const found = await read(row)
    if (found === undefined) return
    images.set(found.pixels, row * pixelsPerImage)
    labels[row] = found.label
    weights[row] = 1
  }
  // allSettled: when one row fails, the others are still waited for, so that no work outlives the batch.
  const outcomes = await Promise.allSettled(Array.from({ length: batchSize }, (_, row) => fill(row)))
  const failure = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failure !== undefined) throw failure.reason
  return { images, labels, weights, count: weights.reduce((sum, weight) => sum + weight, 0), batchSize, size }
}

export function checkWhole(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new ValueError(`[data] expected ${name} to be a whole number of at least ${least}, got ${value}.`)
  }
}
