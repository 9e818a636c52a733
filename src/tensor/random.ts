// Randomness by key: a key is an i32[2] tensor, drawing does not change it, `split` and `foldIn` make new ones. The
// same key gives the same bits on every device.
import { bindOne, defaultDevice, scalar, wrapStorage } from './dispatch.ts'
import type { FloatDType } from './dtype.ts'
import { cast, cos, less, log, mul, neg, sqrt, sub, add } from './ops/pointwise.ts'
import { reshape, slice } from './ops/movement.ts'
import { seedWords } from './philox.ts'
import { range, sizeOf, type Shape } from './shape.ts'
import type { Tensor } from './tensor.ts'

const streams = { draw: 0, split: 1, fold: 2 } as const

/** A key from a seed, an integer of up to 53 bits. */
export function key(seed: number): Tensor {
  return wrapStorage(defaultDevice().upload(Int32Array.from(seedWords(seed)), { shape: [2], dtype: 'i32' }))
}

/** `count` keys that are independent of each other and of `from`'s own draws. */
export function split(from: Tensor, count = 2): Tensor[] {
  const words = draw(from, [count, 2], 32, streams.split)
  return range(count).map((i) => reshape(slice(words, [i, 0], [i + 1, 2]), [2]))
}

/** A key made of `from` and an integer (a number or an i32 scalar tensor): one for each step, say. */
export function foldIn(from: Tensor, data: Tensor | number): Tensor {
  return draw(from, [2], 32, streams.fold, typeof data === 'number' ? scalar(data | 0, 'i32') : data)
}

/** 32 random bits an element, as i32. */
export function bits(from: Tensor, shape: Shape): Tensor {
  return draw(from, shape, 32, streams.draw)
}

/** Uniform numbers in [0, 1) with 24 random bits each (fewer as `dtype` holds: 11 for f16, 8 for bf16). */
export function uniform(from: Tensor, shape: Shape, dtype: FloatDType = 'f32'): Tensor {
  const width = dtype === 'f16' ? 11 : dtype === 'bf16' ? 8 : 24
  return mul(cast(draw(from, shape, width, streams.draw), dtype), 2 ** -width)
}

/** Standard normal numbers by Box and Muller's transform, computed in f32. */
export function normal(from: Tensor, shape: Shape, dtype: FloatDType = 'f32'): Tensor {
  const count = sizeOf(shape)
  const draws = draw(from, [2, count], 24, streams.draw)
  const half = (i: number): Tensor => mul(cast(reshape(slice(draws, [i, 0], [i + 1, count]), [count]), 'f32'), 2 ** -24)
  const radius = sqrt(mul(log(sub(1, half(0))), -2))
  return cast(reshape(mul(radius, cos(mul(half(1), 2 * Math.PI))), shape), dtype)
}

/** true with probability `p`: bool. */
export function bernoulli(from: Tensor, p: Tensor | number, shape: Shape): Tensor {
  return less(uniform(from, shape), p)
}

/** A number from the standard exponential distribution an element, f32. */
export function exponential(from: Tensor, shape: Shape): Tensor {
  return neg(log(add(neg(uniform(from, shape)), 1)))
}

function draw(from: Tensor, shape: Shape, width: number, stream: number, offset: Tensor = scalar(0, 'i32')): Tensor {
  return bindOne('randomBits', [from, offset], { shape: [...shape], bits: width, stream })
}
