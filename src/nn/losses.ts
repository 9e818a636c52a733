// Losses: means over the rows of a batch, computed in f32 whatever the dtype of the predictions.
import { accumulationType, isFloat } from '../tensor/dtype.ts'
import { DTypeError, ShapeError, ValueError } from '../tensor/errors.ts'
import { iota } from '../tensor/ops/create.ts'
import { broadcastTo, expandDims } from '../tensor/ops/movement.ts'
import {
  abs,
  add,
  cast,
  div,
  equal,
  exp,
  greater,
  log,
  maximum,
  mul,
  neg,
  square,
  sub,
  where,
} from '../tensor/ops/pointwise.ts'
import { logSoftmax, mean, sum } from '../tensor/ops/reduce.ts'
import { sameShape, showShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { type Tree, leavesOf } from '../tensor/tree.ts'

/** How the cross-entropy is averaged. */
export interface CrossEntropyOptions {
  /** How much of each target goes to all classes evenly (Szegedy et al., 2015): 0 unless said otherwise. */
  readonly labelSmoothing?: number
  /** The weight [n] of each row in the mean; rows of weight 0 do not count, whatever they hold. */
  readonly weights?: Tensor
}

/**
 * The mean cross-entropy of logits [n, classes] with targets: i32 classes [n], or probabilities [n, classes]. Computed in
 * f32 (f64 for f64); PyTorch's `F.cross_entropy`, with row weights in place of class weights.
 *
 * @throws ShapeError, DTypeError or ValueError for targets, weights or a smoothing that do not fit.
 */
export function softmaxCrossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const rows = crossEntropyRows(logits, targets, options.labelSmoothing)
  return options.weights === undefined ? mean(rows) : weightedMean(rows, options.weights)
}

/** The cross-entropy of each row, [n]. */
export function crossEntropyRows(logits: Tensor, targets: Tensor, labelSmoothing = 0): Tensor {
  const [rows, classes] = logits.shape
  if (logits.shape.length !== 2 || rows === undefined || classes === undefined)
    throw new ShapeError(`[softmaxCrossEntropy] expected logits [n, classes], got ${showShape(logits.shape)}.`)
  if (!isFloat(logits.dtype))
    throw new DTypeError(
      `[softmaxCrossEntropy] expected floating logits, got ${logits.dtype}. Use cast(logits, 'f32').`,
    )
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw new ValueError(`[softmaxCrossEntropy] expected a label smoothing from 0 to 1, got ${labelSmoothing}.`)
  const logp = logSoftmax(cast(logits, accumulationType(logits.dtype)))
  const likelihood = isFloat(targets.dtype) ? expected(logp, targets) : picked(logp, targets)
  if (labelSmoothing === 0) return neg(likelihood)
  return neg(add(mul(likelihood, 1 - labelSmoothing), mul(sum(logp, { axes: 1 }), labelSmoothing / classes)))
}

function expected(logp: Tensor, targets: Tensor): Tensor {
  if (!sameShape(targets.shape, logp.shape))
    throw new ShapeError(
      `[softmaxCrossEntropy] expected probabilities of shape ${showShape(logp.shape)}, got ${showShape(targets.shape)}.`,
    )
  return sum(mul(logp, cast(targets, logp.dtype)), { axes: 1 })
}

/** A select and not a product with one-hot rows: a class of probability zero must not make the others' terms NaN. */
function picked(logp: Tensor, classes: Tensor): Tensor {
  if (classes.dtype !== 'i32' || !sameShape(classes.shape, logp.shape.slice(0, 1)))
    throw new ShapeError(
      `[softmaxCrossEntropy] expected i32 classes [${logp.shape[0] ?? 0}] or probabilities ${showShape(logp.shape)}, ` +
        `got ${classes.dtype} ${showShape(classes.shape)}.`,
    )
  const hot = equal(broadcastTo(expandDims(classes, 1), logp.shape), iota(logp.shape, 1, 'i32'))
  return sum(where(hot, logp, 0), { axes: 1 })
}

/** The mean of rows [n] by weights [n]; a row of weight 0 may be NaN. */
export function weightedMean(rows: Tensor, weights: Tensor): Tensor {
  if (!sameShape(rows.shape, weights.shape))
    throw new ShapeError(
      `[weightedMean] expected weights of shape ${showShape(rows.shape)}, got ${showShape(weights.shape)}.`,
    )
  const wide = cast(weights, rows.dtype)
  return div(sum(mul(where(greater(wide, 0), rows, 0), wide)), sum(wide))
}

/** The mean of (prediction - target)^2 over all elements. */
export function meanSquaredError(predictions: Tensor, targets: Tensor): Tensor {
  return mean(square(difference(predictions, targets)))
}

/** The mean of |prediction - target| over all elements. */
export function meanAbsoluteError(predictions: Tensor, targets: Tensor): Tensor {
  return mean(abs(difference(predictions, targets)))
}

/** The mean of Huber's loss: d^2 / 2 near zero, delta (|d| - delta / 2) beyond `delta`. */
export function huber(predictions: Tensor, targets: Tensor, delta = 1): Tensor {
  const d = abs(difference(predictions, targets))
  return mean(where(greater(d, delta), mul(sub(d, delta / 2), delta), mul(square(d), 0.5)))
}

/** The mean cross-entropy of independent yes-or-no logits with targets from 0 to 1 of the same shape; does not overflow. */
export function sigmoidCrossEntropy(logits: Tensor, targets: Tensor): Tensor {
  const x = widened(logits)
  const penalty = sub(maximum(x, 0), mul(x, cast(targets, x.dtype)))
  return mean(add(penalty, log(add(exp(neg(abs(x))), 1))))
}

/** Half the sum of squares of all leaves: add it, times a weight, to a loss. */
export function l2Penalty(params: Tree<Tensor>): Tensor {
  const [first, ...rest] = leavesOf<Tensor>(params).map((leaf) => sum(square(widened(leaf))))
  if (first === undefined) throw new ValueError('[l2Penalty] expected at least one parameter, got none.')
  return mul(
    rest.reduce((total, term) => add(total, term), first),
    0.5,
  )
}

function difference(predictions: Tensor, targets: Tensor): Tensor {
  const wide = widened(predictions)
  return sub(wide, cast(targets, wide.dtype))
}

function widened(x: Tensor): Tensor {
  return isFloat(x.dtype) ? cast(x, accumulationType(x.dtype)) : cast(x, 'f32')
}
