// cuBLASLt in TypeScript: descriptors that are counted, heuristics that say what the test says, and products in float64 by
// the columns-first rules of the real one, over fake memory.
import type { Algorithm, CublasLt, Proposal } from '../../src/cuda/ffi/cublaslt.ts'
import { algorithmAttributes, cublasStatuses, epilogues, operations } from '../../src/cuda/ffi/cublaslt-constants.ts'
import { CudaError } from '../../src/cuda/ffi/status.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import { type DType, bytesOf, storageView } from '../../src/tensor/dtype.ts'
import { decode, encode } from '../../src/tensor/half.ts'
import { at, range } from '../../src/tensor/shape.ts'
import type { MatmulProblem, MatmulSession } from '../../src/cuda/matmul/index.ts'
import { FakeMemory } from './tune-fake.ts'

/** The elements of a tensor in fake memory. */
export function load(memory: FakeMemory, address: DevicePointer | bigint, dtype: DType, count: number) {
  const bytes = memory.bytes(address, count * bytesOf(dtype)).slice()
  return decode(dtype, storageView(dtype, bytes.buffer, 0, count))
}

/** Puts elements into fake memory. */
export function keep(memory: FakeMemory, address: DevicePointer, dtype: DType, values: ArrayLike<number>): void {
  const stored = encode(dtype, values)
  if (stored.byteLength > 0) memory.bytes(address, stored.byteLength).set(new Uint8Array(stored.buffer))
}

export function blasFailure(call: string, status: keyof typeof cublasStatuses): CudaError {
  return new CudaError('cuBLASLt', call, cublasStatuses[status], { name: status, text: '' })
}

/** An algorithm whose bytes hold its attributes, one a byte, and a mark behind them. */
export function fakeAlgorithm(
  attributes: Partial<Record<keyof typeof algorithmAttributes, number>>,
  mark = 0,
): Algorithm {
  const algorithm = new Uint8Array(64)
  for (const [name, value] of Object.entries(attributes))
    algorithm[algorithmAttributes[name as keyof typeof algorithmAttributes][0]] = value
  algorithm[63] = mark
  return algorithm
}

interface Layout {
  readonly dtype: DType
  readonly rows: number
  readonly columns: number
  readonly leading: number
  readonly attributes: Map<string, number>
}

const dtypes: Readonly<Record<string, DType>> = { '16F': 'f16', '16BF': 'bf16', '32F': 'f32', '64F': 'f64' }

export interface FakeBlasOptions {
  readonly proposals?: () => readonly Proposal[]
  readonly check?: (algorithm: Algorithm) => Omit<Proposal, 'algorithm'>
  /** Called before each call; what it throws is what the call throws. */
  readonly before?: (call: string) => void
}

/** A cuBLASLt whose products run at once. */
export function fakeBlas(memory: FakeMemory, options: FakeBlasOptions = {}) {
  const objects = new Map<bigint, Layout | Map<string, number | bigint>>()
  const preferences: Map<string, number | bigint>[] = []
  const computed: { readonly compute: string; readonly scale: string }[] = []
  const kinds = new Map<bigint, { readonly compute: string; readonly scale: string }>()
  let next = 0x1000n
  const create = (object: Layout | Map<string, number | bigint>): never => {
    objects.set((next += 16n), object)
    return next as never
  }
  const destroy = (handle: bigint): void => {
    if (!objects.delete(handle)) throw new Error('destroyed what is not there')
  }
  const layout = (handle: bigint): Layout => {
    const found = objects.get(handle)
    if (found === undefined || found instanceof Map) throw new Error('no layout')
    return found
  }
  const settings = (handle: bigint): Map<string, number | bigint> => {
    const found = objects.get(handle)
    if (!(found instanceof Map)) throw new Error('no descriptor')
    return found
  }
  const blas: CublasLt = {
    version: () => 130101,
    cudaVersion: () => 13000,
    create: () => create(new Map()),
    destroy,
    createMatmul: (compute, scale) => {
      const made = create(new Map())
      kinds.set(made, { compute, scale })
      return made
    },
    setMatmul: (handle, attribute, value) => void settings(handle).set(attribute, value),
    destroyMatmul: destroy,
    createLayout: (type, rows, columns, leading) =>
      create({ dtype: dtypes[type] ?? 'i32', rows, columns, leading, attributes: new Map() }),
    setLayout: (handle, attribute, value) => void layout(handle).attributes.set(attribute, Number(value)),
    destroyLayout: destroy,
    createPreference: () => create(new Map()),
    setPreference: (handle, attribute, value) => void settings(handle).set(attribute, value),
    destroyPreference: destroy,
    proposals: (_handle, _problem, preference, most) => {
      preferences.push(new Map(settings(preference)))
      return (options.proposals?.() ?? [{ algorithm: fakeAlgorithm({ ID: 1 }), workspaceBytes: 0, waves: 1 }]).slice(
        0,
        most,
      )
    },
    checkAlgorithm: (_handle, _problem, algorithm) => options.check?.(algorithm) ?? { workspaceBytes: 0, waves: 1 },
    algorithmAttribute: (algorithm, attribute) => at(algorithm, algorithmAttributes[attribute][0]),
    matmul: (_handle, matmul) => {
      const descriptor = settings(matmul.operation)
      const kind = kinds.get(matmul.operation) ?? { compute: '', scale: '' }
      if (kind.scale !== (matmul.scale ?? '32F')) throw new Error('alpha is of another type than the descriptor says')
      computed.push(kind)
      if (matmul.workspaceBytes > 0) memory.bytes(matmul.workspace ?? 0n, matmul.workspaceBytes)
      product(memory, descriptor, { ...matmul, layouts: [matmul.a, matmul.b, matmul.d].map(layout) })
    },
  }
  const watched = Object.fromEntries(
    Object.entries(blas).map(([name, call]) => [
      name,
      (...values: never[]) => {
        if (!name.startsWith('destroy')) options.before?.(name)
        return (call as (...values: never[]) => unknown)(...values)
      },
    ]),
  ) as unknown as CublasLt
  return { blas: watched, objects, preferences, computed }
}

interface Product {
  readonly layouts: readonly Layout[]
  readonly aData: DevicePointer
  readonly bData: DevicePointer
  readonly dData: DevicePointer
  readonly alpha: number
  readonly beta: number
}

/** A matrix of a batch as a function of row and column. */
function matrix(memory: FakeMemory, address: bigint, layout: Layout, transposed: boolean) {
  const { dtype, rows, columns, leading, attributes } = layout
  if (leading < rows) throw new Error('the leading dimension is smaller than the rows')
  const batch = attributes.get('BATCH_COUNT') ?? 1
  const stride = attributes.get('STRIDED_BATCH_OFFSET') ?? 0
  const values = load(memory, address, dtype, stride * (batch - 1) + leading * (columns - 1) + rows)
  const place = (index: number, row: number, column: number): number => index * stride + column * leading + row
  return {
    ...{ batch, place, dtype },
    extents: transposed ? [columns, rows] : [rows, columns],
    element: (index: number, row: number, column: number) =>
      at(values as ArrayLike<number>, transposed ? place(index, column, row) : place(index, row, column)),
  }
}

function product(memory: FakeMemory, descriptor: Map<string, number | bigint>, call: Product): void {
  const a = matrix(memory, call.aData, at(call.layouts, 0), descriptor.get('TRANSA') === operations.T)
  const b = matrix(memory, call.bData, at(call.layouts, 1), descriptor.get('TRANSB') === operations.T)
  const d = matrix(memory, call.dData, at(call.layouts, 2), false)
  const [rows, inner] = a.extents as [number, number]
  if (b.extents[0] !== inner || d.extents[0] !== rows || d.extents[1] !== b.extents[1])
    throw new Error('extents differ')
  if (a.batch !== d.batch || b.batch !== d.batch) throw new Error('batches differ')
  const epilogue = descriptor.get('EPILOGUE') ?? epilogues.DEFAULT
  const hasBias = epilogue === epilogues.BIAS || epilogue === epilogues.RELU_BIAS
  const hasRelu = epilogue === epilogues.RELU || epilogue === epilogues.RELU_BIAS
  const bias = hasBias ? load(memory, BigInt(descriptor.get('BIAS_POINTER') ?? 0n), d.dtype, rows) : undefined
  const out: number[] = []
  for (const index of range(d.batch))
    for (const row of range(rows))
      for (const column of range(at(d.extents, 1))) {
        const sum = range(inner).reduce((total, k) => total + a.element(index, row, k) * b.element(index, k, column), 0)
        const value = call.alpha * sum + (bias?.[row] ?? 0)
        out[d.place(index, row, column)] = hasRelu ? Math.max(0, value) : value
      }
  if (call.beta !== 0) throw new Error('beta is not 0')
  keep(memory, call.dData, d.dtype, out)
}

/** A session over a stand-in, with its memory. */
export function sessionOver(options: FakeBlasOptions = {}, limits: Partial<MatmulSession> = {}) {
  const memory = new FakeMemory()
  const fake = fakeBlas(memory, options)
  const fill8: MatmulSession['driver']['fill8'] = (to, value, bytes) =>
    void memory.bytes(to, bytes).fill(value, 0, bytes)
  const session: MatmulSession = { cublasLt: fake.blas, blas: 0x9n as never, driver: { fill8 }, ...limits }
  return { ...fake, session, memory }
}

/** The product of a 2x4 and a 4x3 matrix. */
export const plain: MatmulProblem = {
  ...{ dtype: 'f32', resultDtype: 'f32', batch: 1, m: 2, n: 3, k: 4, transposeA: false, transposeB: false },
  ...{ precision: 'ieee', epilogue: 'none' },
}

/** A proposal of the heuristics. */
export const proposal = (attributes: Parameters<typeof fakeAlgorithm>[0], workspaceBytes = 0, mark = 0): Proposal => ({
  algorithm: fakeAlgorithm(attributes, mark),
  workspaceBytes,
  waves: 1,
})
