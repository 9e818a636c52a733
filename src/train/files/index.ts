// The public face of the files folder.
export { writeAtomically } from './atomic.ts'
export { checkpointNames, latestCheckpoint, saveCheckpoint } from './checkpoint.ts'
export type { CheckpointOptions } from './checkpoint.ts'
export type { FileDType } from './header.ts'
export {
  exportWeight,
  importWeight,
  oihwToOhwi,
  ohwiToOihw,
  parameterPath,
  recogniseNaming,
  squeezeWidth,
} from './names.ts'
export type { SqueezeWidth, Weight, WeightNaming } from './names.ts'
export { readSafetensors, writeSafetensors } from './safetensors.ts'
export type { FileTensor, NamedTensor, Safetensors } from './safetensors.ts'
export { toFloat32 } from './widen.ts'
