// The pure parts of training in one place; data/, files/ and report/ have their own.
export { updateAverage } from './ema.ts'
export { type DiagnosisOptions, allFinite, findNonFinite } from './finite.ts'
export { type DynamicOptions, type LossScale, adjust, dynamic, fixed, none, scaleLoss, unscale } from './loss-scale.ts'
export { mapTensors, selectTree } from './map.ts'
export { type MetricMeans, type MetricSums, classRank, metricSums, readMetrics } from './metrics.ts'
export { type Mixed, betaSample, mixUp, permutation } from './mixup.ts'
export { type Normalization, imagenetNormalization, normalize } from './normalize.ts'
export {
  type DecayOptions,
  type Optimizer,
  type RmspropOptions,
  type RmspropState,
  type SgdOptions,
  type SgdState,
  isBatchNormPath,
  rmsprop,
  sgd,
} from './optimizer.ts'
export { type Precision, defaultLossScale, withPrecision } from './policy.ts'
export {
  type DecayingOptions,
  type Schedule,
  type ScheduleOptions,
  type StepOptions,
  cosineSchedule,
  linearSchedule,
  stepSchedule,
} from './schedule.ts'
export { type TrainState, type TrainStateOptions, initTrainState } from './state.ts'
export { type AccumulatingStep, makeAccumulatingStep } from './accumulate.ts'
export { type EvalBatch, type EvalStep, type EvalStepOptions, makeEvalStep, predict } from './eval-step.ts'
export { type TrainBatch, type TrainMetrics, type TrainStep, type TrainStepOptions, makeTrainStep } from './step.ts'
