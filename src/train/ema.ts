// The exponential moving average of weights and running statistics, kept beside them for evaluation.
import { add, cast, div, minimum, mul, sub } from '../tensor/ops/pointwise.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { TensorTree } from '../nn/layer.ts'
import { mapTensors } from './map.ts'

/** mu average + (1 - mu) current, where mu = min(decay, (1 + step) / (10 + step)) so that the first steps count more. */
export function updateAverage<T extends TensorTree>(average: T, current: T, step: Tensor, decay: number): T {
  const count = cast(step, 'f32')
  const mu = minimum(div(add(count, 1), add(count, 10)), decay)
  return mapTensors(
    average,
    (a, _path, x = a) => {
      const share = cast(mu, a.dtype)
      return add(mul(a, share), mul(x, sub(1, share)))
    },
    current,
  )
}
