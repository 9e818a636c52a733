// A product as a question to the tuner: cuBLASLt's candidates beside kernels of our own.
import type { TensorType } from '../../tensor/program.ts'
import type { TuningTask } from '../tune/index.ts'
import type { Candidate } from '../work.ts'
import { type MatmulSession, matmulCandidates, matmulFromRecipe } from './candidates.ts'
import { type MatmulProblem, hasBias, matmulKey } from './problem.ts'

/** Products with so few multiplications are timed against a kernel of our own; it never wins the larger ones. */
const smallProduct = 2 ** 24

/**
 * The tuner's task for a product. `plain` makes a kernel of our own that computes it in f32 without TF32 (in f64 for
 * f64): it is what others are checked against, a rival where the product is small, and what is left where cuBLASLt has
 * nothing.
 */
export function matmulTask(session: MatmulSession, problem: MatmulProblem, plain: () => Candidate): TuningTask {
  const { batch, m, n, k, transposeA, transposeB, dtype, resultDtype, precision } = problem
  const left: TensorType = { dtype, shape: transposeA ? [batch, k, m] : [batch, m, k] }
  const right: TensorType = { dtype, shape: transposeB ? [batch, n, k] : [batch, k, n] }
  const bias: readonly TensorType[] = hasBias(problem) ? [{ dtype: resultDtype, shape: [n] }] : []
  return {
    key: matmulKey(problem),
    inputs: [left, right, ...bias],
    outputs: [{ dtype: resultDtype, shape: [batch, m, n] }],
    depth: k,
    precision,
    candidates: function* () {
      const products = batch * m * n * k
      let found = false
      for (const candidate of matmulCandidates(session, problem)) {
        found = true
        yield candidate
      }
      if (!found || (products > 0 && products <= smallProduct)) yield plain()
    },
    restore: (id, recipe) =>
      named(id, matmulFromRecipe(session, problem, recipe)) ?? (recipe === undefined ? named(id, plain()) : undefined),
    reference: plain,
  }
}

/** The candidate if it has the id; otherwise it is released. */
function named(id: string, candidate: Candidate | undefined): Candidate | undefined {
  if (candidate?.id === id) return candidate
  candidate?.release?.()
  return undefined
}
