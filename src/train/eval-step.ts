// The evaluation step: one compiled program for every batch, whose padded rows do not count.
import { type Jitted, jit } from '../autograd/index.ts'
import type { OptimizeLevel } from '../tensor/device.ts'
import { cast } from '../tensor/ops/pointwise.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Layer, TensorTree } from '../nn/layer.ts'
import { crossEntropyRows } from '../nn/losses.ts'
import { globalSums } from './global.ts'
import { type MetricSums, metricSums } from './metrics.ts'
import { type Normalization, normalize } from './normalize.ts'
import { type Precision, withPrecision } from './policy.ts'

/** A batch for evaluation: images [n, h, w, c] as u8 or floats, labels i32 [n], weights f32 [n], 0 for padded rows. */
export type EvalBatch = { readonly images: Tensor; readonly labels: Tensor; readonly weights: Tensor }

/** How images are prepared and what is counted, in training and evaluation alike. */
export interface EvalStepOptions {
  /** f32 unless said otherwise. */
  readonly precision?: Precision
  /** ImageNet's unless said otherwise; only for u8 images. */
  readonly normalization?: Normalization
  /** The k of the top-k accuracy: 5 unless said otherwise. */
  readonly topk?: number
  /** How far the program is optimized: 'fuse' unless said otherwise. */
  readonly optimize?: OptimizeLevel
}

/** Weighted sums of one evaluation batch. */
export type EvalStep<P extends TensorTree, S extends TensorTree> = Jitted<
  [params: P, state: S, batch: EvalBatch],
  MetricSums
>

/**
 * A compiled evaluation step: running statistics, no randomness, rows weighed, so that padding does not count and every
 * batch size gives the same sums.
 */
export function makeEvalStep<P extends TensorTree, S extends TensorTree>(
  model: Layer<P, S>,
  options: EvalStepOptions = {},
): EvalStep<P, S> {
  const { precision = 'f32', topk = 5 } = options
  const evalStep = (params: P, state: S, batch: EvalBatch): MetricSums => {
    const logits = predict(model, precision, params, state, normalize(batch.images, options.normalization))
    return globalSums(metricSums(crossEntropyRows(logits, batch.labels), logits, batch.labels, batch.weights, topk))
  }
  return jit(evalStep, { label: 'evalStep', optimize: options.optimize ?? 'fuse' })
}

/** The logits of images in evaluation, f32 [n, classes]. */
export function predict<P extends TensorTree, S extends TensorTree>(
  model: Layer<P, S>,
  precision: Precision,
  params: P,
  state: S,
  images: Tensor,
): Tensor {
  const [logits] = withPrecision((p: P, s: S, x: Tensor) => model.apply(p, s, x, { training: false }), precision)(
    params,
    state,
    images,
  )
  return cast(logits, 'f32')
}
