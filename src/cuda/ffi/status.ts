// What becomes of a status: nothing where it is 0, else one error that names the call, the status and its text, and says
// what to do about the statuses that users meet.
import { PullbackError } from '../../tensor/errors.ts'
import type { NativeFunction, NativeLibrary, NativeType } from './loader.ts'

/** The libraries that answer with a status. */
export type LibraryName = 'driver' | 'NVRTC' | 'cuBLASLt' | 'cuDNN'

/** A status in words: its name in the header, and the library's text. */
export interface StatusText {
  readonly name: string
  readonly text: string
}

/** A call into a CUDA library that failed. */
export class CudaError extends PullbackError {
  readonly library: LibraryName
  /** The function, as it is exported. */
  readonly call: string
  readonly status: number
  /** The status' name in the library's header. */
  readonly statusName: string

  constructor(library: LibraryName, call: string, status: number, { name, text }: StatusText) {
    const said = text === '' || text === name ? '' : `: ${text}`
    super(
      outOfMemory(library, status) ? 'out-of-memory' : 'device',
      `[cuda] ${call} (${library}) failed with status ${status}, ${name}${said}. ${advice(library, call, status)}`,
    )
    this.name = 'CudaError'
    this.library = library
    this.call = call
    this.status = status
    this.statusName = name
  }
}

/** Throws a CudaError unless `status` is 0. */
export type Check = (status: unknown, call: string) => void

/** The check of one library; `describe` asks it for a status in words. */
export function checker(library: LibraryName, describe: (status: number) => StatusText): Check {
  return (status, call) => {
    if (status === 0) return
    if (typeof status !== 'number')
      throw new PullbackError('internal', `internal: ${call} gave ${String(status)} as status`)
    throw new CudaError(library, call, status, describe(status))
  }
}

/** Binds functions of one library that give back a status, each call through `check`. */
export function statusBinder(library: NativeLibrary, check: Check) {
  return (name: string, ...parameters: readonly NativeType[]): ((...values: readonly unknown[]) => void) => {
    const native: NativeFunction = library.func(name, 'int', parameters)
    return (...values) => check(native(...values), name)
  }
}

function outOfMemory(library: LibraryName, status: number): boolean {
  const statuses = { driver: [2], NVRTC: [1], cuBLASLt: [3], cuDNN: [4003, 4004] } satisfies Record<
    LibraryName,
    number[]
  >
  return (statuses[library] as readonly number[]).includes(status)
}

const driverAdvice: Readonly<Record<number, string>> = {
  2: 'Use a smaller batch, or free memory on the GPU: nvidia-smi shows which processes hold it.',
  34: 'This libcuda is a stub of the toolkit: take its folder out of the library path and install the NVIDIA driver.',
  35: 'The driver is older than the libraries: install a newer NVIDIA driver.',
  46: 'Another process holds the GPU, or it is in a prohibited compute mode: see nvidia-smi.',
  100: 'No GPU is visible: see nvidia-smi and CUDA_VISIBLE_DEVICES, or use the cpu device.',
  101: 'There is no GPU of that number: see nvidia-smi and CUDA_VISIBLE_DEVICES.',
  209: 'The kernels were compiled for another GPU: delete the kernel cache.',
  700: 'A kernel touched memory that is not its own. The process cannot use the GPU any more; start it again.',
  719: 'A kernel crashed. The process cannot use the GPU any more; start it again.',
  802: 'The GPU system is not ready yet: see that nvidia-fabricmanager runs.',
  803: 'The driver in the kernel and libcuda differ in version: restart the machine, or install the driver again.',
  804: 'The forward-compatibility libcuda does not support this GPU: take it out of the library path.',
}

/**
 * What opens a device, and the statuses besides those for lack of memory that say no more than that something is in the way.
 * Nothing of ours is on the GPU yet: where its memory is taken, others have it.
 */
const opening: Readonly<Record<string, readonly number[]>> = {
  cuDevicePrimaryCtxRetain: [],
  cudnnCreate: [1001, 4000],
  cublasLtCreate: [1, 14],
}

function advice(library: LibraryName, call: string, status: number): string {
  const vague = opening[call]
  if (vague !== undefined && outOfMemory(library, status))
    return 'Other processes hold the memory of this GPU: see nvidia-smi, end them, or choose another GPU with CUDA_VISIBLE_DEVICES.'
  if (vague?.includes(status) === true)
    return 'The GPU cannot be used, or other processes hold its memory: see nvidia-smi, or use the cpu device.'
  if (call === 'cuMemHostAlloc' && outOfMemory(library, status))
    return 'This machine has no memory left to pin: end other programs, or use a smaller batch.'
  const known = library === 'driver' ? driverAdvice[status] : undefined
  if (known !== undefined) return known
  if (library === 'cuDNN' && status === 1001)
    return 'cuDNN found no usable GPU or driver: see nvidia-smi, or use the cpu device.'
  if (library === 'cuDNN' && (status === 1002 || status === 1008))
    return 'Parts of different cuDNN versions were loaded: keep one cuDNN on the library path.'
  if (library === 'cuBLASLt' && status === 1)
    return 'cuBLASLt found no usable GPU or driver: see nvidia-smi, or use the cpu device.'
  if (library === 'NVRTC' && status === 7)
    return 'The libnvrtc-builtins of the same version must lie beside libnvrtc: install NVRTC again.'
  return 'If it comes again, report it together with what `npx pullback doctor` prints.'
}
