// Precision policies: which numbers a run computes with, and what follows for its loss scale.
import { autocast } from '../autograd/index.ts'
import { type LossScale, dynamic, none } from './loss-scale.ts'

/** f32 throughout, or mixed precision with 16-bit products, convolutions and activations. */
export type Precision = 'f32' | 'f16' | 'bf16'

/** `f` as it is, or under autocast. */
export function withPrecision<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  precision: Precision,
): (...args: A) => R {
  return precision === 'f32' ? f : autocast(f, { compute: precision })
}

/** The loss scale a precision starts with unless the user chooses: dynamic for f16, whose range is narrow; else none. */
export function defaultLossScale(precision: Precision): LossScale {
  return precision === 'f16' ? dynamic() : none()
}
