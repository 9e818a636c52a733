// The law of the skipped step: whatever is not finite, and wherever, a step either is a step or changes nothing but the loss
// scale and the count of skipped steps, to the bit.
import fc from 'fast-check'
import { tensor } from '../../src/tensor/ops/index.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import {
  type LossScale,
  type Precision,
  dynamic,
  initTrainState,
  makeTrainStep,
  normalize,
  sgd,
} from '../../src/train/index.ts'
import { bitsOf, toyBatch, toyModel, toyShape } from './toy.ts'

export const model = toyModel()
export const optimizer = sgd({ momentum: 0.9, weightDecay: 1 / 16384 })
export const steps = {
  f32: makeTrainStep(model, { optimizer, labelSmoothing: 0.1 }),
  f16: makeTrainStep(model, { optimizer, precision: 'f16' }),
  bf16: makeTrainStep(model, { optimizer, precision: 'bf16', mixup: 0.2 }),
} as const satisfies Readonly<Record<Precision, unknown>>

/** Pixels by their place, and what they are instead. */
export type Spoiled = readonly (readonly [place: number, value: number])[]

/** Float images with some pixels replaced. */
export async function spoiledBatch(seed: number, pixels: Spoiled): Promise<{ images: Tensor; labels: Tensor }> {
  const { images, labels } = toyBatch(seed)
  const values = Float32Array.from(await normalize(images).data())
  for (const [at, value] of pixels) values[at % values.length] = value
  return { images: tensor(values, { shape: toyShape }), labels }
}

/** The leaves that a skipped step changes. */
export const changing: ReadonlySet<string> = new Set(['lossScale.scale', 'lossScale.goodSteps', 'skipped'])

/** A state before the first step. */
export async function freshState(seed: number, lossScale: LossScale) {
  return initTrainState(model.init(seed, toyShape), { optimizer, seed, lossScale, ema: true })
}

/** What goes wrong in a step. */
export interface Spoil {
  readonly precision: Precision
  readonly pixels: Spoiled
  readonly scale: number
}

/** A pixel, or, in f16, a loss scale with which every gradient overflows. */
export const spoils: fc.Arbitrary<Spoil> = fc.oneof(
  fc.record({
    precision: fc.constantFrom('f32', 'f16', 'bf16'),
    // Finite pixels whose square is not: the batch's variance overflows, and the gradients through it are zero.
    pixels: fc
      .tuple(fc.nat(1000), fc.constantFrom(Number.NaN, Infinity, -Infinity, 1e25, -3e38))
      .map((pixel) => [pixel]),
    scale: fc.constant(1024),
  }),
  fc.record({
    precision: fc.constant('f16' as const),
    pixels: fc.constant([]),
    scale: fc.constantFrom(2 ** 40, 2 ** 120),
  }),
)

/** Everything that a spoiled step does against the law, in words; nothing where it keeps it. */
export async function brokenBySkipping(seed: number, { precision, pixels, scale }: Spoil): Promise<readonly string[]> {
  const step = steps[precision]
  const state = await freshState(seed, dynamic({ init: 1024, interval: 3 }))
  const [moving] = step(state, await spoiledBatch(seed, []), tensor(0.1)) // momentum is not zero from here on
  const started = { ...moving, lossScale: dynamic({ init: scale, interval: 3 }) }
  const before = await bitsOf(started)
  const [after, metrics] = step(started, await spoiledBatch(seed + 1, pixels), tensor(0.1))
  const numbers = {
    finite: [await metrics.finite.item(), 0],
    scale: [await after.lossScale.scale.item(), scale / 2],
    skipped: [await after.skipped.item(), 1],
    step: [await after.step.item(), 1],
  }
  const changed = [...(await bitsOf(after))].filter(([path, bits]) => !changing.has(path) && bits !== before.get(path))
  return [
    ...changed.map(([path]) => `${path} changed`),
    ...Object.entries(numbers).flatMap(([name, [found, expected]]) =>
      found === expected ? [] : [`${name} is ${found} instead of ${expected}`],
    ),
  ]
}
