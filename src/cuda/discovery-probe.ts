// Loads what discovery found, binds it and asks it for its versions. Failures become problems, so that one broken library
// does not hide the next.
import { readFileSync } from 'node:fs'
import type { Discovery, Found, Machine, Problem } from './discovery.ts'
import { discover } from './discovery.ts'
import type { Versions } from './discovery-versions.ts'
import { checkVersions } from './discovery-versions.ts'
import { type CublasLt, bindCublasLt } from './ffi/cublaslt.ts'
import { type Cudnn, bindCudnn, mismatched } from './ffi/cudnn.ts'
import { driverErrors } from './ffi/driver-constants.ts'
import { type Driver, bindDriver } from './ffi/driver.ts'
import type { Native, NativeLibrary } from './ffi/loader.ts'
import { type Nvrtc, bindNvrtc } from './ffi/nvrtc.ts'
import { CudaError } from './ffi/status.ts'

/** The bound libraries: those that were found and could be loaded. */
export interface Libraries {
  readonly driver: Driver | undefined
  readonly nvrtc: Nvrtc | undefined
  readonly cublasLt: CublasLt | undefined
  readonly cudnn: Cudnn | undefined
}

/** All that can be known before a context is made. CUDA can be used if there are no problems. */
export interface Probe {
  readonly discovery: Discovery
  readonly libraries: Libraries
  readonly versions: Versions
  readonly problems: readonly Problem[]
}

/** Finds, loads and asks the libraries, the driver first, because it says which CUDA the others may be of. */
export function probe(machine: Machine, native: Native, mapped: () => string = ownMaps): Probe {
  const failures: Problem[] = []
  const first = discover(machine)
  const driver = opened(first.driver, native, (library) => bindDriver(native, library), failures)
  const version = driver && asked(() => driver.version(), failures)
  const discovery = version === undefined ? first : discover(machine, Math.trunc(version / 1000))
  const libraries = {
    driver,
    nvrtc: opened(discovery.nvrtc, native, bindNvrtc, failures),
    cublasLt: opened(discovery.cublasLt, native, bindCublasLt, failures),
    cudnn: opened(discovery.cudnn, native, bindCudnn, failures),
  }
  const versions = askAll(discovery, libraries, version, failures, mapped)
  return { discovery, libraries, versions, problems: [...discovery.problems, ...failures, ...checkVersions(versions)] }
}

/** The files of cuDNN in what /proc/self/maps shows. */
export function cudnnFiles(maps: string): readonly string[] {
  const paths = maps.split('\n').flatMap((line) => /(\/\S*\/libcudnn\S*\.so\S*)/.exec(line)?.[1] ?? [])
  return [...new Set(paths)]
}

function opened<T>(
  found: Found | undefined,
  native: Native,
  bind: (library: NativeLibrary) => T,
  failures: Problem[],
): T | undefined {
  if (found === undefined) return undefined
  return asked(() => {
    const [last] = found.files.map((file) => native.load(file)).slice(-1)
    return last && bind(last)
  }, failures)
}

function askAll(
  { driver, nvrtc, cublasLt, cudnn }: Discovery,
  libraries: Libraries,
  version: number | undefined,
  failures: Problem[],
  mapped: () => string,
): Versions {
  const ask = <T, L>(found: Found | undefined, library: L | undefined, question: (library: L, path: string) => T) =>
    found && library && asked(() => question(library, found.folder), failures)
  return defined({
    driver: ask(driver, libraries.driver, (_, path) => ({ version: version ?? 0, path })),
    nvrtc: ask(nvrtc, libraries.nvrtc, (library, path) => {
      const [major, minor] = library.version()
      return { version: 1000 * major + 10 * minor, architectures: library.architectures(), path }
    }),
    cublasLt: ask(cublasLt, libraries.cublasLt, (library, path) => {
      return { version: library.version(), cuda: library.cudaVersion(), path }
    }),
    cudnn: ask(cudnn, libraries.cudnn, (library, path) => {
      library.checkParts()
      return { version: library.version(), cuda: library.cudaVersion(), path }
    }),
    gpus: libraries.driver && version !== undefined ? asked(gpus(libraries.driver), failures) : undefined,
    cudnnLoaded: libraries.cudnn && cudnnFiles(mapped()),
  })
}

/** The GPUs; none where the driver says that there are none. */
function gpus(driver: Driver) {
  return () => {
    try {
      driver.init()
    } catch (error) {
      if (error instanceof CudaError && error.status === driverErrors.NO_DEVICE) return []
      throw error
    }
    return Array.from({ length: driver.deviceCount() }, (_, ordinal) => {
      const gpu = driver.device(ordinal)
      const major = driver.deviceAttribute(gpu, 'COMPUTE_CAPABILITY_MAJOR')
      const minor = driver.deviceAttribute(gpu, 'COMPUTE_CAPABILITY_MINOR')
      return { name: driver.deviceName(gpu), capability: 10 * major + minor }
    })
  }
}

function asked<T>(question: () => T, failures: Problem[]): T | undefined {
  try {
    return question()
  } catch (error) {
    const sentence = error instanceof Error ? error.message.replace(/^\[cuda\] /, '') : String(error)
    failures.push({ code: mismatched(error) ? 'cudnn-mixed' : 'call', sentence })
    return undefined
  }
}

/** The same without the keys that are undefined. */
function defined(versions: { readonly [Key in keyof Versions]: Versions[Key] | undefined }): Versions {
  return Object.fromEntries(Object.entries(versions).filter(([, value]) => value !== undefined))
}

function ownMaps(): string {
  try {
    return readFileSync('/proc/self/maps', 'utf8')
  } catch {
    return ''
  }
}
