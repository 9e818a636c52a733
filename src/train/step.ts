// The training step as one compiled function of values: forward, backward, loss scale, optimizer, averages and the
// decision to skip. The loop around it, data and files are elsewhere.
import { type Jitted, jit, valueAndGrad } from '../autograd/index.ts'
import { isFloat } from '../tensor/dtype.ts'
import { ValueError } from '../tensor/errors.ts'
import { ones } from '../tensor/ops/create.ts'
import { oneHot } from '../tensor/ops/indexing.ts'
import { add, cast, sub } from '../tensor/ops/pointwise.ts'
import { argMax, mean } from '../tensor/ops/reduce.ts'
import { foldIn } from '../tensor/random.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Layer, Mode, TensorTree } from '../nn/layer.ts'
import { crossEntropyRows } from '../nn/losses.ts'
import { updateAverage } from './ema.ts'
import type { EvalStepOptions } from './eval-step.ts'
import { allFinite } from './finite.ts'
import { globalPass } from './global.ts'
import { adjust, scaleLoss, unscale } from './loss-scale.ts'
import { selectTree } from './map.ts'
import { type MetricSums, metricSums } from './metrics.ts'
import { mixUp } from './mixup.ts'
import { normalize } from './normalize.ts'
import type { Optimizer } from './optimizer.ts'
import { withPrecision } from './policy.ts'
import type { TrainState } from './state.ts'

/**
 * A batch for training: images [n, h, w, c] as u8 (normalised in the step) or floats (taken as they are); labels as
 * classes, i32 [n], or as probabilities, f32 [n, classes].
 */
export type TrainBatch = { readonly images: Tensor; readonly labels: Tensor }

/** What a step tells. */
export type TrainMetrics = MetricSums & {
  /** Whether the step was applied: bool. */
  readonly finite: Tensor
  /** The loss scale that the step used: f32. */
  readonly scale: Tensor
}

/** What a training step does besides the forward and backward pass. */
export interface TrainStepOptions extends EvalStepOptions {
  readonly optimizer: Optimizer
  /** 0 unless said otherwise. */
  readonly labelSmoothing?: number
  /** The alpha of MixUp; 0 (none) unless said otherwise. */
  readonly mixup?: number
  /** The largest weight of the past in the average, for a state that keeps one: 0.9999 unless said otherwise. */
  readonly emaDecay?: number
}

/** One step: new state and metrics from the state (donated), a batch, and the learning rate (f32 scalar tensor). */
export type TrainStep<P extends TensorTree, S extends TensorTree> = Jitted<
  [state: TrainState<P, S>, batch: TrainBatch, learningRate: Tensor],
  [state: TrainState<P, S>, metrics: TrainMetrics]
>

/**
 * A compiled training step. The learning rate is a tensor, so that a schedule does not compile anew.
 *
 * A step whose loss, gradients or batch statistics are not finite changes nothing but the loss scale and the count of
 * skipped steps: all other leaves keep their bits, decided on the device.
 *
 * @example let [state, metrics] = makeTrainStep(model, { optimizer: sgd({ momentum: 0.875 }) })(state, batch, tensor(0.1))
 */
export function makeTrainStep<P extends TensorTree, S extends TensorTree>(
  model: Layer<P, S>,
  options: TrainStepOptions,
): TrainStep<P, S> {
  const trainStep = (
    state: TrainState<P, S>,
    batch: TrainBatch,
    learningRate: Tensor,
  ): [TrainState<P, S>, TrainMetrics] => {
    checkRate(learningRate)
    const pass = differentiate(model, options, state, state.state, batch, stepKey(state))
    return applyGradients(options, state, pass, learningRate)
  }
  return jit(trainStep, { donate: [0], label: 'trainStep', optimize: options.optimize ?? 'fuse' })
}

/** @internal What a forward and backward pass over this process' batch gives: scaled gradients, new statistics, sums. */
export type Pass<P extends TensorTree, S extends TensorTree> = {
  readonly gradients: P
  readonly state: S
  readonly metrics: MetricSums
}

/** @internal Forward and backward over one batch: gradients of the scaled mean loss, as they come out of the backward pass. */
export function differentiate<P extends TensorTree, S extends TensorTree>(
  model: Layer<P, S>,
  options: TrainStepOptions,
  { params, lossScale }: TrainState<P, S>,
  statistics: S,
  batch: TrainBatch,
  key: Tensor,
): Pass<P, S> {
  const { precision = 'f32', labelSmoothing = 0, topk = 5 } = options
  const mode = trainingMode(key)
  const forward = withPrecision((p: P, x: Tensor) => model.apply(p, statistics, x, mode), precision)
  const lossOf = (p: P) => {
    const { images, targets } = inputsOf(model, options, batch, key)
    const [logits, state] = forward(p, images)
    const rows = crossEntropyRows(logits, targets, labelSmoothing)
    return [scaleLoss(lossScale, mean(rows)), { rows, logits, state }] as const
  }
  const [[, aux], gradients] = valueAndGrad(lossOf, { hasAux: true })(params)
  const labels = isFloat(batch.labels.dtype) ? argMax(batch.labels) : batch.labels
  const metrics = metricSums(aux.rows, cast(aux.logits, 'f32'), labels, ones(labels.shape), topk)
  return { gradients, state: aux.state, metrics }
}

/** @internal How a model is applied in a pass with that key. */
export const trainingMode = (key: Tensor): Mode & { readonly key: Tensor } => ({ training: true, key: foldIn(key, 1) })

/** @internal Floating images and targets of a batch: labels as they are, or blended probabilities. */
export function inputsOf(
  model: Pick<Layer, 'describe'>,
  { mixup = 0, normalization }: Pick<TrainStepOptions, 'mixup' | 'normalization'>,
  { images, labels }: TrainBatch,
  key: Tensor,
): { readonly images: Tensor; readonly targets: Tensor } {
  const prepare = (x: Tensor): Tensor => normalize(x, normalization)
  const classes = model.describe(images.shape).outputShape.at(-1) ?? 0
  if (mixup === 0) return { images: prepare(images), targets: labels }
  const probabilities = (x: Tensor): Tensor => (isFloat(x.dtype) ? x : oneHot(x, classes))
  return mixUp(foldIn(key, 0), images, labels, mixup, { images: prepare, targets: probabilities })
}

/** @internal The new state from the global batch's scaled gradients, or the old one with another loss scale. */
export function applyGradients<P extends TensorTree, S extends TensorTree>(
  { optimizer, emaDecay = 0.9999 }: TrainStepOptions,
  old: TrainState<P, S>,
  pass: Pass<P, S>,
  learningRate: Tensor,
): [TrainState<P, S>, TrainMetrics] {
  const { gradients, state, metrics } = globalPass(pass)
  const finite = allFinite([gradients, state, metrics.loss])
  const [params, next] = optimizer.update(old.params, unscale(old.lossScale, gradients), old.optimizer, learningRate)
  const average = old.ema === undefined ? undefined : updateAverage(old.ema, { params, state }, old.step, emaDecay)
  const applied = cast(finite, 'i32')
  return [
    {
      params: selectTree(finite, params, old.params),
      state: selectTree(finite, state, old.state),
      optimizer: selectTree(finite, next, old.optimizer),
      ...(old.ema === undefined || average === undefined ? {} : { ema: selectTree(finite, average, old.ema) }),
      lossScale: adjust(old.lossScale, finite),
      step: add(old.step, applied),
      skipped: add(old.skipped, sub(1, applied)),
      key: old.key,
    },
    { ...metrics, finite, scale: old.lossScale.scale },
  ]
}

/** @internal Randomness by the number of steps tried, so that a skipped step does not repeat its draws. */
export function stepKey({ key, step, skipped }: TrainState): Tensor {
  return foldIn(key, add(step, skipped))
}

/** @internal Throws unless the learning rate is an f32 scalar. */
export function checkRate(learningRate: Tensor): void {
  if (learningRate.dtype !== 'f32' || learningRate.shape.length !== 0)
    throw new ValueError(
      `[trainStep] expected the learning rate as an f32 scalar tensor, got ${learningRate.toString()}. Use tensor(rate).`,
    )
}
