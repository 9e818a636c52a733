// What the libraries and the GPUs say of themselves, against what pullback supports. Pure: discovery-probe.ts asks them.
import { type Problem, installLibraries } from './discovery.ts'

/**
 * The oldest versions supported.
 *
 * The driver for CUDA 12.2 (535), the oldest branch NVIDIA still maintains; NVRTC and cuBLASLt of CUDA 12.2 likewise;
 * cuDNN 9.8, the first whose plans can be made for a device that is not there
 * (so that each plan is tested without one); compute capability 8.0, the first with bfloat16 and asynchronous copies.
 */
export const oldest = { driver: 12_020, nvrtc: 12_020, cublasLt: 120_200, cudnn: 90_800, capability: 80 } as const

/** A GPU by what matters for support. */
export interface GpuVersion {
  readonly name: string
  /** 10 * major + minor of the compute capability. */
  readonly capability: number
}

/** What was said; undefined for a library that was not found or could not be asked. */
export interface Versions {
  /** The CUDA version of the driver, 1000 * major + 10 * minor, and where it lies. */
  readonly driver?: { readonly version: number; readonly path: string }
  readonly nvrtc?: { readonly version: number; readonly architectures: readonly number[]; readonly path: string }
  readonly cublasLt?: { readonly version: number; readonly cuda: number; readonly path: string }
  readonly cudnn?: { readonly version: number; readonly cuda: number; readonly path: string }
  readonly gpus?: readonly GpuVersion[]
  /** Every file of cuDNN that this process has loaded. */
  readonly cudnnLoaded?: readonly string[]
}

/** The problems with what was said, in one sentence each. */
export function checkVersions(versions: Versions): readonly Problem[] {
  return [
    ...checkDriver(versions),
    ...checkLibraries(versions),
    ...checkMajors(versions),
    ...checkLoaded(versions),
    ...checkGpus(versions),
  ]
}

/** 13.0 for 13000. */
export function showCuda(version: number): string {
  return `${Math.trunc(version / 1000)}.${Math.trunc((version % 1000) / 10)}`
}

/** 9.24.0 for 92400, as cuDNN and cuBLASLt count. */
export function showLibrary(version: number): string {
  return `${Math.trunc(version / 10_000)}.${Math.trunc((version % 10_000) / 100)}.${version % 100}`
}

/**
 * The architecture to compile for: the GPU's own, or the closest older one of the same major version, whose machine code
 * it runs; undefined where the compiler knows neither.
 */
export function targetArchitecture(capability: number, architectures: readonly number[]): number | undefined {
  const major = Math.trunc(capability / 10)
  const fitting = architectures.filter((known) => Math.trunc(known / 10) === major && known <= capability)
  return fitting.length === 0 ? undefined : Math.max(...fitting)
}

function checkDriver({ driver }: Versions): readonly Problem[] {
  if (driver === undefined || driver.version >= oldest.driver) return []
  return [
    {
      code: 'driver-old',
      sentence: `The NVIDIA driver (${driver.path}) supports CUDA up to ${showCuda(driver.version)}, and pullback needs ${showCuda(oldest.driver)}. Install driver 535 or newer.`,
    },
  ]
}

function checkLibraries({ nvrtc, cublasLt, cudnn }: Versions): readonly Problem[] {
  const problem = (code: Problem['code'], name: string, path: string, has: string, needs: string): Problem => ({
    code,
    sentence: `${name} in ${path} is ${has}, and pullback needs ${needs} or newer. ${installLibraries}`,
  })
  return [
    ...(nvrtc !== undefined && nvrtc.version < oldest.nvrtc
      ? [problem('nvrtc-old', 'NVRTC', nvrtc.path, showCuda(nvrtc.version), showCuda(oldest.nvrtc))]
      : []),
    ...(cublasLt !== undefined && cublasLt.version < oldest.cublasLt
      ? [
          problem(
            'cublaslt-old',
            'cuBLASLt',
            cublasLt.path,
            showLibrary(cublasLt.version),
            showLibrary(oldest.cublasLt),
          ),
        ]
      : []),
    ...(cudnn !== undefined && cudnn.version < oldest.cudnn
      ? [problem('cudnn-old', 'cuDNN', cudnn.path, showLibrary(cudnn.version), showLibrary(oldest.cudnn))]
      : []),
  ]
}

/** Machine code of a newer CUDA major version does not run on an older driver. */
function checkMajors({ driver, nvrtc, cublasLt, cudnn }: Versions): readonly Problem[] {
  if (driver === undefined) return []
  const libraries = [
    { name: 'NVRTC', path: nvrtc?.path, cuda: nvrtc?.version },
    { name: 'cuBLASLt', path: cublasLt?.path, cuda: cublasLt?.cuda },
    { name: 'cuDNN', path: cudnn?.path, cuda: cudnn?.cuda },
  ]
  const major = Math.trunc(driver.version / 1000)
  return libraries.flatMap(({ name, path, cuda }) =>
    cuda === undefined || path === undefined || Math.trunc(cuda / 1000) <= major
      ? []
      : [
          {
            code: 'cuda-major',
            sentence: `${name} in ${path} is for CUDA ${showCuda(cuda)}, and the driver supports CUDA up to ${showCuda(driver.version)}. Install a newer driver, or the libraries for CUDA ${major}.`,
          } satisfies Problem,
        ],
  )
}

/** All files of cuDNN must come from one folder. */
function checkLoaded({ cudnnLoaded = [] }: Versions): readonly Problem[] {
  const folders = [...new Set(cudnnLoaded.map((path) => path.slice(0, path.lastIndexOf('/'))))]
  if (folders.length < 2) return []
  return [
    {
      code: 'cudnn-mixed',
      sentence: `Mixed cuDNN: parts of it were loaded from ${folders.join(' and from ')}. Take all but one of them out of LD_LIBRARY_PATH.`,
    },
  ]
}

/** A GPU that is too old beside one that is not is nobody's problem. */
function checkGpus({ gpus, nvrtc }: Versions): readonly Problem[] {
  if (gpus === undefined) return []
  if (gpus.length === 0)
    return [
      {
        code: 'gpu-missing',
        sentence: 'The driver sees no GPU. See nvidia-smi and CUDA_VISIBLE_DEVICES (in a container, --gpus all).',
      },
    ]
  const faults = gpus.map((gpu) => gpuFault(gpu, nvrtc))
  if (faults.includes(undefined)) return []
  return faults.flatMap((sentence) => (sentence === undefined ? [] : [{ code: 'gpu-unsupported', sentence }]))
}

function gpuFault({ name, capability }: GpuVersion, nvrtc: Versions['nvrtc']): string | undefined {
  const show = (value: number): string => `${Math.trunc(value / 10)}.${value % 10}`
  if (capability < oldest.capability)
    return `${name} has compute capability ${show(capability)}, and pullback needs ${show(oldest.capability)} (Ampere) or newer. Use another GPU, or the cpu device.`
  if (nvrtc === undefined || targetArchitecture(capability, nvrtc.architectures) !== undefined) return undefined
  const newest = Math.max(0, ...nvrtc.architectures)
  return `${name} has compute capability ${show(capability)}, and NVRTC ${showCuda(nvrtc.version)} in ${nvrtc.path} compiles up to ${show(newest)}. Install a newer NVRTC.`
}
