// The grouped convolutions' kernels on the host against the reference: bits where sums are exact, bounds elsewhere, in
// every order of threads. That they compile for GPUs is grouped-nvrtc.test.ts's part.
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { groupedCandidate } from '../../src/cuda/kernels/grouped.ts'
import type { Lowered } from '../../src/cuda/work.ts'
import { decode, encode } from '../../src/tensor/half.ts'
import { at, sizeOf } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { HostKernels, kernelsOf } from './grouped-host.ts'
import {
  type Geometry,
  bounds,
  directions,
  equationOf,
  expected,
  generator,
  groupWidths,
  halves,
  integers,
  operandsOf,
  strides,
} from './grouped-problems.ts'

const kinds = directions.flatMap((direction) =>
  strides.flatMap((stride) =>
    groupWidths.flatMap((width) => halves.map((dtype) => ({ direction, stride, width, dtype }))),
  ),
)
type Kind = (typeof kinds)[number]

/** Heights and widths around octets, tiles and bands; wide images are low, and tall ones, of many bands, are narrow. */
const narrow = fc.oneof(fc.constantFrom(7, 14, 15), fc.integer({ min: 1, max: 19 }))
const extents = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(narrow, narrow) },
  { weight: 1, arbitrary: fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 20, max: 70 })) },
  { weight: 1, arbitrary: fc.tuple(fc.integer({ min: 30, max: 70 }), fc.integer({ min: 1, max: 9 })) },
)
/** One slab of 64 channels, less, or more. */
const channelCounts = fc.constantFrom(32, 64, 96)

const geometries = ({ direction, stride, width, dtype }: Kind): fc.Arbitrary<Geometry> =>
  fc
    .tuple(fc.integer({ min: 1, max: 3 }), extents, channelCounts)
    .map(([n, size, channels]) => ({ direction, dtype, width, stride, groups: channels / width, images: [n, ...size] }))

function lower(equation: ReturnType<typeof equationOf>, counts?: { least: number; most: number }): Lowered {
  const candidate = groupedCandidate(equation, counts)
  if (candidate === undefined) throw new Error(`no kernel for ${JSON.stringify(equation.params)}`)
  return candidate
}

/** '' if all elements are equal; elements are many, and this is faster than toEqual. */
function difference(got: ArrayLike<number>, want: ArrayLike<number>): string {
  for (let i = 0; i < Math.max(got.length, want.length); i++)
    if (got[i] !== want[i]) return `element ${i} of ${want.length}: expected ${want[i]}, got ${got[i]}`
  return ''
}

let host: HostKernels
beforeAll(() => {
  host = new HostKernels(
    kinds.map((kind) => lower(equationOf({ ...kind, groups: 32 / kind.width, images: [1, 7, 7] }))),
  )
}, 120_000)
afterAll(() => {
  host.close()
})

describe('whose convolutions these are', () => {
  const own = { direction: 'conv2d', dtype: 'f16', width: 8, stride: 1, groups: 8, images: [2, 9, 9] } as const

  it.each(directions)('%s: its name is stable and equal problems have equal texts', (direction) => {
    const names = { conv2d: 'forward', conv2dInputGrad: 'input-grad', conv2dFilterGrad: 'filter-grad' }
    const [small, large] = [
      lower(equationOf({ ...own, direction })),
      lower(equationOf({ ...own, direction, images: [3, 5, 40] })),
    ]
    expect(groupedCandidate(equationOf({ ...own, direction }))?.id).toBe(`own:grouped-${names[direction]}`)
    expect(kernelsOf(small).map(({ source }) => source)).toEqual(kernelsOf(large).map(({ source }) => source))
  })

  it.each([
    ['f32', equationOf({ ...own, dtype: 'f32' })],
    ['groups of 2', equationOf({ ...own, width: 2, groups: 32 })],
    ['groups of 64', equationOf({ ...own, width: 64, groups: 1 })],
    ['channels that are no multiple of 16', equationOf({ ...own, groups: 3 })],
    ['images of 2^29 elements', equationOf({ ...own, images: [1, 2 ** 13, 2 ** 10] })],
    ['no images', equationOf({ ...own, images: [0, 9, 9] })],
    [
      'no padding',
      equationOf(own, {
        padding: [
          [0, 0],
          [0, 0],
        ],
      }),
    ],
    [
      'more padding on one side',
      equationOf(own, {
        padding: [
          [1, 2],
          [1, 1],
        ],
      }),
    ],
    ['dilation', equationOf(own, { dilation: [1, 2] })],
    ['stride 3', equationOf(own, { stride: [3, 3] })],
    ['two strides', equationOf(own, { stride: [1, 2] })],
  ])('not those with %s', (_what, equation) => {
    expect(groupedCandidate(equation)).toBeUndefined()
  })

  it('cuts the large model at batch 256 into enough blocks for a large GPU, and into no more partials than pay', () => {
    for (const direction of directions)
      for (const width of groupWidths)
        for (const stride of strides) {
          const images = [256, (224 * stride) / width, (224 * stride) / width] as const
          const { works, scratchBytes } = lower(
            equationOf({ direction, dtype: 'f16', width, stride, groups: 32, images }),
          )
          const [first] = kernelsOf({ works, scratchBytes })
          expect(first?.blocks).toBeGreaterThanOrEqual(128)
          expect(first?.sharedBytes).toBeLessThanOrEqual(48 * 1024)
          expect(scratchBytes).toBeLessThanOrEqual(10 * 2 ** 20)
        }
  })
})

// What is beside the image was once marked by an image number of 255, which is below the number of images of a batch of 256.
it.each(directions)(
  '%s: columns beside the image are zeros, in batches of more than 255 images as well',
  (direction) => {
    const equation = equationOf({ direction, dtype: 'f16', width: 8, stride: 1, groups: 4, images: [257, 2, 3] })
    const operands = operandsOf(equation, integers(generator(1), 1))
    const count = sizeOf(at(equation.outputs, 0).type.shape)
    const got = host.run(lower(equation), operands, count)
    expect(difference(decode('f16', got), expected(equation, operands))).toBe('')
  },
)

describe.each(kinds)('$direction of stride $stride, groups of $width, $dtype', (kind) => {
  it('has the reference bits for whole numbers, however threads take turns and blocks are cut', () => {
    const counts = fc.record({ least: fc.integer({ min: 1, max: 40 }), most: fc.integer({ min: 1, max: 12 }) })
    fc.assert(
      fc.property(geometries(kind), fc.nat(), counts, (geometry, seed, blocks) => {
        const equation = equationOf(geometry)
        const operands = operandsOf(equation, integers(generator(seed), 3))
        const count = sizeOf(at(equation.outputs, 0).type.shape)
        const want = expected(equation, operands)
        const usual = host.run(lower(equation), operands, count)
        expect(difference(decode(kind.dtype, usual), want)).toBe('')
        expect(difference(host.run(lower(equation, blocks), operands, count, seed + 1), usual)).toBe('')
      }),
      { numRuns: runs(2) },
    )
  })

  it('is within the bound of f32 sums elsewhere, with equal bits in three orders of threads', () => {
    fc.assert(
      fc.property(geometries(kind), fc.nat(), (geometry, seed) => {
        const equation = equationOf(geometry)
        const next = generator(seed)
        const operands = operandsOf(equation, () => next() * 2 - 1)
        const count = sizeOf(at(equation.outputs, 0).type.shape)
        const first = host.run(lower(equation), operands, count)
        for (const order of [1, seed + 2])
          expect(difference(host.run(lower(equation), operands, count, order), first)).toBe('')
        const [got, bound] = [decode(kind.dtype, first), bounds(equation, operands)]
        const exact = expected(equation, operands, { round: false })
        exact.forEach((value, i) => {
          if (!(Math.abs(at(got, i) - value) <= at(bound, i)))
            throw new Error(`element ${i}: expected ${value} within ${at(bound, i)}, got ${at(got, i)}`)
        })
      }),
      { numRuns: runs(1) },
    )
  })

  it('keeps an infinity within its group, or within two groups of 4', () => {
    fc.assert(
      fc.property(geometries(kind), fc.nat(), (geometry, seed) => {
        const equation = equationOf(geometry)
        const [clean, next] = [operandsOf(equation, integers(generator(seed), 3)), generator(seed + 1)]
        const channels = geometry.groups * geometry.width
        const count = sizeOf(at(equation.outputs, 0).type.shape)
        const place = Math.floor(next() * at(clean, 0).length)
        const spoiled = clean.map((stored, i) =>
          i === 0 ? stored.with(place, at(encode(kind.dtype, [Infinity]), 0)) : stored,
        )
        const together = Math.max(8, kind.width)
        const ofResult =
          kind.direction === 'conv2dFilterGrad'
            ? (i: number) => Math.floor(i / (9 * kind.width))
            : (i: number) => i % channels
        const others = (i: number): boolean =>
          Math.floor(ofResult(i) / together) !== Math.floor((place % channels) / together)
        const [want, got] = [clean, spoiled].map((operands) =>
          host.run(lower(equation), operands, count).filter((_, i) => others(i)),
        )
        expect(difference(got ?? [], want ?? [])).toBe('')
      }),
      { numRuns: runs(1) },
    )
  })
})
