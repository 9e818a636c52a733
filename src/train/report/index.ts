// The public face of the report folder.
export { metrics, openRunLog } from './dllogger.ts'
export type { MetricMetadata, MetricName, RecordData, RecordStep, RecordValue, RunLog } from './dllogger.ts'
export { etaSeconds, formatDuration, formatRate, progressParts } from './format.ts'
export type { Progress } from './format.ts'
export { emptyMeter, measured, ratesOf } from './meter.ts'
export type { Meter, MeteredStep, Rates } from './meter.ts'
export { progressReporter } from './progress.ts'
export type { ProgressOptions, ProgressReporter, ProgressStream } from './progress.ts'
