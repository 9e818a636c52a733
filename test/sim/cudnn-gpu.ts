// The simulated GPU for tests of its libraries: a context, a stream, cuDNN and cuBLASLt bound, and tensors up and down. The
// simulation itself is library.ts.
import { join } from 'node:path'
import { type BlasHandle, type CublasLt, bindCublasLt } from '../../src/cuda/ffi/cublaslt.ts'
import { type Cudnn, type CudnnHandle, bindCudnn } from '../../src/cuda/ffi/cudnn.ts'
import { type Driver, bindDriver } from '../../src/cuda/ffi/driver.ts'
import type { Stream } from '../../src/cuda/ffi/driver-queues.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import type { DType } from '../../src/tensor/dtype.ts'
import { decode, encode } from '../../src/tensor/half.ts'
import { type Simulation, simulation } from './library.ts'

/** Switches of native/cudnn-libraries.h. */
const options = { tf32: 0, 'uncapturable engine': 1, 'refusing engine': 2 } as const

/** A simulated GPU with a current context. */
export interface LibraryGpu {
  readonly simulation: Simulation
  readonly driver: Driver
  readonly cudnn: Cudnn
  readonly cudnnHandle: CudnnHandle
  readonly blas: CublasLt
  readonly blasHandle: BlasHandle
  readonly stream: Stream
  /** Device memory, poisoned. */
  allocate(bytes: number): DevicePointer
  /** Device memory with numbers in it, encoded. */
  upload(dtype: DType, values: ArrayLike<number>): DevicePointer
  /** So many elements, after all work of the stream. */
  download(dtype: DType, from: DevicePointer, count: number): number[]
  /** The microseconds that the simulation says some work takes. */
  time(work: () => void): number
  /** Sets a switch of the libraries until the next `close`; answers its old value. */
  option(which: keyof typeof options, value: number): number
  /** Frees everything and forgets the violations; what the report said before. */
  close(): ReturnType<Simulation['report']>
}

/** Sets a switch of the simulated libraries, until they are reset; answers its old value. */
export function setLibraryOption(
  { native, environment }: Simulation,
  which: keyof typeof options,
  value: number,
): number {
  const library = native.load(join(environment['PULLBACK_CUDA_PATH'] ?? '', 'libcudnn.so.9'))
  return Number(library.func('sim_library_option', 'int64_t', ['int', 'int64_t'])(options[which], value))
}

/** Opens it; after `close` it can be opened again. */
export async function libraryGpu(): Promise<LibraryGpu> {
  const simulated = await simulation()
  const folder = simulated.environment['PULLBACK_CUDA_PATH'] ?? ''
  const { native } = simulated
  const library = native.load(join(folder, 'libcudnn.so.9'))
  const driver = bindDriver(native, library)
  driver.init()
  const gpu = driver.device(0)
  driver.setCurrentContext(driver.retainPrimaryContext(gpu))
  const stream = driver.createStream(0)
  const [cudnn, blas] = [bindCudnn(library), bindCublasLt(library)]
  const [cudnnHandle, blasHandle] = [cudnn.create(), blas.create()]
  const owned: DevicePointer[] = []
  const allocate = (bytes: number): DevicePointer => {
    const made = driver.allocate(bytes)
    owned.push(made)
    return made
  }
  return {
    simulation: simulated,
    driver,
    cudnn,
    cudnnHandle,
    blas,
    blasHandle,
    stream,
    allocate,
    ...transfers(simulated, driver, stream, allocate),
    time: (work) => {
      const [from, to] = [driver.createEvent(0), driver.createEvent(0)]
      driver.recordEvent(from, stream)
      work()
      driver.recordEvent(to, stream)
      driver.synchronizeEvent(to)
      const milliseconds = driver.elapsed(from, to)
      for (const event of [from, to]) driver.destroyEvent(event)
      return 1000 * milliseconds
    },
    option: (which, value) => setLibraryOption(simulated, which, value),
    close: () => {
      const report = simulated.report()
      if (report.sticky === 0) {
        driver.synchronizeStream(stream)
        for (const pointer of owned) driver.free(pointer)
        cudnn.destroy(cudnnHandle)
        blas.destroy(blasHandle)
        driver.destroyStream(stream)
        driver.setCurrentContext(undefined)
        driver.releasePrimaryContext(gpu)
      }
      simulated.reset()
      return report
    },
  }
}

function transfers(
  { native }: Simulation,
  driver: Driver,
  stream: Stream,
  allocate: (bytes: number) => DevicePointer,
): Pick<LibraryGpu, 'upload' | 'download'> {
  const staged = <T>(bytes: number, use: (host: ReturnType<Driver['allocateHost']>, view: Uint8Array) => T): T => {
    const host = driver.allocateHost(bytes, 0)
    try {
      return use(host, new Uint8Array(native.view(host, bytes)))
    } finally {
      driver.freeHost(host)
    }
  }
  return {
    upload: (dtype, values) => {
      const stored = encode(dtype, values)
      const target = allocate(Math.max(1, stored.byteLength))
      staged(Math.max(1, stored.byteLength), (host, view) => {
        view.set(new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength))
        driver.copyToDevice(target, host, stored.byteLength, stream)
        driver.synchronizeStream(stream)
      })
      return target
    },
    download: (dtype, from, count) => {
      const stored = encode(dtype, new Float64Array(count))
      staged(stored.byteLength, (host, view) => {
        driver.copyToHost(host, from, stored.byteLength, stream)
        driver.synchronizeStream(stream)
        new Uint8Array(stored.buffer).set(view)
      })
      return Array.from<number>(decode(dtype, stored))
    },
  }
}
