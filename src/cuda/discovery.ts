// Where the CUDA libraries are: which files of which folder to load, and one sentence for each thing that is missing. Pure
// over a `Machine`, so that every failure has a test; the real one is in discovery-machine.ts, and what the libraries say
// once they are loaded is checked in discovery-versions.ts.
import { type Folder, searchFolders } from './discovery-folders.ts'

/** What discovery asks of the machine. */
export interface Machine {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** The names in a folder, empty where there is no such folder. */
  list(folder: string): readonly string[]
  /** The file behind symbolic links; the path itself where that cannot be told. */
  realPath(path: string): string
  /** The folders the dynamic loader searches, in its order. */
  loaderFolders(): readonly string[]
  /** The folders python3 imports packages from. */
  sitePackages(): readonly string[]
}

/** A thing that is wrong, in one sentence and what to do. */
export interface Problem {
  readonly code:
    | 'path'
    | 'driver-missing'
    | 'driver-old'
    | 'gpu-missing'
    | 'gpu-unsupported'
    | 'nvrtc-missing'
    | 'nvrtc-builtins'
    | 'nvrtc-old'
    | 'cublaslt-missing'
    | 'cublaslt-old'
    | 'cudnn-missing'
    | 'cudnn-incomplete'
    | 'cudnn-mixed'
    | 'cudnn-old'
    | 'cuda-major'
    | 'call'
  readonly sentence: string
}

/** A library's files, in the order in which they must be loaded; the last is the one to bind. */
export interface Found {
  readonly files: readonly string[]
  readonly folder: string
  /** Where the folder came from: a variable's name, the loader, python3. */
  readonly origin: string
}

/** The libraries that were found, and what is wrong with the rest. */
export interface Discovery {
  readonly driver: Found | undefined
  readonly nvrtc: Found | undefined
  readonly cublasLt: Found | undefined
  readonly cudnn: Found | undefined
  readonly problems: readonly Problem[]
  readonly searched: readonly string[]
}

/** The CUDA major versions supported, newest first. */
export const supportedMajors = [13, 12] as const

/** The parts of cuDNN 9 that its graph API loads for convolutions; each must lie in one folder with libcudnn. */
export const cudnnParts = [
  'graph',
  'ops',
  'cnn',
  'heuristic',
  'engines_precompiled',
  'engines_runtime_compiled',
] as const

/** How to install what is missing. */
export const installLibraries =
  'Install them with `pip install nvidia-cudnn-cu13 nvidia-cublas nvidia-cuda-nvrtc` or the CUDA toolkit and cuDNN, or set PULLBACK_CUDA_PATH to the folder that holds them.'

/**
 * Looks for libcuda, NVRTC, cuBLASLt and cuDNN, in this order: PULLBACK_CUDA_PATH, CUDA_HOME, CUDA_PATH, the loader's
 * folders, /usr/local/cuda, python3's site-packages/nvidia. NVRTC and cuBLASLt are of one CUDA major version: the newest
 * one at hand, those that the driver runs (`driverMajor`, where it is known) before those that it does not.
 */
export function discover(machine: Machine, driverMajor: number = supportedMajors[0]): Discovery {
  const { folders, problems: paths } = searchFolders(machine)
  const runnable = supportedMajors.filter((major) => major <= driverMajor)
  const pair = [...runnable, ...supportedMajors.filter((major) => major > driverMajor)]
    .map((major) => ({ nvrtc: findNvrtc(folders, major), cublasLt: findCublasLt(folders, major) }))
    .reduce((best, next) => (rank(next) > rank(best) ? next : best))
  const results = {
    driver: findDriver(folders),
    nvrtc: pair.nvrtc,
    cublasLt: pair.cublasLt,
    cudnn: findCudnn(folders, machine),
  }
  return {
    driver: found(results.driver),
    nvrtc: found(results.nvrtc),
    cublasLt: found(results.cublasLt),
    cudnn: found(results.cudnn),
    problems: [...paths, ...Object.values(results).flatMap((result) => (isFound(result) ? [] : [result]))],
    searched: folders.map(({ path }) => path),
  }
}

type Result = (Found & { readonly code?: undefined }) | Problem

/** How complete a pair of compiler and matrix library is. */
function rank({ nvrtc, cublasLt }: { readonly nvrtc: Result; readonly cublasLt: Result }): number {
  return 3 * Number(isFound(nvrtc)) + 3 * Number(isFound(cublasLt)) + Number(nvrtc.code === 'nvrtc-builtins')
}

function isFound(result: Result): result is Found & { readonly code?: undefined } {
  return result.code === undefined
}

function found(result: Result): Found | undefined {
  return isFound(result) ? result : undefined
}

function findDriver(folders: readonly Folder[]): Result {
  const folder = folders.find(({ names }) => names.has('libcuda.so.1'))
  if (folder !== undefined) return at(folder, ['libcuda.so.1'])
  return {
    code: 'driver-missing',
    sentence:
      'No NVIDIA driver: libcuda.so.1 is in none of the folders the loader searches. Install the NVIDIA driver (in a container, start it with --gpus all).',
  }
}

function findNvrtc(folders: readonly Folder[], major: number): Result {
  const library = `libnvrtc.so.${major}`
  const holding = folders.filter(({ names }) => names.has(library))
  for (const folder of holding) {
    const builtins = [...folder.names].filter((name) => name.startsWith(`libnvrtc-builtins.so.${major}`)).sort()
    if (builtins[0] !== undefined) return at(folder, [builtins[0], library])
  }
  const [without] = holding
  if (without === undefined) return missing('nvrtc')
  return {
    code: 'nvrtc-builtins',
    sentence: `NVRTC without its builtins: ${without.path} has ${library} and no libnvrtc-builtins.so.${major}.* beside it. Install the whole of nvidia-cuda-nvrtc, or of the toolkit.`,
  }
}

function findCublasLt(folders: readonly Folder[], major: number): Result {
  const library = `libcublasLt.so.${major}`
  const folder = folders.find(({ names }) => names.has(library))
  return folder === undefined ? missing('cublaslt') : at(folder, [library])
}

function missing(what: 'nvrtc' | 'cublaslt'): Problem {
  const [name, library] = what === 'nvrtc' ? ['NVRTC', 'libnvrtc'] : ['cuBLASLt', 'libcublasLt']
  const wanted = supportedMajors.map((major) => `${library}.so.${major}`)
  return {
    code: `${what}-missing`,
    sentence: `No ${name}: ${wanted.join(' or ')} is in none of the folders searched. ${installLibraries}`,
  }
}

/** The first folder that holds libcudnn and all its parts, of one version. */
function findCudnn(folders: readonly Folder[], machine: Machine): Result {
  const library = 'libcudnn.so.9'
  const files = [...cudnnParts.map((part) => `libcudnn_${part}.so.9`), library]
  const holding = folders.filter(({ names }) => names.has(library))
  const faults = holding.map((folder) => cudnnFault(folder, files, folders, machine))
  const good = holding[faults.indexOf(undefined)]
  if (good !== undefined) return at(good, files)
  const fault = faults.find((candidate) => candidate !== undefined)
  return fault ?? { code: 'cudnn-missing', sentence: noCudnn(folders) }
}

function noCudnn(folders: readonly Folder[]): string {
  const old = folders.find(({ names }) => names.has('libcudnn.so.8'))
  const where = old === undefined ? 'is in none of the folders searched' : `is missing, and ${old.path} has cuDNN 8`
  return `No cuDNN 9: libcudnn.so.9 ${where}. ${installLibraries}`
}

function cudnnFault(
  folder: Folder,
  files: readonly string[],
  folders: readonly Folder[],
  machine: Machine,
): Problem | undefined {
  const lacking = files.filter((file) => !folder.names.has(file))
  if (lacking[0] !== undefined) {
    const other = folders.find(({ path, names }) => path !== folder.path && names.has(lacking[0] ?? ''))
    const elsewhere = other === undefined ? '' : `; ${other.path} has one, but parts of two folders do not mix`
    return {
      code: 'cudnn-incomplete',
      sentence: `cuDNN in ${folder.path} lacks ${lacking.join(', ')}${elsewhere}. Install cuDNN there again, or set PULLBACK_CUDA_PATH to a folder with all of it.`,
    }
  }
  const versions = files.map((file) => ({ file, version: fileVersion(machine.realPath(`${folder.path}/${file}`)) }))
  const known = versions.filter(({ version }) => version !== undefined)
  const [first] = known
  const odd = known.find(({ version }) => version !== first?.version)
  if (first === undefined || odd === undefined) return undefined
  return {
    code: 'cudnn-mixed',
    sentence: `Mixed cuDNN in ${folder.path}: ${first.file} is ${first.version ?? ''} and ${odd.file} is ${odd.version ?? ''}. Remove one version and install the other again.`,
  }
}

/** The version at the end of a library's real name: 9.10.2 in libcudnn_ops.so.9.10.2; undefined for a bare major. */
function fileVersion(path: string): string | undefined {
  return /\.so\.(\d+\.[\d.]+)$/.exec(path)?.[1]
}

function at(folder: Folder, files: readonly string[]): Found {
  return { files: files.map((file) => `${folder.path}/${file}`), folder: folder.path, origin: folder.origin }
}
