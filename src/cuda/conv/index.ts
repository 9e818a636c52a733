// Convolutions through cuDNN: what the rest of the CUDA device uses of this folder.
export {
  type ConvOptions,
  NoPlanError,
  convCandidates,
  convFromRecipe,
  convKey,
  convOperands,
  defaultWorkspaceBytes,
  isRefusal,
} from './candidates.ts'
export type {
  Epilogue,
  EpilogueMode,
  EpilogueOperand,
  EpilogueStep,
  EpilogueValue,
} from './epilogue.ts'
export type { Fusion as ConvFusion } from './graph.ts'
export {
  type ConvEquation,
  type ConvPrecision,
  type ConvProblem,
  convProblem,
  isConvolution,
  showProblem,
  supportedByCudnn,
} from './problem.ts'
export { showEpilogue } from './epilogue.ts'
export { type CudnnSession, deviceSession, propertiesSession } from './session.ts'
