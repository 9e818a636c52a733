// A product as cuBLASLt's descriptors. cuBLASLt counts in columns, so a row-major C = A B is asked for as C' = B' A', where
// a row-major matrix is its own transpose without a copy. Choosing an algorithm is candidates.ts's part.
import type { CublasLt, MatmulDescriptor, MatmulPreference, MatrixLayout } from '../ffi/cublaslt.ts'
import {
  type computeTypes,
  epilogues,
  operations,
  type realTypes,
  reductionSchemes,
} from '../ffi/cublaslt-constants.ts'
import { type FloatDType, bytesOf } from '../../tensor/dtype.ts'
import { type Cleanup, allOrNothing } from '../runtime/index.ts'
import type { MatmulProblem } from './problem.ts'

/** Descriptors of one product, as the calls of cuBLASLt take them: its `a` is our B, its `b` our A. */
export interface Operation {
  readonly operation: MatmulDescriptor
  readonly a: MatrixLayout
  readonly b: MatrixLayout
  /** The same as `d`: with beta 0 nothing is read from it. */
  readonly c: MatrixLayout
  readonly d: MatrixLayout
  release(): void
}

const types = { f16: '16F', bf16: '16BF', f32: '32F', f64: '64F' } as const satisfies Record<
  FloatDType,
  keyof typeof realTypes
>

const epilogueNames = { none: 'DEFAULT', bias: 'BIAS', relu: 'RELU', 'bias-relu': 'RELU_BIAS' } as const

/** The type in which alpha and beta are given. */
export function scaleType({ dtype }: MatmulProblem): '32F' | '64F' {
  return dtype === 'f64' ? '64F' : '32F'
}

/** The type sums are kept in. `PEDANTIC` because plain 32F may be emulated where an environment variable asks for it. */
function computeType({ dtype, precision }: MatmulProblem): keyof typeof computeTypes {
  if (dtype === 'f64') return '64F'
  if (dtype !== 'f32') return '32F'
  return precision === 'tf32' ? '32F_FAST_TF32' : '32F_PEDANTIC'
}

/** A matrix as it lies in memory: `rows` of `columns` elements, row-major. */
interface Stored {
  readonly dtype: FloatDType
  readonly rows: number
  readonly columns: number
}

function storedMatrices({ dtype, resultDtype, m, n, k, transposeA, transposeB }: MatmulProblem) {
  const left: Stored = transposeA ? { dtype, rows: k, columns: m } : { dtype, rows: m, columns: k }
  const right: Stored = transposeB ? { dtype, rows: n, columns: k } : { dtype, rows: k, columns: n }
  const result: Stored = { dtype: resultDtype, rows: m, columns: n }
  return { left, right, result }
}

/** Makes the descriptors of a product without empty extents; nothing is left behind where a call fails. */
export function createOperation(blas: CublasLt, problem: MatmulProblem): Operation {
  const { value, cleanup } = allOrNothing((noted) => {
    const operation = noted.own(blas.createMatmul(computeType(problem), scaleType(problem)), (made) =>
      blas.destroyMatmul(made),
    )
    blas.setMatmul(operation, 'TRANSA', problem.transposeB ? operations.T : operations.N)
    blas.setMatmul(operation, 'TRANSB', problem.transposeA ? operations.T : operations.N)
    blas.setMatmul(operation, 'EPILOGUE', epilogues[epilogueNames[problem.epilogue]])
    const { left, right, result } = storedMatrices(problem)
    const layout = (stored: Stored): MatrixLayout => createLayout(blas, stored, problem.batch, noted)
    const [a, b, d] = [layout(right), layout(left), layout(result)]
    return { operation, a, b, c: d, d }
  })
  return { ...value, release: () => cleanup.release() }
}

/** A row-major matrix in columns: its transpose, its rows end to end. */
function createLayout(blas: CublasLt, stored: Stored, batch: number, noted: Cleanup): MatrixLayout {
  const { dtype, rows, columns } = stored
  const layout = noted.own(blas.createLayout(types[dtype], columns, rows, columns), (made) => blas.destroyLayout(made))
  if (batch !== 1) {
    blas.setLayout(layout, 'BATCH_COUNT', batch)
    blas.setLayout(layout, 'STRIDED_BATCH_OFFSET', rows * columns)
  }
  return layout
}

/**
 * What the heuristics may propose: at most `workspaceBytes` of scratch, split sums only where the partial sums are kept in
 * full precision and added in a fixed order, and no vector access that the matrices of a batch are not aligned for.
 * Use it in `use`; it is gone afterwards.
 */
export function withPreference<T>(
  blas: CublasLt,
  problem: MatmulProblem,
  workspaceBytes: number,
  use: (preference: MatmulPreference) => T,
): T {
  const preference = blas.createPreference()
  try {
    const { left, right, result } = storedMatrices(problem)
    blas.setPreference(preference, 'MAX_WORKSPACE_BYTES', workspaceBytes)
    blas.setPreference(preference, 'REDUCTION_SCHEME_MASK', reductionSchemes.COMPUTE_TYPE)
    blas.setPreference(preference, 'MIN_ALIGNMENT_A_BYTES', alignment(right, problem))
    blas.setPreference(preference, 'MIN_ALIGNMENT_B_BYTES', alignment(left, problem))
    blas.setPreference(preference, 'MIN_ALIGNMENT_C_BYTES', alignment(result, problem))
    blas.setPreference(preference, 'MIN_ALIGNMENT_D_BYTES', alignment(result, problem))
    return use(preference)
  } finally {
    blas.destroyPreference(preference)
  }
}

/** Every operand starts at a multiple of 256 bytes; a batch's later matrices may start in between. */
function alignment({ dtype, rows, columns }: Stored, { batch }: MatmulProblem): number {
  if (batch === 1) return 256
  const stride = rows * columns * bytesOf(dtype)
  return [256, 128, 64, 32, 16, 8, 4, 2].find((bytes) => stride % bytes === 0) ?? 1
}
