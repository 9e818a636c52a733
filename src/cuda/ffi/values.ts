// The values that cross into native code: branded pointers, and the checks every argument passes, because a foreign call
// takes NaN, undefined, a fraction or a string as a pointer or a size without a word.
import { InternalError } from '../../tensor/errors.ts'

declare const brand: unique symbol

/** An address or an opaque handle of one kind, never 0. */
export type Handle<Kind extends string> = bigint & { readonly [brand]: Kind }

/** An address in device memory. */
export type DevicePointer = Handle<'device'>
/** An address in host memory that does not move: pinned, or from `Native.allocate`. */
export type HostPointer = Handle<'host'>

/** Memory of JavaScript's that a call may read or write while it lasts, and no longer. */
export type Bytes = Exclude<NodeJS.TypedArray, Buffer>

/** One reused out-parameter, read as whatever type the call wrote. */
export interface Out {
  readonly cell: BigUint64Array
  /** The cell, zeroed, to be passed as `void *`. */
  clear(): BigUint64Array
  handle<Kind extends string>(call: string): Handle<Kind>
  /** A size_t. */
  size(): number
  int(): number
  float(): number
}

/** Makes an out-parameter. One per library suffices: calls are synchronous, and each result is read before the next. */
export function outParameter(): Out {
  const cell = new BigUint64Array(1)
  const ints = new Int32Array(cell.buffer)
  const floats = new Float32Array(cell.buffer)
  return {
    cell,
    clear: () => cell.fill(0n),
    handle: (call) => made(call, cell[0]),
    size: () => Number(cell[0]),
    int: () => ints[0] ?? 0,
    float: () => floats[0] ?? 0,
  }
}

/** The handle a call gave back; 0 after a success is a fault of the library. */
export function made<Kind extends string>(call: string, value: unknown): Handle<Kind> {
  if (typeof value === 'bigint' && value > 0n) return value as Handle<Kind>
  throw new InternalError(`${call} succeeded and gave ${String(value)} as a handle`)
}

/** An address as it is, if it can be one. */
export function pointer<P extends Handle<string>>(value: P): P {
  if (typeof value !== 'bigint' || value <= 0n || value > 0xffff_ffff_ffff_ffffn)
    throw new InternalError(`a native call got ${String(value)} as a pointer`)
  return value
}

/** `base` moved by a number of bytes. */
export function offset<P extends DevicePointer | HostPointer>(base: P, bytes: number): P {
  return (pointer(base) + BigInt(count(bytes))) as P
}

/** A count or a size in bytes: an integer from 0 that a double holds exactly. */
export function count(value: number): number {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new InternalError(`a native call got ${String(value)} as a count`)
  return value
}

/** A count that is at least 1. */
export function positive(value: number): number {
  if (count(value) === 0) throw new InternalError('a native call got 0 as a size')
  return value
}

/** A C unsigned int. */
export function unsigned(value: number): number {
  if (count(value) > 0xffff_ffff) throw new InternalError(`a native call got ${value} as an unsigned int`)
  return value
}

/** A C int, or an enum. */
export function int(value: number): number {
  if (!Number.isInteger(value) || value < -0x8000_0000 || value > 0x7fff_ffff)
    throw new InternalError(`a native call got ${String(value)} as an int`)
  return value
}

/** A signed 64-bit integer that a double holds exactly. */
export function long(value: number): number {
  if (!Number.isSafeInteger(value)) throw new InternalError(`a native call got ${String(value)} as an integer`)
  return value
}

/** Text without a NUL inside. */
export function text(value: string): string {
  if (typeof value !== 'string' || value.includes('\0'))
    throw new InternalError('a native call got what is no text, or text with a NUL inside')
  return value
}

/** An array of at least so many bytes. */
export function typed<T extends Bytes>(array: T, bytes: number): T {
  if (!ArrayBuffer.isView(array) || array.byteLength < count(bytes))
    throw new InternalError(`a native call got an array of ${String(array.byteLength)} bytes where it needs ${bytes}`)
  return array
}

/** The text in a buffer up to its first NUL. */
export function untilNul(buffer: Uint8Array): string {
  const end = buffer.indexOf(0)
  return new TextDecoder().decode(end < 0 ? buffer : buffer.subarray(0, end))
}
