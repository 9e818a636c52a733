// Grouped convolutions with what is around them, on the host: the same bits as the separate steps, whose convolution is proved
// by grouped.test.ts, and sums within what their order allows.
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LibraryEquation } from '../../src/compile/plan.ts'
import {
  groupedActivatedCandidate,
  groupedMaskedCandidate,
  groupedNormalizedCandidate,
  groupedStatisticsCandidate,
} from '../../src/cuda/kernels/grouped-fused.ts'
import { type GroupedCandidate, groupedCandidate } from '../../src/cuda/kernels/grouped.ts'
import { decode, encode } from '../../src/tensor/half.ts'
import { at, range, sizeOf } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { HostKernels } from './grouped-host.ts'
import {
  type Geometry,
  bounds,
  equationOf,
  expected,
  generator,
  groupWidths,
  integers,
  operandsOf,
  strides,
} from './grouped-problems.ts'

type Half = 'f16' | 'bf16'
type Counts = { readonly least: number; readonly most: number }

/** What is around a convolution: batch norm and ReLU in front, and what becomes of its result. */
interface Variant {
  readonly name: string
  readonly direction: Geometry['direction']
  readonly before: boolean
  readonly behind: 'none' | 'statistics' | 'normalize' | 'mask'
  readonly make: (equation: LibraryEquation, counts?: Counts) => GroupedCandidate | undefined
}

/** What is in front and what is behind know nothing of each other: fewer widths show that. */
function isBoth({ before, behind }: Variant): boolean {
  return before && behind !== 'none'
}

const forward = 'conv2d'
/** What the mean in front of a convolution is of what is given for it. */
const meanFactor = 1 / 3
const variants: readonly Variant[] = [
  { name: 'statistics', direction: forward, before: false, behind: 'statistics', make: groupedStatisticsCandidate },
  {
    name: 'normalized',
    direction: forward,
    before: true,
    behind: 'none',
    make: (equation, counts) => groupedNormalizedCandidate(equation, 'none', meanFactor, counts),
  },
  {
    name: 'normalized, statistics',
    direction: forward,
    before: true,
    behind: 'statistics',
    make: (equation, counts) => groupedNormalizedCandidate(equation, 'statistics', meanFactor, counts),
  },
  { name: 'activated', direction: forward, before: false, behind: 'normalize', make: groupedActivatedCandidate },
  {
    name: 'normalized, activated',
    direction: forward,
    before: true,
    behind: 'normalize',
    make: (equation, counts) => groupedNormalizedCandidate(equation, 'normalize', meanFactor, counts),
  },
  {
    name: 'masked sums',
    direction: 'conv2dInputGrad',
    before: false,
    behind: 'mask',
    make: (equation, counts) => groupedMaskedCandidate(equation, meanFactor, counts),
  },
  {
    name: 'normalized',
    direction: 'conv2dFilterGrad',
    before: true,
    behind: 'none',
    make: (equation, counts) => groupedNormalizedCandidate(equation, 'none', meanFactor, counts),
  },
]

/** All of them in f16, and in bf16, which differs in conversions alone, those of groups of 8 with stride 1. */
const kinds = variants.flatMap((variant) =>
  groupWidths
    .filter((width) => !isBoth(variant) || width === 8 || width === 16)
    .flatMap((width) =>
      strides.flatMap((stride) =>
        (['f16', 'bf16'] as const)
          .filter((dtype) => dtype === 'f16' || (width === 8 && stride === 1))
          .map((dtype) => ({ ...variant, width, stride, dtype })),
      ),
    ),
)
type Kind = (typeof kinds)[number]

/** Around octets, tiles and bands, with rows enough for sums that are gathered on the way. */
const extents = fc.oneof(
  fc.tuple(fc.integer({ min: 1, max: 11 }), fc.integer({ min: 1, max: 18 })),
  fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 20, max: 50 })),
  fc.tuple(fc.integer({ min: 30, max: 70 }), fc.integer({ min: 1, max: 3 })),
)
const geometries = ({ direction, stride, width, dtype }: Kind): fc.Arbitrary<Geometry> =>
  fc
    .tuple(fc.integer({ min: 1, max: 3 }), extents, fc.constantFrom(32, 64, 96))
    .map(([n, size, channels]) => ({ direction, dtype, width, stride, groups: channels / width, images: [n, ...size] }))
const cuts = fc.option(fc.record({ least: fc.integer({ min: 1, max: 40 }), most: fc.integer({ min: 1, max: 12 }) }), {
  nil: undefined,
})

function made<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('no kernel')
  return value
}

/** A batch norm: [mean, scale, shift]. */
type Norm = readonly [Float32Array, Float32Array, Float32Array]

/** max(round((x - mean) * scale + shift), 0) as a plan's kernel computes it. */
function activation(dtype: Half, stored: Uint16Array, [mean, scale, shift]: Norm): Uint16Array {
  const values = Float64Array.from(decode(dtype, stored), (x, i) => {
    const channel = i % mean.length
    const scaled = Math.fround(Math.fround(x - at(mean, channel)) * at(scale, channel))
    return Math.fround(scaled + at(shift, channel))
  })
  return encoded(dtype, decode(dtype, encoded(dtype, values)), (x) => (x > 0 || Number.isNaN(x) ? x : 0))
}

function encoded(dtype: Half, values: ArrayLike<number>, map = (x: number): number => x): Uint16Array {
  const stored = encode(dtype, Array.from(values, map))
  if (!(stored instanceof Uint16Array)) throw new Error(`expected a 16-bit type, got ${dtype}`)
  return stored
}

/** Means are three times what is drawn, since some are multiplied by a third: of whole numbers whole numbers come. */
function norm(channels: number, draw: () => number): Norm {
  const vector = (): Float32Array => Float32Array.from({ length: channels }, draw)
  return [vector().map((mean) => 3 * mean), vector(), vector()]
}

/** The batch norm in front of a convolution, whose mean is given as a multiple. */
function scaled([mean, ...others]: Norm): Norm {
  return [mean.map((x) => Math.fround(x * Math.fround(meanFactor))), ...others]
}

interface Sums {
  readonly exact: Float64Array
  readonly magnitude: Float64Array
}

/** Per channel, of the terms that `term` gives. */
function sumsOf(count: number, channels: number, term: (i: number) => number): Sums {
  const [exact, magnitude] = [new Float64Array(channels), new Float64Array(channels)]
  for (let i = 0; i < count; i++) {
    const value = term(i)
    exact[i % channels] = at(exact, i % channels) + value
    magnitude[i % channels] = at(magnitude, i % channels) + Math.abs(value)
  }
  return { exact, magnitude }
}

let host: HostKernels
beforeAll(() => {
  const candidates = kinds.flatMap((kind) => {
    const equation = equationOf({ ...kind, groups: 32 / kind.width, images: [1, 7, 7] })
    return [made(kind.make(equation)), made(groupedCandidate(equation))]
  })
  host = new HostKernels(candidates)
}, 120_000)
afterAll(() => {
  host.close()
})

/** What a kind gives, in an order of threads, and what the separate steps do. */
function both(kind: Kind, geometry: Geometry, draw: () => number, counts?: Counts) {
  const { dtype, before, behind } = kind
  const equation = equationOf(geometry)
  const [first, second] = operandsOf(equation, draw)
  if (first === undefined || second === undefined) throw new Error('two operands')
  const channels = geometry.groups * geometry.width
  const count = sizeOf(at(equation.outputs, 0).type.shape)
  const [front, back] = [norm(channels, draw), norm(channels, draw)]
  const source = encoded(dtype, Array.from({ length: count }, draw))
  const candidate = made(kind.make(equation, counts))
  const { partials } = candidate
  const sums = partials !== undefined
  const inputs = [
    ...[first, ...(before ? front : []), second],
    ...(behind === 'mask' ? [source, ...back] : behind === 'normalize' ? back : []),
  ]
  const bytes = [2 * count, ...(sums ? [4 * sizeOf(partials.shape)] : [])]
  const run = (order: number) => {
    const [result, ...stored] = host.runAll(candidate, inputs, bytes, order)
    return { result: new Uint16Array(made(result).buffer), sums: stored.flatMap((parts) => totals(parts, channels)) }
  }
  const separate = [before ? activation(dtype, first, scaled(front)) : first, second]
  const plain = host.run(made(groupedCandidate(equation, counts)), separate, count)
  const values = decode(dtype, plain)
  const active = decode(dtype, activation(dtype, source, scaled(back)))
  const wide = decode(dtype, source)
  const masked = (i: number): number => (at(active, i) > 0 ? at(values, i) : 0)
  const term = behind === 'mask' ? masked : (i: number) => at(values, i)
  const factor = behind === 'mask' ? (i: number) => at(wide, i) : term
  return {
    equation,
    separate,
    run,
    want: {
      result: behind === 'normalize' ? activation(dtype, plain, back) : plain,
      sums: sums ? [sumsOf(count, channels, term), sumsOf(count, channels, (i) => term(i) * factor(i))] : [],
    },
    /** At most so many sums in f32 one after the other: of a lane's rows, lanes and images. */
    depth: 64 + 3 + 1 + geometry.images[0] + 8,
  }
}

/** What blocks have of two sums per channel, [parts, 2, channels], added up. */
function totals(parts: Uint8Array, channels: number): readonly Float64Array[] {
  const stored = new Float32Array(parts.buffer)
  return [0, 1].map((kind) =>
    Float64Array.from({ length: channels }, (_, channel) =>
      range(stored.length / (2 * channels)).reduce(
        (sum, part) => sum + at(stored, (2 * part + kind) * channels + channel),
        0,
      ),
    ),
  )
}

/** The filter gradient is cut in its own way, and its sums have another order. */
function expectWithin(equation: LibraryEquation, operands: readonly Uint16Array[], got: ArrayLike<number>): void {
  const bound = bounds(equation, operands)
  expected(equation, operands, { round: false }).forEach((value, i) => {
    if (!(Math.abs(at(got, i) - value) <= at(bound, i)))
      throw new Error(`element ${i}: expected ${value} within ${at(bound, i)}, got ${at(got, i)}`)
  })
}

function difference(got: ArrayLike<number>, want: ArrayLike<number>): string {
  for (let i = 0; i < Math.max(got.length, want.length); i++)
    if (got[i] !== want[i]) return `element ${i} of ${want.length}: expected ${want[i]}, got ${got[i]}`
  return ''
}

it('sums channels whose mean is 30 times their deviation well enough for a variance', () => {
  const [dtype, channels] = ['f16', 32] as const
  const equation = equationOf({ direction: 'conv2d', dtype, width: 8, stride: 1, groups: 4, images: [6, 40, 24] })
  const next = generator(7)
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next())
  const pixels = 6 * 40 * 24
  const x = encoded(
    dtype,
    Array.from({ length: pixels * channels }, () => 30 + normal()),
  )
  const middle = (i: number): number => (i % 8 === Math.floor(i / 72) % 8 && Math.floor(i / 8) % 9 === 4 ? 1 : 0)
  const filter = encoded(
    dtype,
    Array.from({ length: channels * 72 }, (_, i) => middle(i)),
  )
  const candidate = made(groupedStatisticsCandidate(equation))
  const bytes = [2 * pixels * channels, 4 * sizeOf(made(candidate.partials).shape)]
  const [y, parts] = host.runAll(candidate, [x, filter], bytes, 1)
  expect(difference(new Uint16Array(at([y], 0)?.buffer ?? new ArrayBuffer(0)), x)).toBe('')
  const [sum, squares] = totals(made(parts), channels)
  const values = decode(dtype, x)
  const mean = sumsOf(values.length, channels, (i) => at(values, i)).exact.map((total) => total / pixels)
  const spread = sumsOf(values.length, channels, (i) => (at(values, i) - at(mean, i % channels)) ** 2).exact
  spread.forEach((total, channel) => {
    const [first, second] = [at(sum ?? [], channel) / pixels, at(squares ?? [], channel) / pixels]
    // Of 900 times the variance a part is lost for each of the 64 or so sums of a lane, at most; on average far less.
    expect(Math.abs((second - first * first) / (total / pixels) - 1)).toBeLessThan(900 * 64 * 2 ** -24)
  })
})

// The activation is ReLU's in the plan: NaN stays NaN, and both infinities take their way through the batch norm.
it.each(['f16', 'bf16'] as const)('passes on what is not finite as the separate steps do, in %s', (dtype) => {
  const equation = equationOf({ direction: 'conv2d', dtype, width: 8, stride: 1, groups: 4, images: [1, 9, 11] })
  const odd = [NaN, Infinity, -Infinity, -0, 0]
  const next = generator(3)
  const x = encoded(
    dtype,
    Array.from({ length: 9 * 11 * 32 }, (_, i) => (i % 211 === 0 ? at(odd, i % 5) : next() - 0.5)),
  )
  const filter = encoded(
    dtype,
    Array.from({ length: 32 * 72 }, () => next() - 0.5),
  )
  const [front, back] = [norm(32, () => next() - 0.5), norm(32, () => next() - 0.5)]
  const plain = host.run(made(groupedCandidate(equation)), [activation(dtype, x, front), filter], x.length)
  const normalized = host.run(
    made(groupedNormalizedCandidate(equation, 'normalize')),
    [x, ...front, filter, ...back],
    x.length,
  )
  const want = Array.from(decode(dtype, activation(dtype, plain, back)))
  expect(want.filter(Number.isNaN).length).toBeGreaterThan(9)
  expect(Array.from(decode(dtype, normalized), (value) => value + 0)).toEqual(want.map((value) => value + 0))
})

describe.each(kinds)('$direction $name, stride $stride, groups of $width, $dtype', (kind) => {
  it('has the bits of the separate steps, in every order of threads; sums are right', () => {
    fc.assert(
      fc.property(geometries(kind), fc.nat(), cuts, (geometry, seed, counts) => {
        const next = generator(seed)
        const { run, want, depth, equation, separate } = both(kind, geometry, () => next() * 4 - 2, counts)
        const got = run(seed % 3)
        if (kind.direction === 'conv2dFilterGrad') expectWithin(equation, separate, decode(kind.dtype, got.result))
        else expect(difference(got.result, want.result)).toBe('')
        for (const [i, { exact, magnitude }] of want.sums.entries())
          exact.forEach((value, channel) => {
            const [sum, bound] = [at(at(got.sums, i), channel), depth * 2 ** -24 * at(magnitude, channel)]
            if (!(Math.abs(sum - value) <= bound))
              throw new Error(`sum ${i} of channel ${channel}: expected ${value} within ${bound}, got ${sum}`)
          })
      }),
      { numRuns: runs(1) },
    )
  })

  it('has exact sums of whole numbers, and the same bits in three orders', () => {
    fc.assert(
      fc.property(geometries(kind), fc.nat(), (geometry, seed) => {
        const { run, want } = both(kind, geometry, integers(generator(seed), 2))
        const got = run(0)
        expect(difference(got.result, want.result)).toBe('')
        for (const [i, { exact }] of want.sums.entries()) expect(difference(at(got.sums, i), exact)).toBe('')
        for (const order of [1, seed + 2]) {
          const again = run(order)
          expect(difference(again.result, got.result)).toBe('')
          for (const [i, sum] of got.sums.entries()) expect(difference(at(again.sums, i), sum)).toBe('')
        }
      }),
      { numRuns: runs(1) },
    )
  })
})
