// Pooling and indexed primitives on the CPU device against the reference interpreter: random geometries, every dtype,
// NaN and infinities, ties. Values are small multiples of 1/8, so that sums are exact and results equal to the bit.
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { cpuDevice } from '../../src/cpu/index.ts'
import type { Device } from '../../src/tensor/device.ts'
import { type DType, dtypes, isHalf } from '../../src/tensor/dtype.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import type { PrimitiveName, PrimitiveParams } from '../../src/tensor/primitives.ts'
import type { ReferenceValue } from '../../src/tensor/reference/value.ts'
import { at, sizeOf, zip } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { programOf, run, value } from './reference-run.ts'

const device = cpuDevice() as Device
afterAll(() => device.close())

const floats = ['f32', 'f16', 'bf16', 'f64'] as const
const specials = [Number.NaN, Infinity, -Infinity, 0, -0]

describe('pooling', () => {
  const geometry = fc
    .record({
      dtype: fc.constantFrom(...floats),
      batch: fc.integer({ min: 1, max: 2 }),
      channels: fc.constantFrom(1, 3, 8, 16, 21),
      window: fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 })),
      stride: fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 })),
      extra: fc.tuple(fc.nat(18), fc.nat(70)),
      pads: fc.array(fc.nat(3), { minLength: 4, maxLength: 4 }),
      seed: fc.nat(1000),
    })
    .map(({ window, pads, ...rest }) => {
      const pad = (i: number, axis: 0 | 1): number => at(pads, i) % window[axis]
      const padding = [
        [pad(0, 0), pad(1, 0)],
        [pad(2, 1), pad(3, 1)],
      ] as [[number, number], [number, number]]
      const shape = [rest.batch, window[0] + rest.extra[0], window[1] + rest.extra[1], rest.channels]
      return { ...rest, shape, params: { window, stride: rest.stride, padding } }
    })

  it.each(['maxPool2d', 'avgPool2d'] as const)('%s', async (primitive) => {
    await fc.assert(
      fc.asyncProperty(geometry, async ({ dtype, shape, params, seed }) => {
        await agree(primitive, [values(dtype, shape, seed, primitive === 'maxPool2d')], params)
      }),
      { numRuns: runs(25) },
    )
  })

  it.each(['maxPool2dGrad', 'maxPool2dPick', 'avgPool2dGrad'] as const)('%s', async (primitive) => {
    await fc.assert(
      fc.asyncProperty(geometry, async ({ dtype, shape, params, seed }) => {
        const x = values(dtype, shape, seed, true)
        const [pooled] = run('maxPool2d', [x], params)
        const cotangent = values(dtype, pooled!.type.shape, seed + 1, false)
        if (primitive === 'avgPool2dGrad') await agree(primitive, [cotangent], { ...params, inputShape: shape })
        else
          await agree(
            primitive,
            [x, primitive === 'maxPool2dPick' ? values(dtype, shape, seed + 2, false) : cotangent],
            params,
          )
      }),
      { numRuns: runs(25) },
    )
  })
})

describe('indices', () => {
  const indexed = fc.record({
    shape: fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 }),
    axis: fc.nat(2),
    indices: fc.array(fc.integer({ min: -2, max: 8 }), { minLength: 1, maxLength: 7 }),
    seed: fc.nat(1000),
  })

  it('gather', async () => {
    await fc.assert(
      fc.asyncProperty(indexed, fc.constantFrom(...dtypes), async ({ shape, axis, indices, seed }, dtype) => {
        const list = value('i32', [indices.length], indices)
        await agree('gather', [values(dtype, shape, seed, false), list], { axis: axis % shape.length })
      }),
      { numRuns: runs(30) },
    )
  })

  it('scatterAdd', async () => {
    await fc.assert(
      fc.asyncProperty(indexed, fc.constantFrom(...floats), async ({ shape, axis, indices, seed }, dtype) => {
        const along = axis % shape.length
        const updates = values(dtype, shape.with(along, indices.length), seed, false)
        await agree('scatterAdd', [updates, value('i32', [indices.length], indices)], { axis: along, shape })
      }),
      { numRuns: runs(30) },
    )
  })

  it('scatterAdd of many rows, shared among parts', async () => {
    const indices = Array.from({ length: 900 }, (_, i) => (i * 37) % 1500)
    for (const dtype of floats)
      await agree('scatterAdd', [values(dtype, [900, 40], 3, false), value('i32', [900], indices)], {
        axis: 0,
        shape: [1500, 40],
      })
  })

  it('argMax', async () => {
    await fc.assert(
      fc.asyncProperty(indexed, fc.constantFrom(...dtypes), async ({ shape, axis, seed }, dtype) => {
        await agree('argMax', [values(dtype, shape, seed, true)], { axis: axis % shape.length })
      }),
      { numRuns: runs(30) },
    )
  })

  it('allReduce of one process', async () => {
    await agree('allReduce', [values('f32', [7, 9], 1, false)], { op: 'mean', group: 1 })
  })
})

function values(dtype: DType, shape: readonly number[], seed: number, special: boolean): ReferenceValue {
  return value(
    dtype,
    shape,
    Float64Array.from({ length: sizeOf(shape) }, (_, i) => {
      const word = Math.imul(i + 1, 2654435761) ^ Math.imul(seed + 7, 40503 * 65537)
      const small = ((word >>> 9) % 33) / 8 - 2
      return roundTo(dtype, special && (word >>> 20) % 11 === 0 ? at(specials, (word >>> 5) % 5) : small)
    }),
  )
}

async function agree<P extends PrimitiveName>(
  primitive: P,
  inputs: readonly ReferenceValue[],
  params: PrimitiveParams[P],
): Promise<void> {
  const expected = run(primitive, inputs, params)
  const executable = device.compile(programOf(primitive, inputs, params), {
    optimize: 'fuse',
    donate: [],
    label: primitive,
  })
  const storages = inputs.map(({ type, data }) => device.upload(encode(type.dtype, data), type))
  const results = executable.run(storages)
  for (const [result, want] of zip(results, expected)) {
    const { dtype } = want.type
    const got = decode(dtype, await device.read(result))
    // a mean of 16-bit values is divided in f32 and rounded again
    const slack = isHalf(dtype) && primitive.startsWith('avg') ? (dtype === 'f16' ? 2 ** -10 : 2 ** -7) : 0
    want.data.forEach((b, i) => {
      const a = got[i]!
      if (!Object.is(a, b) && !(Math.abs(a - b) <= slack * Math.abs(b)) && !(a === 0 && b === 0))
        expect.fail(`${primitive} of ${dtype}: element ${i}: expected ${b}, got ${a}`)
    })
  }
  for (const storage of [...storages, ...results]) device.release(storage)
  executable.release()
}
