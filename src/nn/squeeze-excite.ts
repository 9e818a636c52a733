// Squeeze-and-excitation (Hu et al., 2018): channels scaled by what the whole image says.
import { expandDims } from '../tensor/ops/movement.ts'
import { cast, mul, sigmoid } from '../tensor/ops/pointwise.ts'
import { mean } from '../tensor/ops/reduce.ts'
import { functions } from './activations.ts'
import { channelsOf } from './conv.ts'
import { type Layer, type Nothing, type ParamsOf, layer } from './layer.ts'
import { linear } from './linear.ts'

/** The two linears, under NVIDIA's names. */
export type SqueezeExciteParams = {
  readonly squeeze: ParamsOf<ReturnType<typeof linear>>
  readonly expand: ParamsOf<ReturnType<typeof linear>>
}

/**
 * Scales the channels of images [n, h, w, c] by sigmoid(expand(relu(squeeze(spatial mean)))), where `squeeze` leads to
 * `width` units and `expand` back. The product is in x's dtype.
 */
export function squeezeExcite(width: number): Layer<SqueezeExciteParams, Nothing> {
  const squeeze = linear(width)
  return layer<SqueezeExciteParams, Nothing>({
    describe(inputShape) {
      const channels = channelsOf('squeezeExcite', inputShape)
      const down = squeeze.describe([inputShape[0] ?? 1, channels])
      const up = linear(channels).describe(down.outputShape)
      return { params: { squeeze: down.params, expand: up.params }, state: {}, outputShape: inputShape }
    },
    apply(params, _state, x, mode) {
      const [hidden] = squeeze.apply(params.squeeze, {}, mean(x, { axes: [1, 2] }), mode)
      const expand = linear(channelsOf('squeezeExcite', x.shape))
      const [logits] = expand.apply(params.expand, {}, functions.relu(hidden), mode)
      return [mul(x, expandDims(cast(sigmoid(logits), x.dtype), [1, 2])), {}]
    },
  })
}
