// Random operands for the laws of single primitives, in f64: smooth ones, ones away from zero, and ones that are all
// different, so that differences never step over a kink.
import fc from 'fast-check'
import { tensor } from '../../src/tensor/ops/index.ts'
import { randomBits } from '../../src/tensor/philox.ts'
import { type Shape, at, range, sizeOf } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

/** Makes the elements of an operand of a given shape. */
export type Points = (shape: Shape) => Tensor

/** Uniform numbers in [low, high), by seed. */
export function uniforms(seed: number, count: number, low: number, high: number): Float64Array {
  return Float64Array.from(randomBits([seed, 7], 0, 0, 24, count), (word) => low + (word / 2 ** 24) * (high - low))
}

/** Each call gives other numbers of the same kind; `seed` chooses them. */
function drawn(draw: (seed: number, count: number) => Float64Array): fc.Arbitrary<Points> {
  return fc.nat(1 << 24).map((seed) => {
    let next = 0
    return (shape) => tensor(draw(seed + 7919 * next++, sizeOf(shape)), { shape, dtype: 'f64' })
  })
}

/** In [-1.5, 1.5). */
export const anywhere = drawn((seed, count) => uniforms(seed, count, -1.5, 1.5))

/** In [0.5, 2). */
export const positive = drawn((seed, count) => uniforms(seed, count, 0.5, 2))

/** In [0.3, 1.5) with either sign. */
export const awayFromZero = drawn((seed, count) => {
  const signs = uniforms(seed + 1, count, -1, 1)
  return uniforms(seed, count, 0.3, 1.5).map((value, i) => (at(signs, i) < 0 ? -value : value))
})

/** Multiples of 1/16, none twice in one operand and none a whole number. */
export const distinct = drawn((seed, count) => {
  const keys = uniforms(seed, count, 0, 1)
  const order = range(count).sort((a, b) => at(keys, a) - at(keys, b))
  return Float64Array.from(order, (rank) => (rank - count / 2) / 16 + 1 / 32)
})
