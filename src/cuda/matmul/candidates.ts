// The ways to compute a product: the algorithms cuBLASLt's heuristics propose, each as one call. Which is fastest is the
// tuner's question.
import type { MemoryCalls } from '../ffi/driver-memory.ts'
import type { CublasLt } from '../ffi/cublaslt.ts'
import { cublasStatuses } from '../ffi/cublaslt-constants.ts'
import { CudaError } from '../ffi/status.ts'
import type { Session } from '../runtime/index.ts'
import { InternalError } from '../../tensor/errors.ts'
import { at } from '../../tensor/shape.ts'
import type { Candidate, LibraryCall } from '../work.ts'
import { type Configured, algorithmId, isReproducible, readRecipe, writeRecipe } from './algorithm.ts'
import { type Operation, createOperation, scaleType, withPreference } from './operation.ts'
import { type MatmulProblem, hasBias, matmulKey, resultBytes, supportedByCublasLt } from './problem.ts'

/** What products are made with. */
export interface MatmulSession extends Pick<Session, 'cublasLt' | 'blas'> {
  readonly driver: Pick<MemoryCalls, 'fill8'>
  /** Scratch memory an algorithm may ask for, in bytes; 64 MiB unless said otherwise. */
  readonly workspaceLimit?: number
  /** Proposals taken from the heuristics for one problem; 8 unless said otherwise. */
  readonly proposals?: number
}

const defaults = { workspaceLimit: 64 * 2 ** 20, proposals: 8 } as const

/**
 * The candidates for a product, the heuristics' favourite first, each made when it is asked for and owned by whoever asked: none where cuBLASLt has no algorithm for it. A product
 * without elements launches nothing, one over an empty sum is a fill with zeros.
 *
 * The operands of a candidate are A, B, the bias where there is one, and C; each starts at a multiple of 256 bytes.
 *
 * @throws CudaError where cuBLASLt fails for another reason than having no algorithm.
 */
export function* matmulCandidates(
  session: MatmulSession,
  problem: MatmulProblem,
): Generator<Candidate, void, undefined> {
  if (!supportedByCublasLt(problem)) return
  const simple = withoutProduct(session, problem)
  if (simple !== undefined) {
    yield simple
    return
  }
  const seen = new Set<string>()
  for (const configured of proposals(session, problem)) {
    const id = algorithmId(session.cublasLt, configured.algorithm)
    if (seen.has(id)) continue
    seen.add(id)
    yield candidateOf(session, problem, configured)
  }
}

/** The candidate of a recipe; undefined where cuBLASLt would not run it for this problem on this GPU. */
export function matmulFromRecipe(
  session: MatmulSession,
  problem: MatmulProblem,
  recipe: string | undefined,
): Candidate | undefined {
  if (!supportedByCublasLt(problem)) return undefined
  const simple = withoutProduct(session, problem)
  if (simple !== undefined) return simple
  const configured = recipe === undefined ? undefined : readRecipe(recipe)
  if (configured === undefined || !accepts(session, problem, configured)) return undefined
  return candidateOf(session, problem, configured)
}

/** A product that needs no product. */
function withoutProduct({ driver }: MatmulSession, problem: MatmulProblem): Candidate | undefined {
  const bytes = resultBytes(problem)
  if (bytes === 0) return { id: 'cublaslt:nothing', works: [], scratchBytes: 0 }
  if (problem.k > 0) return undefined
  const call: LibraryCall = {
    kind: 'call',
    label: `zeros for ${matmulKey(problem)}`,
    enqueue: (stream, operands) => driver.fill8(at(operands, 2), 0, bytes, stream),
  }
  return { id: 'cublaslt:zeros', works: [call], scratchBytes: 0 }
}

function proposals(session: MatmulSession, problem: MatmulProblem): readonly Configured[] {
  const { cublasLt, blas, workspaceLimit, proposals: most } = { ...defaults, ...session }
  return withOperation(cublasLt, problem, (operation) =>
    withPreference(cublasLt, problem, workspaceLimit, (preference) => {
      const ask = () => cublasLt.proposals(blas, operation, preference, most)
      const found = unless([cublasStatuses.NOT_SUPPORTED], ask) ?? []
      return found.filter(
        ({ algorithm, workspaceBytes }) => workspaceBytes <= workspaceLimit && isReproducible(cublasLt, algorithm),
      )
    }),
  )
}

/** What the check of an algorithm answers where it does not fit the problem, the library or the GPU. */
const refusals = [cublasStatuses.NOT_SUPPORTED, cublasStatuses.INVALID_VALUE, cublasStatuses.ARCH_MISMATCH]

/** Whether cuBLASLt still runs an algorithm with the scratch memory noted for it. */
function accepts(session: MatmulSession, problem: MatmulProblem, configured: Configured): boolean {
  const { cublasLt, blas, workspaceLimit } = { ...defaults, ...session }
  const { algorithm, workspaceBytes } = configured
  if (workspaceBytes > workspaceLimit || !isReproducible(cublasLt, algorithm)) return false
  const checked = withOperation(cublasLt, problem, (operation) =>
    unless(refusals, () => cublasLt.checkAlgorithm(blas, operation, algorithm)),
  )
  return checked !== undefined && checked.workspaceBytes <= workspaceBytes
}

function candidateOf(session: MatmulSession, problem: MatmulProblem, configured: Configured): Candidate {
  const { cublasLt, blas } = session
  const id = algorithmId(cublasLt, configured.algorithm)
  let operation: Operation | undefined = createOperation(cublasLt, problem)
  const call: LibraryCall = {
    kind: 'call',
    label: `${matmulKey(problem)} by ${id}`,
    enqueue: (stream, operands, scratch) => {
      if (operation === undefined) throw new InternalError(`${id} was used after it was released`)
      const [left, right] = [at(operands, 0), at(operands, 1)]
      const result = at(operands, hasBias(problem) ? 3 : 2)
      if (hasBias(problem)) cublasLt.setMatmul(operation.operation, 'BIAS_POINTER', at(operands, 2))
      const data = { aData: right, bData: left, cData: result, dData: result }
      const workspace = { workspace: scratch, workspaceBytes: configured.workspaceBytes }
      const factors = { scale: scaleType(problem), alpha: 1, beta: 0 }
      const { algorithm } = configured
      cublasLt.matmul(blas, { ...operation, ...data, ...factors, ...workspace, algorithm, stream })
    },
  }
  const release = (): void => {
    operation?.release()
    operation = undefined
  }
  return { id, recipe: writeRecipe(configured), works: [call], scratchBytes: configured.workspaceBytes, release }
}

function withOperation<T>(cublasLt: CublasLt, problem: MatmulProblem, use: (operation: Operation) => T): T {
  const operation = createOperation(cublasLt, problem)
  try {
    return use(operation)
  } finally {
    operation.release()
  }
}

/** What cuBLASLt answers; undefined where it fails with one of the statuses. */
function unless<T>(statuses: readonly number[], ask: () => T): T | undefined {
  try {
    return ask()
  } catch (error) {
    if (error instanceof CudaError && statuses.includes(error.status)) return undefined
    throw error
  }
}
