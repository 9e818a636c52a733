// The pointwise rules where they could reasonably have meant something else: integers, NaN, infinities, rounding.
import { describe, expect, test } from 'vitest'
import type { Comparison } from '../../src/tensor/primitives.ts'
import { erf } from '../../src/tensor/reference/erf.ts'
import { elements, vector } from './reference-run.ts'

const { NaN: nan, POSITIVE_INFINITY: inf } = Number

describe('integers', () => {
  test('i32 wraps around as 32-bit arithmetic', () => {
    const [a, b] = [vector('i32', 2147483647, -2147483648, 65536, 123456789), vector('i32', 1, 1, 65536, 987654321)]
    expect(elements('add', [a, b], {})).toEqual([-2147483648, -2147483647, 131072, 1111111110])
    expect(elements('sub', [b, a], {})).toEqual([-2147483646, -2147483647, 0, 864197532])
    expect(elements('mul', [a, b], {})).toEqual([2147483647, -2147483648, 0, -67153019])
    expect(elements('neg', [a], {})).toEqual([-2147483647, -2147483648, -65536, -123456789])
    expect(elements('abs', [vector('i32', -2147483648, -5)], {})).toEqual([-2147483648, 5])
  })

  test('u8 wraps around modulo 256', () => {
    const [a, b] = [vector('u8', 255, 3, 16), vector('u8', 1, 5, 17)]
    expect(elements('add', [a, b], {})).toEqual([0, 8, 33])
    expect(elements('sub', [a, b], {})).toEqual([254, 254, 255])
    expect(elements('mul', [a, b], {})).toEqual([255, 15, 16])
    expect(elements('neg', [a], {})).toEqual([1, 253, 240])
  })

  test('division truncates towards zero, and by zero gives zero', () => {
    const quotient = elements(
      'div',
      [vector('i32', 7, -7, 7, -7, 5, -2147483648), vector('i32', 2, 2, -2, -2, 0, -1)],
      {},
    )
    expect(quotient).toEqual([3, -3, -3, 3, 0, -2147483648])
    expect(elements('div', [vector('u8', 7, 7), vector('u8', 2, 0)], {})).toEqual([3, 0])
  })

  test('integers keep their arithmetic where floats are not rounded', () => {
    const options = { round: false }
    expect(elements('add', [vector('i32', 2147483647), vector('i32', 1)], {}, options)).toEqual([-2147483648])
    expect(elements('cast', [vector('f32', 2.7)], { dtype: 'i32' }, options)).toEqual([2])
    expect(elements('cast', [vector('f64', 1 / 3)], { dtype: 'f16' }, options)).toEqual([1 / 3])
  })
})

describe('special values', () => {
  test('max and min are NaN if either operand is', () => {
    const [a, b] = [vector('f32', nan, 1, 2, -inf), vector('f32', 1, nan, 3, inf)]
    expect(elements('max', [a, b], {})).toEqual([nan, nan, 3, inf])
    expect(elements('min', [a, b], {})).toEqual([nan, nan, 2, -inf])
  })

  test.each<[Comparison, number[]]>([
    ['eq', [0, 0, 1, 0, 1]],
    ['ne', [1, 1, 0, 1, 0]],
    ['lt', [0, 0, 0, 1, 0]],
    ['le', [0, 0, 1, 1, 1]],
    ['gt', [0, 0, 0, 0, 0]],
    ['ge', [0, 0, 1, 0, 1]],
  ])('compare %s', (comparison, expected) => {
    const operands = [vector('f32', nan, nan, 2, 1, 0), vector('f32', nan, 1, 2, 2, -0)]
    expect(elements('compare', operands, { comparison })).toEqual(expected)
  })

  test('pow follows IEEE 754 where JavaScript gives NaN', () => {
    const [base, exponent] = [vector('f64', 1, 1, -1, -2, -2, 0, 2), vector('f64', nan, inf, -inf, 3, 0.5, 0, -1074)]
    expect(elements('pow', [base, exponent], {})).toEqual([1, 1, 1, -8, nan, 1, 2 ** -1074])
  })

  test('select takes from the branch alone, whatever the other holds', () => {
    const [condition, a, b] = [vector('bool', 1, 0, 1), vector('f32', 1, nan, 3), vector('f32', nan, 5, nan)]
    expect(elements('select', [condition, a, b], {})).toEqual([1, 5, 3])
  })

  test('sigmoid does not overflow, and log, sqrt and rsqrt are what IEEE 754 says at their edges', () => {
    expect(elements('sigmoid', [vector('f64', -1000, -710, 0, 40, 1000, nan)], {})).toEqual([
      0,
      Math.exp(-710),
      0.5,
      1,
      1,
      nan,
    ])
    expect(elements('log', [vector('f64', 0, -1, 1)], {})).toEqual([-inf, nan, 0])
    expect(elements('sqrt', [vector('f64', -1, 4)], {})).toEqual([nan, 2])
    expect(elements('rsqrt', [vector('f64', 0, 4, inf)], {})).toEqual([inf, 0.5, 0])
  })

  test('isFinite, sign, floor, not, and, or', () => {
    expect(elements('isFinite', [vector('f32', 1, inf, -inf, nan)], {})).toEqual([1, 0, 0, 0])
    expect(elements('sign', [vector('f32', -3, 0, 2, nan)], {})).toEqual([-1, 0, 1, nan])
    expect(elements('floor', [vector('f32', -1.5, 1.5)], {})).toEqual([-2, 1])
    const [a, b] = [vector('bool', 0, 0, 1, 1), vector('bool', 0, 1, 0, 1)]
    expect(elements('not', [a], {})).toEqual([1, 1, 0, 0])
    expect(elements('and', [a, b], {})).toEqual([0, 0, 0, 1])
    expect(elements('or', [a, b], {})).toEqual([0, 1, 1, 1])
  })
})

test('every result is rounded once to its dtype, unless asked otherwise', () => {
  const third = [vector('f16', 1), vector('f16', 3)]
  expect(elements('div', third, {})).toEqual([0.333251953125])
  expect(elements('div', third, {}, { round: false })).toEqual([1 / 3])
  expect(elements('div', [vector('bf16', 1), vector('bf16', 3)], {})).toEqual([0.333984375])
  expect(elements('exp', [vector('f32', 1)], {})).toEqual([Math.fround(Math.E)])
  expect(elements('mul', [vector('f16', 300), vector('f16', 300)], {})).toEqual([inf])
})

test('casts: to nearest even, to integers by truncation with saturation, to bool by x != 0', () => {
  const x = vector('f64', 2049, -1.5, 300, 1e10, nan, 0)
  expect(elements('cast', [x], { dtype: 'f16' })).toEqual([2048, -1.5, 300, inf, nan, 0])
  expect(elements('cast', [x], { dtype: 'i32' })).toEqual([2049, -1, 300, 2147483647, 0, 0])
  expect(elements('cast', [x], { dtype: 'u8' })).toEqual([255, 0, 255, 255, 0, 0])
  expect(elements('cast', [x], { dtype: 'bool' })).toEqual([1, 1, 1, 1, 1, 0])
})

// Values of erf by its series in 60-digit arithmetic, on both sides of where the method changes.
test.each([
  [1e-10, 1.1283791670955126e-10],
  [0.125, 0.1403162048013338],
  [0.5, 0.5204998778130465],
  [0.84375, 0.7672256612323416],
  [1, 0.8427007929497149],
  [1.25, 0.9229001282564583],
  [1.75, 0.9866716712191824],
  [1.999, 0.9953015566513705],
  [2, 0.9953222650189527],
  [2.001, 0.9953428907185247],
  [2.5, 0.999593047982555],
  [3, 0.9999779095030014],
  [4, 0.9999999845827421],
  [5.5, 0.9999999999999927],
  [6, 1.0],
])('erf(%f) within 1e-15', (x, expected) => {
  expect(Math.abs(erf(x) - expected)).toBeLessThanOrEqual(1e-15 * Math.abs(expected))
  expect(erf(-x)).toBe(-erf(x))
})

test('erf at its edges', () => {
  expect([0, -0, inf, -inf, nan].map(erf)).toEqual([0, -0, 1, -1, nan])
})
