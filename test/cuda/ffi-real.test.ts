// The bindings over the real libraries, on a machine that may have no GPU: what loads, compiles and fails as documented.
import { describe, expect, test } from 'vitest'
import { discover } from '../../src/cuda/discovery.ts'
import { thisMachine } from '../../src/cuda/discovery-machine.ts'
import { probe } from '../../src/cuda/discovery-probe.ts'
import { koffiNative } from '../../src/cuda/ffi/loader.ts'
import { nvrtcErrors } from '../../src/cuda/ffi/nvrtc.ts'
import type { CudaError } from '../../src/cuda/ffi/status.ts'
import { absent, nvidiaFolder } from './wheels.ts'

const nvidia = nvidiaFolder()
if (nvidia === undefined) absent('the bindings are not tried on the real libraries, because there are none')

describe.skipIf(nvidia === undefined)('the real libraries', () => {
  const environment = { ...process.env, PULLBACK_CUDA_PATH: nvidia ?? '' }
  const found = nvidia === undefined ? undefined : probe(thisMachine(environment), koffiNative())

  test('all but the driver are found in the folder, load, and are new enough', () => {
    expect(found?.problems.filter(({ code }) => !code.startsWith('driver') && !code.startsWith('gpu'))).toEqual([])
    expect(found?.discovery.cudnn?.origin).toBe('PULLBACK_CUDA_PATH')
    expect(found?.versions.cudnn?.version).toBeGreaterThanOrEqual(90_800)
    expect(new Set(found?.versions.cudnnLoaded?.map((path) => path.replace(/\/[^/]*$/, '')))).toEqual(
      new Set([found?.discovery.cudnn?.folder]),
    )
  })

  test('NVRTC compiles a kernel for sm_80, sm_90 and sm_100, and tells what is wrong with another', () => {
    const nvrtc = found?.libraries.nvrtc
    if (nvrtc === undefined) throw new Error('no NVRTC')
    for (const architecture of ['sm_80', 'sm_90', 'sm_100']) {
      const program = nvrtc.createProgram('extern "C" __global__ void k(float *x) { x[threadIdx.x] *= 2; }', 'k.cu')
      nvrtc.compileProgram(program, [`--gpu-architecture=${architecture}`])
      expect([...nvrtc.cubin(program).subarray(0, 4)]).toEqual([0x7f, 0x45, 0x4c, 0x46])
      nvrtc.destroyProgram(program)
    }
    const wrong = nvrtc.createProgram('extern "C" __global__ void k() { x = ; }', 'wrong.cu')
    try {
      nvrtc.compileProgram(wrong, ['--gpu-architecture=sm_90'])
      expect.unreachable()
    } catch (error) {
      expect((error as CudaError).status).toBe(nvrtcErrors.COMPILATION)
    }
    expect(nvrtc.programLog(wrong)).toContain('wrong.cu(1): error')
    nvrtc.destroyProgram(wrong)
  })

  test('cuBLASLt makes and fills descriptors without a device', () => {
    const blas = found?.libraries.cublasLt
    if (blas === undefined) throw new Error('no cuBLASLt')
    const matmul = blas.createMatmul('32F_FAST_TF32', '32F')
    blas.setMatmul(matmul, 'TRANSA', 1)
    blas.setMatmul(matmul, 'BIAS_POINTER', 0x1000n)
    const layout = blas.createLayout('16BF', 64, 32, 64)
    blas.setLayout(layout, 'STRIDED_BATCH_OFFSET', 2048)
    const preference = blas.createPreference()
    blas.setPreference(preference, 'MAX_WORKSPACE_BYTES', 2 ** 25)
    blas.destroyPreference(preference)
    blas.destroyLayout(layout)
    blas.destroyMatmul(matmul)
  })

  test('cuDNN finalizes a tensor, reads it back, and says what is wrong with another', () => {
    const cudnn = found?.libraries.cudnn
    if (cudnn === undefined) throw new Error('no cuDNN')
    const tensor = cudnn.createDescriptor('TENSOR')
    cudnn.setAttribute(tensor, 'TENSOR_DATA_TYPE', 'DATA_TYPE', Int32Array.of(2))
    cudnn.setAttribute(tensor, 'TENSOR_DIMENSIONS', 'INT64', BigInt64Array.of(8n, 64n, 7n, 7n))
    expect(() => cudnn.finalize(tensor, 'tensor')).toThrow(/cudnnBackendFinalize\(tensor\).*status 2000.*stride/)
    cudnn.setAttribute(tensor, 'TENSOR_STRIDES', 'INT64', BigInt64Array.of(3136n, 1n, 448n, 64n))
    cudnn.setAttribute(tensor, 'TENSOR_UNIQUE_ID', 'INT64', BigInt64Array.of(7n))
    cudnn.setAttribute(tensor, 'TENSOR_BYTE_ALIGNMENT', 'INT64', BigInt64Array.of(16n))
    cudnn.finalize(tensor, 'tensor')
    const dimensions = new BigInt64Array(8)
    expect(cudnn.getAttribute(tensor, 'TENSOR_DIMENSIONS', 'INT64', dimensions)).toBe(4)
    expect([...dimensions.subarray(0, 4)]).toEqual([8n, 64n, 7n, 7n])
    cudnn.destroyDescriptor(tensor)
  })

  const noDriver = discover(thisMachine(environment)).driver === undefined
  if (!noDriver) process.stderr.write('skipped: what cuDNN says without a driver, because there is one\n')
  test.skipIf(!noDriver)('without a driver a handle is refused in a sentence', () => {
    expect(() => found?.libraries.cudnn?.create()).toThrow(
      /cudnnCreate \(cuDNN\) failed with status 1001.*The GPU cannot be used/,
    )
    expect(found?.problems.map(({ code }) => code)).toEqual(['driver-missing'])
  })
})
