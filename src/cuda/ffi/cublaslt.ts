// Prototypes of cuBLASLt: descriptors, heuristics and the product itself. Which algorithm to take is the matmul's part.
import { range } from '../../tensor/shape.ts'
import type { Stream } from './driver-queues.ts'
import {
  algorithmAttributes,
  algorithmBytes,
  computeTypes,
  heuristicResult,
  layoutAttributes,
  matmulAttributes,
  preferenceAttributes,
  realTypes,
} from './cublaslt-constants.ts'
import type { NativeLibrary } from './loader.ts'
import { type Check, checker, statusBinder } from './status.ts'
import type { DevicePointer, Handle, Out } from './values.ts'
import { count, long, outParameter, pointer, positive, typed } from './values.ts'

/** A cublasLtHandle_t. */
export type BlasHandle = Handle<'cublasLt'>
/** A cublasLtMatmulDesc_t. */
export type MatmulDescriptor = Handle<'matmul descriptor'>
/** A cublasLtMatrixLayout_t. */
export type MatrixLayout = Handle<'matrix layout'>
/** A cublasLtMatmulPreference_t. */
export type MatmulPreference = Handle<'matmul preference'>
/** A cublasLtMatmulAlgo_t: 64 bytes that may be kept for the same version of the library. */
export type Algorithm = Uint8Array

/** What a product works on. */
export interface MatmulProblem {
  readonly operation: MatmulDescriptor
  readonly a: MatrixLayout
  readonly b: MatrixLayout
  readonly c: MatrixLayout
  readonly d: MatrixLayout
}

/** One product: d = alpha * a b + beta * c, and the epilogue. */
export interface Matmul extends MatmulProblem {
  /** What alpha and beta are read as: the descriptor's scale type. 32F where left out. */
  readonly scale?: '32F' | '64F'
  readonly alpha: number
  readonly beta: number
  readonly aData: DevicePointer
  readonly bData: DevicePointer
  readonly cData: DevicePointer
  readonly dData: DevicePointer
  readonly algorithm: Algorithm
  readonly workspace: DevicePointer | undefined
  readonly workspaceBytes: number
  readonly stream: Stream
}

/** An algorithm the heuristics propose. */
export interface Proposal {
  readonly algorithm: Algorithm
  readonly workspaceBytes: number
  /** How often the grid fills the GPU. */
  readonly waves: number
}

/** cuBLASLt's calls. Every one throws a CudaError that names the call and the status. */
export interface CublasLt {
  /** 10000 * major + 100 * minor + patch. */
  version(): number
  /** The CUDA version it was built for, as 1000 * major + 10 * minor. */
  cudaVersion(): number
  create(): BlasHandle
  destroy(handle: BlasHandle): void
  createMatmul(compute: keyof typeof computeTypes, scale: keyof typeof realTypes): MatmulDescriptor
  setMatmul(descriptor: MatmulDescriptor, attribute: keyof typeof matmulAttributes, value: number | bigint): void
  destroyMatmul(descriptor: MatmulDescriptor): void
  /** `leading` is the distance in elements between columns (or rows, in row order). */
  createLayout(type: keyof typeof realTypes, rows: number, columns: number, leading: number): MatrixLayout
  setLayout(layout: MatrixLayout, attribute: keyof typeof layoutAttributes, value: number | bigint): void
  destroyLayout(layout: MatrixLayout): void
  createPreference(): MatmulPreference
  setPreference(
    preference: MatmulPreference,
    attribute: keyof typeof preferenceAttributes,
    value: number | bigint,
  ): void
  destroyPreference(preference: MatmulPreference): void
  /** The algorithms the heuristics propose, best first. */
  proposals(handle: BlasHandle, problem: MatmulProblem, preference: MatmulPreference, most: number): readonly Proposal[]
  /** What an algorithm needs for a problem on the current device. Throws where it cannot run there. */
  checkAlgorithm(handle: BlasHandle, problem: MatmulProblem, algorithm: Algorithm): Omit<Proposal, 'algorithm'>
  algorithmAttribute(algorithm: Algorithm, attribute: keyof typeof algorithmAttributes): number
  matmul(handle: BlasHandle, matmul: Matmul): void
}

/** Binds libcublasLt. Nothing is called yet. */
export function bindCublasLt(library: NativeLibrary): CublasLt {
  const name = library.func('cublasLtGetStatusName', 'const char *', ['int'])
  const string = library.func('cublasLtGetStatusString', 'const char *', ['int'])
  const check = checker('cuBLASLt', (status) => ({ name: String(name(status)), text: String(string(status)) }))
  const out = outParameter()
  return {
    ...bindHandles(library, check, out),
    ...bindDescriptors(library, check, out),
    ...bindPreferences(library, check, out),
    ...bindAlgorithms(library, check),
    ...bindProduct(library, check),
  }
}

function bindHandles(
  library: NativeLibrary,
  check: Check,
  out: Out,
): Pick<CublasLt, 'version' | 'cudaVersion' | 'create' | 'destroy'> {
  const bind = statusBinder(library, check)
  const version = library.func('cublasLtGetVersion', 'size_t', [])
  const cudaVersion = library.func('cublasLtGetCudartVersion', 'size_t', [])
  const create = bind('cublasLtCreate', 'void *')
  const destroy = bind('cublasLtDestroy', 'void *')
  return {
    version: () => Number(version()),
    cudaVersion: () => Number(cudaVersion()),
    create: () => (create(out.clear()), out.handle('cublasLtCreate')),
    destroy: (handle) => destroy(pointer(handle)),
  }
}

type Matmuls = 'createMatmul' | 'setMatmul' | 'destroyMatmul'
type Layouts = 'createLayout' | 'setLayout' | 'destroyLayout'

function bindDescriptors(library: NativeLibrary, check: Check, out: Out): Pick<CublasLt, Matmuls | Layouts> {
  const bind = statusBinder(library, check)
  const createMatmul = bind('cublasLtMatmulDescCreate', 'void *', 'int', 'int')
  const setMatmul = bind('cublasLtMatmulDescSetAttribute', 'void *', 'int', 'void *', 'size_t')
  const destroyMatmul = bind('cublasLtMatmulDescDestroy', 'void *')
  const createLayout = bind('cublasLtMatrixLayoutCreate', 'void *', 'int', 'uint64_t', 'uint64_t', 'int64_t')
  const setLayout = bind('cublasLtMatrixLayoutSetAttribute', 'void *', 'int', 'void *', 'size_t')
  const destroyLayout = bind('cublasLtMatrixLayoutDestroy', 'void *')
  return {
    createMatmul: (compute, scale) => (
      createMatmul(out.clear(), computeTypes[compute], realTypes[scale]), out.handle('cublasLtMatmulDescCreate')
    ),
    setMatmul: (descriptor, key, value) => {
      const [attribute, bytes] = matmulAttributes[key]
      setMatmul(pointer(descriptor), attribute, cell(value, bytes), bytes)
    },
    destroyMatmul: (descriptor) => destroyMatmul(pointer(descriptor)),
    createLayout: (type, rows, columns, leading) => (
      createLayout(out.clear(), realTypes[type], positive(rows), positive(columns), long(leading)),
      out.handle('cublasLtMatrixLayoutCreate')
    ),
    setLayout: (layout, key, value) => {
      const [attribute, bytes] = layoutAttributes[key]
      setLayout(pointer(layout), attribute, cell(value, bytes), bytes)
    },
    destroyLayout: (layout) => destroyLayout(pointer(layout)),
  }
}

type Preferences = 'createPreference' | 'setPreference' | 'destroyPreference'

function bindPreferences(library: NativeLibrary, check: Check, out: Out): Pick<CublasLt, Preferences> {
  const bind = statusBinder(library, check)
  const create = bind('cublasLtMatmulPreferenceCreate', 'void *')
  const set = bind('cublasLtMatmulPreferenceSetAttribute', 'void *', 'int', 'void *', 'size_t')
  const destroy = bind('cublasLtMatmulPreferenceDestroy', 'void *')
  return {
    createPreference: () => (create(out.clear()), out.handle('cublasLtMatmulPreferenceCreate')),
    setPreference: (preference, key, value) => {
      const [attribute, bytes] = preferenceAttributes[key]
      set(pointer(preference), attribute, cell(value, bytes), bytes)
    },
    destroyPreference: (preference) => destroy(pointer(preference)),
  }
}

type Algorithms = 'proposals' | 'checkAlgorithm' | 'algorithmAttribute'

function bindAlgorithms(library: NativeLibrary, check: Check): Pick<CublasLt, Algorithms> {
  const bind = statusBinder(library, check)
  const p = 'void *'
  const heuristic = bind('cublasLtMatmulAlgoGetHeuristic', p, p, p, p, p, p, p, 'int', p, p)
  const checkAlgorithm = bind('cublasLtMatmulAlgoCheck', p, p, p, p, p, p, p, p)
  const attribute = bind('cublasLtMatmulAlgoConfigGetAttribute', p, 'int', p, 'size_t', p)
  return {
    proposals: (handle, { operation, a, b, c, d }, preference, most) => {
      const results = new Uint8Array(positive(most) * heuristicResult.bytes)
      const found = new Int32Array(1)
      const layouts = [a, b, c, d].map(pointer)
      heuristic(pointer(handle), pointer(operation), ...layouts, pointer(preference), most, results, found)
      return readProposals(results, Math.min(count(found[0] ?? 0), most))
    },
    checkAlgorithm: (handle, { operation, a, b, c, d }, algorithm) => {
      const result = new Uint8Array(heuristicResult.bytes)
      const layouts = [a, b, c, d].map(pointer)
      checkAlgorithm(pointer(handle), pointer(operation), ...layouts, typed(algorithm, algorithmBytes), result)
      const { workspaceBytes, waves } = readProposal(new DataView(result.buffer))
      return { workspaceBytes, waves }
    },
    algorithmAttribute: (algorithm, key) => {
      const [number, bytes] = algorithmAttributes[key]
      const value = new Int32Array(1)
      const written = new BigUint64Array(1)
      attribute(typed(algorithm, algorithmBytes), number, value, bytes, written)
      return value[0] ?? 0
    },
  }
}

function readProposals(results: Uint8Array, found: number): readonly Proposal[] {
  const { bytes } = heuristicResult
  const proposals = range(found).map((index) => readProposal(new DataView(results.buffer, index * bytes, bytes)))
  return proposals.flatMap(({ state, ...proposal }) => (state === 0 ? [proposal] : []))
}

function readProposal(view: DataView): Proposal & { readonly state: number } {
  const { algo, workspaceSize, state, wavesCount } = heuristicResult
  return {
    state: view.getInt32(state, true),
    algorithm: new Uint8Array(view.buffer, view.byteOffset + algo, algorithmBytes).slice(),
    workspaceBytes: Number(view.getBigUint64(workspaceSize, true)),
    waves: view.getFloat32(wavesCount, true),
  }
}

function bindProduct(library: NativeLibrary, check: Check): Pick<CublasLt, 'matmul'> {
  const bind = statusBinder(library, check)
  const p = 'void *'
  const matmul = bind('cublasLtMatmul', p, p, p, p, p, p, p, p, p, p, p, p, p, p, 'size_t', p)
  return {
    matmul: (handle, problem) => {
      const factor = (value: number) => (problem.scale === '64F' ? Float64Array.of(value) : Float32Array.of(value))
      matmul(
        pointer(handle),
        pointer(problem.operation),
        factor(problem.alpha),
        pointer(problem.aData),
        pointer(problem.a),
        pointer(problem.bData),
        pointer(problem.b),
        factor(problem.beta),
        pointer(problem.cData),
        pointer(problem.c),
        pointer(problem.dData),
        pointer(problem.d),
        typed(problem.algorithm, algorithmBytes),
        problem.workspace === undefined ? null : pointer(problem.workspace),
        count(problem.workspace === undefined ? 0 : problem.workspaceBytes),
        pointer(problem.stream),
      )
    },
  }
}

/** A value in as many bytes as its attribute has. */
function cell(value: number | bigint, bytes: 4 | 8): Int32Array | BigInt64Array {
  if (bytes === 8) return BigInt64Array.of(BigInt(typeof value === 'number' ? long(value) : value))
  return Int32Array.of(long(Number(value)))
}
