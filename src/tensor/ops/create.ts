// Making tensors from numbers.
import type { Device } from '../device.ts'
import { bindOne, commonDevice, defaultDevice, scalar, wrapStorage } from '../dispatch.ts'
import { type DType, type StorageArray, isFloat, storageArray } from '../dtype.ts'
import { DTypeError, ShapeError, ValueError } from '../errors.ts'
import { encode } from '../half.ts'
import { showType } from '../program.ts'
import { type Shape, checkShape, normalizeAxis, range, sizeOf } from '../shape.ts'
import { Tensor, storageOf } from '../tensor.ts'

/** Numbers, nested as the tensor's axes are. */
export type NestedNumbers = number | boolean | readonly NestedNumbers[]

/** Shape, element type and place of a new tensor. */
export interface TensorOptions {
  /** The shape; by default that of the nesting, or one axis for a typed array. */
  readonly shape?: Shape
  /** The element type; by default f32 for numbers, bool for booleans, and the array's own for typed arrays. */
  readonly dtype?: DType
  /** Where to put it; by default the default device. */
  readonly device?: Device
}

/**
 * A tensor of the given numbers: nested arrays, a flat typed array with a shape, or one number.
 *
 * @example tensor([[1, 2], [3, 4]]); tensor(new Float32Array(12), { shape: [3, 4] }); tensor([1, 2], { dtype: 'f16' });
 * @throws ShapeError if the nesting is ragged or the shape does not fit the number of elements.
 */
export function tensor(data: NestedNumbers | StorageArray, options: TensorOptions = {}): Tensor {
  const nested = ArrayBuffer.isView(data) ? undefined : flattenNested(data)
  const values = ArrayBuffer.isView(data) ? data : (nested?.values ?? [])
  const dtype =
    options.dtype ?? (ArrayBuffer.isView(data) ? dtypeOfArray(data) : nested?.boolean === true ? 'bool' : 'f32')
  const shape = options.shape ?? (ArrayBuffer.isView(data) ? [data.length] : (nested?.shape ?? []))
  checkShape('tensor', shape)
  if (sizeOf(shape) !== values.length)
    throw new ShapeError(
      `[tensor] expected ${sizeOf(shape)} elements for shape [${shape.join(', ')}], got ${values.length}.`,
    )
  const stored =
    ArrayBuffer.isView(data) && data.constructor === storageArray(dtype, 0).constructor && dtype === dtypeOfArray(data)
      ? data
      : encode(dtype, values)
  return wrapStorage((options.device ?? defaultDevice()).upload(stored, { shape: [...shape], dtype }))
}

/** A tensor from stored elements as they are: f16 and bf16 as bit patterns in a Uint16Array. */
export function fromBits(data: StorageArray, shape: Shape, dtype: DType, device: Device = defaultDevice()): Tensor {
  checkShape('fromBits', shape)
  if (data.constructor !== storageArray(dtype, 0).constructor)
    throw new DTypeError(
      `[fromBits] expected a ${storageArray(dtype, 0).constructor.name} for ${dtype}, got a ${data.constructor.name}.`,
    )
  if (data.length !== sizeOf(shape))
    throw new ShapeError(
      `[fromBits] expected ${sizeOf(shape)} elements for shape [${shape.join(', ')}], got ${data.length}.`,
    )
  return wrapStorage(device.upload(data, { shape: [...shape], dtype }))
}

/** A tensor of `shape` filled with `value`. */
export function full(shape: Shape, value: number, dtype: DType = 'f32'): Tensor {
  checkShape('full', shape)
  if (shape.length === 0) return scalar(value, dtype)
  return bindOne('broadcast', [scalar(value, dtype)], { shape: [...shape], axes: [] })
}

/** Zeros of `shape`. */
export function zeros(shape: Shape, dtype: DType = 'f32'): Tensor {
  return full(shape, 0, dtype)
}

/** Ones of `shape`. */
export function ones(shape: Shape, dtype: DType = 'f32'): Tensor {
  return full(shape, 1, dtype)
}

/** Zeros of the shape and dtype of `x`. */
export function zerosLike(x: Tensor): Tensor {
  return full(x.shape, 0, x.dtype)
}

/** Ones of the shape and dtype of `x`. */
export function onesLike(x: Tensor): Tensor {
  return full(x.shape, 1, x.dtype)
}

/** The integers 0 to n - 1 as a vector. */
export function arange(n: number, dtype: DType = 'i32'): Tensor {
  return iota([n], 0, dtype)
}

/** A tensor whose elements are their own index along `axis`; a negative axis counts from the end. */
export function iota(shape: Shape, axis: number, dtype: DType = 'i32'): Tensor {
  return bindOne('iota', [], { shape: [...shape], axis: normalizeAxis('iota', axis, shape.length), dtype })
}

/** A copy of a concrete tensor on another device. */
export async function transfer(x: Tensor, device: Device): Promise<Tensor> {
  if (commonDevice('transfer', [x]) === device && x.live('transfer').kind === 'stored') return x
  return wrapStorage(device.upload(await x.bits(), { shape: x.shape, dtype: x.dtype }))
}

/** A number or tensor as a tensor: numbers take the dtype of `like` and live in no memory. */
export function asTensor(op: string, value: Tensor | number, like?: Tensor): Tensor {
  if (value instanceof Tensor) return value
  if (typeof value !== 'number') throw new ValueError(`[${op}] expected a Tensor or a number, got ${typeof value}.`)
  const dtype = like?.dtype ?? 'f32'
  if (!isFloat(dtype) && !Number.isInteger(value))
    throw new DTypeError(`[${op}] the number ${value} does not fit the dtype ${dtype}. Use cast(x, 'f32') first.`)
  return scalar(value, dtype)
}

/** @internal The storage of a tensor, made on `device` if it is a literal. */
export function materialize(x: Tensor, use: string, device: Device = defaultDevice()): Tensor {
  const payload = x.live(use)
  if (payload.kind === 'stored') return x
  if (payload.kind === 'traced') storageOf(x, `${use} of ${showType(x)}`) // throws: it has none
  if (payload.kind !== 'literal') return x
  return wrapStorage(device.upload(encode(x.dtype, [payload.value]), { shape: [], dtype: x.dtype }))
}

function dtypeOfArray(data: StorageArray): DType {
  if (data instanceof Float32Array) return 'f32'
  if (data instanceof Float64Array) return 'f64'
  if (data instanceof Int32Array) return 'i32'
  if (data instanceof Uint16Array)
    throw new DTypeError('[tensor] a Uint16Array may be f16 or bf16 bits. Use fromBits(data, shape, dtype).')
  return 'u8'
}

function flattenNested(data: NestedNumbers): { values: number[]; shape: number[]; boolean: boolean } {
  const shape: number[] = []
  for (let node: NestedNumbers | undefined = data; Array.isArray(node); node = (node as readonly NestedNumbers[])[0])
    shape.push(node.length)
  const values: number[] = []
  let boolean = false
  const walk = (node: NestedNumbers, depth: number): void => {
    if (typeof node === 'number' || typeof node === 'boolean') {
      if (depth !== shape.length)
        throw new ShapeError(
          `[tensor] expected nested arrays of one shape [${shape.join(', ')}], got a number at depth ${depth}.`,
        )
      boolean ||= typeof node === 'boolean'
      values.push(Number(node))
      return
    }
    if (!Array.isArray(node) || node.length !== shape[depth])
      throw new ShapeError(
        `[tensor] expected nested arrays of one shape [${shape.join(', ')}], got ${Array.isArray(node) ? `${node.length} items` : typeof node} at depth ${depth}.`,
      )
    for (const index of range(node.length)) walk(node[index] as NestedNumbers, depth + 1)
  }
  walk(data, 0)
  return { values, shape, boolean }
}
