// Draws, orders and crop boxes: known answers, and the laws resuming rests on.
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { evaluationCut, randomResizedCrop, roundHalfEven } from '../../src/train/data/crop.ts'
import { drawWords, philox4x32, shuffledOrder } from '../../src/train/data/draws.ts'
import type { Words } from '../../src/train/data/draws.ts'

describe('philox4x32', () => {
  // The three vectors of Random123's kat_vectors file for philox4x32-10.
  const vectors: readonly (readonly [Words, readonly [number, number], Words])[] = [
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ]
  it.each(vectors)('counter %j under key %j', (counter, key, words) => {
    expect(philox4x32(counter, key)).toEqual(words)
  })

  it('gives other words at every other address', () => {
    const base = { seed: 7, stream: 'crop', epoch: 3, index: 11, block: 0 } as const
    const all = [
      base,
      { ...base, seed: 8 },
      { ...base, seed: 7 + 2 ** 32 },
      { ...base, seed: -7 },
      { ...base, stream: 'flip' as const },
      { ...base, epoch: 4 },
      { ...base, index: 12 },
      { ...base, index: 11 + 2 ** 32 },
      { ...base, block: 1 },
    ].map((address) => drawWords(address).join())
    expect(new Set(all).size).toBe(all.length)
  })
})

describe('shuffledOrder', () => {
  it('is a permutation that depends on seed, epoch and n alone', () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(1000), fc.integer({ min: 0, max: 200 }), (seed, epoch, n) => {
        const order = shuffledOrder(seed, epoch, n)
        expect(Array.from(order).sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i))
        expect(shuffledOrder(seed, epoch, n)).toEqual(order)
      }),
    )
    expect(shuffledOrder(1, 0, 100)).not.toEqual(shuffledOrder(1, 1, 100))
    expect(shuffledOrder(1, 0, 100)).not.toEqual(shuffledOrder(2, 0, 100))
  })

  it('puts every element everywhere about equally often', () => {
    const counts = new Int32Array(25)
    for (let seed = 0; seed < 5000; seed++)
      shuffledOrder(seed, 0, 5).forEach((v, i) => (counts[i * 5 + v] = (counts[i * 5 + v] ?? 0) + 1))
    // Expected 1000 each, standard deviation 28: five of them.
    counts.forEach((count) => expect(Math.abs(count - 1000)).toBeLessThan(141))
  })
})

describe('randomResizedCrop', () => {
  const wordsOf = (seed: number) => (block: number) => drawWords({ seed, stream: 'crop', epoch: 0, index: 0, block })

  it('stays inside the image, keeps area and aspect ratio', () => {
    const side = fc.integer({ min: 1, max: 700 })
    fc.assert(
      fc.property(side, side, fc.integer(), (width, height, seed) => {
        const box = randomResizedCrop(width, height, wordsOf(seed))
        expect(box.left).toBeGreaterThanOrEqual(0)
        expect(box.top).toBeGreaterThanOrEqual(0)
        expect(box.width).toBeGreaterThanOrEqual(1)
        expect(box.height).toBeGreaterThanOrEqual(1)
        expect(box.left + box.width).toBeLessThanOrEqual(width)
        expect(box.top + box.height).toBeLessThanOrEqual(height)
      }),
    )
  })

  it('spreads area uniformly over 8 % to 100 % and aspect ratio over 3/4 to 4/3', () => {
    const boxes = Array.from({ length: 2000 }, (_, seed) => randomResizedCrop(1000, 1000, wordsOf(seed)))
    const areas = boxes.map(({ width, height }) => (width * height) / 1e6).sort((a, b) => a - b)
    const ratios = boxes.map(({ width, height }) => width / height)
    expect(areas[0]).toBeGreaterThan(0.079)
    expect(areas[1000]).toBeGreaterThan(0.45)
    expect(areas[1000]).toBeLessThan(0.58)
    expect(areas.at(-1)).toBeGreaterThan(0.9)
    expect(Math.min(...ratios)).toBeGreaterThan(0.745)
    expect(Math.max(...ratios)).toBeLessThan(1.34)
    expect(boxes.some(({ left }) => left > 400)).toBe(true)
  })

  it('falls back to the centre after ten tries that do not fit', () => {
    let asked = 0
    const full = (): Words => (asked++, [0xffffffff, 0x80000000, 0, 0])
    expect(randomResizedCrop(1000, 100, full)).toEqual({ left: 433, top: 0, width: 133, height: 100 })
    expect(asked).toBe(10)
    expect(randomResizedCrop(100, 1000, full)).toEqual({ left: 0, top: 433, width: 100, height: 133 })
  })
})

interface GoldenCrop {
  readonly shorter: number
  readonly crop: number
  readonly height: number
  readonly width: number
  readonly resizedHeight: number
  readonly resizedWidth: number
  readonly top: number
  readonly left: number
}

describe('evaluationCut', () => {
  it('is what torchvision computes for every size of the golden file', () => {
    const text = readFileSync(new URL('../golden/augment.json', import.meta.url), 'utf8')
    const { cases } = JSON.parse(text) as { readonly cases: readonly GoldenCrop[] }
    const ours = cases.filter(({ shorter, crop }) => shorter === crop + 32)
    expect(ours.length).toBeGreaterThan(10)
    for (const { crop, height, width, resizedHeight, resizedWidth, top, left } of ours) {
      const { target, window } = evaluationCut(width, height, crop)
      expect({ target, window }, `${height} x ${width}`).toEqual({
        target: { width: resizedWidth, height: resizedHeight },
        window: { left, top, width: crop, height: crop },
      })
    }
  })

  it('rounds as Python does', () => {
    expect([0.5, 1.5, 2.5, -0.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, 0, 2, 3])
  })

  // [height, width] -> resized [height, width], [top, left], computed with torchvision's Resize(256) and CenterCrop(224).
  const cases = [
    [375, 500, 256, 341, 16, 58],
    [500, 375, 341, 256, 58, 16],
    [333, 500, 256, 384, 16, 80],
    [256, 256, 256, 256, 16, 16],
    [256, 357, 256, 357, 16, 66],
    [31, 47, 256, 388, 16, 82],
    [2848, 4288, 256, 385, 16, 80],
  ] as const
  it.each(cases)('%i x %i', (height, width, resizedHeight, resizedWidth, top, left) => {
    const cut = evaluationCut(width, height, 224)
    expect(cut.target).toEqual({ width: resizedWidth, height: resizedHeight })
    expect(cut.window).toEqual({ left, top, width: 224, height: 224 })
  })
})
