// The law of the skipped step: whatever is not finite, and wherever, a step either is a step or changes nothing but the
// loss scale and the count of skipped steps, to the bit.
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { dynamic, fixed, makeAccumulatingStep, none } from '../../src/train/index.ts'
import { runs } from '../runs.ts'
import { testDevices } from '../support/devices.ts'
import {
  brokenBySkipping,
  changing,
  freshState,
  model,
  optimizer,
  spoiledBatch,
  spoils,
  steps,
} from '../support/skip-law.ts'
import { bitsOf } from '../support/toy.ts'

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
      fc.asyncProperty(fc.nat(99), spoils, async (seed, spoil) => {
        expect(await brokenBySkipping(seed, spoil)).toEqual([])
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
