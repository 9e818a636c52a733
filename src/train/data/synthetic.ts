// Random images and labels made once and given again at every step: measures the device without the disk.
// The real data is batches.ts; both give the same kind of stream.

import type { Batch, BatchStream } from './batch.ts'
import { checkWhole } from './batches.ts'
import { below, drawWords } from './draws.ts'

/** How synthetic batches are made. */
export interface SyntheticOptions {
  readonly size: number
  readonly batchSize: number
  readonly classes: number
  readonly seed: number
  /** Steps of an iteration. */
  readonly length: number
}

/** A stream of `length` times the same random batch (uniform bytes, uniform labels), made when first asked for. */
export function syntheticBatches(options: SyntheticOptions): BatchStream {
  const { size, batchSize, classes, length } = options
  checkWhole('size', size, 1)
  checkWhole('batchSize', batchSize, 1)
  checkWhole('classes', classes, 1)
  checkWhole('length', length, 0)
  let made: Batch | undefined
  return {
    length,
    [Symbol.asyncIterator]() {
      let step = 0
      const next = (): IteratorResult<Batch, undefined> =>
        step++ < length ? { done: false, value: (made ??= randomBatch(options)) } : { done: true, value: undefined }
      return { next: () => Promise.resolve(next()) }
    },
  }
}

function randomBatch({ size, batchSize, classes, seed }: SyntheticOptions): Batch {
  const words = new Uint32Array(Math.ceil((batchSize * size * size * 3) / 16) * 4)
  for (let index = 0; index < words.length / 4; index++) {
    words.set(drawWords({ seed, stream: 'synthetic', epoch: 0, index }), index * 4)
  }
  const label = (_: unknown, index: number): number =>
    below(drawWords({ seed, stream: 'synthetic', epoch: 1, index })[0], classes)
  return {
    images: new Uint8Array(words.buffer, 0, batchSize * size * size * 3),
    labels: Int32Array.from({ length: batchSize }, label),
    weights: new Float32Array(batchSize).fill(1),
    count: batchSize,
    batchSize,
    size,
  }
}
