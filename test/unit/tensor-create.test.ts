// Making, reading and printing tensors on the reference device, and what wrong arguments get.
import { beforeAll, describe, expect, test } from 'vitest'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { dtypes, parseDType } from '../../src/tensor/dtype.ts'
import { PullbackError } from '../../src/tensor/errors.ts'
import {
  type NestedNumbers,
  arange,
  fromBits,
  full,
  iota,
  ones,
  onesLike,
  tensor,
  transfer,
  zeros,
  zerosLike,
} from '../../src/tensor/ops/create.ts'
import { add, cast, mul } from '../../src/tensor/ops/pointwise.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

beforeAll(() => {
  setDefaultDevice(referenceDevice())
})

const numbers = async (x: Tensor): Promise<number[]> => [...(await x.data())]

/** Runs `body`, which must throw a PullbackError, and returns its code and message. */
function failure(body: () => unknown): string {
  try {
    body()
  } catch (error) {
    if (error instanceof PullbackError) return `${error.code}: ${error.message}`
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('creation', () => {
  test('nested numbers give shape and f32, booleans bool, one number a scalar', async () => {
    const x = tensor([
      [1, 2, 3],
      [4, 5, 6],
    ])
    expect([x.shape, x.dtype, x.size, x.device]).toEqual([[2, 3], 'f32', 6, 'reference'])
    expect(await x.data()).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6))
    const flags = tensor([true, false])
    expect([flags.dtype, await numbers(flags)]).toEqual(['bool', [1, 0]])
    expect([tensor(5).shape, await tensor(5).item()]).toEqual([[], 5])
    expect([tensor([]).shape, tensor([[], []]).shape]).toEqual([[0], [2, 0]])
  })

  test('typed arrays keep their dtype, take a shape, and are copied', async () => {
    const data = Int32Array.of(1, 2, 3, 4)
    const x = tensor(data, { shape: [2, 2] })
    data.fill(0)
    expect([x.dtype, x.shape, await x.data()]).toEqual(['i32', [2, 2], Int32Array.of(1, 2, 3, 4)])
    const kinds = [new Float32Array(1), new Float64Array(1), new Int32Array(1), new Uint8Array(1)]
    expect(kinds.map((array) => tensor(array).dtype)).toEqual(['f32', 'f64', 'i32', 'u8'])
  })

  test('a typed array of one dtype becomes another by rounding', async () => {
    expect(await tensor(Float64Array.of(1 / 3, 1e9), { dtype: 'f16' }).bits()).toEqual(Uint16Array.of(0x3555, 0x7c00))
    expect(await numbers(tensor(Uint8Array.of(0, 2), { dtype: 'bool' }))).toEqual([0, 1])
  })

  test.each(dtypes)('%s: zeros, ones and full', async (dtype) => {
    expect(await numbers(zeros([2, 1], dtype))).toEqual([0, 0])
    expect(await numbers(onesLike(zeros([2], dtype)))).toEqual([1, 1])
    const x = full([2], 1, dtype)
    expect([x.dtype, await numbers(x), await numbers(zerosLike(x))]).toEqual([dtype, [1, 1], [0, 0]])
    expect([ones([], dtype).device, await ones([], dtype).item()]).toEqual(['literal', 1])
  })

  test('arange and iota count, along negative axes too', async () => {
    expect(await arange(4).data()).toEqual(Int32Array.of(0, 1, 2, 3))
    expect(await numbers(iota([2, 2], 0))).toEqual([0, 0, 1, 1])
    expect(await numbers(iota([2, 2], -1, 'f32'))).toEqual([0, 1, 0, 1])
  })

  test('bits go in and come out as they are, data as numbers', async () => {
    const x = fromBits(Uint16Array.of(0x3c00, 0x7c01, 0x8000), [3], 'f16')
    expect(await x.bits()).toEqual(Uint16Array.of(0x3c00, 0x7c01, 0x8000))
    expect(await x.data()).toEqual(Float32Array.of(1, Number.NaN, -0))
    expect(await fromBits(Uint16Array.of(0x3f80), [1], 'bf16').data()).toEqual(Float32Array.of(1))
  })

  test('transfer copies to another device, and gives the tensor itself on its own', async () => {
    const [x, elsewhere] = [tensor([1, 2]), referenceDevice()]
    const there = await transfer(x, elsewhere)
    expect(await numbers(there)).toEqual([1, 2])
    expect(await transfer(there, elsewhere)).toBe(there)
    expect(failure(() => add(x, there))).toBe(
      'device: [add] expected tensors on one device, got reference and reference. Use transfer(tensor, device).',
    )
  })
})

describe('printing', () => {
  test('shows values, shape, dtype and device', () => {
    expect(
      String(
        tensor([
          [1, 2.5],
          [-3, 1 / 3],
        ]),
      ),
    ).toBe('Tensor [[1, 2.5], [-3, 0.33333]] f32[2,2] on reference')
    expect(String(tensor([true, false]))).toBe('Tensor [true, false] bool[2] on reference')
    expect(String(tensor([Number.NaN, Infinity], { dtype: 'f16' }))).toBe('Tensor [NaN, Infinity] f16[2] on reference')
    expect(String(tensor(7))).toBe('Tensor 7 f32[] on reference')
    expect(String(ones([]))).toBe('Tensor 1 f32[]')
    expect(String(zeros([0, 3]))).toBe('Tensor [] f32[0,3] on reference')
  })

  test('summarises long axes', () => {
    expect(String(arange(8))).toBe('Tensor [0, 1, 2, ..., 5, 6, 7] i32[8] on reference')
    expect(String(arange(7))).toBe('Tensor [0, 1, 2, 3, 4, 5, 6] i32[7] on reference')
  })

  test('shows that a tensor was disposed', () => {
    const x = tensor([1])
    x.dispose()
    expect(String(x)).toBe('Tensor f32[1] (disposed)')
  })
})

describe('errors', () => {
  const ragged: NestedNumbers[] = [
    [[1, 2], [3]],
    [[1], 2],
    [1, [2]],
    [[1], [[2]]],
  ]

  test.each(ragged)('ragged nesting %j', (...nested) => {
    expect(failure(() => tensor(nested))).toMatch(/^shape: \[tensor\] expected nested arrays of one shape/)
  })

  test.each([[Number.NaN], [-1], [1.5], [Infinity], [2 ** 27, 2 ** 27]])('the shape [%s]', (...shape) => {
    expect(failure(() => zeros(shape))).toMatch(/^shape: \[full\] /)
    expect(failure(() => tensor(Float32Array.of(1), { shape }))).toMatch(/^shape: \[tensor\] /)
  })

  test('a number of elements that does not fit', () => {
    expect(failure(() => tensor([1, 2, 3], { shape: [2] }))).toBe(
      'shape: [tensor] expected 2 elements for shape [2], got 3.',
    )
    expect(failure(() => fromBits(new Float32Array(3), [2], 'f32'))).toBe(
      'shape: [fromBits] expected 2 elements for shape [2], got 3.',
    )
  })

  test('bits of the wrong kind', () => {
    expect(failure(() => fromBits(new Float32Array(1), [1], 'f16'))).toBe(
      'dtype: [fromBits] expected a Uint16Array for f16, got a Float32Array.',
    )
    expect(failure(() => tensor(new Uint16Array(1)))).toMatch(
      /^dtype: \[tensor\] a Uint16Array may be f16 or bf16 bits\. Use fromBits/,
    )
    expect(failure(() => parseDType('float32'))).toBe(
      "dtype: [dtype] expected one of f32, f16, bf16, f64, i32, u8, bool, got 'float32'.",
    )
  })

  test("two dtypes in one operation name cast; numbers take the tensor's dtype", async () => {
    const [x, y] = [tensor([1, 2]), tensor([1, 2], { dtype: 'f16' })]
    expect(failure(() => add(x, y))).toBe(
      "dtype: [add] expected one dtype, got f32 and f16. Use cast(x, 'f32') or cast(x, 'f16').",
    )
    expect(await numbers(add(cast(y, 'f32'), x))).toEqual([2, 4])
    expect(mul(y, 0.5).dtype).toBe('f16')
    expect(failure(() => add(tensor([1], { dtype: 'i32' }), 0.5))).toMatch(
      /^dtype: \[add\] the number 0\.5 does not fit the dtype i32/,
    )
  })

  test('shapes that do not broadcast', () => {
    expect(failure(() => add(zeros([2, 3]), zeros([2])))).toBe(
      'shape: [add] expected shapes that broadcast, got 2x3 and 2. Reshape or expandDims one of them.',
    )
  })

  test('a tensor is no number and no condition', async () => {
    expect(failure(() => Number(tensor([1])))).toMatch(/^trace: \[number\] a Tensor \(f32\[1\]\) is not a number/)
    await expect(tensor([1, 2]).item()).rejects.toMatchObject({
      code: 'shape',
      message: '[item] expected a tensor with one element, got f32[2]. Use data().',
    })
  })
})
