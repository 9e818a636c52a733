// Movement, reductions, products and indices of the reference: small examples that can be checked by eye, and laws.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { range, sizeOf } from '../../src/tensor/shape.ts'
import { counting, elements, innerOf, run, value, vector } from './reference-run.ts'

const { NaN: nan, POSITIVE_INFINITY: inf } = Number
const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 })

describe('movement', () => {
  const x = counting('i32', [2, 3]) // [[1, 2, 3], [4, 5, 6]]

  test('examples', () => {
    expect(elements('transpose', [x], { permutation: [1, 0] })).toEqual([1, 4, 2, 5, 3, 6])
    expect(elements('transpose', [counting('i32', [2, 1, 3])], { permutation: [2, 0, 1] })).toEqual([1, 4, 2, 5, 3, 6])
    expect(elements('broadcast', [x], { shape: [2, 2, 3], axes: [0, 2] })).toEqual([1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6])
    expect(elements('broadcast', [value('f32', [], [7])], { shape: [2], axes: [] })).toEqual([7, 7])
    expect(elements('slice', [x], { start: [0, 1], limit: [2, 3], stride: [1, 1] })).toEqual([2, 3, 5, 6])
    expect(elements('slice', [x], { start: [1, 0], limit: [2, 3], stride: [1, 2] })).toEqual([4, 6])
    expect(elements('pad', [x], { low: [1, 0], high: [0, 1], interior: [0, 0] })).toEqual([
      0, 0, 0, 0, 1, 2, 3, 0, 4, 5, 6, 0,
    ])
    expect(elements('pad', [vector('i32', 1, 2, 3)], { low: [1], high: [2], interior: [2] })).toEqual([
      0, 1, 0, 0, 2, 0, 0, 3, 0, 0,
    ])
    expect(elements('concatenate', [x, counting('i32', [2, 1])], { axis: 1 })).toEqual([1, 2, 3, 1, 4, 5, 6, 2])
    expect(elements('concatenate', [x, counting('i32', [0, 3]), x], { axis: 0 })).toEqual([
      1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6,
    ])
    expect(elements('iota', [], { shape: [2, 3], axis: 1, dtype: 'i32' })).toEqual([0, 1, 2, 0, 1, 2])
    expect(elements('iota', [], { shape: [2, 3], axis: 0, dtype: 'f32' })).toEqual([0, 0, 0, 1, 1, 1])
    expect(elements('reshape', [x], { shape: [3, 2] })).toEqual([1, 2, 3, 4, 5, 6])
  })

  test('a transpose is undone by the inverse permutation', () => {
    const law = fc.property(
      shapes.chain((shape) =>
        fc.tuple(fc.constant(shape), fc.shuffledSubarray(range(shape.length), { minLength: shape.length })),
      ),
      ([shape, permutation]) => {
        const start = counting('i32', shape)
        const [there] = run('transpose', [start], { permutation })
        const inverse = range(shape.length).map((axis) => permutation.indexOf(axis))
        expect(run('transpose', [there!], { permutation: inverse })).toEqual([start])
      },
    )
    fc.assert(law)
  })

  test('a slice takes back what a pad put in, and the rest is zeros', () => {
    const axis = fc.record({
      extent: fc.integer({ min: 0, max: 3 }),
      low: fc.nat(2),
      high: fc.nat(2),
      interior: fc.nat(2),
    })
    fc.assert(
      fc.property(fc.array(axis, { maxLength: 3 }), (axes) => {
        const start = counting(
          'i32',
          axes.map(({ extent }) => extent),
        )
        const params = {
          low: axes.map(({ low }) => low),
          high: axes.map(({ high }) => high),
          interior: axes.map(({ interior }) => interior),
        }
        const [padded] = run('pad', [start], params)
        const limit = axes.map(({ extent, low, interior }) => low + Math.max(0, (extent - 1) * (interior + 1) + 1))
        const back = run('slice', [padded!], { start: params.low, limit, stride: params.interior.map((n) => n + 1) })
        expect(back).toEqual([start])
        expect(innerOf(padded!.data, padded!.data)).toBe(innerOf(start.data, start.data))
      }),
    )
  })

  test('the sum over broadcast axes is the transpose of the broadcast', () => {
    fc.assert(
      fc.property(
        shapes.chain((shape) => fc.tuple(fc.constant(shape), fc.subarray(range(shape.length)))),
        ([shape, axes]) => {
          const small = counting(
            'i32',
            axes.map((axis) => shape[axis]!),
          )
          const large = counting('i32', shape)
          const spread = elements('broadcast', [small], { shape, axes })
          const summed = elements('reduceSum', [large], {
            axes: range(shape.length).filter((axis) => !axes.includes(axis)),
          })
          expect(innerOf(spread, large.data)).toBe(innerOf(small.data, summed))
        },
      ),
    )
  })
})

describe('reductions', () => {
  const x = value('f32', [2, 3], [3, 1, 3, -1, -5, -1])

  test('examples', () => {
    expect(elements('reduceSum', [x], { axes: [0] })).toEqual([2, -4, 2])
    expect(elements('reduceSum', [x], { axes: [0, 1] })).toEqual([0])
    expect(elements('reduceMax', [x], { axes: [1] })).toEqual([3, -1])
    expect(elements('reduceMin', [x], { axes: [0] })).toEqual([-1, -5, -1])
    expect(elements('argMax', [x], { axis: 1 })).toEqual([0, 0])
    expect(elements('argMax', [x], { axis: 0 })).toEqual([0, 0, 0])
    expect(elements('argMax', [value('i32', [2, 2], [1, 2, 9, -4])], { axis: 0 })).toEqual([1, 0])
    expect(elements('reduceSum', [counting('f32', [0, 2])], { axes: [0] })).toEqual([0, 0])
  })

  test('a NaN is the largest, the smallest, and the first maximum', () => {
    const withNaN = vector('f32', 1, nan, inf, nan)
    expect(elements('reduceMax', [withNaN], { axes: [0] })).toEqual([nan])
    expect(elements('reduceMin', [withNaN], { axes: [0] })).toEqual([nan])
    expect(elements('argMax', [withNaN], { axis: 0 })).toEqual([1])
    expect(elements('argMax', [vector('f32', -inf, -inf)], { axis: 0 })).toEqual([0])
  })

  test('16-bit sums are rounded once: 4096 ones are 4096 in f16, where adding one by one stays at 2048', () => {
    const ones = value(
      'f16',
      [4096],
      range(4096).map(() => 1),
    )
    expect(elements('reduceSum', [ones], { axes: [0] })).toEqual([4096])
    const column = value('f16', [4096, 1], ones.data)
    expect(elements('dot', [ones, column], { batch: [[], []], contract: [[0], [0]] })).toEqual([4096])
  })

  test('integer sums wrap', () => {
    expect(elements('reduceSum', [vector('i32', 2147483647, 1, 2147483647, 1)], { axes: [0] })).toEqual([0])
    expect(elements('reduceSum', [vector('u8', 200, 100)], { axes: [0] })).toEqual([44])
  })

  test('moments are the mean and the biased variance, in f32 also of 16-bit values', () => {
    const [mean, variance] = run('moments', [value('f16', [2, 4], [1, 2, 3, 4, 10, 10, 10, 10])], { axes: [1] })
    expect(mean).toEqual(value('f32', [2], [2.5, 10]))
    expect(variance).toEqual(value('f32', [2], [1.25, 0]))
  })
})

describe('dot', () => {
  test('pairs any axes, batched or not', () => {
    const [a, b] = [counting('f64', [2, 3]), counting('f64', [3, 2])]
    expect(elements('dot', [a, b], { batch: [[], []], contract: [[1], [0]] })).toEqual([22, 28, 49, 64])
    expect(elements('dot', [a, a], { batch: [[0], [0]], contract: [[1], [1]] })).toEqual([14, 77])
    expect(
      elements('dot', [vector('f64', 1, 2), vector('f64', 3, 4)], { batch: [[], []], contract: [[], []] }),
    ).toEqual([3, 4, 6, 8])
    expect(run('dot', [counting('f64', [0, 2]), b], { batch: [[], []], contract: [[1], [1]] })).toEqual([
      value('f64', [0, 3], []),
    ])
  })

  test('agrees with the definition for random axes in random places', () => {
    const axes = fc.record({
      batch: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }),
      shared: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }),
    })
    const free = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 })
    fc.assert(
      fc.property(axes, free, free, fc.infiniteStream(fc.nat()), ({ batch, shared }, freeA, freeB, numbers) => {
        const place = (extents: readonly number[]): number[] =>
          // where each axis goes, at random
          range(extents.length)
            .map((axis) => ({ axis, order: numbers.next().value as number }))
            .sort((p, q) => p.order - q.order)
            .map(({ axis }) => axis)
        const layout = (extents: number[]) => {
          const order = place(extents)
          return { shape: order.map((axis) => extents[axis]!), at: (axis: number) => order.indexOf(axis) }
        }
        const [left, right] = [layout([...batch, ...freeA, ...shared]), layout([...batch, ...freeB, ...shared])]
        const [a, b] = [counting('f64', left.shape), counting('f64', right.shape)]
        const paired = (from: number, count: number, which: typeof left): number[] =>
          range(count).map((i) => which.at(from + i))
        const params = {
          batch: [paired(0, batch.length, left), paired(0, batch.length, right)] as const,
          contract: [
            paired(batch.length + freeA.length, shared.length, left),
            paired(batch.length + freeB.length, shared.length, right),
          ] as const,
        }
        // Free axes come in the order they have in the operand, so the definition walks them in that order.
        const inOrder = (count: number, which: typeof left): number[] =>
          range(count)
            .map((i) => which.at(batch.length + i))
            .sort((p, q) => p - q)
        const read = (x: typeof a, axesOf: readonly number[], index: readonly number[]): number => {
          const position = x.type.shape.reduce(
            (offset, extent, axis) => offset * extent + index[axesOf.indexOf(axis)]!,
            0,
          )
          return x.data[position]!
        }
        const axesA = [...params.batch[0], ...inOrder(freeA.length, left), ...params.contract[0]]
        const axesB = [...params.batch[1], ...inOrder(freeB.length, right), ...params.contract[1]]
        const extents = (x: typeof a, list: readonly number[]): number[] => list.map((axis) => x.type.shape[axis]!)
        const indices = (shape: readonly number[]): number[][] =>
          shape.reduce<number[][]>(
            (lists, extent) => lists.flatMap((list) => range(extent).map((i) => [...list, i])),
            [[]],
          )
        const expected = indices(extents(a, params.batch[0])).flatMap((i) =>
          indices(extents(a, inOrder(freeA.length, left))).flatMap((j) =>
            indices(extents(b, inOrder(freeB.length, right))).map((k) =>
              indices(shared).reduce(
                (sum, m) => sum + read(a, axesA, [...i, ...j, ...m]) * read(b, axesB, [...i, ...k, ...m]),
                0,
              ),
            ),
          ),
        )
        expect(elements('dot', [a, b], params)).toEqual(expected)
      }),
    )
  })
})

describe('indices', () => {
  test('gather takes slices, and clamps indices outside', () => {
    const x = counting('f32', [3, 2])
    expect(elements('gather', [x, vector('i32', 2, 0, -1, 7)], { axis: 0 })).toEqual([5, 6, 1, 2, 1, 2, 5, 6])
    expect(run('gather', [x, value('i32', [1, 2], [1, 1])], { axis: 1 })).toEqual([
      value('f32', [3, 1, 2], [2, 2, 4, 4, 6, 6]),
    ])
    expect(elements('gather', [x, value('i32', [], [1])], { axis: 0 })).toEqual([3, 4])
  })

  test('scatterAdd is the transpose of gather, repeated and clamped indices included', () => {
    const cases = shapes
      .filter((shape) => shape.length > 0 && sizeOf(shape) > 0)
      .chain((shape) =>
        fc.record({
          shape: fc.constant(shape),
          axis: fc.nat(shape.length - 1),
          indices: fc.array(fc.integer({ min: -2, max: 5 }), { maxLength: 6 }),
        }),
      )
    fc.assert(
      fc.property(cases, ({ shape, axis, indices }) => {
        const x = counting('f64', shape)
        const places = vector('i32', ...indices)
        const [taken] = run('gather', [x, places], { axis })
        const updates = counting('f64', taken!.type.shape)
        const added = elements('scatterAdd', [updates, places], { axis, shape })
        expect(innerOf(taken!.data, updates.data)).toBe(innerOf(x.data, added))
      }),
    )
  })
})
