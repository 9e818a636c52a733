// Choosing among candidates by time, and remembering it.
export type { Bench, Bound, Clock, Recording } from './bench.ts'
export { TuningCache, type TuningEntry, type TuningIdentity, tuningIdentity } from './cache.ts'
export { runtimeBench } from './runtime-bench.ts'
export {
  type TaskTypes,
  type TuningTask,
  type Operands,
  fillRandom,
  isOutOfMemory,
  tensorBytes,
  withOperands,
} from './task.ts'
export { type TunerOptions, type TuningCounts, tuningOptions } from './options.ts'
export { Tuner } from './tuner.ts'
export { results, roundings, tolerance, valuesOf } from './verify.ts'
