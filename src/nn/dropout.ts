// Dropout (Srivastava et al., 2014), whose randomness is a key in the mode.
import { ValueError } from '../tensor/errors.ts'
import { mul, where } from '../tensor/ops/pointwise.ts'
import { bernoulli, foldIn } from '../tensor/random.ts'
import { hashPath } from './init.ts'
import { type Layer, type Nothing, pure } from './layer.ts'

/**
 * In training sets each element to zero with probability `rate` and divides the others by 1 - rate; otherwise nothing.
 * Each dropout of a model draws its own bits from `mode.key`, by its path.
 *
 * @throws ValueError in training without a key.
 */
export function dropout(rate: number): Layer<Nothing, Nothing> {
  if (!(rate >= 0 && rate < 1)) throw new ValueError(`[dropout] expected a rate from 0 to below 1, got ${rate}.`)
  return pure((x, mode) => {
    if (!mode.training || rate === 0) return x
    if (mode.key === undefined)
      throw new ValueError('[dropout] expected a random key in training, got none. Apply with { training: true, key }.')
    const key = foldIn(mode.key, hashPath(mode.path ?? ''))
    return where(bernoulli(key, 1 - rate, x.shape), mul(x, 1 / (1 - rate)), 0)
  })
}
