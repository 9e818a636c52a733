// Products and convolutions by our own plain CUDA kernels, run on the host from the very text that NVRTC gets, against the
// reference: random geometries, every dtype. Data are small multiples of 1/8, so that sums are exact and results equal to
// the bit; where they are not, the bound is derived.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { lowerOwn } from '../../src/cuda/kernels/index.ts'
import type { DType } from '../../src/tensor/dtype.ts'
import { roundTo } from '../../src/tensor/half.ts'
import type { ConvParams, Padding } from '../../src/tensor/primitives.ts'
import type { ReferenceValue } from '../../src/tensor/reference/value.ts'
import { at, sizeOf } from '../../src/tensor/shape.ts'
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

describe('products', { timeout: 120_000 }, () => {
  interface Extents {
    readonly batch: number
    readonly m: number
    readonly n: number
    readonly k: number
    readonly left: boolean
    readonly right: boolean
  }
  const dot = (dtype: DType, { batch, m, n, k, left, right }: Extents, seed: number): OwnCase => {
    const a = exactValues(dtype, left ? [batch, k, m] : [batch, m, k], seed, true)
    const b = exactValues(dtype, right ? [batch, n, k] : [batch, k, n], seed + 1)
    return ownCase('dot', [a, b], { batch: [[0], [0]], contract: [[left ? 1 : 2], [right ? 2 : 1]] })
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
    })
    expectAlways(
      fc.tuple(fc.constantFrom(...floats), extents, fc.nat(1000)).map((drawn) => dot(...drawn)),
      20,
    )
  })

  it('of nothing, of scalars, and of vectors', () => {
    const none = { batch: 2, m: 3, n: 5, k: 0, left: false, right: false }
    const cases = floats.flatMap((dtype) => {
      const of = (shape: readonly number[]): ReferenceValue => exactValues(dtype, shape, shape.length)
      const apart = { batch: [[], []], contract: [[], []] } as const
      return [
        dot(dtype, none, 1),
        ownCase('dot', [of([]), of([])], apart),
        ownCase('dot', [of([5]), of([7])], apart),
        ownCase('dot', [of([33]), of([33])], { batch: [[], []], contract: [[0], [0]] }),
      ]
    })
    expectAgreement(cases)
    expect(lowerOwn(dot('f32', { ...none, m: 0, k: 3 }, 1).equation).works).toEqual([])
  })

  it.each([
    ['f32', 4097],
    ['f16', 3000],
    ['f64', 3000],
  ] as const)('deep ones of %s are shared by blocks and stay within their bound', (dtype, k) => {
    const wave = (shape: readonly number[], start: number): ReferenceValue => {
      const at = (i: number): number => roundTo(dtype, Math.sin((i + start) * 12.9898))
      return value(
        dtype,
        shape,
        Array.from({ length: sizeOf(shape) }, (_, i) => at(i)),
      )
    }
    const [a, b] = [wave([5, k], 0), wave([k, 9], 77)]
    const params = { batch: [[], []], contract: [[1], [0]] } as const
    const absolute = (x: ReferenceValue): ReferenceValue => ({ ...x, data: x.data.map(Math.abs) })
    const magnitude = at(run('dot', [absolute(a), absolute(b)], params, { round: false }), 0)
    // A share has at most 512 products, and there are k / 256 at most; then the result is rounded. The reference's own sum
    // of k products is off by as much as f64 allows.
    const unit = { f32: 2 ** -24, f16: 2 ** -24, f64: 2 ** -53 }[dtype]
    const last = { f32: unit, f16: 2 ** -11, f64: k * unit }[dtype]
    const bound = (512 + k / 256) * unit + last
    const wanted = ownCase('dot', [a, b], params, (i) => at(magnitude.data, i) * bound)
    expect(lowerOwn(wanted.equation).works.length).toBe(2)
    expectAgreement([wanted])
  })
})

describe('convolutions', { timeout: 120_000 }, () => {
  const primitives = ['conv2d', 'conv2dInputGrad', 'conv2dFilterGrad'] as const
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

  it.each(primitives)('%s', (primitive) => {
    expectAlways(
      geometry.map(({ dtype, params, x: inputShape, w: filterShape, seed }) =>
        convolution(primitive, dtype, inputShape, filterShape, params, seed),
      ),
      16,
    )
  })

  const around = (pad: number): Padding => [
    [pad, pad],
    [pad, pad],
  ]
  const walk = (stride: number, pad: number, groups = 1): ConvParams => ({
    stride: [stride, stride],
    padding: around(pad),
    dilation: [1, 1],
    groups,
  })

  it.each(primitives)("%s of the model's kinds of layers", (primitive) => {
    const layers: readonly (readonly [readonly number[], readonly number[], ConvParams])[] = [
      [[1, 14, 14, 3], [64, 7, 7, 3], walk(2, 3)],
      [[1, 8, 9, 64], [72, 1, 1, 64], walk(1, 0)],
      [[1, 8, 8, 32], [16, 1, 1, 32], walk(2, 0)],
      [[1, 6, 7, 32], [32, 3, 3, 4], walk(1, 1, 8)],
      [[1, 8, 8, 32], [32, 3, 3, 8], walk(2, 1, 4)],
      [[2, 12, 12, 4], [4, 5, 5, 1], walk(1, 0, 4)],
    ]
    const cases = layers.flatMap(([x, w, params], i) =>
      (['f16', 'f32'] as const).map((dtype) => convolution(primitive, dtype, x, w, params, i)),
    )
    expectAgreement(cases, [0, 5])
  })

  it.each(primitives)('%s by 64-bit indices', (primitive) => {
    const far: ConvParams = { ...walk(1, 1, 2), stride: [2 ** 31, 2] }
    const [above, beside]: Padding = [
      [2 ** 30, 0],
      [0, 0],
    ]
    const apart: ConvParams = { ...walk(1, 0), padding: [above, beside], dilation: [2 ** 30, 1] }
    const cases = (['f32', 'bf16'] as const).flatMap((dtype) => [
      convolution(primitive, dtype, [2, 5, 9, 8], [6, 3, 3, 4], far, 1),
      convolution(primitive, dtype, [1, 1, 9, 8], [6, 2, 3, 8], apart, 2),
    ])
    for (const { equation } of cases) expect(launchesOf(lowerOwn(equation))[0]?.source.text).toContain('int64_t first')
    expectAgreement(cases, [0, 3])
  })

  it('of few results and many products: shared by blocks', () => {
    const cases = [
      convolution('conv2d', 'f16', [1, 6, 6, 64], [64, 3, 3, 64], walk(1, 1), 3),
      convolution('conv2dInputGrad', 'f16', [1, 6, 6, 64], [64, 3, 3, 64], walk(1, 1), 3),
      convolution('conv2dFilterGrad', 'f16', [2, 20, 21, 4], [64, 3, 3, 4], walk(1, 1), 3),
    ]
    for (const { equation } of cases) expect(lowerOwn(equation).works.length).toBe(2)
    expectAgreement(cases, [0, 3])
  })

  it('of no images: a filter gradient of zeros, and nothing else to do', () => {
    expectAgreement([convolution('conv2dFilterGrad', 'f16', [0, 4, 4, 8], [3, 2, 2, 8], walk(1, 0), 1)])
    const forward = convolution('conv2d', 'f16', [0, 4, 4, 8], [3, 2, 2, 8], walk(1, 0), 1)
    expect(lowerOwn(forward.equation).works).toEqual([])
  })
})

/** One operand has NaN and infinities; the one that padding's zeros are multiplied with is finite. */
function convolution(
  primitive: 'conv2d' | 'conv2dInputGrad' | 'conv2dFilterGrad',
  dtype: DType,
  inputShape: readonly number[],
  filterShape: readonly number[],
  params: ConvParams,
  seed: number,
): OwnCase {
  const x = exactValues(dtype, inputShape, seed, true)
  const w = exactValues(dtype, filterShape, seed + 1)
  const [y] = run('conv2d', [x, w], params)
  const cotangent = (special: boolean): ReferenceValue => exactValues(dtype, y?.type.shape ?? [], seed + 2, special)
  if (primitive === 'conv2d') return ownCase(primitive, [x, w], params)
  if (primitive === 'conv2dInputGrad') return ownCase(primitive, [cotangent(true), w], { ...params, inputShape })
  return ownCase(primitive, [x, cotangent(false)], { ...params, filterShape })
}
