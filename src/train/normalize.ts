// From bytes to what the network takes: the part of the augmentation that runs inside the compiled step.
import { isFloat } from '../tensor/dtype.ts'
import { DTypeError, ShapeError } from '../tensor/errors.ts'
import { full } from '../tensor/ops/create.ts'
import { stack } from '../tensor/ops/movement.ts'
import { add, cast, mul } from '../tensor/ops/pointwise.ts'
import { showShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** Mean and standard deviation of each channel, of values from 0 to 1. */
export interface Normalization {
  readonly mean: readonly number[]
  readonly std: readonly number[]
}

/** Those of ImageNet, with which the published weights were trained. */
export const imagenetNormalization: Normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }

/** u8 images [n, h, w, c] as f32 (x / 255 - mean) / std, one multiplication and addition an element; floats as they are. */
export function normalize(images: Tensor, { mean, std }: Normalization = imagenetNormalization): Tensor {
  if (isFloat(images.dtype)) return images
  if (images.dtype !== 'u8') throw new DTypeError(`[normalize] expected u8 or floating images, got ${images.dtype}.`)
  if (images.shape.at(-1) !== mean.length || std.length !== mean.length)
    throw new ShapeError(
      `[normalize] expected ${mean.length} channels, got images ${showShape(images.shape)} and ${std.length} deviations.`,
    )
  const scale = std.map((deviation) => 1 / (255 * deviation))
  const offset = mean.map((value, channel) => -value / (std[channel] ?? 1))
  return add(mul(cast(images, 'f32'), channels(scale)), channels(offset))
}

/** A vector of constants that belongs to the program and not to a device. */
function channels(values: readonly number[]): Tensor {
  return stack(values.map((value) => full([], value)))
}
