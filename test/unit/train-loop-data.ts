// A source of a few tiny images in memory, drawn anew for each epoch, and a model that learns them: for tests of the loop.
import type { train } from 'pullback'
import { nn, setDefaultDevice } from 'pullback'
import { referenceDevice } from '../../src/tensor/reference/device.ts'

export const size = 4
export const classes = 3

/** Uses the reference device for the tests of a file. */
export function useReference(): void {
  setDefaultDevice(referenceDevice())
}

export const tinyModel = () =>
  nn.serial({
    conv1: nn.conv2d({ features: 4, kernel: 3, padding: 1, bias: false }),
    bn1: nn.batchNorm(),
    relu: nn.relu(),
    mean: nn.globalAvgPool(),
    drop: nn.dropout(0.25),
    fc: nn.linear(classes),
  })

export type TinyModel = ReturnType<typeof tinyModel>

/** Numbers from 0 to 255 that depend on all of the arguments. */
function noise(...words: number[]): number {
  const mixed = words.reduce((hash, word) => Math.imul(hash ^ word, 0x9e3779b1) ^ (hash >>> 13), 0x2545f491)
  return (mixed ^ (mixed >>> 15)) & 255
}

function makeBatch(batchSize: number, epoch: number, step: number, count: number): train.Batch {
  const images = new Uint8Array(batchSize * size * size * 3)
  const labels = new Int32Array(batchSize)
  const weights = new Float32Array(batchSize)
  for (let row = 0; row < Math.min(batchSize, count - step * batchSize); row++) {
    const image = step * batchSize + row
    labels[row] = image % classes
    weights[row] = 1
    for (let i = 0; i < size * size * 3; i++)
      images[row * size * size * 3 + i] = i % 3 === labels[row] ? 255 : noise(epoch, image, i)
  }
  return { images, labels, weights, count: weights.reduce((a, b) => a + b, 0), batchSize, size }
}

function stream(length: number, from: number, make: (step: number) => train.Batch): train.BatchStream {
  return {
    length: Math.max(0, length - from),
    async *[Symbol.asyncIterator]() {
      for (let step = from; step < length; step++) yield make(step)
    },
  }
}

export interface MemorySourceOptions {
  readonly batchSize?: number
  readonly trainImages?: number
  readonly valImages?: number
}

/** Images whose brightest channel is their class. */
export function memorySource({
  batchSize = 3,
  trainImages = 12,
  valImages = 7,
}: MemorySourceOptions = {}): train.DataSource {
  const trainBatches = Math.floor(trainImages / batchSize)
  return {
    description: 'memory',
    classes,
    classNames: ['red', 'green', 'blue'],
    batchSize,
    size,
    trainImages,
    trainBatches,
    train: (epoch, from) => stream(trainBatches, from, (step) => makeBatch(batchSize, epoch, step, trainImages)),
    validation: () => stream(Math.ceil(valImages / batchSize), 0, (step) => makeBatch(batchSize, -1, step, valImages)),
    broken: 0,
  }
}
