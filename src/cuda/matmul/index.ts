// Matrix products by cuBLASLt.
export {
  type MatmulSession,
  matmulCandidates,
  matmulFromRecipe,
} from './candidates.ts'
export {
  type DotEquation,
  type Epilogue,
  type MatmulProblem,
  type Precision,
  matmulKey,
  matmulProblem,
  supportedByCublasLt,
} from './problem.ts'
export { matmulTask } from './task.ts'
