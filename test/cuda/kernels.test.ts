// Our own CUDA kernels for library steps, run on the host from the very text that NVRTC gets, against the reference: random
// geometries, every dtype, NaN and infinities, ties, windows over the border. Data are small multiples of 1/8, so that sums
// are exact and results equal to the bit.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { lowerOwn } from '../../src/cuda/kernels/index.ts'
import { type DType, dtypes, isHalf } from '../../src/tensor/dtype.ts'
import { roundTo } from '../../src/tensor/half.ts'
import type { ConvParams, Pair, Padding, PoolParams } from '../../src/tensor/primitives.ts'
import type { ReferenceValue } from '../../src/tensor/reference/value.ts'
import { at, sizeOf } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { run, value } from '../unit/reference-run.ts'
import { type OwnCase, exactValues, expectAgreement, launchesOf, ownCase } from './kernels-own.ts'

const floats = ['f32', 'f16', 'bf16', 'f64'] as const

/** Lists of cases, since the compiler takes many kernels at once. */
function agree(cases: fc.Arbitrary<OwnCase>, count: number): void {
  const lists = fc.array(cases, { minLength: count, maxLength: count })
  fc.assert(
    fc.property(lists, (list) => expectAgreement(list)),
    { numRuns: runs(1), endOnFailure: true },
  )
}

const pair = (min: number, max: number): fc.Arbitrary<Pair> =>
  fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }))

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
    agree(
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
    agree(
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
    agree(
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
    agree(
      fc.tuple(fc.constantFrom(...floats), indexed).map(([dtype, { shape, axis, indices, seed }]) => {
        const along = axis % shape.length
        const updates = exactValues(dtype, shape.with(along, indices.length), seed, true)
        return ownCase('scatterAdd', [updates, value('i32', [indices.length], indices)], { axis: along, shape })
      }),
      40,
    )
  })

  it.each([
    ['more rows than a block owns', [5000, 3], 900],
    ['more columns than a block has threads', [7, 300], 50],
    ['more indices than a block looks at, shared by blocks', [5, 4], 5001],
    ['all into one row', [1, 2], 4500],
    ['no index', [4, 5], 0],
  ] as const)('scatterAdd: %s', (_name, shape, count) => {
    const indices = Array.from({ length: count }, (_, i) => ((i * 7919) % (shape[0] + 4)) - 2)
    const list = value('i32', [count], indices)
    const cases = floats.map((dtype) =>
      ownCase('scatterAdd', [exactValues(dtype, [count, shape[1]], 3), list], { axis: 0, shape: [...shape] }),
    )
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

describe('products', { timeout: 120_000 }, () => {
  const dot = (
    dtype: DType,
    {
      batch,
      m,
      n,
      k,
      left,
      right,
      seed,
    }: Record<'batch' | 'm' | 'n' | 'k' | 'seed', number> & Record<'left' | 'right', boolean>,
    special = true,
  ): OwnCase => {
    const a = exactValues(dtype, left ? [batch, k, m] : [batch, m, k], seed, special)
    const b = exactValues(dtype, right ? [batch, n, k] : [batch, k, n], seed + 1)
    const contract = [[left ? 1 : 2], [right ? 2 : 1]] as const
    return ownCase('dot', [a, b], { batch: [[0], [0]], contract })
  }

  it('of any extents', () => {
    const extent = fc.integer({ min: 1, max: 40 })
    const extents = fc.record({
      batch: fc.integer({ min: 1, max: 3 }),
      m: fc.oneof(extent, fc.constantFrom(64, 65, 130)),
      n: fc.oneof(extent, fc.constantFrom(4, 64, 68, 257)),
      k: fc.oneof(extent, fc.constantFrom(16, 17, 32, 300)),
      left: fc.boolean(),
      right: fc.boolean(),
      seed: fc.nat(1000),
    })
    agree(
      fc.tuple(fc.constantFrom(...floats), extents).map(([dtype, each]) => dot(dtype, each)),
      30,
    )
  })

  it('of nothing, of scalars, and of vectors', () => {
    const cases = floats.flatMap((dtype) => [
      dot(dtype, { batch: 2, m: 3, n: 5, k: 0, left: false, right: false, seed: 1 }),
      ownCase('dot', [exactValues(dtype, [], 1), exactValues(dtype, [], 2)], { batch: [[], []], contract: [[], []] }),
      ownCase('dot', [exactValues(dtype, [33], 1), exactValues(dtype, [33], 2)], {
        batch: [[], []],
        contract: [[0], [0]],
      }),
      ownCase('dot', [exactValues(dtype, [5], 1), exactValues(dtype, [7], 2)], { batch: [[], []], contract: [[], []] }),
    ])
    expectAgreement(cases)
    expect(
      lowerOwn(dot('f32', { batch: 2, m: 0, n: 5, k: 3, left: false, right: false, seed: 1 }).equation).works,
    ).toEqual([])
  })

  it('deep ones are shared by blocks, and f32 sums stay within their bound', () => {
    const cases = (['f32', 'f16', 'f64'] as const).flatMap((dtype) =>
      [3000, 4097].map((k) => {
        const round = (i: number): number => roundTo(dtype, Math.sin(i * 12.9898))
        const a = value(
          dtype,
          [5, k],
          Float64Array.from({ length: 5 * k }, (_, i) => round(i)),
        )
        const b = value(
          dtype,
          [k, 9],
          Float64Array.from({ length: 9 * k }, (_, i) => round(i + 77)),
        )
        const params = { batch: [[], []], contract: [[1], [0]] } as const
        const absolute = (x: ReferenceValue): ReferenceValue => ({ ...x, data: x.data.map(Math.abs) })
        const magnitude = at(run('dot', [absolute(a), absolute(b)], params, { round: false }), 0)
        // chains of 256 in a run, of runs in a share, and of shares; then the rounding of the result
        const epsilon = { f32: 2 ** -24, f16: 2 ** -24, f64: 2 ** -53 }[dtype]
        const last = dtype === 'f16' ? 2 ** -11 : epsilon
        const chain = 256 + k / 256 + 528
        return ownCase('dot', [a, b], params, (i) => at(magnitude.data, i) * (chain * epsilon + last))
      }),
    )
    for (const { equation } of cases) expect(lowerOwn(equation).works.length).toBe(2)
    expectAgreement(cases)
  })
})

describe('convolutions', { timeout: 120_000 }, () => {
  const geometry = fc
    .record({
      dtype: fc.constantFrom(...floats),
      batch: fc.integer({ min: 1, max: 2 }),
      size: pair(1, 9),
      window: pair(1, 3),
      stride: pair(1, 3),
      dilation: pair(1, 2),
      padding: fc.tuple(pair(0, 2), pair(0, 2)),
      groups: fc.integer({ min: 1, max: 3 }),
      group: fc.constantFrom(1, 3, 4, 8),
      outGroup: fc.constantFrom(1, 2, 4, 20),
      seed: fc.nat(1000),
    })
    .filter(({ size, window, padding, dilation }) =>
      ([0, 1] as const).every((i) => size[i] + padding[i][0] + padding[i][1] >= (window[i] - 1) * dilation[i] + 1),
    )
    .map(({ batch, size, window, stride, dilation, padding, groups, group, outGroup, ...rest }) => {
      const params: ConvParams = { stride, dilation, padding, groups }
      return { ...rest, params, x: [batch, ...size, group * groups], w: [outGroup * groups, ...window, group] }
    })

  it.each(['conv2d', 'conv2dInputGrad', 'conv2dFilterGrad'] as const)('%s', (primitive) => {
    agree(
      geometry.map(({ dtype, params, x: inputShape, w: filterShape, seed }) =>
        convolution(primitive, dtype, inputShape, filterShape, params, seed),
      ),
      24,
    )
  })

  it.each(['conv2d', 'conv2dInputGrad', 'conv2dFilterGrad'] as const)(
    "%s of the model's kinds of layers",
    (primitive) => {
      const same: Padding = [
        [1, 1],
        [1, 1],
      ]
      const none: Padding = [
        [0, 0],
        [0, 0],
      ]
      const dilation: Pair = [1, 1]
      const layers: readonly (readonly [readonly number[], readonly number[], ConvParams])[] = [
        [
          [1, 14, 14, 3],
          [64, 7, 7, 3],
          {
            stride: [2, 2],
            padding: [
              [3, 3],
              [3, 3],
            ],
            dilation,
            groups: 1,
          },
        ],
        [[1, 8, 9, 64], [72, 1, 1, 64], { stride: [1, 1], padding: none, dilation, groups: 1 }],
        [[1, 8, 8, 32], [16, 1, 1, 32], { stride: [2, 2], padding: none, dilation, groups: 1 }],
        [[1, 6, 7, 32], [32, 3, 3, 4], { stride: [1, 1], padding: same, dilation, groups: 8 }],
        [[1, 8, 8, 32], [32, 3, 3, 8], { stride: [2, 2], padding: same, dilation, groups: 4 }],
        [[2, 12, 12, 4], [4, 5, 5, 1], { stride: [1, 1], padding: none, dilation, groups: 4 }],
      ]
      const cases = layers.flatMap(([x, w, params], i) =>
        (['f16', 'f32'] as const).map((dtype) => convolution(primitive, dtype, x, w, params, i)),
      )
      expectAgreement(cases, [0, 5])
    },
  )

  it.each(['conv2d', 'conv2dInputGrad', 'conv2dFilterGrad'] as const)(
    '%s by 64-bit indices, and shared by blocks',
    (primitive) => {
      const padding: Padding = [
        [1, 1],
        [0, 1],
      ]
      const far: ConvParams = { stride: [2 ** 31, 2], padding, dilation: [1, 1], groups: 2 }
      const apart: ConvParams = {
        stride: [1, 1],
        padding: [
          [2 ** 30, 0],
          [0, 0],
        ],
        dilation: [2 ** 30, 1],
        groups: 1,
      }
      const near: ConvParams = { stride: [1, 1], padding, dilation: [1, 1], groups: 1 }
      const deep = convolution(
        primitive,
        'f16',
        primitive === 'conv2dFilterGrad' ? [2, 20, 21, 4] : [1, 6, 6, 64],
        [64, 3, 3, primitive === 'conv2dFilterGrad' ? 4 : 64],
        near,
        3,
      )
      const cases = (['f32', 'bf16'] as const).flatMap((dtype) => [
        convolution(primitive, dtype, [2, 5, 9, 8], [6, 3, 3, 4], far, 1),
        // the other taps look at padding only, which multiplies what the cotangent has
        convolution(primitive, dtype, [1, 1, 9, 8], [6, 2, 3, 8], apart, 2),
      ])
      for (const { equation } of cases)
        for (const { source } of launchesOf(lowerOwn(equation)))
          if (source.name.includes('conv')) expect(source.text).toContain('int64_t first')
      expect(launchesOf(lowerOwn(deep.equation)).length).toBe(2)
      expectAgreement([...cases, deep], [0, 3])
    },
  )

  it('of no images: a filter gradient of zeros, and nothing else to do', () => {
    const params: ConvParams = {
      stride: [1, 1],
      padding: [
        [0, 0],
        [0, 0],
      ],
      dilation: [1, 1],
      groups: 1,
    }
    expectAgreement([convolution('conv2dFilterGrad', 'f16', [0, 4, 4, 8], [3, 2, 2, 8], params, 1)])
    expect(lowerOwn(convolution('conv2d', 'f16', [0, 4, 4, 8], [3, 2, 2, 8], params, 1).equation).works).toEqual([])
  })
})

/** Images have NaN and infinities where padding meets none of them. */
function convolution(
  primitive: 'conv2d' | 'conv2dInputGrad' | 'conv2dFilterGrad',
  dtype: DType,
  inputShape: readonly number[],
  filterShape: readonly number[],
  params: ConvParams,
  seed: number,
): OwnCase {
  const x = exactValues(dtype, inputShape, seed, sizeOf(inputShape) > 20)
  const w = exactValues(dtype, filterShape, seed + 1)
  const [y] = run('conv2d', [x, w], params)
  const cotangent = (special: boolean): ReferenceValue => exactValues(dtype, y?.type.shape ?? [], seed + 2, special)
  if (primitive === 'conv2d') return ownCase(primitive, [x, w], params)
  if (primitive === 'conv2dInputGrad') return ownCase(primitive, [cotangent(true), w], { ...params, inputShape })
  return ownCase(primitive, [x, cotangent(false)], { ...params, filterShape })
}
