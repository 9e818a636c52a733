// What the pointwise primitives mean. Floats are computed in float64; i32 wraps as 32-bit, u8 modulo 256, as C does.
import { type DType, isFloat } from '../dtype.ts'
import { roundTo } from '../half.ts'
import type { Comparison, PointwisePrimitive } from '../primitives.ts'
import { at } from '../shape.ts'
import { erf } from './erf.ts'
import { type ReferenceValue, type Rule, type Rules, get } from './value.ts'

/** The rules of every pointwise primitive. */
export const pointwiseRules: Rules<PointwisePrimitive> = {
  neg: unary((x) => -x),
  exp: unary(Math.exp),
  log: unary(Math.log),
  sqrt: unary(Math.sqrt),
  rsqrt: unary((x) => 1 / Math.sqrt(x)),
  sin: unary(Math.sin),
  cos: unary(Math.cos),
  tanh: unary(Math.tanh),
  sigmoid: unary(sigmoid),
  erf: unary(erf),
  abs: unary(Math.abs),
  sign: unary(Math.sign),
  floor: unary(Math.floor),
  isFinite: unary((x) => (Number.isFinite(x) ? 1 : 0)),
  not: unary((x) => 1 - x),
  cast: ([x]) => [data(x)], // rounded as every result is
  stopGradient: ([x]) => [data(x)],
  add: binary((a, b) => a + b),
  sub: binary((a, b) => a - b),
  mul: binary((a, b) => a * b, Math.imul),
  div: binary(
    (a, b) => a / b,
    (a, b) => (b === 0 ? 0 : Math.trunc(a / b)),
  ),
  pow: binary(power),
  max: binary((a, b) => Math.max(a, b)),
  min: binary((a, b) => Math.min(a, b)),
  and: binary((a, b) => a * b),
  or: binary((a, b) => Math.max(a, b)),
  compare: ([a, b], { comparison }) => [zipWith(data(a), data(b), comparisons[comparison])],
  select: ([condition, a, b]) => {
    const [chosen, other] = [data(a), data(b)]
    return [data(condition).map((holds, i) => get(holds === 0 ? other : chosen, i))]
  },
}

/** The elements rounded to what `dtype` holds, in a fresh array. */
export function roundAll(dtype: DType, values: Float64Array): Float64Array {
  if (dtype === 'f64') return values
  if (dtype === 'f32') return new Float64Array(new Float32Array(values))
  return values.map((value) => roundTo(dtype, value))
}

/** An integer result reduced to its dtype's range as the hardware's arithmetic does; other values unchanged. */
export function wrap(dtype: DType, value: number): number {
  if (dtype === 'i32') return value | 0
  return dtype === 'u8' ? value & 255 : value
}

const comparisons: Readonly<Record<Comparison, (a: number, b: number) => number>> = {
  eq: (a, b) => Number(a === b),
  ne: (a, b) => Number(a !== b),
  lt: (a, b) => Number(a < b),
  le: (a, b) => Number(a <= b),
  gt: (a, b) => Number(a > b),
  ge: (a, b) => Number(a >= b),
}

function unary(f: (x: number) => number) {
  return (
    [x]: readonly ReferenceValue[],
    _params: unknown,
    outputs: Parameters<Rule<'neg'>>[2],
  ): readonly Float64Array[] => {
    const { dtype } = at(outputs, 0)
    return [isFloat(dtype) ? data(x).map(f) : data(x).map((value) => wrap(dtype, f(value)))]
  }
}

function binary(real: (a: number, b: number) => number, integer = real) {
  return (
    [a, b]: readonly ReferenceValue[],
    _params: unknown,
    outputs: Parameters<Rule<'add'>>[2],
  ): readonly Float64Array[] => {
    const { dtype } = at(outputs, 0)
    if (isFloat(dtype)) return [zipWith(data(a), data(b), real)]
    return [zipWith(data(a), data(b), (x, y) => wrap(dtype, integer(x, y)))]
  }
}

function zipWith(a: Float64Array, b: Float64Array, f: (x: number, y: number) => number): Float64Array {
  if (a.length !== b.length) throw new RangeError(`internal: zip of ${a.length} and ${b.length}`)
  const out = new Float64Array(a.length)
  for (let i = 0; i < out.length; i++) out[i] = f(get(a, i), get(b, i))
  return out
}

function data(value: ReferenceValue | undefined): Float64Array {
  if (value === undefined) throw new RangeError('internal: a missing operand')
  return value.data
}

/** From the side where the exponential does not overflow. */
function sigmoid(x: number): number {
  const small = Math.exp(-Math.abs(x))
  return (x >= 0 ? 1 : small) / (1 + small)
}

/** As IEEE 754 and C have it, where JavaScript gives NaN: 1 to any power, and -1 to an infinite one, are 1. */
function power(base: number, exponent: number): number {
  const isOne = base === 1 || (base === -1 && Math.abs(exponent) === Number.POSITIVE_INFINITY)
  return isOne ? 1 : base ** exponent
}
