// MixUp (Zhang et al., 2018): each image and its target blended with another of the batch, inside the compiled step.
import { ValueError } from '../tensor/errors.ts'
import { expandDims, slice, reshape } from '../tensor/ops/movement.ts'
import { take } from '../tensor/ops/indexing.ts'
import { iota } from '../tensor/ops/create.ts'
import {
  add,
  cast,
  equal,
  less,
  lessEqual,
  log,
  logicalAnd,
  logicalOr,
  mul,
  sigmoid,
  sub,
} from '../tensor/ops/pointwise.ts'
import { argMax, logSumExp, sum } from '../tensor/ops/reduce.ts'
import { foldIn, uniform } from '../tensor/random.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** Blended images and targets. */
export interface Mixed {
  readonly images: Tensor
  readonly targets: Tensor
}

/**
 * c x + (1 - c) x[perm] for images [n, ..] and targets [n, classes] (probabilities), with one c ~ Beta(alpha, alpha) and
 * one random permutation for the batch. `prepare` makes floating images of raw ones, so that the permuted copy in memory
 * is of bytes.
 *
 * @throws ValueError unless alpha is above 0 and at most 4.
 */
export function mixUp(
  key: Tensor,
  images: Tensor,
  targets: Tensor,
  alpha: number,
  prepare: (images: Tensor) => Tensor = (x) => x,
): Mixed {
  const c = betaSample(foldIn(key, 0), alpha)
  const order = permutation(foldIn(key, 1), images.shape[0] ?? 0)
  const blend = (x: Tensor, other: Tensor): Tensor => {
    const share = cast(c, x.dtype)
    return add(mul(x, share), mul(other, sub(1, share)))
  }
  return {
    images: blend(prepare(images), prepare(take(images, order))),
    targets: blend(targets, take(targets, order)),
  }
}

/**
 * A number from Beta(alpha, alpha), f32 scalar, by Jöhnk's method: of two powers U^(1/alpha) and V^(1/alpha) whose sum
 * is at most 1, the share of the first. All trials are drawn at once (so many that none succeeding is less likely than
 * 1e-12) and the first good one is taken; logarithms keep small alpha from underflow.
 */
export function betaSample(key: Tensor, alpha: number): Tensor {
  const trials = betaTrials(alpha)
  const logs = mul(log(sub(1, uniform(key, [2, trials]))), 1 / alpha) // of numbers in (0, 1]
  const accepted = lessEqual(logSumExp(logs, { axes: 0 }), 0)
  const first = argMax(cast(accepted, 'i32'))
  const chosen = take(logs, reshape(first, [1]), 1)
  return sigmoid(reshape(sub(slice(chosen, [0, 0], [1, 1]), slice(chosen, [1, 0], [2, 1])), []))
}

/** How many of Jöhnk's trials to draw: one succeeds with probability Gamma(a + 1)^2 / Gamma(2 a + 1). */
function betaTrials(alpha: number): number {
  if (!(alpha > 0 && alpha <= 4)) throw new ValueError(`[mixUp] expected an alpha above 0, at most 4, got ${alpha}.`)
  const success = Math.exp(2 * logGamma(alpha + 1) - logGamma(2 * alpha + 1))
  return success > 1 - 1e-6 ? 2 : Math.ceil(Math.log(1e-12) / Math.log1p(-success))
}

/** Stirling's series for x >= 1, shifted to where four terms give ten digits. */
function logGamma(x: number): number {
  let shifted = x
  let product = 1
  while (shifted < 8) product *= shifted++
  const inverse = 1 / shifted
  const series = inverse / 12 - inverse ** 3 / 360 + inverse ** 5 / 1260 - inverse ** 7 / 1680
  return (shifted - 0.5) * Math.log(shifted) - shifted + 0.5 * Math.log(2 * Math.PI) + series - Math.log(product)
}

/** A random permutation of 0 .. n - 1, i32 [n]: the ranks of n random numbers. */
export function permutation(key: Tensor, n: number): Tensor {
  const draws = uniform(key, [n])
  const [other, own] = [expandDims(draws, 0), expandDims(draws, 1)]
  const earlier = less(iota([n, n], 1), iota([n, n], 0))
  const before = logicalOr(less(other, own), logicalAnd(equal(other, own), earlier))
  return sum(cast(before, 'i32'), { axes: 1 })
}
