// Element types: their sizes, storage arrays and classes. Conversions of values live in half.ts.
import { DTypeError } from './errors.ts'

/** An element type. f16 is IEEE binary16, bf16 the upper half of f32; bool is one byte, 0 or 1. */
export type DType = 'f32' | 'f16' | 'bf16' | 'f64' | 'i32' | 'u8' | 'bool'

/** The floating element types. */
export type FloatDType = 'f32' | 'f16' | 'bf16' | 'f64'

/** How each element type is stored in JavaScript; f16 and bf16 are their bit patterns. */
export interface StorageArrays {
  f32: Float32Array
  f16: Uint16Array
  bf16: Uint16Array
  f64: Float64Array
  i32: Int32Array
  u8: Uint8Array
  bool: Uint8Array
}

/** Any array that can back a tensor. */
export type StorageArray = StorageArrays[DType]

const bytes: Readonly<Record<DType, number>> = { f32: 4, f16: 2, bf16: 2, f64: 8, i32: 4, u8: 1, bool: 1 }

/** Every element type, in a stable order. */
export const dtypes = Object.freeze(Object.keys(bytes)) as readonly DType[]

/** Bytes of one element. */
export function bytesOf(dtype: DType): number {
  return bytes[dtype]
}

/** Whether the element type is a floating one. */
export function isFloat(dtype: DType): dtype is FloatDType {
  return dtype === 'f32' || dtype === 'f16' || dtype === 'bf16' || dtype === 'f64'
}

/** Whether the element type is a 16-bit floating one. */
export function isHalf(dtype: DType): dtype is 'f16' | 'bf16' {
  return dtype === 'f16' || dtype === 'bf16'
}

/** The type in which sums over `dtype` are kept: f64 for f64, f32 for every other floating type. */
export function accumulationType(dtype: FloatDType): 'f32' | 'f64' {
  return dtype === 'f64' ? 'f64' : 'f32'
}

const constructors = {
  f32: Float32Array,
  f16: Uint16Array,
  bf16: Uint16Array,
  f64: Float64Array,
  i32: Int32Array,
  u8: Uint8Array,
  bool: Uint8Array,
} as const

/** A zeroed storage array of `length` elements. */
export function storageArray<D extends DType>(dtype: D, length: number): StorageArrays[D] {
  return new constructors[dtype](length) as StorageArrays[D]
}

/** A storage array that is a view of `buffer`; `byteOffset` must be a multiple of the element size. */
export function storageView(dtype: DType, buffer: ArrayBuffer, byteOffset: number, length: number): StorageArray {
  return new constructors[dtype](buffer, byteOffset, length)
}

/** Throws unless `text` names an element type. */
export function parseDType(text: string): DType {
  const found = dtypes.find((dtype) => dtype === text)
  if (found === undefined) throw new DTypeError(`[dtype] expected one of ${dtypes.join(', ')}, got '${text}'.`)
  return found
}
