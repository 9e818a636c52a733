// One GPU in use: its primary context, the handles of the libraries, and what is asked of it once. Streams, memory and
// kernels are built on it by the other files here.
import type { Probe } from '../discovery-probe.ts'
import { showCuda, showLibrary, targetArchitecture } from '../discovery-versions.ts'
import type { BlasHandle, CublasLt } from '../ffi/cublaslt.ts'
import type { Cudnn, CudnnHandle } from '../ffi/cudnn.ts'
import { driverErrors, driverFlags } from '../ffi/driver-constants.ts'
import type { Context, Driver, Gpu } from '../ffi/driver.ts'
import type { Native } from '../ffi/loader.ts'
import type { Nvrtc } from '../ffi/nvrtc.ts'
import { CudaError } from '../ffi/status.ts'
import { InternalError, PullbackError } from '../../tensor/errors.ts'
import { type Cleanup, allOrNothing } from './cleanup.ts'

/** What a GPU is, asked once. */
export interface GpuFacts {
  readonly ordinal: number
  readonly name: string
  /** 10 * major + minor of the compute capability. */
  readonly capability: number
  /** What kernels are compiled for: `sm_90`. */
  readonly architecture: string
  readonly multiprocessors: number
  /** Dynamic shared memory that a block may have at most, in bytes. */
  readonly sharedBytes: number
  /** All its memory, in bytes. */
  readonly memoryBytes: number
}

/** Versions of what compiles and runs kernels, as parts of cache keys: driver and NVRTC as 1000 * major + 10 * minor. */
export interface LibraryVersions {
  readonly driver: number
  readonly nvrtc: number
  readonly cublasLt: number
  readonly cudnn: number
}

/** An opened GPU. */
export interface Session {
  readonly native: Native
  readonly driver: Driver
  readonly nvrtc: Nvrtc
  readonly cublasLt: CublasLt
  readonly cudnn: Cudnn
  readonly blas: BlasHandle
  readonly dnn: CudnnHandle
  readonly gpu: GpuFacts
  readonly versions: LibraryVersions
  /** The GPU and the libraries in one line, for a run's header. */
  readonly description: string
  /** Makes its context the calling thread's; to be called before its driver calls, since there may be other sessions. */
  enter(): void
}

/**
 * Opens a GPU with the libraries that were found; `ordinal` as the driver numbers it.
 *
 * @throws PullbackError 'device' where something is missing or there is no such GPU, CudaError where a call fails; then
 * nothing is left open.
 */
export function openSession(found: Probe, native: Native, ordinal: number): { session: Session; cleanup: Cleanup } {
  const libraries = allFound(found)
  const { driver, cublasLt, cudnn } = libraries
  driver.init()
  if (!Number.isInteger(ordinal) || ordinal < 0 || ordinal >= driver.deviceCount())
    throw new PullbackError(
      'device',
      `[cuda] expected the number of a GPU, 0 to ${driver.deviceCount() - 1}, got ${ordinal}. See nvidia-smi and CUDA_VISIBLE_DEVICES.`,
    )
  const handle = driver.device(ordinal)
  const versions = versionsOf(found)
  const gpu = factsOf(driver, handle, ordinal, found.versions.nvrtc?.architectures ?? [])
  const { value: session, cleanup } = allOrNothing((noted) => {
    const context = openContext(driver, handle, noted)
    const enter = (): void => driver.setCurrentContext(context)
    enter()
    return {
      ...libraries,
      native,
      blas: noted.own(cublasLt.create(), (blas) => cublasLt.destroy(blas)),
      dnn: noted.own(cudnn.create(), (dnn) => cudnn.destroy(dnn)),
      gpu,
      versions,
      description: describe(gpu, versions),
      enter,
    }
  })
  return { session, cleanup }
}

function allFound({ libraries: { driver, nvrtc, cublasLt, cudnn }, problems }: Probe) {
  const [problem] = problems
  if (problem !== undefined) throw new PullbackError('device', `[cuda] ${problem.sentence}`)
  if (driver === undefined || nvrtc === undefined || cublasLt === undefined || cudnn === undefined)
    throw new InternalError('a CUDA library is missing, and no problem says so')
  return { driver, nvrtc, cublasLt, cudnn }
}

/** Threads that wait for this GPU sleep; a context that somebody made before us keeps its own way. */
function openContext(driver: Driver, handle: Gpu, cleanup: Cleanup): Context {
  try {
    driver.setPrimaryContextFlags(handle, driverFlags.CTX_SCHED_BLOCKING_SYNC)
  } catch (error) {
    if (!(error instanceof CudaError) || error.status !== driverErrors.PRIMARY_CONTEXT_ACTIVE) throw error
  }
  const context = driver.retainPrimaryContext(handle)
  cleanup.later(() => driver.releasePrimaryContext(handle))
  return context
}

function factsOf(driver: Driver, handle: Gpu, ordinal: number, architectures: readonly number[]): GpuFacts {
  const capability =
    10 * driver.deviceAttribute(handle, 'COMPUTE_CAPABILITY_MAJOR') +
    driver.deviceAttribute(handle, 'COMPUTE_CAPABILITY_MINOR')
  const name = driver.deviceName(handle)
  const target = targetArchitecture(capability, architectures)
  if (target === undefined)
    throw new PullbackError(
      'device',
      `[cuda] NVRTC cannot compile for GPU ${ordinal}, ${name}, of compute capability ${capability / 10}. Choose another GPU, or install a newer NVRTC.`,
    )
  return {
    ordinal,
    name,
    capability,
    architecture: `sm_${target}`,
    multiprocessors: driver.deviceAttribute(handle, 'MULTIPROCESSOR_COUNT'),
    sharedBytes: driver.deviceAttribute(handle, 'MAX_SHARED_MEMORY_PER_BLOCK_OPTIN'),
    memoryBytes: driver.deviceMemory(handle),
  }
}

function versionsOf({ versions: { driver, nvrtc, cublasLt, cudnn } }: Probe): LibraryVersions {
  return {
    driver: driver?.version ?? 0,
    nvrtc: nvrtc?.version ?? 0,
    cublasLt: cublasLt?.version ?? 0,
    cudnn: cudnn?.version ?? 0,
  }
}

function describe({ ordinal, name, architecture, memoryBytes }: GpuFacts, versions: LibraryVersions): string {
  const parts = [
    `cuda:${ordinal}: ${name} (${architecture}, ${(memoryBytes / 2 ** 30).toFixed(1)} GiB)`,
    `driver for CUDA ${showCuda(versions.driver)}`,
    `NVRTC ${showCuda(versions.nvrtc)}`,
    `cuBLASLt ${showLibrary(versions.cublasLt)}`,
    `cuDNN ${showLibrary(versions.cudnn)}`,
  ]
  return parts.join(', ')
}
