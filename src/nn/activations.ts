// Activations as functions of tensors and as layers without parameters.
import {
  add,
  erf,
  greater,
  maximum,
  mul,
  sigmoid as logistic,
  tanh as hyperbolicTangent,
  where,
} from '../tensor/ops/pointwise.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { type Layer, type Nothing, pure } from './layer.ts'

/** The activations as functions: elementwise, the dtype of x is kept. */
export const functions = {
  /** max(x, 0); the gradient at 0 is 0. */
  relu: (x: Tensor): Tensor => maximum(x, 0),
  /** x Phi(x) with the normal distribution function (Hendrycks and Gimpel, 2016): exact, or its `tanh` approximation. */
  gelu: (x: Tensor, approximate: 'none' | 'tanh' = 'none'): Tensor => {
    const cubic = (): Tensor => mul(add(x, mul(mul(mul(x, x), x), 0.044715)), Math.sqrt(2 / Math.PI))
    const cumulative = approximate === 'tanh' ? hyperbolicTangent(cubic()) : erf(mul(x, Math.SQRT1_2))
    return mul(mul(x, 0.5), add(cumulative, 1))
  },
  /** x sigmoid(x), also called swish. */
  silu: (x: Tensor): Tensor => mul(x, logistic(x)),
  /** 1 / (1 + exp(-x)). */
  sigmoid: (x: Tensor): Tensor => logistic(x),
  /** The hyperbolic tangent. */
  tanh: (x: Tensor): Tensor => hyperbolicTangent(x),
  /** x where it is positive, slope x elsewhere. */
  leakyRelu: (x: Tensor, slope = 0.01): Tensor => where(greater(x, 0), x, mul(x, slope)),
} as const

/** max(x, 0) as a layer. */
export const relu = (): Layer<Nothing, Nothing> => pure(functions.relu)
/** GELU as a layer: exact, or its `tanh` approximation. */
export const gelu = (approximate: 'none' | 'tanh' = 'none'): Layer<Nothing, Nothing> =>
  pure((x) => functions.gelu(x, approximate))
/** x sigmoid(x) as a layer. */
export const silu = (): Layer<Nothing, Nothing> => pure(functions.silu)
/** The logistic function as a layer. */
export const sigmoid = (): Layer<Nothing, Nothing> => pure(functions.sigmoid)
/** The hyperbolic tangent as a layer. */
export const tanh = (): Layer<Nothing, Nothing> => pure(functions.tanh)
/** x where it is positive, slope x elsewhere, as a layer. */
export const leakyRelu = (slope = 0.01): Layer<Nothing, Nothing> => pure((x) => functions.leakyRelu(x, slope))
