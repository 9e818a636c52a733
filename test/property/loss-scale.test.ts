// Laws of loss scaling: scaling by powers of two is exact, f16 loses what it must and no more, and the dynamic scale is
// the few lines of its model.
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { grad } from '../../src/autograd/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { cast, mul, sum, tensor } from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { adjust, dynamic, fixed, scaleLoss, unscale } from '../../src/train/index.ts'
import { runs } from '../runs.ts'
import { brokenByScaling, scalings } from '../support/scaling-law.ts'

beforeAll(() => {
  setDefaultDevice(referenceDevice())
})

test('unscale(grad(S loss)) is grad(loss) to the bit in f32, for powers of two', async () => {
  const property = fc.asyncProperty(scalings, async (scaling) => {
    expect(await brokenByScaling(...scaling)).toEqual([])
  })
  await fc.assert(property, { numRuns: runs(15) })
})

test('a gradient stored in f16 loses at most half an ulp at the subnormal threshold that scaling would have kept', async () => {
  const exponent = fc.integer({ min: -40, max: 3 })
  const significand = fc.integer({ min: 1024, max: 2047 })
  const gradients = fc.array(fc.tuple(fc.boolean(), significand, exponent), { minLength: 1, maxLength: 40 })
  await fc.assert(
    fc.asyncProperty(gradients, fc.integer({ min: 0, max: 12 }), async (list, power) => {
      const slopes = Float32Array.from(list, ([negative, digits, e]) => (negative ? -digits : digits) * 2 ** (e - 10))
      const w = tensor(new Float32Array(slopes.length).fill(1))
      // The gradient by w is `slopes`, and passes through f16 once, at the cast of w.
      const loss = (x: Tensor): Tensor => sum(mul(cast(cast(x, 'f16'), 'f32'), tensor(slopes)))
      const scale = fixed(2 ** power)
      const stored = await grad(loss)(w).data()
      const kept = await unscale(scale, grad((x: Tensor) => scaleLoss(scale, loss(x)))(w)).data()
      slopes.forEach((slope, i) => {
        const [a, b] = [stored[i]!, kept[i]!]
        expect(Math.abs(a - b)).toBeLessThanOrEqual(2 ** -25)
        if (Math.abs(slope) >= 2 ** -14) expect(a).toBe(slope) // normal numbers of 11 bits: nothing to lose
        expect(Math.abs(b - slope)).toBeLessThanOrEqual(2 ** (-25 - power))
      })
    }),
  )
})

/** The dynamic scale in eight lines of doubles; all its values are powers of two times the first. */
function modelled(options: Required<Parameters<typeof dynamic>[0] & object>) {
  let [scale, good] = [options.init, 0]
  return (finite: boolean): readonly [number, number] => {
    good = finite ? good + 1 : 0
    if (!finite) scale = Math.max(scale * options.backoff, options.min)
    if (good === options.interval) {
      good = 0
      if (scale * options.growth < 2 ** 128) scale *= options.growth
    }
    return [scale, good]
  }
}

test('the dynamic scale does what its model does, whatever happens', async () => {
  const options = fc.record({
    init: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 124, max: 127 })).map((power) => 2 ** power),
    growth: fc.constantFrom(1, 2, 4),
    backoff: fc.constantFrom(0.25, 0.5, 1),
    interval: fc.integer({ min: 1, max: 4 }),
    min: fc.constantFrom(0, 0.125, 1),
  })
  const events = fc.array(fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, fc.constant(false)), { maxLength: 30 })
  await fc.assert(
    fc.asyncProperty(options, events, async (chosen, list) => {
      const step = modelled(chosen)
      let scale = dynamic(chosen)
      for (const finite of list) {
        scale = adjust(scale, tensor(finite))
        expect([await scale.scale.item(), await scale.goodSteps.item()]).toEqual(step(finite))
      }
    }),
    { numRuns: runs(40) },
  )
})
