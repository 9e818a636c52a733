// What products ask of cuBLASLt's own functions: over a fake loader to the bit, and over the real library as far as it goes
// without a GPU. It makes a handle only where there is one, and heuristics want a handle.
import { describe, expect, test } from 'vitest'
import { probe } from '../../src/cuda/discovery-probe.ts'
import { thisMachine } from '../../src/cuda/discovery-machine.ts'
import { type BlasHandle, type Matmul, bindCublasLt } from '../../src/cuda/ffi/cublaslt.ts'
import { heuristicResult } from '../../src/cuda/ffi/cublaslt-constants.ts'
import { koffiNative } from '../../src/cuda/ffi/loader.ts'
import { algorithmId, isReproducible } from '../../src/cuda/matmul/algorithm.ts'
import { createOperation, withPreference } from '../../src/cuda/matmul/operation.ts'
import type { MatmulProblem } from '../../src/cuda/matmul/index.ts'
import { fakeNative } from './fakes.ts'
import { absent, nvidiaFolder } from './wheels.ts'

const problem: MatmulProblem = {
  ...{ dtype: 'f16', resultDtype: 'f16', batch: 1, m: 256, n: 1000, k: 2048, transposeA: false, transposeB: true },
  ...{ precision: 'ieee', epilogue: 'none' },
}

describe('the bindings', () => {
  const bound = (functions: Parameters<typeof fakeNative>[0]) => {
    const fake = fakeNative(functions)
    return { blas: bindCublasLt(fake.native.load('libcublasLt.so.13')), calls: fake.calls }
  }
  const handles = { operation: 1n, a: 2n, b: 3n, c: 4n, d: 4n }
  const product = {
    ...handles,
    ...{ alpha: 1, beta: 0, aData: 5n, bData: 6n, cData: 7n, dData: 7n, stream: 8n, algorithm: new Uint8Array(64) },
    ...{ workspace: undefined, workspaceBytes: 512 },
  } as unknown as Matmul

  test('alpha and beta are doubles where the scale type is, and floats elsewhere', () => {
    const { blas, calls } = bound({})
    blas.matmul(9n as BlasHandle, { ...product, scale: '64F' })
    expect([calls.at(-1)?.values[2], calls.at(-1)?.values[7]]).toEqual([Float64Array.of(1), Float64Array.of(0)])
    blas.matmul(9n as BlasHandle, product)
    expect([calls.at(-1)?.values[2], calls.at(-1)?.values[7]]).toEqual([Float32Array.of(1), Float32Array.of(0)])
    // Without a workspace its size is 0, whatever the algorithm wants.
    expect(calls.at(-1)?.values.slice(13)).toEqual([null, 0, 8n])
  })

  test('a checked algorithm says what it needs', () => {
    const { blas, calls } = bound({
      cublasLtMatmulAlgoCheck: (...values) => {
        const result = values[7] as Uint8Array
        new DataView(result.buffer).setBigUint64(heuristicResult.workspaceSize, 4096n, true)
        new DataView(result.buffer).setFloat32(heuristicResult.wavesCount, 0.5, true)
        return 0
      },
    })
    const algorithm = new Uint8Array(64).fill(3)
    expect(blas.checkAlgorithm(9n as BlasHandle, handles as never, algorithm)).toEqual({
      workspaceBytes: 4096,
      waves: 0.5,
    })
    expect(calls.at(-1)?.values.slice(0, 7)).toEqual([9n, 1n, 2n, 3n, 4n, 4n, algorithm])
  })
})

const nvidia = nvidiaFolder()
if (nvidia === undefined) absent('products are not described to the real cuBLASLt, because there is none')

describe.skipIf(nvidia === undefined)('the real cuBLASLt', () => {
  const environment = { ...process.env, PULLBACK_CUDA_PATH: nvidia ?? '' }
  const found = nvidia === undefined ? undefined : probe(thisMachine(environment), koffiNative())
  const library = () => {
    if (found?.libraries.cublasLt === undefined) throw new Error('no cuBLASLt')
    return found.libraries.cublasLt
  }

  const variants: readonly Partial<MatmulProblem>[] = [
    {},
    { dtype: 'bf16', resultDtype: 'f32', epilogue: 'bias-relu' },
    { dtype: 'f32', resultDtype: 'f32', precision: 'tf32', transposeA: true, epilogue: 'relu' },
    { dtype: 'f32', resultDtype: 'f32', transposeB: false, epilogue: 'bias' },
    { dtype: 'f64', resultDtype: 'f64', batch: 7, m: 1, n: 3, k: 5 },
  ]

  test.each(variants)('takes every attribute of the descriptors and preferences of %o', (changes) => {
    const blas = library()
    const described = { ...problem, ...changes }
    const operation = createOperation(blas, described)
    withPreference(blas, described, 2 ** 26, () => undefined)
    if (described.epilogue.startsWith('bias')) blas.setMatmul(operation.operation, 'BIAS_POINTER', 0x1000n)
    operation.release()
  })

  test('names an algorithm by attributes of the widths it has', () => {
    const algorithm = new Uint8Array(64)
    expect(algorithmId(library(), algorithm)).toMatch(
      /^cublaslt:algorithm \d+ tile \d+ stages \d+ split \d+ scheme 0 swizzle \d+ custom \d+ inner \d+ cluster \d+ [0-9a-f]{8}$/,
    )
    expect(isReproducible(library(), algorithm)).toBe(true)
  })

  const driver = found?.libraries.driver
  if (driver !== undefined)
    process.stderr.write('skipped: what cuBLASLt says without a GPU, because there is a driver\n')
  test.skipIf(driver !== undefined)('makes no handle without a GPU, and says so in a sentence', () => {
    expect(() => library().create()).toThrow(/cublasLtCreate \(cuBLASLt\) failed with status 1.*The GPU cannot be used/)
  })
})
