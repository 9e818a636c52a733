// The bindings over a fake loader: what reaches the native side, what comes back, how a failing status reads, and that bad
// arguments never get there.
import { describe, expect, test } from 'vitest'
import { type BlasHandle, type MatmulProblem, bindCublasLt } from '../../src/cuda/ffi/cublaslt.ts'
import { heuristicResult } from '../../src/cuda/ffi/cublaslt-constants.ts'
import { type Descriptor, bindCudnn, mismatched, unsupported } from '../../src/cuda/ffi/cudnn.ts'
import { type Gpu, type Kernel, bindDriver } from '../../src/cuda/ffi/driver.ts'
import type { Event, Stream } from '../../src/cuda/ffi/driver-queues.ts'
import { koffiNative } from '../../src/cuda/ffi/loader.ts'
import { bindNvrtc } from '../../src/cuda/ffi/nvrtc.ts'
import { CudaError } from '../../src/cuda/ffi/status.ts'
import type { DevicePointer, HostPointer } from '../../src/cuda/ffi/values.ts'
import { offset } from '../../src/cuda/ffi/values.ts'
import { InternalError, PullbackError } from '../../src/tensor/errors.ts'
import { type FakeFunction, fakeNative, write, writeInt } from './fakes.ts'

const words: Record<string, FakeFunction> = {
  cuGetErrorName: (_, out) => write(out, 0x10n),
  cuGetErrorString: (_, out) => write(out, 0x20n),
}

function driverOver(functions: Record<string, FakeFunction>) {
  const fake = fakeNative({ ...words, ...functions })
  return { driver: bindDriver(fake.native, fake.native.load('libcuda.so.1')), calls: fake.calls }
}

const stream = 0x77n as Stream
const event = 0x88n as Event
const device = 0x7f00_0000_0000n as DevicePointer
const host = 0x1000n as HostPointer

function failure(action: () => unknown): Error {
  try {
    action()
  } catch (error) {
    if (error instanceof Error) return error
  }
  throw new Error('expected it to throw')
}

describe('driver', () => {
  test('an out-parameter comes back as a handle, a size, an int or a float', () => {
    const { driver } = driverOver({
      cuStreamCreateWithPriority: (out) => write(out, 0xffff_8000_0000_0001n),
      cuMemGetInfo_v2: (free, total) => write(free, 5_000_000_000n) + write(total, 6_000_000_000n),
      cuDeviceGetAttribute: (out) => writeInt(out, 132),
      cuEventElapsedTime: (out) => {
        new Float32Array((out as BigUint64Array).buffer)[0] = 1.5
        return 0
      },
    })
    expect(driver.createStream(0)).toBe(0xffff_8000_0000_0001n)
    expect(driver.memoryInfo()).toEqual({ free: 5_000_000_000, total: 6_000_000_000 })
    expect(driver.deviceAttribute(0 as Gpu, 'MULTIPROCESSOR_COUNT')).toBe(132)
    expect(driver.elapsed(event, event)).toBe(1.5)
  })

  test('an out-parameter is cleared, so that a value of the call before is never taken for a result', () => {
    let first = true
    const { driver } = driverOver({
      cuMemAlloc_v2: (out) => {
        if (first) write(out, 0x5000n)
        first = false
        return 0
      },
    })
    expect(driver.allocate(64)).toBe(0x5000n)
    expect(() => driver.allocate(64)).toThrow('succeeded and gave 0 as a handle')
  })

  test('a failing call names itself, the status, its name, its text, and what to do', () => {
    const { driver } = driverOver({ cuInit: () => 100 })
    const error = failure(() => driver.init())
    expect(error).toBeInstanceOf(CudaError)
    expect(error).toMatchObject({
      code: 'device',
      call: 'cuInit',
      status: 100,
      statusName: 'text at 16',
      library: 'driver',
    })
    expect(error.message).toBe(
      '[cuda] cuInit (driver) failed with status 100, text at 16: text at 32. No GPU is visible: see nvidia-smi and CUDA_VISIBLE_DEVICES, or use the cpu device.',
    )
  })

  test('no memory has its own code', () => {
    const { driver } = driverOver({ cuMemAlloc_v2: () => 2 })
    expect(failure(() => driver.allocate(1 << 20))).toMatchObject({ code: 'out-of-memory' })
  })

  test('a status the driver cannot put into words is an error all the same', () => {
    const { driver } = driverOver({ cuCtxSynchronize: () => 4711, cuGetErrorName: () => 1, cuGetErrorString: () => 1 })
    expect(() => driver.synchronizeContext()).toThrow('status 4711, a status this driver does not know')
  })

  test('not ready is an answer; every other status of a query is a failure', () => {
    let status = 600
    const { driver } = driverOver({ cuEventQuery: () => status, cuStreamQuery: () => status })
    expect([driver.eventDone(event), driver.streamDone(stream)]).toEqual([false, false])
    status = 0
    expect([driver.eventDone(event), driver.streamDone(stream)]).toEqual([true, true])
    status = 700
    expect(() => driver.eventDone(event)).toThrow('cuEventQuery (driver) failed with status 700')
    expect(() => driver.streamDone(stream)).toThrow('cuStreamQuery (driver) failed with status 700')
  })

  test('a launch passes extents, shared memory, stream and arguments in their order', () => {
    const { driver, calls } = driverOver({})
    driver.launch({ kernel: 9n as Kernel, grid: [1, 2, 3], block: [4, 5, 6], shared: 7, stream, parameters: host })
    expect(calls.at(-1)).toEqual({ name: 'cuLaunchKernel', values: [9n, 1, 2, 3, 4, 5, 6, 7, 0x77n, 0x1000n, null] })
  })

  test('capture is in thread-local mode', () => {
    const { driver, calls } = driverOver({ cuStreamEndCapture: (_, out) => write(out, 3n) })
    driver.beginCapture(stream)
    expect(calls.at(-1)).toEqual({ name: 'cuStreamBeginCapture_v2', values: [0x77n, 1] })
    expect(driver.endCapture(stream)).toBe(3n)
    expect(driver.captureStatus(stream)).toBe('none')
  })

  test('arguments that are no pointers, sizes or counts never reach the driver', () => {
    const { driver, calls } = driverOver({})
    const before = calls.length
    const wrong = (value: unknown) => value as never
    const actions = [
      () => driver.allocate(0),
      () => driver.allocate(Number.NaN),
      () => driver.allocate(-1),
      () => driver.allocate(1.5),
      () => driver.free(wrong(0n)),
      () => driver.free(wrong(4096)),
      () => driver.free(wrong(undefined)),
      () => driver.free(wrong('0x1000')),
      () => driver.free(wrong(-8n)),
      () => driver.free(wrong(1n << 64n)),
      () => driver.copyToDevice(device, host, -1, stream),
      () => driver.copyToDevice(device, wrong(new Float32Array(4)), 16, stream),
      () => driver.fill32(device, -1, 4, stream),
      () => driver.createStream(0.5),
      () => driver.device(2 ** 31),
      () => driver.loadModule(new Uint8Array(0)),
      () => driver.kernel(wrong(5n), 'name\0other'),
      () =>
        driver.launch({ kernel: wrong(9n), grid: [0, 1, 1], block: [1, 1, 1], shared: 0, stream, parameters: host }),
    ]
    for (const action of actions) expect(action).toThrow(InternalError)
    expect(calls).toHaveLength(before)
  })

  test('an address moves by bytes', () => {
    expect(offset(device, 256)).toBe(0x7f00_0000_0100n)
    expect(() => offset(device, -1)).toThrow(InternalError)
  })
})

describe('NVRTC', () => {
  test('compiles, and fetches the log and the code in two calls each', () => {
    const code = Uint8Array.of(127, 69, 76, 70)
    const fake = fakeNative({
      nvrtcCreateProgram: (out) => write(out, 0x9n),
      nvrtcGetCUBINSize: (_, out) => write(out, 4n),
      nvrtcGetCUBIN: (_, out) => ((out as Uint8Array).set(code), 0),
      nvrtcGetProgramLogSize: (_, out) => write(out, 6n),
      nvrtcGetProgramLog: (_, out) => (new TextEncoder().encodeInto('hello\0', out as Uint8Array), 0),
    })
    const nvrtc = bindNvrtc(fake.native.load('libnvrtc.so.13'))
    const program = nvrtc.createProgram('__global__ void k() {}', 'k.cu')
    nvrtc.compileProgram(program, ['-arch=sm_90', '-lineinfo'])
    expect(fake.calls.at(-1)?.values).toEqual([0x9n, 2, ['-arch=sm_90', '-lineinfo']])
    expect(nvrtc.cubin(program)).toEqual(code)
    expect(nvrtc.programLog(program)).toBe('hello')
    nvrtc.destroyProgram(program)
    expect(fake.calls.at(-1)?.values[0]).toEqual(BigUint64Array.of(0x9n))
  })

  test('missing builtins are named', () => {
    const fake = fakeNative({ nvrtcCompileProgram: () => 7, nvrtcCreateProgram: (out) => write(out, 1n) })
    const nvrtc = bindNvrtc(fake.native.load('libnvrtc.so.13'))
    const program = nvrtc.createProgram('', 'k.cu')
    expect(() => nvrtc.compileProgram(program, [])).toThrow(/status 7, text of nvrtcGetErrorString.*libnvrtc-builtins/)
  })
})

describe('cuBLASLt', () => {
  test('attributes have the width the header gives them', () => {
    const fake = fakeNative({ cublasLtMatmulDescCreate: (out) => write(out, 4n) })
    const blas = bindCublasLt(fake.native.load('libcublasLt.so.13'))
    const descriptor = blas.createMatmul('32F', '32F')
    blas.setMatmul(descriptor, 'EPILOGUE', 4)
    expect(fake.calls.at(-1)?.values).toEqual([4n, 7, Int32Array.of(4), 4])
    blas.setMatmul(descriptor, 'BIAS_POINTER', device)
    expect(fake.calls.at(-1)?.values).toEqual([4n, 8, BigInt64Array.of(device), 8])
  })

  test('proposals are read from their layout, and those with a bad state left out', () => {
    const fake = fakeNative({
      cublasLtMatmulAlgoGetHeuristic: (...values) => {
        const results = values[8] as Uint8Array
        const view = new DataView(results.buffer)
        for (const index of [0, 1, 2]) {
          const start = index * heuristicResult.bytes
          results.fill(index + 1, start, start + 64)
          view.setBigUint64(start + heuristicResult.workspaceSize, BigInt(1024 * (index + 1)), true)
          view.setInt32(start + heuristicResult.state, index === 1 ? 15 : 0, true)
          view.setFloat32(start + heuristicResult.wavesCount, 0.5, true)
        }
        return writeInt(values[9], 3)
      },
    })
    const blas = bindCublasLt(fake.native.load('libcublasLt.so.13'))
    const problem = { operation: 1n, a: 2n, b: 3n, c: 4n, d: 5n } as unknown as MatmulProblem
    const proposals = blas.proposals(7n as BlasHandle, problem, 6n as never, 8)
    expect(proposals.map(({ workspaceBytes, waves }) => [workspaceBytes, waves])).toEqual([
      [1024, 0.5],
      [3072, 0.5],
    ])
    expect(proposals[1]?.algorithm).toEqual(new Uint8Array(64).fill(3))
    expect(fake.calls.at(-1)?.values.slice(0, 8)).toEqual([7n, 1n, 2n, 3n, 4n, 5n, 6n, 8])
  })
})

describe('cuDNN', () => {
  const over = (functions: Record<string, FakeFunction>) => {
    const fake = fakeNative({
      cudnnGetLastErrorString: (out) => (new TextEncoder().encodeInto('because\0', out as Uint8Array), undefined),
      cudnnBackendCreateDescriptor: (_, out) => write(out, 0x30n),
      ...functions,
    })
    return { cudnn: bindCudnn(fake.native.load('libcudnn.so.9')), calls: fake.calls }
  }

  test('an attribute is set by name, type, count and values', () => {
    const { cudnn, calls } = over({})
    const tensor = cudnn.createDescriptor('TENSOR')
    cudnn.setAttribute(tensor, 'TENSOR_STRIDES', 'INT64', BigInt64Array.of(64n, 1n))
    expect(calls.at(-1)?.values).toEqual([0x30n, 903, 3, 2, BigInt64Array.of(64n, 1n)])
  })

  test('elements of another width are refused before the call', () => {
    const { cudnn, calls } = over({})
    const before = calls.length
    expect(() => cudnn.setAttribute(1n as Descriptor, 'TENSOR_STRIDES', 'INT64', Int32Array.of(1))).toThrow(
      'TENSOR_STRIDES takes elements of 8 bytes (INT64)',
    )
    expect(() => cudnn.setAttribute(1n as Descriptor, 'TENSOR_STRIDES', 'INT64', new BigInt64Array(0))).toThrow(
      InternalError,
    )
    expect(calls).toHaveLength(before)
  })

  test("a failure names the descriptor and gives cuDNN's own words; 'unsupported' tells it from a mistake", () => {
    const finalize = (status: number) => {
      const { cudnn } = over({ cudnnBackendFinalize: () => status })
      return failure(() => cudnn.finalize(0x30n as Descriptor, 'plan'))
    }
    expect(finalize(3000).message).toMatch(
      /cudnnBackendFinalize\(plan\) \(cuDNN\) failed with status 3000.*: because\./,
    )
    expect([3000, 3007, 2000, 5000, 1002].map((status) => unsupported(finalize(status)))).toEqual([
      true,
      true,
      false,
      false,
      false,
    ])
    expect([1002, 1008, 3000].map((status) => mismatched(finalize(status)))).toEqual([true, true, false])
    expect(finalize(4004)).toMatchObject({ code: 'out-of-memory' })
  })

  test('reading gives the number of elements', () => {
    const { cudnn } = over({
      cudnnBackendGetAttribute: (...values) => {
        ;(values[4] as BigInt64Array)[0] = 3n
        ;(values[5] as Int32Array | null)?.set([4, 5])
        return 0
      },
    })
    const notes = new Int32Array(4)
    expect(cudnn.getAttribute(1n as Descriptor, 'ENGINE_NUMERICAL_NOTE', 'NUMERICAL_NOTE', notes)).toBe(3)
    expect([...notes]).toEqual([4, 5, 0, 0])
    expect(cudnn.attributeCount(1n as Descriptor, 'ENGINE_NUMERICAL_NOTE', 'NUMERICAL_NOTE')).toBe(3)
  })
})

describe('loader', () => {
  test('a library that is not there is named', () => {
    const error = failure(() => koffiNative().load('/nowhere/libcuda.so.1'))
    expect(error).toBeInstanceOf(PullbackError)
    expect(error.message).toMatch(/cannot load \/nowhere\/libcuda\.so\.1: .*cannot open/)
  })

  test('a function that is not there is named with its library', () => {
    const libc = koffiNative().load('libc.so.6')
    expect(() => libc.func('cuNothing', 'int', [])).toThrow('libc.so.6 has no function cuNothing')
  })

  test('native memory is where its view shows it', () => {
    const native = koffiNative()
    const address = native.allocate(16)
    const copy = native.load('libc.so.6').func('strcpy', 'void *', ['void *', 'const char *'])
    copy(address, 'pinned')
    expect(new TextDecoder().decode(native.view(address, 6))).toBe('pinned')
    expect(native.text(address)).toBe('pinned')
    native.release(address)
  })
})
