// Laws of MixUp: a convex blend of two images and of their targets, by one coefficient and one permutation.
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { jit } from '../../src/autograd/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { stack, tensor } from '../../src/tensor/ops/index.ts'
import { foldIn, key, split, uniform } from '../../src/tensor/random.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { betaSample, mixUp, normalize, permutation } from '../../src/train/index.ts'
import { betaOf } from '../../src/train/mixup.ts'
import { runs } from '../runs.ts'

beforeAll(() => {
  setDefaultDevice(referenceDevice())
})

test('a permutation has each place once', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer(), fc.integer({ min: 1, max: 40 }), async (seed, n) => {
      const order = [...(await permutation(key(seed), n).data())]
      expect(order.sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i))
    }),
  )
})

test('all six permutations of three are about equally likely', async () => {
  const draws = 600
  const order = jit((from: ReturnType<typeof key>) => stack(split(from, draws).map((one) => permutation(one, 3))))
  const data = await order(key(1)).data()
  const counts = new Map<string, number>()
  for (let i = 0; i < draws; i++) {
    const name = data.slice(3 * i, 3 * i + 3).join()
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  expect(counts.size).toBe(6)
  // The deviation of each count is 9.1: four of them.
  for (const [name, count] of counts) expect(Math.abs(count - 100), name).toBeLessThan(37)
}, 60_000)

/** Beta(a, a)'s distribution at x, where it has a closed form. */
const below: Readonly<Record<number, (x: number) => number>> = {
  0.5: (x) => (2 / Math.PI) * Math.asin(Math.sqrt(x)),
  1: (x) => x,
  2: (x) => x * x * (3 - 2 * x),
  3: (x) => x ** 3 * (10 - 15 * x + 6 * x * x),
}

test.each([0.2, 0.5, 1, 2, 3, 40])('Beta(a, a) for a = %d: moments, and the distribution itself', async (alpha) => {
  const draws = 50_000
  const u = uniform(foldIn(key(3), 0), [draws])
  const v = uniform(foldIn(key(3), 1), [draws])
  const values = [...(await betaOf(u, v, alpha).data())].sort((a, b) => a - b)
  expect(values.every((value) => value >= 0 && value <= 1)).toBe(true)
  const variance = 1 / (4 * (2 * alpha + 1))
  const mean = values.reduce((a, b) => a + b, 0) / draws
  const spread = values.reduce((a, b) => a + (b - 0.5) ** 2, 0) / draws
  // Four standard errors; (x - 1/2)^2 is between 0 and 1/4, so its own deviation is at most sqrt(variance) / 2.
  expect(Math.abs(mean - 0.5)).toBeLessThan(4 * Math.sqrt(variance / draws))
  expect(Math.abs(spread - variance)).toBeLessThan((4 * Math.sqrt(variance)) / 2 / Math.sqrt(draws))
  // Kolmogorov and Smirnov: one key in a hundred is further off; this one is fixed.
  const distribution = below[alpha]
  if (distribution === undefined) return
  const apart = values.map((x, i) => Math.max(distribution(x) - i / draws, (i + 1) / draws - distribution(x)))
  expect(Math.max(...apart) * Math.sqrt(draws)).toBeLessThan(1.63)
})

test('the ends of what is drawn: no NaN, and tiny shares keep their digits', async () => {
  const ends = [0, 2 ** -24, 0.25, 0.5, 0.75, 1 - 2 ** -24]
  const pairs = ends.flatMap((u) => ends.map((v) => [u, v] as const))
  const [u, v] = [tensor(pairs.map(([a]) => a)), tensor(pairs.map(([, b]) => b))]
  for (const alpha of [1e-3, 0.2, 1, 4, 1e4])
    for (const value of await betaOf(u, v, alpha).data()) expect(value >= 0 && value <= 1, `${alpha}`).toBe(true)
  // U = 2^-24 and V = 1/2: t = -sqrt(2^(24 / alpha) - 1), and the share is 1 / (4 t^2) of it.
  const [share] = await betaOf(tensor([1 - 2 ** -24]), tensor([0.5]), 0.5).data()
  expect(share).toBeCloseTo(2 ** -50, 20)
  expect(share).toBeGreaterThan(0)
})

test('a sample is that formula of two draws of its key', async () => {
  const [u, v] = await uniform(key(5), [2]).data()
  expect(await betaSample(key(5), 0.7).item()).toBe((await betaOf(tensor([u!]), tensor([v!]), 0.7).data())[0])
})

test('small alpha draws almost only ends, and never NaN', async () => {
  const values: number[] = []
  for (let seed = 0; seed < 30; seed++) values.push(await betaSample(foldIn(key(9), seed), 0.01).item())
  expect(values.every((value) => value >= 0 && value <= 1)).toBe(true)
  expect(values.filter((value) => value > 0.01 && value < 0.99).length).toBeLessThan(5)
})

test('images and targets are blended alike; bytes are blended as what they are prepared to', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer(), fc.array(fc.nat(255), { minLength: 36, maxLength: 36 }), async (seed, pixels) => {
      const n = 3
      const images = tensor(Uint8Array.from(pixels), { shape: [n, 2, 2, 3] })
      const targets = tensor([
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
      ])
      const mixed = mixUp(key(seed), images, targets, 0.7, { images: normalize })
      const rows = await mixed.targets.data()
      const plain = await normalize(images).data()
      const blended = await mixed.images.data()
      for (let row = 0; row < n; row++) {
        const shares = [...rows.slice(n * row, n * row + n)]
        expect(shares.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 6)
        for (let i = 0; i < 12; i++) {
          // The targets say which images were blended, and how: the pixels must agree.
          const expected = shares.reduce((total, share, other) => total + share * plain[other * 12 + i]!, 0)
          expect(Math.abs(blended[row * 12 + i]! - expected)).toBeLessThan(2e-6)
        }
      }
    }),
    { numRuns: runs(20) },
  )
})

test('alpha out of range', () => {
  for (const alpha of [0, -1, Number.POSITIVE_INFINITY, Number.NaN])
    expect(() => betaSample(key(0), alpha)).toThrow(/\[mixUp\] expected a finite alpha/)
})
