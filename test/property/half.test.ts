// f16 and bf16 against exact definitions: the fp16 package on every pattern, and rounding derived in BigInt from the
// bits of the double, so that a double beside a tie is not rounded twice.
import fc from 'fast-check'
import { getFloat16, setFloat16 } from 'fp16'
import { describe, expect, test } from 'vitest'
import { dtypes, storageArray } from '../../src/tensor/dtype.ts'
import { decode, decodeBF16, decodeF16, encode, encodeBF16, encodeF16, roundTo } from '../../src/tensor/half.ts'

const view = new DataView(new ArrayBuffer(8))
const patterns = Array.from({ length: 65536 }, (_, pattern) => pattern)

interface Format {
  readonly name: string
  readonly fractionBits: number
  readonly bias: number
  readonly nan: number
  readonly encode: (value: number) => number
  readonly decode: (pattern: number) => number
}

const f16: Format = { name: 'f16', fractionBits: 10, bias: 15, nan: 0x7e00, encode: encodeF16, decode: decodeF16 }
const bf16: Format = { name: 'bf16', fractionBits: 7, bias: 127, nan: 0x7fc0, encode: encodeBF16, decode: decodeBF16 }

/** A finite double's magnitude as an exact integer multiple of 2^-1074, and the exponent of its highest bit (or less, if subnormal). */
function exactMagnitude(value: number): { magnitude: bigint; highest: number } {
  view.setFloat64(0, Math.abs(value))
  const word = view.getBigUint64(0)
  const exponent = word >> 52n
  const fraction = word & ((1n << 52n) - 1n)
  return {
    magnitude: exponent === 0n ? fraction : ((1n << 52n) | fraction) << (exponent - 1n),
    highest: Number(exponent) - 1023,
  }
}

/** The bits of `value` in a format, rounded once to nearest even: exact integers only. */
function roundedBits(value: number, { fractionBits, bias, nan }: Format): number {
  if (Number.isNaN(value)) return nan
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const infinity = (2 * bias + 1) << fractionBits
  if (!Number.isFinite(value)) return sign | infinity
  const { magnitude, highest } = exactMagnitude(value)
  const exponent = Math.max(highest, 1 - bias)
  const unit = 1n << BigInt(exponent - fractionBits + 1074)
  const [quotient, rest] = [magnitude / unit, (magnitude % unit) * 2n]
  const up = rest > unit || (rest === unit && quotient % 2n === 1n) ? 1n : 0n
  // A carry out of the fraction moves on into the exponent by itself; so does one past the largest into infinity.
  const pattern = ((exponent + bias - 1) << fractionBits) + Number(quotient + up)
  return sign | Math.min(pattern, infinity)
}

/** The double next to `value`, away from zero (1) or towards it (-1). */
function beside(value: number, step: 1 | -1): number {
  view.setFloat64(0, value)
  view.setBigInt64(0, view.getBigInt64(0) + BigInt(step))
  return view.getFloat64(0)
}

test('f16 decodes every pattern as the fp16 package does', () => {
  for (const pattern of patterns) {
    view.setUint16(0, pattern)
    const [ours, theirs] = [decodeF16(pattern), getFloat16(view, 0)]
    if (!Object.is(ours, theirs)) expect.fail(`0x${pattern.toString(16)}: ${ours}, fp16 has ${theirs}`)
  }
})

test('bf16 decodes every pattern as the upper half of an f32', () => {
  for (const pattern of patterns) {
    view.setUint32(0, pattern * 65536)
    const [ours, theirs] = [decodeBF16(pattern), view.getFloat32(0)]
    if (!Object.is(ours, theirs)) expect.fail(`0x${pattern.toString(16)}: ${ours}, f32 has ${theirs}`)
  }
})

test('f16 encodes every f16 value, every midpoint and its neighbours as the fp16 package does', () => {
  for (const pattern of patterns.filter((p) => p < 0x7c00)) {
    const value = decodeF16(pattern)
    const midpoint = (value + (pattern === 0x7bff ? 65536 : decodeF16(pattern + 1))) / 2
    for (const candidate of [
      value,
      midpoint,
      Math.fround(midpoint * (1 + 2 ** -20)),
      Math.fround(midpoint * (1 - 2 ** -20)),
    ]) {
      setFloat16(view, 0, candidate)
      const [ours, theirs] = [encodeF16(candidate), view.getUint16(0)]
      if (ours !== theirs) expect.fail(`${candidate}: 0x${ours.toString(16)}, fp16 has 0x${theirs.toString(16)}`)
    }
  }
})

describe.each([f16, bf16])('$name', (format) => {
  const infinity = (2 * format.bias + 1) << format.fractionBits
  const agrees = (value: number): void => {
    const [ours, exact] = [format.encode(value), roundedBits(value, format)]
    if (ours !== exact) expect.fail(`${value}: 0x${ours.toString(16)}, exactly 0x${exact.toString(16)}`)
  }

  test('decoding, then encoding, keeps every pattern but NaN payloads', () => {
    for (const pattern of patterns) {
      const expected = (pattern & 0x7fff) > infinity ? format.nan : pattern
      if (format.encode(format.decode(pattern)) !== expected) expect.fail(`0x${pattern.toString(16)}`)
    }
  })

  test('rounds to nearest even at and beside every tie, also where the neighbour is nearer than f32 can tell', () => {
    for (const pattern of patterns.slice(0, infinity)) {
      const value = format.decode(pattern)
      const next = pattern === infinity - 1 ? 2 ** (format.bias + 1) : format.decode(pattern + 1)
      const tie = (value + next) / 2
      for (const candidate of [
        value,
        tie,
        -tie,
        beside(tie, 1),
        beside(-tie, 1),
        beside(tie, -1),
        tie * (1 + 2 ** -30),
        tie * (1 - 2 ** -30),
      ])
        agrees(candidate)
    }
  })

  test('rounds any double once', () => {
    fc.assert(
      fc.property(fc.double(), (value) => agrees(value)),
      { numRuns: 5000 },
    )
  })

  test('rounds doubles of its own range once', () => {
    const exponent = fc.integer({ min: -format.bias - format.fractionBits - 2, max: format.bias + 2 })
    const significand = fc.double({ min: 1, max: 2, noNaN: true })
    const value = fc.tuple(significand, exponent, fc.boolean()).map(([s, e, negative]) => (negative ? -s : s) * 2 ** e)
    fc.assert(fc.property(value, agrees), { numRuns: 5000 })
  })

  test('knows the special values', () => {
    expect([0, -0, Infinity, -Infinity, Number.NaN].map(format.encode)).toEqual([
      0,
      0x8000,
      infinity,
      0x8000 | infinity,
      format.nan,
    ])
    expect([Number.MAX_VALUE, -Number.MAX_VALUE, Number.MIN_VALUE, -Number.MIN_VALUE].map(format.encode)).toEqual([
      infinity,
      0x8000 | infinity,
      0,
      0x8000,
    ])
  })
})

test('the largest f16 is 65504 and the first double that overflows is 65520', () => {
  expect(encodeF16(65504)).toBe(0x7bff)
  expect(encodeF16(beside(65520, -1))).toBe(0x7bff)
  expect(encodeF16(65520)).toBe(0x7c00)
})

test('storing integers truncates towards zero, saturates, and makes NaN zero', () => {
  const values = [1.9, -1.9, -0.5, 3e9, -3e9, 255.9, 256, Number.NaN, Infinity, -Infinity]
  expect(values.map((value) => roundTo('i32', value))).toEqual([
    1, -1, 0, 2147483647, -2147483648, 255, 256, 0, 2147483647, -2147483648,
  ])
  expect(values.map((value) => roundTo('u8', value))).toEqual([1, 0, 0, 255, 0, 255, 255, 0, 255, 0])
  expect(values.map((value) => roundTo('bool', value))).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
  expect([0, -0].map((value) => roundTo('bool', value))).toEqual([0, 0])
})

test.each(dtypes)('%s: encode stores what roundTo gives, and decode reads it back', (dtype) => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.double(), fc.double({ min: -300, max: 300 }))), (values) => {
      const stored = encode(dtype, values)
      expect(stored.constructor).toBe(storageArray(dtype, 0).constructor)
      expect([...decode(dtype, stored)]).toEqual(values.map((value) => roundTo(dtype, value)))
    }),
  )
})
