// The public face, and the composition root: here, and only here, the devices are known by name. Importing does nothing
// but define; a device is made when it is first needed.
import { cpuDevice } from './cpu/index.ts'
import type { Device } from './tensor/device.ts'
import { setDeviceChoice } from './tensor/dispatch.ts'
import { PullbackError } from './tensor/errors.ts'
import { logLine } from './tensor/log.ts'
import { referenceDevice } from './tensor/reference/device.ts'

export * from './autograd/index.ts'
export type { CompileOptions, Device, DeviceMemory, Executable, OptimizeLevel, Storage } from './tensor/device.ts'
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

/** The devices by name. */
export type DeviceName = 'cpu' | 'reference'

const makers: Readonly<Record<DeviceName, () => Device | undefined>> = { cpu: cpuDevice, reference: referenceDevice }
const made = new Map<DeviceName, Device>()

/**
 * The device of that name, the same one at each call: `cpu` compiles programs to C with the system's compiler,
 * `reference` interprets them slowly in TypeScript.
 *
 * @throws PullbackError 'device' for another name; 'compiler' where cpu finds no C compiler.
 */
export function device(name: DeviceName): Device {
  const known = made.get(name)
  if (known !== undefined) return known
  const make = makers[name] as (typeof makers)[DeviceName] | undefined
  if (make === undefined)
    throw new PullbackError('device', `[device] expected ${Object.keys(makers).join(' or ')}, got '${name}'.`)
  const fresh = make()
  if (fresh === undefined)
    throw new PullbackError('compiler', '[device] the CPU device found no C compiler. Install gcc or clang, or set CC.')
  made.set(name, fresh)
  logLine('info', () => `[device] ${fresh.description}`)
  return fresh
}

/** What is used where nobody chose: the compiled CPU device, or the reference with a sentence on stderr about why. */
function automatic(): Device {
  const compiled = made.get('cpu') ?? cpuDevice()
  if (compiled === undefined) {
    logLine('warn', () => '[device] no C compiler found (gcc, clang or CC), so programs are interpreted, slowly.')
    return device('reference')
  }
  made.set('cpu', compiled)
  logLine('info', () => `[device] chosen by itself: ${compiled.description}`)
  return compiled
}

setDeviceChoice(automatic)
