// The public face, and the composition root: here, and only here, the devices are known by name. Importing does nothing
// but define; a device is made when it is first needed.
import { cpuDevice } from './cpu/index.ts'
import { cudaDevice, cudaProbe, doctorLines, hasDriver } from './cuda/index.ts'
import type { Device } from './tensor/device.ts'
import { forgetAutomaticDevice, setDeviceChoice } from './tensor/dispatch.ts'
import { PullbackError, ValueError } from './tensor/errors.ts'
import { logLine } from './tensor/log.ts'
import { referenceDevice } from './tensor/reference/device.ts'

export * from './autograd/index.ts'
export type {
  CompileOptions,
  Device,
  DeviceMemory,
  Executable,
  OptimizeLevel,
  Preparation,
  Storage,
} from './tensor/device.ts'
export { defaultDevice, setDefaultDevice } from './tensor/dispatch.ts'
export { type DType, type FloatDType, type StorageArray, type StorageArrays, dtypes } from './tensor/dtype.ts'
export {
  DTypeError,
  DisposedError,
  type ErrorCode,
  InternalError,
  PullbackError,
  ShapeError,
  TraceError,
  ValueError,
} from './tensor/errors.ts'
export { type LiveTensor, memory, scope } from './tensor/lifetime.ts'
export * from './tensor/ops/index.ts'
export { type LogLevel, logs } from './tensor/log.ts'
export { pipe } from './tensor/pipe.ts'
export type {
  CallRule,
  Comparison,
  ConvParams,
  DotParams,
  FlatFunction,
  None,
  Padding,
  Pair,
  PoolParams,
  PrimitiveName,
  PrimitiveParams,
} from './tensor/primitives.ts'
export {
  type Atom,
  type Equation,
  type EquationOf,
  type Literal,
  type Program,
  type TensorType,
  type Var,
  showProgram,
} from './tensor/program.ts'
export type { Shape } from './tensor/shape.ts'
export { type DataArray, type Payload, Tensor, type TraceScope } from './tensor/tensor.ts'
export { type MapTree, type Tree, mapTree } from './tensor/tree.ts'
/** Data, files, precision, optimizers, steps and the loop. */
export * as train from './train/index.ts'
/** Layers as pure functions, losses and the ResNet family. */
export * as nn from './nn/index.ts'
/** Random numbers by key. */
export * as random from './tensor/random.ts'
/** Trees of tensors: flatten, unflatten, map. */
export * as tree from './tensor/tree.ts'

/** The devices by name; `cuda` is the first GPU that the driver shows, `cuda:1` the second. */
export type DeviceName = 'cpu' | 'reference' | 'cuda' | `cuda:${number}`

/** What a device may do for speed. The CPU's devices always compute f32 as IEEE says, and the same bits in each run. */
export interface DeviceOptions {
  /** Whether a GPU may round f32 operands of products and convolutions to TF32 for its Tensor Cores: `tf32`, the default. */
  readonly precision?: 'tf32' | 'ieee'
  /** Whether the same input gives the same bits in each run; `true` by default. `false` lets cuDNN add in any order. */
  readonly deterministic?: boolean
}

const made = new Map<string, Device>()

/**
 * The device of that name with these options, the same one at each call: `cuda` compiles programs for an NVIDIA GPU, `cpu` to
 * C with the system's compiler, `reference` interprets them slowly in TypeScript. Nothing takes another's place. A tensor
 * belongs to one device: those of one GPU with other options are other devices.
 *
 * @throws PullbackError 'device' for another name, and with one sentence where CUDA cannot be used; 'compiler' where cpu
 * finds no C compiler; ValueError for a precision that is none.
 */
export function device(name: DeviceName, options: DeviceOptions = {}): Device {
  const asked = completed(options)
  const known = name === 'cuda' ? 'cuda:0' : name
  const key = known.startsWith('cuda') ? `${known} ${asked.precision} ${asked.deterministic}` : known
  const fresh = made.get(key) ?? make(known, asked)
  if (!made.has(key)) logLine('info', () => `[device] ${fresh.description}`)
  made.set(key, fresh)
  return fresh
}

function completed({ precision = 'tf32', deterministic = true }: DeviceOptions): Required<DeviceOptions> {
  if (!['tf32', 'ieee'].includes(precision))
    throw new ValueError(`[device] expected precision 'tf32' or 'ieee', got '${precision}'.`)
  return { precision, deterministic }
}

function make(name: DeviceName, options: Required<DeviceOptions>): Device {
  const [, ordinal] = /^cuda:(\d+)$/.exec(name) ?? []
  if (ordinal !== undefined) return cudaDevice({ ...options, ordinal: Number(ordinal) })
  if (name === 'reference') return referenceDevice()
  if (name !== 'cpu')
    throw new PullbackError('device', `[device] expected cpu, reference, cuda or cuda:N, got '${name}'.`)
  const compiled = cpuDevice()
  if (compiled !== undefined) return compiled
  throw new PullbackError('compiler', '[device] the CPU device found no C compiler. Install gcc or clang, or set CC.')
}

/**
 * Closes every device that `device` has made, at the end of a program: waits for what runs, and gives back all that they hold.
 * Their tensors cannot be used any more; where nobody set a default device, one is chosen anew when it is needed again.
 * Throws the first failure, after all are closed.
 */
export async function closeDevices(): Promise<void> {
  const devices = [...made.values()]
  made.clear()
  forgetAutomaticDevice()
  const ends = devices.map((each) => each.close())
  await Promise.allSettled(ends)
  await Promise.all(ends)
}

/** What CUDA needs and what of it is here, as lines of text, and whether it can be used. Throws nothing. */
export function cudaReport(): { readonly usable: boolean; readonly lines: readonly string[] } {
  const found = cudaProbe()
  return { usable: found.problems.length === 0, lines: doctorLines(found) }
}

/** What is used where nobody chose: a GPU, else the compiled CPU device, else the reference; and a line about why. */
function automatic(): Device {
  // A machine without a driver is one without a GPU, which is no news and costs no search; half of what CUDA needs is news.
  if (!hasDriver()) logLine('info', () => '[device] no GPU is used: there is no NVIDIA driver')
  else
    try {
      return device('cuda')
    } catch (error) {
      if (!(error instanceof PullbackError)) throw error
      logLine('warn', () => `[device] no GPU is used: ${error.message}`)
    }
  try {
    return device('cpu')
  } catch (error) {
    if (!(error instanceof PullbackError) || error.code !== 'compiler') throw error
    logLine('warn', () => '[device] no C compiler found (gcc, clang or CC), so programs are interpreted, slowly.')
    return device('reference')
  }
}

setDeviceChoice(automatic)
