// Conversions between numbers and the bits of f16 and bf16, round to nearest even. Decoding f16 is one table look-up
// (the table is built by the fp16 package); encoding is integer arithmetic on the f32 bits.
import { getFloat16 } from 'fp16'
import { type DType, type StorageArray, storageArray } from './dtype.ts'

const f32 = new Float32Array(1)
const bits = new Uint32Array(f32.buffer)

/** 2^(10 - exponent) for the exponents -14 to 16. */
const f16Scales = Float64Array.from({ length: 31 }, (_, index) => 2 ** (24 - index))

let decodeTable: Float32Array | undefined

/** The table of all 65,536 f16 values. */
export function f16Values(): Float32Array {
  if (decodeTable !== undefined) return decodeTable
  const view = new DataView(new ArrayBuffer(2))
  decodeTable = Float32Array.from({ length: 65536 }, (_, pattern) => {
    view.setUint16(0, pattern, true)
    return getFloat16(view, 0, true)
  })
  return decodeTable
}

/** The value of an f16 bit pattern. */
export function decodeF16(pattern: number): number {
  return f16Values()[pattern & 0xffff] ?? Number.NaN
}

/**
 * The f16 bits nearest to `value` (ties to even; overflow gives infinity; every NaN gives 0x7e00). A double is
 * rounded once, not by way of f32.
 */
export function encodeF16(value: number): number {
  if (Number.isNaN(value)) return 0x7e00
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const magnitude = Math.abs(value)
  if (magnitude >= 65520) return sign | 0x7c00
  if (magnitude < 2 ** -14) return sign | roundTiesToEven(magnitude * 2 ** 24) // subnormal: units of 2^-24
  f32[0] = magnitude // may round up to the next power of two, whose bits are those of this one's significand 2048
  const exponent = ((bits[0] ?? 0) >>> 23) - 127
  const significand = roundTiesToEven(magnitude * (f16Scales[exponent + 14] ?? 0)) // 1024..2048
  return sign | (((exponent + 15) << 10) + (significand - 1024))
}

/** The value of a bf16 bit pattern. */
export function decodeBF16(pattern: number): number {
  bits[0] = (pattern & 0xffff) << 16
  return f32[0] ?? 0
}

/** The bf16 bits nearest to `value` (ties to even; every NaN gives 0x7fc0). A double is rounded once. */
export function encodeBF16(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0
  f32[0] = value
  let word = bits[0] ?? 0
  // Rounding to f32 first may land on a tie that the double does not have: step back towards the double.
  const rounded = Math.fround(value)
  if ((word & 0xffff) === 0x8000 && rounded !== value) word += Math.abs(rounded) > Math.abs(value) ? -1 : 1
  return ((word + 0x7fff + ((word >>> 16) & 1)) >>> 16) & 0xffff
}

/** `value` rounded to what `dtype` can hold: the meaning of storing a result. Integers truncate towards zero and saturate. */
export function roundTo(dtype: DType, value: number): number {
  switch (dtype) {
    case 'f64':
      return value
    case 'f32':
      return Math.fround(value)
    case 'f16':
      return decodeF16(encodeF16(value))
    case 'bf16':
      return decodeBF16(encodeBF16(value))
    case 'i32':
      return Number.isNaN(value) ? 0 : Math.max(-2147483648, Math.min(2147483647, Math.trunc(value))) + 0
    case 'u8':
      return Number.isNaN(value) ? 0 : Math.max(0, Math.min(255, Math.trunc(value))) + 0
    case 'bool':
      return value === 0 ? 0 : 1
    default:
      return dtype satisfies never
  }
}

/** Numbers stored as `dtype`. */
export function encode(dtype: DType, values: ArrayLike<number>): StorageArray {
  const out = storageArray(dtype, values.length)
  const convert = encoder(dtype)
  for (let i = 0; i < out.length; i++) out[i] = convert(values[i] ?? 0)
  return out
}

/** Stored elements as numbers: a Float32Array for the 16-bit types, the array itself for the others. */
export function decode(dtype: DType, stored: StorageArray): Exclude<StorageArray, Uint16Array> {
  if (!(stored instanceof Uint16Array)) return stored
  const convert = dtype === 'f16' ? decodeF16 : decodeBF16
  const out = new Float32Array(stored.length)
  for (let i = 0; i < out.length; i++) out[i] = convert(stored[i] ?? 0)
  return out
}

function encoder(dtype: DType): (value: number) => number {
  if (dtype === 'f16') return encodeF16
  if (dtype === 'bf16') return encodeBF16
  return (value) => roundTo(dtype, value)
}

function roundTiesToEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest > 0.5 || (rest === 0.5 && floor % 2 === 1)) return floor + 1
  return floor
}
