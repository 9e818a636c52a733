// MixUp (Zhang et al., 2018): each image and its target blended with another of the batch, inside the compiled step.
import { ValueError } from '../tensor/errors.ts'
import { expandDims, slice, reshape } from '../tensor/ops/movement.ts'
import { take } from '../tensor/ops/indexing.ts'
import { iota } from '../tensor/ops/create.ts'
import {
  abs,
  add,
  cast,
  cos,
  div,
  equal,
  exp,
  greater,
  less,
  log,
  logicalAnd,
  logicalOr,
  mul,
  sqrt,
  square,
  sub,
  where,
} from '../tensor/ops/pointwise.ts'
import { sum } from '../tensor/ops/reduce.ts'
import { uniform } from '../tensor/random.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** Blended images and targets. */
export interface Mixed {
  readonly images: Tensor
  readonly targets: Tensor
}

/** How raw images and targets become floating ones; as they are, unless said otherwise. */
export interface MixUpOptions {
  /** Floating images of raw ones. */
  readonly images?: (images: Tensor) => Tensor
  /** Probabilities [n, classes] of raw targets. */
  readonly targets?: (targets: Tensor) => Tensor
}

/**
 * c x + (1 - c) x[perm] for images [n, ..] and targets [n, classes] (probabilities), with one c ~ Beta(alpha, alpha) and
 * one random permutation for the batch. Images and targets that are not floating yet say how they become so: the permuted
 * copies in memory are then of bytes and of labels.
 *
 * @throws ValueError unless alpha is above 0 and finite.
 */
export function mixUp(
  key: Tensor,
  images: Tensor,
  targets: Tensor,
  alpha: number,
  { images: prepare = (x) => x, targets: probabilities = (x) => x }: MixUpOptions = {},
): Mixed {
  const n = images.shape[0] ?? 0
  const draws = uniform(key, [n + 2])
  const draw = (i: number): Tensor => reshape(slice(draws, [i], [i + 1]), [])
  const c = betaOf(draw(0), draw(1), alpha)
  const order = ranks(slice(draws, [2], [n + 2]))
  const blend = (x: Tensor, other: Tensor): Tensor => {
    const share = cast(c, x.dtype)
    return add(mul(x, share), mul(other, sub(1, share)))
  }
  return {
    images: blend(prepare(images), prepare(take(images, order))),
    targets: blend(probabilities(targets), probabilities(take(targets, order))),
  }
}

/** A number from Beta(alpha, alpha), f32 scalar. */
export function betaSample(key: Tensor, alpha: number): Tensor {
  const draws = uniform(key, [2])
  return reshape(betaOf(slice(draws, [0], [1]), slice(draws, [1], [2]), alpha), [])
}

/**
 * @internal Beta(alpha, alpha) from two uniform numbers in [0, 1), element by element: (1 + t / sqrt(1 + t^2)) / 2 with
 * t^2 = (U^(-1/alpha) - 1) cos^2(2 pi V), which is Student's t in its polar form (Bailey, 1994; Devroye, 1996). Written for
 * the smaller of the two shares, which so keeps its digits however near to 0 it is.
 */
export function betaOf(u: Tensor, v: Tensor, alpha: number): Tensor {
  if (!(alpha > 0 && alpha < Infinity)) throw new ValueError(`[mixUp] expected a finite alpha above 0, got ${alpha}.`)
  const power = exp(mul(log(sub(1, u)), 1 / alpha)) // U^(1/alpha), of U in (0, 1]
  const cosine = cos(mul(v, 2 * Math.PI))
  const rest = sub(1, power)
  const root = sqrt(add(power, mul(rest, square(cosine))))
  const smaller = div(power, mul(mul(root, add(root, mul(abs(cosine), sqrt(rest)))), 2))
  return where(greater(cosine, 0), sub(1, smaller), smaller)
}

/** A random permutation of 0 .. n - 1, i32 [n]. */
export function permutation(key: Tensor, n: number): Tensor {
  return ranks(uniform(key, [n]))
}

/** The place of each number [n] among all, i32 [n]; of two equal ones the first comes first. */
function ranks(draws: Tensor): Tensor {
  const n = draws.size
  const [other, own] = [expandDims(draws, 0), expandDims(draws, 1)]
  const earlier = less(iota([n, n], 1), iota([n, n], 0))
  const before = logicalOr(less(other, own), logicalAnd(equal(other, own), earlier))
  return sum(cast(before, 'i32'), { axes: 1 })
}
