// What a part of `npm run gpu:check` is: what it is given, and what it tells. Running parts is run.ts's part, what the user
// sees report.ts's.
import type { CudaOptions } from '../../src/cuda/index.ts'
import { cudaDevice } from '../../src/cuda/index.ts'
import { CudaDevice } from '../../src/cuda/device.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'

/** One thing that was compared, by the worst that was found of it. */
export interface Comparison {
  readonly name: string
  /** Elements, tensors or runs that were looked at. */
  readonly cases: number
  /** The largest error, or how many differ where nothing may; NaN fails. */
  readonly worst: number
  /** The most that passes. */
  readonly tolerance: number
  /** Where the worst was, or the first that differs. */
  readonly where?: string
}

/** Whether the worst is within the tolerance. */
export function passes({ worst, tolerance }: Comparison): boolean {
  return worst <= tolerance
}

/** Where a part says what it found, as it finds it. */
export interface Tell {
  compared(comparison: Comparison): void
  /** A sentence that is worth keeping. */
  note(sentence: string): void
  /** Why there is nothing to compare here. */
  skipped(sentence: string): void
  /** Something that could not be compared because it threw; the part goes on. */
  threw(name: string, error: unknown): void
  /** What is tried from here on, and of which step: if the process ends, or hangs, it is named. */
  begun(step: string, what: string): void
  /** The GPU can do nothing more in this process: what is left is for another one. */
  lost(): void
}

/** How a device is opened for a part. */
export interface OpenOptions extends Pick<CudaOptions, 'precision'> {
  /** Variables over those of the process. */
  readonly environment?: Readonly<Record<string, string>>
}

/** The GPU that is checked. */
export interface Gpu {
  /** A device of its own; whoever opens it closes it. */
  open(options?: OpenOptions): CudaDevice
  /** The whole check, or as little of each as shows that it works: for trying without a GPU. */
  readonly size: 'full' | 'small'
  /** Of everything random. */
  readonly seed: number
  /** The step that ended the process before this one: a part that has steps begins behind it. */
  readonly after?: string | undefined
}

/** One part of the check. */
export interface Part {
  /** What is compared with what, in a few words. */
  readonly says: string
  /** Seconds after which it is cut. */
  readonly seconds: number
  /** Seconds after which a step is given up, of a part whose steps go on in another process where one of them ends it. */
  readonly stepSeconds?: number
  /** Whether nothing else may use the GPU meanwhile. */
  readonly alone?: boolean
  run(gpu: Gpu, tell: Tell): Promise<void>
}

/**
 * The GPU of this process: first proposals instead of timed ones unless PULLBACK_TUNE says otherwise, since what is checked
 * are results, and timing every convolution takes minutes.
 */
export function gpuOf(
  options: Pick<Gpu, 'size' | 'seed' | 'after'>,
  source: Pick<CudaOptions, 'native' | 'machine'> = {},
): Gpu {
  return {
    ...options,
    open: ({ precision, environment = {} } = {}) => {
      const settings = { PULLBACK_TUNE: 'heuristics', ...process.env, ...environment }
      const device = cudaDevice({ ...source, environment: settings, ...(precision === undefined ? {} : { precision }) })
      if (device instanceof CudaDevice) return device
      throw new Error('cudaDevice gave another device')
    },
  }
}

/** Uses a device as the default one and closes it. */
export async function withDevice<T>(
  gpu: Gpu,
  options: OpenOptions,
  use: (device: CudaDevice) => Promise<T>,
): Promise<T> {
  const device = gpu.open(options)
  const before = setDefaultDevice(device)
  try {
    return await use(device)
  } finally {
    if (before !== undefined) setDefaultDevice(before)
    await device.close()
  }
}

/** `full` on a GPU, `small` where the check itself is tried. */
export function sized({ size }: Pick<Gpu, 'size'>, full: number, small: number): number {
  return size === 'full' ? full : small
}

/** Whole arrays of bytes: how many differ, and which is the first. */
export function equalBytes(tell: Tell, name: string, found: Uint8Array | undefined, expected: Uint8Array): void {
  let [worst, first] = [0, -1]
  expected.forEach((byte, i) => {
    if (found?.[i] === byte) return
    worst += 1
    if (first < 0) first = i
  })
  tell.compared({
    ...{ name, cases: expected.length, worst, tolerance: 0 },
    ...(first < 0 ? {} : { where: `byte ${first} first` }),
  })
}

/** Compares by `body`; what it throws is told, and the next comparison has its turn. */
export async function attempt(tell: Tell, name: string, body: () => Promise<void> | void): Promise<void> {
  try {
    await body()
  } catch (error) {
    tell.threw(name, error)
  }
}
