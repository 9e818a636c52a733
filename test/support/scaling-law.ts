// The law of loss scaling in f32: for powers of two, unscaling the gradients of the scaled loss gives those of the loss.
import fc from 'fast-check'
import { grad } from '../../src/autograd/index.ts'
import { batchNorm, conv2d, globalAvgPool, linear, relu, serial, softmaxCrossEntropy } from '../../src/nn/index.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { fixed, scaleLoss, unscale } from '../../src/train/index.ts'
import { found, named } from './golden-model.ts'

const model = serial({
  conv: conv2d({ features: 4, kernel: 3, padding: 1, groups: 2, bias: false }),
  bn: batchNorm(),
  relu: relu(),
  pool: globalAvgPool(),
  fc: linear(3),
})

/** A seed for the weights, the pixels in 64ths, and the power of two. */
export const scalings: fc.Arbitrary<readonly [seed: number, pixels: readonly number[], power: number]> = fc.tuple(
  fc.integer(),
  fc.array(fc.integer({ min: -64, max: 64 }), { minLength: 96, maxLength: 96 }),
  fc.integer({ min: -20, max: 40 }),
)

/** What of the law does not hold, in words: gradients that differ, or are so small that it need not hold. */
export async function brokenByScaling(
  seed: number,
  pixels: readonly number[],
  power: number,
): Promise<readonly string[]> {
  const shape = [3, 4, 4, 2]
  const { params, state } = model.init(seed, shape)
  // A batch whose pixels are all alike has a deviation of zero and cancels to noise near the subnormals.
  const x = tensor(
    Float32Array.from(pixels, (value, i) => value / 64 + Math.sin(i)),
    { shape },
  )
  const loss = (p: typeof params): Tensor => {
    const [logits] = model.apply(p, state, x, { training: true })
    return softmaxCrossEntropy(logits, tensor([0, 1, 2], { dtype: 'i32' }), { labelSmoothing: 0.1 })
  }
  const scale = fixed(2 ** power)
  const plain = await named(grad(loss)(params))
  const scaled = await named(unscale(scale, grad((p: typeof params) => scaleLoss(scale, loss(p)))(params)))
  return [...scaled].flatMap(([name, values]) => {
    const expected = Array.from(found(plain, name))
    // The law holds while nothing on the way is subnormal: sums that cancel to less are left out, and must be few.
    const safe = expected.every((value) => value === 0 || Math.abs(value) > 2 ** -60)
    if (!safe) return [`${name} has gradients too small for the law`]
    return expected.every((value, i) => Object.is(values[i], value)) ? [] : [`${name} differs`]
  })
}
