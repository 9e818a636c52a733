// Pooling and indexing by our own CUDA kernels, run on the host from the very text that NVRTC gets, against the reference:
// random geometries, every dtype, NaN and infinities, ties, windows over the border. Data are small multiples of 1/8, so that sums
// are exact and results equal to the bit.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { lowerOwn } from '../../src/cuda/kernels/index.ts'
import { type DType, dtypes, isHalf } from '../../src/tensor/dtype.ts'
import type { Pair, PoolParams } from '../../src/tensor/primitives.ts'
import type { ReferenceValue } from '../../src/tensor/reference/value.ts'
import { at } from '../../src/tensor/shape.ts'
import { run, value } from '../unit/reference-run.ts'
import {
  type OwnCase,
  exactValues,
  expectAgreement,
  expectAlways,
  floats,
  launchesOf,
  ownCase,
  pair,
} from './kernels-own.ts'

describe('pooling', { timeout: 120_000 }, () => {
  const geometry = fc
    .record({
      dtype: fc.constantFrom(...floats),
      batch: fc.integer({ min: 1, max: 2 }),
      channels: fc.constantFrom(1, 2, 3, 4, 8, 20),
      window: pair(1, 4),
      stride: pair(1, 4),
      extra: fc.tuple(fc.nat(8), fc.nat(8)),
      pads: fc.tuple(pair(0, 3), pair(0, 3)),
      seed: fc.nat(1000),
    })
    .map(({ window, stride, pads, extra, batch, channels, ...rest }) => {
      const fit = (axis: 0 | 1): Pair => [pads[axis][0] % window[axis], pads[axis][1] % window[axis]]
      const params: PoolParams = { window, stride, padding: [fit(0), fit(1)] }
      return { ...rest, params, shape: [batch, window[0] + extra[0], window[1] + extra[1], channels] }
    })

  it('forward', () => {
    expectAlways(
      fc.tuple(fc.constantFrom('maxPool2d', 'avgPool2d', 'maxPool2dPick'), geometry).map(([primitive, g]) => {
        const x = exactValues(g.dtype, g.shape, g.seed, true)
        if (primitive === 'maxPool2dPick')
          return ownCase(primitive, [x, exactValues(g.dtype, g.shape, g.seed + 2, true)], g.params)
        return ownCase(
          primitive,
          [x],
          g.params,
          primitive === 'avgPool2d' ? divided(g.dtype, run(primitive, [x], g.params)) : undefined,
        )
      }),
      40,
    )
  })

  it('gradients', () => {
    expectAlways(
      fc.tuple(fc.boolean(), geometry).map(([max, { dtype, shape, params, seed }]) => {
        const x = exactValues(dtype, shape, seed, true)
        const pooled = at(run('maxPool2d', [x], params), 0)
        const cotangent = exactValues(dtype, pooled.type.shape, seed + 1, true)
        if (max) return ownCase('maxPool2dGrad', [x, cotangent], params)
        const all = { ...params, inputShape: shape }
        return ownCase('avgPool2dGrad', [cotangent], all, divided(dtype, run('avgPool2dGrad', [cotangent], all)))
      }),
      40,
    )
  })

  it('windows of more elements than a byte counts, of one pixel, and larger than their stride allows', () => {
    const wide: PoolParams = {
      window: [17, 16],
      stride: [1, 3],
      padding: [
        [16, 2],
        [0, 15],
      ],
    }
    const cases = floats.flatMap((dtype) => {
      const x = value(
        dtype,
        [1, 18, 17, 2],
        Float64Array.from({ length: 612 }, (_, i) => (i === 590 ? 3 : (i * 7) % 3)),
      )
      const cotangent = exactValues(dtype, at(run('maxPool2d', [x], wide), 0).type.shape, 5)
      const one = exactValues(dtype, [2, 1, 1, 8], 9, true)
      const single: PoolParams = {
        window: [1, 1],
        stride: [9, 9],
        padding: [
          [0, 0],
          [0, 0],
        ],
      }
      return [
        ownCase('maxPool2d', [x], wide),
        ownCase('maxPool2dGrad', [x, cotangent], wide),
        ownCase('maxPool2dGrad', [one, exactValues(dtype, [2, 1, 1, 8], 3)], single),
        ownCase('maxPool2d', [one], single),
      ]
    })
    expectAgreement(cases)
  })

  it('64-bit indices', () => {
    const params: PoolParams = {
      window: [3, 3],
      stride: [2 ** 31, 2],
      padding: [
        [1, 1],
        [1, 0],
      ],
    }
    const x = exactValues('f16', [2, 5, 6, 8], 4, true)
    const cotangent = exactValues('f16', at(run('maxPool2d', [x], params), 0).type.shape, 5)
    const cases = [ownCase('maxPool2d', [x], params), ownCase('maxPool2dGrad', [x, cotangent], params)]
    for (const { equation } of cases)
      for (const { source } of launchesOf(lowerOwn(equation))) expect(source.text).toContain('int64_t thread')
    expectAgreement(cases)
  })

  it('windows over nothing but padding', () => {
    const params: PoolParams = {
      window: [3, 3],
      stride: [1, 1],
      padding: [
        [2, 2],
        [1, 1],
      ],
    }
    const empty = value('f16', [1, 0, 2, 8], [])
    expectAgreement([ownCase('maxPool2d', [empty], params), ownCase('maxPool2dPick', [empty, empty], params)])
    expect(
      lowerOwn(ownCase('maxPool2dGrad', [empty, exactValues('f16', [1, 2, 2, 8], 1)], params).equation).works,
    ).toEqual([])
  })
})

/** A mean of 16-bit values is divided in f32 and rounded again: at most one unit in the last place. */
function divided(dtype: DType, [expected]: readonly ReferenceValue[]): OwnCase['tolerance'] {
  if (!isHalf(dtype)) return undefined
  return (i) => Math.abs(at(expected?.data ?? [], i)) * (dtype === 'f16' ? 2 ** -10 : 2 ** -7)
}

describe('indices', { timeout: 120_000 }, () => {
  const indexed = fc.record({
    shape: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 3 }),
    axis: fc.nat(2),
    indices: fc.array(fc.integer({ min: -2, max: 11 }), { minLength: 1, maxLength: 9 }),
    seed: fc.nat(1000),
    dtype: fc.constantFrom(...dtypes),
  })

  it('gather, argMax', () => {
    expectAlways(
      fc.tuple(fc.boolean(), indexed).map(([gather, { shape, axis, indices, seed, dtype }]) => {
        const x = exactValues(dtype, shape, seed, true)
        const along = axis % shape.length
        if (!gather) return ownCase('argMax', [x], { axis: along })
        return ownCase('gather', [x, value('i32', [indices.length], indices)], { axis: along })
      }),
      60,
    )
  })

  it('slices of every alignment', () => {
    const sizes = [1, 2, 3, 4, 6, 8, 16, 24]
    const list = value('i32', [2, 3], [0, 4, 2, 2, -7, 99])
    const cases = sizes.flatMap((after) =>
      (['u8', 'f16', 'f32', 'f64'] as const).map((dtype) =>
        ownCase('gather', [exactValues(dtype, [2, 5, after], after, true), list], { axis: 1 }),
      ),
    )
    expectAgreement(cases)
  })

  it('argMax along long and short axes', () => {
    const shapes: readonly (readonly [readonly number[], number])[] = [
      [[3, 1000], 1],
      [[1000, 3], 0],
      [[1025], 0],
      [[300, 2], 1],
      [[2, 70, 40], 1],
      [[1, 1], 0],
    ]
    const cases = shapes.flatMap(([shape, axis]) =>
      dtypes.map((dtype, i) => ownCase('argMax', [exactValues(dtype, shape, i, true)], { axis })),
    )
    const flat = floats.map((dtype) =>
      ownCase(
        'argMax',
        [
          value(
            dtype,
            [700],
            Array.from({ length: 700 }, () => -Infinity),
          ),
        ],
        { axis: 0 },
      ),
    )
    expectAgreement([...cases, ...flat])
  })

  it('scatterAdd', () => {
    expectAlways(
      fc.tuple(fc.constantFrom(...floats), indexed).map(([dtype, { shape, axis, indices, seed }]) => {
        const along = axis % shape.length
        const updates = exactValues(dtype, shape.with(along, indices.length), seed, true)
        return ownCase('scatterAdd', [updates, value('i32', [indices.length], indices)], { axis: along, shape })
      }),
      40,
    )
  })

  it('scatterAdd of more than a block owns, has threads for, or looks at', () => {
    const sizes = [
      [5000, 3, 900],
      [7, 300, 50],
      [5, 4, 5001], // shared by blocks
      [1, 2, 4500],
      [4, 5, 0],
    ] as const
    const cases = sizes.flatMap(([rows, columns, count]) => {
      const list = value(
        'i32',
        [count],
        Array.from({ length: count }, (_, i) => ((i * 7919) % (rows + 4)) - 2),
      )
      return floats.map((dtype) =>
        ownCase('scatterAdd', [exactValues(dtype, [count, columns], 3), list], { axis: 0, shape: [rows, columns] }),
      )
    })
    expect(cases.map(({ equation }) => lowerOwn(equation).works.length)).toContain(2)
    expectAgreement(cases, [0, 11])
  })

  it('allReduce of a group of one', () => {
    const sizes = [[7, 9], [], [64], [3]]
    const cases = floats.flatMap((dtype) =>
      sizes.map((shape) => ownCase('allReduce', [exactValues(dtype, shape, 1, true)], { op: 'mean', group: 1 })),
    )
    expectAgreement(cases)
  })
})
