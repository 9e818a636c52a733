// The grouped convolutions' kernels on the host against the reference: bits where sums are exact, bounds elsewhere, in
// every order of threads. That they compile for GPUs is grouped-nvrtc.test.ts's part.
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { groupedCandidate } from '../../src/cuda/kernels/grouped.ts'
import type { Lowered } from '../../src/cuda/work.ts'
import { decode } from '../../src/tensor/half.ts'
import { at, sizeOf } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { HostKernels } from './grouped-host.ts'
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

/** Extents around octets, tiles and bands. */
const extents = fc.oneof(fc.constantFrom(7, 14, 15), fc.integer({ min: 1, max: 19 }))
/** One slab of 64 channels, less, or more. */
const channelCounts = fc.constantFrom(32, 64, 96)

const geometries = ({ direction, stride, width, dtype }: Kind): fc.Arbitrary<Geometry> =>
  fc
    .tuple(fc.integer({ min: 1, max: 3 }), extents, extents, channelCounts)
    .map(([n, h, w, channels]) => ({ direction, dtype, width, stride, groups: channels / width, images: [n, h, w] }))

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
})
afterAll(() => {
  host.close()
})

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
})
