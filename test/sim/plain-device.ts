// The simulated device used call by call, as the tests of the simulation itself need it: nothing is cached, nothing waits by
// itself, and statuses are numbers.
import { driverFlags } from '../../src/cuda/ffi/driver-constants.ts'
import type { Stream } from '../../src/cuda/ffi/driver-queues.ts'
import { type Driver, type Kernel, type Module, bindDriver } from '../../src/cuda/ffi/driver.ts'
import type { NativeFunction, NativeType } from '../../src/cuda/ffi/loader.ts'
import { type Nvrtc, bindNvrtc } from '../../src/cuda/ffi/nvrtc.ts'
import { CudaError } from '../../src/cuda/ffi/status.ts'
import type { DevicePointer, HostPointer } from '../../src/cuda/ffi/values.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import type { Simulation } from './library.ts'

/** How a launch is shaped: as many blocks as said, of 256 threads and without dynamic shared memory unless said. */
export interface Shape {
  readonly blocks: number
  readonly threads?: number
  readonly shared?: number
}

/** Pinned memory, seen by JavaScript. */
export interface Pinned {
  readonly address: HostPointer
  readonly bytes: Uint8Array
  readonly floats: Float32Array
}

/** A device with a context and one stream. */
export interface PlainDevice {
  readonly driver: Driver
  readonly nvrtc: Nvrtc
  readonly stream: Stream
  /** A function of the library with any arguments. */
  raw(name: string, parameters: readonly NativeType[]): NativeFunction
  pinned(bytes: number): Pinned
  /** The image of kernels, compiled with the device's options. */
  image(text: string, architecture?: string): Uint8Array
  load(text: string, name: string): Kernel
  loadModule(text: string): Module
  launch(
    kernel: Kernel,
    shape: Shape,
    pointers: readonly DevicePointer[],
    numbers: readonly number[],
    on?: Stream,
  ): void
  /** Floats in device memory, there when this returns. */
  upload(values: Float32Array): DevicePointer
  /** Waits for the stream and reads. */
  download(from: DevicePointer, count: number): Float32Array
}

/** Opens the device of a simulation that was just reset. */
export function plainDevice(sim: Simulation): PlainDevice {
  const library = sim.native.load(`${String(sim.environment['PULLBACK_CUDA_PATH'])}/libcuda.so.1`)
  const driver = bindDriver(sim.native, library)
  const nvrtc = bindNvrtc(library)
  driver.init()
  driver.setCurrentContext(driver.retainPrimaryContext(driver.device(0)))
  const stream = driver.createStream(0)
  const pinned = (bytes: number): Pinned => {
    const address = driver.allocateHost(bytes, driverFlags.MEMHOSTALLOC_PORTABLE)
    const view = sim.native.view(address, bytes)
    return { address, bytes: new Uint8Array(view), floats: new Float32Array(view, 0, Math.floor(bytes / 4)) }
  }
  const image = (text: string, architecture = 'sm_90'): Uint8Array =>
    compiled(nvrtc, `${cudaPrelude}\n${text}`, architecture)
  const loadModule = (text: string): Module => driver.loadModule(image(text))
  return {
    driver,
    nvrtc,
    stream,
    raw: (name, parameters) => library.func(name, 'int', parameters),
    pinned,
    image,
    loadModule,
    load: (text, name) => driver.kernel(loadModule(text), name),
    launch: (kernel, { blocks, threads = 256, shared = 0 }, pointers, numbers, on = stream) => {
      const { parameters, release } = argumentBlock(sim, pointers, numbers)
      try {
        driver.launch({ kernel, grid: [blocks, 1, 1], block: [threads, 1, 1], shared, stream: on, parameters })
      } finally {
        release()
      }
    },
    upload: (values) => {
      const host = pinned(values.byteLength)
      host.floats.set(values)
      const address = driver.allocate(values.byteLength)
      driver.copyToDevice(address, host.address, values.byteLength, stream)
      driver.synchronizeStream(stream)
      driver.freeHost(host.address)
      return address
    },
    download: (from, count) => {
      const host = pinned(4 * count)
      driver.copyToHost(host.address, from, 4 * count, stream)
      driver.synchronizeStream(stream)
      const values = host.floats.slice()
      driver.freeHost(host.address)
      return values
    },
  }
}

/** The status a call answers; 0 where it does not throw. */
export function statusOf(call: () => unknown): number {
  try {
    call()
    return 0
  } catch (error) {
    if (error instanceof CudaError) return error.status
    throw error
  }
}

function compiled(nvrtc: Nvrtc, text: string, architecture: string): Uint8Array {
  const program = nvrtc.createProgram(text, 'kernels.cu')
  try {
    nvrtc.compileProgram(program, [...cudaOptions, `--gpu-architecture=${architecture}`])
    return nvrtc.cubin(program)
  } finally {
    nvrtc.destroyProgram(program)
  }
}

/** Pointers and numbers as a kernel takes them, and the array of one address that a launch wants. */
function argumentBlock(sim: Simulation, pointers: readonly DevicePointer[], numbers: readonly number[]) {
  const words = pointers.length + numbers.length
  const block = sim.native.allocate(8 * (words + 1))
  const view = new BigInt64Array(sim.native.view(block, 8 * (words + 1)))
  view.set([...pointers, ...numbers.map(BigInt), block])
  return { parameters: (block + BigInt(8 * words)) as HostPointer, release: () => sim.native.release(block) }
}
