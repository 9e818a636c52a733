// Convolutions and pooling of the reference against their definitions, element by element, and against each other: the
// gradients are the transposes of what they are gradients of.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ConvParams, Pair, PoolParams } from '../../src/tensor/primitives.ts'
import type { ReferenceValue } from '../../src/tensor/reference/value.ts'
import { range, sizeOf } from '../../src/tensor/shape.ts'
import { counting, elements, innerOf, run, value } from './reference-run.ts'

const { NaN: nan } = Number
const none = [
  [0, 0],
  [0, 0],
] as const

const small = fc.integer({ min: 1, max: 2 })
const pair = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<[T, T]> => fc.tuple(one, one)
const digits = fc.infiniteStream(fc.integer({ min: -9, max: 9 })) // integers, so that every sum is exact in any order

interface Convolution {
  readonly x: ReferenceValue
  readonly filter: ReferenceValue
  readonly params: ConvParams
}

const filled = (shape: readonly number[], numbers: Iterator<number>): ReferenceValue =>
  value(
    'f64',
    shape,
    range(sizeOf(shape)).map(() => numbers.next().value as number),
  )

const convolution: fc.Arbitrary<Convolution> = fc
  .record({
    n: small,
    extra: pair(fc.nat(4)),
    window: pair(fc.integer({ min: 1, max: 3 })),
    stride: pair(small),
    dilation: pair(small),
    groups: fc.integer({ min: 1, max: 3 }),
    perGroup: pair(small),
    padding: pair(pair(fc.nat(2))),
    numbers: digits,
  })
  .map(({ n, extra, window, stride, dilation, groups, perGroup, padding, numbers }) => {
    const extent = (axis: 0 | 1): number => (window[axis] - 1) * dilation[axis] + 1 + extra[axis]
    return {
      x: filled([n, extent(0), extent(1), groups * perGroup[0]], numbers),
      filter: filled([groups * perGroup[1], ...window, perGroup[0]], numbers),
      params: { stride, padding, dilation, groups },
    }
  })

/** The element of [n, h, w, c] at a position, 0 in the padding. */
function pixel({ type, data }: ReferenceValue, n: number, y: number, x: number, c: number): number {
  const [, height, width, channels] = type.shape as [number, number, number, number]
  return y < 0 || x < 0 || y >= height || x >= width ? 0 : data[((n * height + y) * width + x) * channels + c]!
}

describe('conv2d', () => {
  test('is its definition', () => {
    fc.assert(
      fc.property(convolution, ({ x, filter, params }) => {
        const [result] = run('conv2d', [x, filter], params)
        const [n, rows, columns, out] = result!.type.shape as [number, number, number, number]
        const [, kh, kw, channels] = filter.type.shape as [number, number, number, number]
        const expected = range(n * rows * columns * out).map((index) => {
          const o = index % out
          const column = Math.floor(index / out) % columns
          const row = Math.floor(index / (out * columns)) % rows
          const image = Math.floor(index / (out * columns * rows))
          const group = Math.floor(o / (out / params.groups))
          let sum = 0
          for (const v of range(kh))
            for (const u of range(kw))
              for (const c of range(channels)) {
                const y = row * params.stride[0] + v * params.dilation[0] - params.padding[0][0]
                const at = column * params.stride[1] + u * params.dilation[1] - params.padding[1][0]
                sum +=
                  pixel(x, image, y, at, group * channels + c) * filter.data[((o * kh + v) * kw + u) * channels + c]!
              }
          return sum
        })
        expect([...result!.data]).toEqual(expected)
      }),
    )
  })

  test('has gradients that are its transposes: <conv(x, f), t> = <x, inputGrad(t, f)> = <f, filterGrad(x, t)>', () => {
    fc.assert(
      fc.property(convolution, digits, ({ x, filter, params }, numbers) => {
        const [y] = run('conv2d', [x, filter], params)
        const t = filled(y!.type.shape, numbers)
        const dx = elements('conv2dInputGrad', [t, filter], { ...params, inputShape: x.type.shape })
        const df = elements('conv2dFilterGrad', [x, t], { ...params, filterShape: filter.type.shape })
        expect(innerOf(x.data, dx)).toBe(innerOf(y!.data, t.data))
        expect(innerOf(filter.data, df)).toBe(innerOf(y!.data, t.data))
      }),
    )
  })

  test('accumulates 16-bit products beyond what 16 bits hold', () => {
    const [x, filter] = [
      value(
        'f16',
        [1, 1, 1, 4096],
        range(4096).map(() => 1),
      ),
      value(
        'f16',
        [1, 1, 1, 4096],
        range(4096).map(() => 1),
      ),
    ]
    expect(elements('conv2d', [x, filter], { stride: [1, 1], padding: none, dilation: [1, 1], groups: 1 })).toEqual([
      4096,
    ])
  })
})

const pooling: fc.Arbitrary<{ readonly x: ReferenceValue; readonly params: PoolParams }> = fc
  .record({
    n: small,
    c: small,
    extra: pair(fc.nat(4)),
    window: pair(fc.integer({ min: 1, max: 3 })),
    stride: pair(fc.integer({ min: 1, max: 3 })),
    padding: pair(pair(fc.nat(2))),
    numbers: digits,
  })
  .map(({ n, c, extra, window, stride, padding, numbers }) => {
    const limited = (axis: 0 | 1): Pair => [
      Math.min(padding[axis][0], window[axis] - 1),
      Math.min(padding[axis][1], window[axis] - 1),
    ]
    return {
      x: filled([n, window[0] + extra[0], window[1] + extra[1], c], numbers),
      params: { window, stride, padding: [limited(0), limited(1)] },
    }
  })

describe('max pooling', () => {
  const window: PoolParams = { window: [2, 2], stride: [1, 1], padding: none }

  test('takes the largest element; padding never wins', () => {
    expect(elements('maxPool2d', [counting('f32', [1, 3, 3, 1])], window)).toEqual([5, 6, 8, 9])
    const negative = value('f32', [1, 1, 1, 2], [-3, -4])
    expect(
      elements('maxPool2d', [negative], {
        window: [3, 3],
        stride: [1, 1],
        padding: [
          [1, 1],
          [1, 1],
        ],
      }),
    ).toEqual([-3, -4])
  })

  test('sends a cotangent to the first of equals in row-major order, and to a NaN', () => {
    const t = value('f32', [1, 1, 1, 1], [7])
    const grad = (...data: number[]): number[] =>
      elements('maxPool2dGrad', [value('f32', [1, 2, 2, 1], data), t], window)
    expect(grad(1, 2, 2, 2)).toEqual([0, 7, 0, 0])
    expect(grad(0, 0, 0, 0)).toEqual([7, 0, 0, 0])
    expect(grad(1, 9, nan, nan)).toEqual([0, 0, 7, 0])
    expect(elements('maxPool2d', [value('f32', [1, 2, 2, 1], [1, 9, nan, 3])], window)).toEqual([nan])
  })

  test('overlapping windows add their cotangents', () => {
    const x = value('f32', [1, 1, 3, 1], [1, 5, 2])
    const t = value('f32', [1, 1, 2, 1], [10, 100])
    expect(elements('maxPool2dGrad', [x, t], { window: [1, 2], stride: [1, 1], padding: none })).toEqual([0, 110, 0])
  })

  test('picking x itself is pooling, and picking is the transpose of the gradient', () => {
    fc.assert(
      fc.property(pooling, digits, ({ x, params }, numbers) => {
        const [y] = run('maxPool2d', [x], params)
        expect(run('maxPool2dPick', [x, x], params)).toEqual([y])
        const [t, other] = [filled(y!.type.shape, numbers), filled(x.type.shape, numbers)]
        const picked = elements('maxPool2dPick', [x, other], params)
        expect(innerOf(picked, t.data)).toBe(innerOf(other.data, elements('maxPool2dGrad', [x, t], params)))
      }),
    )
  })

  test('is its definition', () => {
    fc.assert(
      fc.property(pooling, ({ x, params }) => {
        const [y] = run('maxPool2d', [x], params)
        expect([...y!.data]).toEqual(windowsOf(x, params, y!.type.shape).map((window) => Math.max(...window)))
      }),
    )
  })
})

/** The elements of each window inside the image, for each output element. */
function windowsOf(x: ReferenceValue, { window, stride, padding }: PoolParams, output: readonly number[]): number[][] {
  const [, height, width, channels] = x.type.shape as [number, number, number, number]
  const [n, rows, columns] = output as [number, number, number]
  return range(n * rows * columns * channels).map((index) => {
    const c = index % channels
    const column = Math.floor(index / channels) % columns
    const row = Math.floor(index / (channels * columns)) % rows
    const image = Math.floor(index / (channels * columns * rows))
    return range(window[0]).flatMap((v) =>
      range(window[1]).flatMap((u) => {
        const [y, at] = [row * stride[0] + v - padding[0][0], column * stride[1] + u - padding[1][0]]
        return y < 0 || at < 0 || y >= height || at >= width ? [] : [pixel(x, image, y, at, c)]
      }),
    )
  })
}

describe('average pooling', () => {
  test('is its definition: padding counts in the divisor', () => {
    fc.assert(
      fc.property(pooling, ({ x, params }) => {
        const [y] = run('avgPool2d', [x], params)
        const sums = windowsOf(x, params, y!.type.shape).map((window) =>
          window.reduce((sum, element) => sum + element, 0),
        )
        expect([...y!.data]).toEqual(sums.map((sum) => sum / sizeOf(params.window)))
      }),
    )
  })

  test('has a gradient that is its transpose', () => {
    fc.assert(
      fc.property(pooling, digits, ({ x, params }, numbers) => {
        const [y] = run('avgPool2d', [x], params)
        const t = filled(y!.type.shape, numbers)
        const dx = elements('avgPool2dGrad', [t], { ...params, inputShape: x.type.shape })
        const area = sizeOf(params.window)
        // Integers but for rounding; their difference is told apart from zero without regard to zero's sign.
        expect(Math.abs(Math.round((innerOf(x.data, dx) - innerOf(y!.data, t.data)) * area))).toBe(0)
      }),
    )
  })
})
