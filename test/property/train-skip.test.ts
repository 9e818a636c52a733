// The law of the skipped step: whatever is not finite, and wherever, a step either is a step or changes nothing but the
// loss scale and the count of skipped steps, to the bit.
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import {
  type LossScale,
  type Precision,
  dynamic,
  fixed,
  initTrainState,
  makeAccumulatingStep,
  makeTrainStep,
  none,
  normalize,
  sgd,
} from '../../src/train/index.ts'
import { runs } from '../runs.ts'
import { testDevices } from '../support/devices.ts'
import { bitsOf, toyBatch, toyModel, toyShape } from '../support/toy.ts'

const model = toyModel()
const optimizer = sgd({ momentum: 0.9, weightDecay: 1 / 16384 })
const steps = {
  f32: makeTrainStep(model, { optimizer, labelSmoothing: 0.1 }),
  f16: makeTrainStep(model, { optimizer, precision: 'f16' }),
  bf16: makeTrainStep(model, { optimizer, precision: 'bf16', mixup: 0.2 }),
} as const satisfies Readonly<Record<Precision, unknown>>

/** Float images with some pixels replaced. */
async function spoiledBatch(seed: number, pixels: readonly (readonly [number, number])[]) {
  const { images, labels } = toyBatch(seed)
  const values = Float32Array.from(await normalize(images).data())
  for (const [at, value] of pixels) values[at % values.length] = value
  return { images: tensor(values, { shape: toyShape }), labels }
}

const changing = new Set(['lossScale.scale', 'lossScale.goodSteps', 'skipped'])

async function freshState(seed: number, lossScale: LossScale) {
  return initTrainState(model.init(seed, toyShape), { optimizer, seed, lossScale, ema: true })
}

/** What may go wrong: a pixel, or, in f16, a loss scale with which every gradient overflows. */
const spoils = fc.oneof(
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

/** The two hidden units of the squeeze may both be silent for two small batches; nothing else may. */
function isDead(path: string): boolean {
  return path.includes('squeeze.squeeze') || path.includes('squeeze.expand.weight')
}

describe.each(testDevices())('on %s', (_name, device) => {
  beforeAll(() => {
    setDefaultDevice(device)
  })

  test('a step with anything not finite leaves all state to the bit', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(99), spoils, async (seed, { precision, pixels, scale }) => {
        const step = steps[precision]
        const state = await freshState(seed, dynamic({ init: 1024, interval: 3 }))
        const [moving] = step(state, await spoiledBatch(seed, []), tensor(0.1)) // momentum is not zero from here on
        const started = { ...moving, lossScale: dynamic({ init: scale, interval: 3 }) }
        const before = await bitsOf(started)
        const [after, metrics] = step(started, await spoiledBatch(seed + 1, pixels), tensor(0.1))
        expect(await metrics.finite.item()).toBe(0)
        for (const [path, bits] of await bitsOf(after))
          if (!changing.has(path)) expect(bits, path).toBe(before.get(path))
        expect(await after.lossScale.scale.item()).toBe(scale / 2)
        expect([await after.skipped.item(), await after.step.item()]).toEqual([1, 1])
      }),
      { numRuns: runs(20) },
    )
  }, 60_000)

  test('a finite step changes every parameter, statistic, velocity and average', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('f32', 'f16', 'bf16'), fc.nat(99), async (precision, seed) => {
        let state = await freshState(seed, precision === 'f16' ? fixed(256) : none())
        const before = await bitsOf(state)
        for (const i of [0, 1]) [state] = steps[precision](state, await spoiledBatch(seed + i, []), tensor(0.1))
        const same = [...(await bitsOf(state))]
          .filter(([path, bits]) => bits === before.get(path))
          .map(([path]) => path)
        expect(same.filter((path) => !/^(lossScale|skipped|key)/.test(path) && !isDead(path))).toEqual([])
        expect(await state.step.item()).toBe(2)
      }),
      { numRuns: runs(6) },
    )
  }, 60_000)

  test('an accumulated step is skipped as a whole when one of its batches is not finite', async () => {
    const accumulating = makeAccumulatingStep(model, { optimizer }, 3)
    await fc.assert(
      fc.asyncProperty(fc.nat(2), fc.nat(1000), fc.constantFrom(Number.NaN, 1e25), async (which, at, value) => {
        const state = await freshState(5, dynamic({ init: 8 }))
        const before = await bitsOf(state)
        const batches: { images: Tensor; labels: Tensor }[] = []
        for (const i of [0, 1, 2]) batches.push(await spoiledBatch(i, i === which ? [[at, value]] : []))
        const [after] = accumulating(state, batches, tensor(0.1))
        for (const [path, bits] of await bitsOf(after))
          if (!changing.has(path)) expect(bits, path).toBe(before.get(path))
        expect([await after.lossScale.scale.item(), await after.skipped.item()]).toEqual([4, 1])
      }),
      { numRuns: runs(4) },
    )
  }, 60_000)
})
