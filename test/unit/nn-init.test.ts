// First values: distributions, and bits that depend on seed and path alone.
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { jit } from '../../src/autograd/index.ts'
import { conv2d, linear, serial } from '../../src/nn/index.ts'
import { draw, seedKey } from '../../src/nn/init.ts'
import { fillNormal, unit } from '../../src/nn/normal.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import { randomBits } from '../../src/tensor/philox.ts'
import { key } from '../../src/tensor/random.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

beforeAll(() => {
  setDefaultDevice(referenceDevice())
})

const moments = (values: ArrayLike<number>) => {
  const list = Array.from(values)
  const mean = list.reduce((a, b) => a + b, 0) / list.length
  const central = (power: number): number => list.reduce((a, b) => a + (b - mean) ** power, 0) / list.length
  return { mean, deviation: Math.sqrt(central(2)), kurtosis: central(4) / central(2) ** 2 }
}

const density = (x: number): number => Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI)

describe('distributions', () => {
  const count = 200_000
  // Four standard errors of each estimate from `count` draws.
  const error = 4 / Math.sqrt(count)

  test('normal: mean, deviation and kurtosis', () => {
    const { mean, deviation, kurtosis } = moments(draw({ kind: 'normal', deviation: 2 }, [1, 2], count))
    expect(Math.abs(mean)).toBeLessThan(2 * error)
    expect(Math.abs(deviation / 2 - 1)).toBeLessThan(error * Math.SQRT1_2)
    expect(Math.abs(kurtosis - 3)).toBeLessThan(error * Math.sqrt(24))
  })

  test('normal: the distribution itself, by Kolmogorov and Smirnov', () => {
    const draws = draw({ kind: 'normal', deviation: 1 }, [7, -9], 1_000_000).sort()
    // The normal distribution below each draw, from one to the next by the midpoint rule: the steps are tiny.
    let [apart, below, last] = [0, 0, -8]
    draws.forEach((value, i) => {
      const steps = i === 0 ? 10_000 : 1
      for (let step = 0; step < steps; step++)
        below += density(last + ((value - last) * (step + 0.5)) / steps) * ((value - last) / steps)
      last = value
      apart = Math.max(apart, Math.abs(below - i / draws.length), Math.abs(below - (i + 1) / draws.length))
    })
    expect(below).toBeCloseTo(1, 5)
    expect(apart * Math.sqrt(draws.length)).toBeLessThan(1.63) // one key in a hundred is further off; this one is fixed
    expect(Math.max(-(draws[0] ?? 0), draws.at(-1) ?? 0)).toBeGreaterThan(4.2) // the tails are there
  })

  test('normal: the bits are those of the formula in float64, for words near the ends and for many others', () => {
    const random = randomBits([3, -4], 5, 6, 32, 400_000)
    const ends = Int32Array.from([
      0,
      1,
      2,
      3,
      1023,
      1024,
      1025,
      -1,
      -2,
      -3,
      2 ** 31 - 1,
      -(2 ** 31),
      2 ** 30,
      -(2 ** 30),
    ])
    const words = Int32Array.from([...[...ends].flatMap((a) => [...ends].flatMap((b) => [a, b])), ...random])
    const out = new Float32Array(words.length - 1) // an odd number: the last pair's second is not wanted
    fillNormal(out, words, 0.05)
    const wrong = [...out.keys()].filter((i) => {
      const radius = 0.05 * Math.sqrt(-2 * Math.log(unit(words[i - (i % 2)]!)))
      const angle = 2 * Math.PI * unit(words[i - (i % 2) + 1]!)
      return out[i] !== Math.fround(radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle)))
    })
    expect(wrong).toEqual([])
  })

  test('the bits are the same where there is no WebAssembly (node --jitless)', async () => {
    const numbers = draw({ kind: 'normal', deviation: 3 }, [5, 6], 70_001)
    vi.resetModules()
    vi.stubGlobal('WebAssembly', undefined)
    try {
      const without = await import('../../src/nn/init.ts')
      const plain = without.draw({ kind: 'normal', deviation: 3 }, [5, 6], 70_001)
      expect(plain.findIndex((value, i) => value !== numbers[i])).toBe(-1)
    } finally {
      vi.unstubAllGlobals()
    }
  })

  test('uniform: within its bound, flat', () => {
    const values = draw({ kind: 'uniform', bound: 0.5 }, [1, 2], count)
    expect(values.every((value) => value >= -0.5 && value <= 0.5)).toBe(true)
    const tenths = new Array<number>(10).fill(0)
    for (const value of values) tenths[Math.min(9, Math.floor((value + 0.5) * 10))]! += 1
    for (const tenth of tenths) expect(Math.abs(tenth / count - 0.1)).toBeLessThan(error * 0.3)
  })

  test('every count gives the beginning of the same sequence, across chunks too', () => {
    for (const kind of [
      { kind: 'normal', deviation: 1 },
      { kind: 'uniform', bound: 1 },
    ] as const) {
      const long = draw(kind, [3, 4], 70_001)
      for (const short of [1, 2, 3, 65_535, 65_536, 65_537])
        expect(draw(kind, [3, 4], short).every((value, i) => value === long[i])).toBe(true)
    }
  })

  test.each([
    ['kaimingFanIn', 2 / (3 * 3 * 4)],
    // As in PyTorch, all 64 outputs count, whatever the groups.
    ['kaimingFanOut', 2 / (3 * 3 * 64)],
  ] as const)('convolutions start %s', async (init, variance) => {
    const { params } = conv2d({ features: 64, kernel: 3, groups: 8, init }).init(5, [1, 8, 8, 32])
    const { deviation } = moments(await params.weight.data())
    expect(Math.abs(deviation / Math.sqrt(variance) - 1)).toBeLessThan(4 / Math.sqrt(2 * 2304))
    const bias = await params.bias!.data()
    expect(bias.every((value) => Math.abs(value) <= 1 / 6)).toBe(true)
  })

  test('linears start as those of PyTorch: uniform in 1 / sqrt(in)', async () => {
    const { params } = linear(100).init(5, [1, 64])
    const [weight, bias] = [await params.weight.data(), await params.bias!.data()]
    for (const values of [weight, bias]) {
      expect(values.every((value) => Math.abs(value) <= 0.125)).toBe(true)
      expect(Math.abs(moments(values).deviation / (0.125 / Math.sqrt(3)) - 1)).toBeLessThan(0.2)
    }
  })
})

describe('seeds', () => {
  const bits = async (x: Tensor): Promise<string> => [...(await x.data())].join()

  test('the same seed gives the same bits, another seed others; a key is its seed', async () => {
    const model = linear(3)
    const of = async (seed: number | Tensor) => bits(model.init(seed, [1, 4]).params.weight)
    expect(await of(2 ** 40 + 1)).toBe(await of(key(2 ** 40 + 1)))
    expect(await of(1)).not.toBe(await of(2))
    expect(await of(1)).not.toBe(await of(2 ** 32 + 1))
  })

  test('a parameter does not change when a layer is added before it', async () => {
    const small = serial({ fc: linear(3) }).init(9, [1, 4])
    const large = serial({ first: linear(4), fc: linear(3) }).init(9, [1, 4])
    expect(await bits(large.params.fc.weight)).toBe(await bits(small.params.fc.weight))
    expect(await bits(large.params.fc.weight)).not.toBe(await bits(large.params.first.weight))
  })

  test('the values themselves are pinned: a seed in a paper must not lose its meaning', () => {
    expect([...draw({ kind: 'uniform', bound: 1 }, seedKey(0), 3)]).toMatchInlineSnapshot(`
      [
        0.5227170586585999,
        -0.3703288435935974,
        0.7333106398582458,
      ]
    `)
    expect([...draw({ kind: 'normal', deviation: 1 }, seedKey(0), 3)]).toMatchInlineSnapshot(`
      [
        -0.2925717830657959,
        0.6780144572257996,
        0.5339991450309753,
      ]
    `)
  })

  test('what is no seed', () => {
    expect(() => linear(3).init(0.5, [1, 4])).toThrow(/integer seed/)
    expect(() => linear(3).init(tensor([1, 2]), [1, 4])).toThrow(/\[init\] expected a key i32\[2\]/)
    expect(() => jit((seed: Tensor) => linear(3).init(seed, [1, 4]).params)(key(0))).toThrow(/\[init\].*traced/)
  })
})
