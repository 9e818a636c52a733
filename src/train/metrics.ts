// Loss and accuracies: weighted sums on the device, means on the host.
import { ShapeError } from '../tensor/errors.ts'
import { iota } from '../tensor/ops/create.ts'
import { expandDims } from '../tensor/ops/movement.ts'
import { cast, equal, greater, less, logicalAnd, logicalNot, logicalOr, mul, where } from '../tensor/ops/pointwise.ts'
import { sum } from '../tensor/ops/reduce.ts'
import { sameShape, showShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** Sums over rows, f32 scalars: divide by `count`. */
export type MetricSums = {
  /** Of the losses, times the rows' weights. */
  readonly loss: Tensor
  /** Of the weights of rows whose class has the largest logit. */
  readonly top1: Tensor
  /** Of the weights of rows whose class is among the k largest. */
  readonly topk: Tensor
  /** Of the weights. */
  readonly count: Tensor
}

/** Means over rows. */
export interface MetricMeans {
  readonly loss: number
  /** From 0 to 1. */
  readonly top1: number
  readonly topk: number
  readonly count: number
}

/**
 * The rank of each row's class: how many logits come before it, [n] i32. Of equal logits the lower index comes first; a
 * NaN comes before everything, so that a broken model is never right.
 */
export function classRank(logits: Tensor, labels: Tensor): Tensor {
  const [n, classes] = logits.shape
  if (logits.shape.length !== 2 || !sameShape(labels.shape, [n ?? 0]))
    throw new ShapeError(
      `[classRank] expected logits [n, classes] and labels [n], got ${showShape(logits.shape)} and ${showShape(labels.shape)}.`,
    )
  const index = iota([n ?? 0, classes ?? 0], 1)
  const label = expandDims(labels, 1)
  const own = expandDims(sum(where(equal(index, label), logits, 0), { axes: 1 }), 1)
  const after = logicalOr(less(logits, own), logicalAnd(equal(logits, own), logicalNot(less(index, label))))
  return sum(cast(logicalNot(after), 'i32'), { axes: 1 })
}

/** The sums of a batch: row losses [n] f32, logits [n, classes], labels i32 [n], weights f32 [n]. Rows of weight 0 do not count. */
export function metricSums(losses: Tensor, logits: Tensor, labels: Tensor, weights: Tensor, k: number): MetricSums {
  const rank = classRank(logits, labels)
  const counted = (below: number): Tensor => sum(mul(weights, cast(less(rank, below), 'f32')))
  return {
    loss: sum(mul(weights, where(greater(weights, 0), losses, 0))),
    top1: counted(1),
    topk: counted(k),
    count: sum(weights),
  }
}

/** Reads sums of one or more batches and gives their means; one read for each sum. */
export async function readMetrics(batches: readonly MetricSums[]): Promise<MetricMeans> {
  const total = async (field: keyof MetricSums): Promise<number> => {
    const values = await Promise.all(batches.map((sums) => sums[field].item()))
    return values.reduce((a, b) => a + b, 0)
  }
  const count = await total('count')
  const mean = async (field: keyof MetricSums): Promise<number> => (await total(field)) / count
  return { loss: await mean('loss'), top1: await mean('top1'), topk: await mean('topk'), count }
}
