// Batches from the host to the device, and a step's sums from the device to the host.
import { tensor } from '../../tensor/ops/create.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import { type Tree, leavesOf } from '../../tensor/tree.ts'
import type { Batch } from '../data/batch.ts'
import type { MetricSums } from '../metrics.ts'
import type { EvalBatch } from '../eval-step.ts'
import type { TrainBatch } from '../step.ts'

/** Images and labels of a batch as tensors on the default device. */
export function uploadTraining({ images, labels, batchSize, size }: Batch): TrainBatch {
  return { images: tensor(images, { shape: [batchSize, size, size, 3] }), labels: tensor(labels) }
}

/** The same with the rows' weights. */
export function uploadEvaluation(batch: Batch): EvalBatch {
  return { ...uploadTraining(batch), weights: tensor(batch.weights) }
}

/** Frees every tensor of a tree, once the device is done with it. */
export function disposeTree(tree: Tree<Tensor>): void {
  for (const leaf of leavesOf<Tensor>(tree)) leaf.dispose()
}

/** Sums over rows, on the host. */
export interface RowSums {
  readonly loss: number
  readonly top1: number
  readonly topk: number
  readonly count: number
}

export const noRows: RowSums = { loss: 0, top1: 0, topk: 0, count: 0 }

/** Reads sums, waiting for the device. */
export async function readSums({ loss, top1, topk, count }: MetricSums): Promise<RowSums> {
  const values = await Promise.all([loss, top1, topk, count].map((sum) => sum.item()))
  const [lossSum = Number.NaN, top1Sum = 0, topkSum = 0, rows = 0] = values
  return { loss: lossSum, top1: top1Sum, topk: topkSum, count: rows }
}

/** The sums over the rows of both. */
export const addSums = (a: RowSums, b: RowSums): RowSums => ({
  loss: a.loss + b.loss,
  top1: a.top1 + b.top1,
  topk: a.topk + b.topk,
  count: a.count + b.count,
})

/** Means over rows: the loss, and accuracies in percent. */
export interface RowMeans {
  readonly loss: number
  readonly top1: number
  readonly topk: number
}

/** The means; NaN where there are no rows. */
export const meansOf = ({ loss, top1, topk, count }: RowSums): RowMeans => ({
  loss: loss / count,
  top1: (100 * top1) / count,
  topk: (100 * topk) / count,
})
