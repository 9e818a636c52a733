// The fully connected layer, and the layer that leads to it.
import { ShapeError } from '../tensor/errors.ts'
import { dotGeneral } from '../tensor/ops/contract.ts'
import { reshape } from '../tensor/ops/movement.ts'
import { add } from '../tensor/ops/pointwise.ts'
import { type Shape, showShape, sizeOf } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { torchUniform } from './init.ts'
import { type Layer, type Nothing, Parameter, layer, pure } from './layer.ts'

/** The parameters of a linear layer: weight [out, in] as in PyTorch and, unless left out, a bias [out]. */
export type LinearParams = { readonly weight: Tensor; readonly bias?: Tensor }

/**
 * x W' + b over the last axis: [.., in] to [.., features]. Weight and bias start as those of PyTorch's nn.Linear do,
 * uniform in ±1 / sqrt(in).
 */
export function linear(features: number, options: { readonly bias?: boolean } = {}): Layer<LinearParams, Nothing> {
  const { bias = true } = options
  return layer<LinearParams, Nothing>({
    describe(inputShape) {
      const inputs = lastExtent(inputShape)
      const weight = new Parameter([features, inputs], torchUniform(inputs))
      return {
        params: bias ? { weight, bias: new Parameter([features], torchUniform(inputs)) } : { weight },
        state: {},
        outputShape: [...inputShape.slice(0, -1), features],
      }
    },
    apply({ weight, bias: offset }, _state, x) {
      if (lastExtent(x.shape) !== weight.shape[1])
        throw new ShapeError(
          `[linear] expected ${weight.shape[1] ?? 0} inputs (weight ${showShape(weight.shape)}), got ${showShape(x.shape)}.`,
        )
      const y = dotGeneral(x, weight, { batch: [[], []], contract: [[x.shape.length - 1], [1]] })
      return [offset === undefined ? y : add(y, offset), {}]
    },
  })
}

/** All axes but the first in one: [n, ..] to [n, product]. */
export function flatten(): Layer<Nothing, Nothing> {
  const flat = (shape: Shape): Shape => [shape[0] ?? 1, sizeOf(shape.slice(1))]
  return pure((x) => reshape(x, flat(x.shape)), flat)
}

function lastExtent(shape: Shape): number {
  const extent = shape.at(-1)
  if (extent === undefined) throw new ShapeError('[linear] expected at least one axis, got a scalar.')
  return extent
}
