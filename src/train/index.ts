// The pure parts of training in one place; data/, files/ and report/ have their own.
export { updateAverage } from './ema.ts'
export { type DiagnosisOptions, allFinite, findNonFinite } from './finite.ts'
export { type DynamicOptions, type LossScale, adjust, dynamic, fixed, none, scaleLoss, unscale } from './loss-scale.ts'
export { mapTensors, selectTree } from './map.ts'
export { type MetricMeans, type MetricSums, classRank, metricSums, readMetrics } from './metrics.ts'
export { type MixUpOptions, type Mixed, betaSample, mixUp, permutation } from './mixup.ts'
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
// Data, files, reports and the loop.
export {
  type Batch,
  type BatchStream,
  type BrokenImages,
  type FolderBatchesOptions,
  type ImageFolder,
  type Split,
  type TrainBatchesOptions,
  evalBatches,
  evaluationCut,
  imageDecoder,
  imageFolder,
  syntheticBatches,
  trainBatches,
} from './data/index.ts'
export {
  type CheckpointOptions,
  type FileDType,
  type FileTensor,
  type NamedTensor,
  type Safetensors,
  type SqueezeWidth,
  type Weight,
  type WeightNaming,
  checkpointNames,
  latestCheckpoint,
  readSafetensors,
  saveCheckpoint,
  squeezeWidth,
  writeSafetensors,
} from './files/index.ts'
export {
  type Progress,
  type ProgressOptions,
  type ProgressReporter,
  type ProgressStream,
  type RecordData,
  type RecordStep,
  type RecordValue,
  type Rates,
  type RunLog,
  openRunLog,
  progressReporter,
} from './report/index.ts'
export {
  type Checkpoint,
  type RunIdentity,
  type RunPosition,
  checkpointEntries,
  checkpointMetadata,
  readCheckpoint,
  restoreState,
} from './checkpoint.ts'
export { type Ending, type FitOptions, type FitResult, type LoopCheckpoints, fit } from './loop.ts'
export { disposeTree } from './run/batch.ts'
export { type Computed, computedOf } from './run/computed.ts'
export { type DeviceReporter, deviceReporter } from './run/device-report.ts'
export { type Evaluation, type EvaluateOptions, evaluate } from './run/evaluate.ts'
export { evaluationRecord, evaluationLine } from './run/report.ts'
export {
  type DataSource,
  type FolderSourceOptions,
  type SourceOptions,
  folderSource,
  syntheticSource,
} from './run/source.ts'
export { imageTensor } from './run/image.ts'
export { type Run, type StartOptions, checkIdentity, resumeRun, squeezeOf, startRun } from './run/start.ts'
export {
  type PretrainedWeights,
  type WeightReport,
  pretrainedVariables,
  readWeights,
  reportSentences,
} from './run/weights.ts'
export type { Box, Cut, Extent } from './data/crop.ts'
export type { DecodeImage } from './data/decode.ts'
export type { SyntheticOptions } from './data/synthetic.ts'
export type { RowMeans } from './run/batch.ts'
