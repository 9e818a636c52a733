// What cuDNN is asked for, over a fake: problems read off equations, graphs and their descriptors, and which engines are
// refused for what they say of themselves.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { refusal } from '../../src/cuda/conv/engines.ts'
import type { Fusion } from '../../src/cuda/conv/graph.ts'
import {
  type ConvEquation,
  type ConvProblem,
  convKey,
  convProblem,
  deviceSession,
  propertiesSession,
  showProblem,
  supportedByCudnn,
} from '../../src/cuda/conv/index.ts'
import { behaviorNotes, numericalNotes } from '../../src/cuda/ffi/cudnn-constants.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import type { DType } from '../../src/tensor/dtype.ts'
import { variable } from '../../src/tensor/program.ts'
import { sizeOf, stridesOf } from '../../src/tensor/shape.ts'
import { fakeCudnn, fakeHandle } from './conv-fake.ts'
import { all, problem, run } from './conv-samples.ts'

/** The equation of a direction; the output shape is taken as it comes. */
function equation({ direction, input, filter, output, ...walk }: ConvProblem, dtype: DType): ConvEquation {
  const shapes = {
    conv2d: [input, filter, output],
    conv2dInputGrad: [output, filter, input],
    conv2dFilterGrad: [input, output, filter],
  } as const
  const [first, second, result] = shapes[direction].map((shape) => variable({ shape, dtype }))
  const { stride, padding, dilation, groups } = walk
  return {
    primitive: direction,
    inputs: [first, second],
    outputs: [result],
    params: { stride, padding, dilation, groups, inputShape: input, filterShape: filter },
  } as unknown as ConvEquation
}

const extent = fc.integer({ min: 1, max: 5 })
const pair = fc.tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 2 }))
const arbitraryProblem: fc.Arbitrary<ConvProblem> = fc.record({
  direction: fc.constantFrom('conv2d', 'conv2dInputGrad', 'conv2dFilterGrad'),
  dtype: fc.constantFrom('f16', 'bf16', 'f32'),
  precision: fc.constantFrom('tf32', 'ieee'),
  input: fc.tuple(extent, extent, extent, extent),
  filter: fc.tuple(extent, extent, extent, extent),
  output: fc.tuple(extent, extent, extent, extent),
  stride: pair,
  padding: fc.tuple(pair, pair),
  dilation: pair,
  groups: extent,
})

describe('a problem', () => {
  test('is read off the equation of every direction', () => {
    fc.assert(
      fc.property(arbitraryProblem, (wanted) => {
        const precision = wanted.dtype === 'f32' ? wanted.precision : 'tf32'
        expect(convProblem(equation(wanted, wanted.dtype), wanted.precision)).toEqual({ ...wanted, precision })
      }),
    )
  })

  test('has one text, and no other problem has it', () => {
    const normal = arbitraryProblem.map((one) => (one.dtype === 'f32' ? one : { ...one, precision: 'tf32' as const }))
    const change = fc.constantFrom<keyof ConvProblem>('direction', 'dtype', 'stride', 'padding', 'dilation', 'groups')
    fc.assert(
      fc.property(normal, normal, change, (a, other, key) => {
        const b = { ...a, [key]: other[key], precision: (key === 'dtype' ? other : a).precision }
        expect(showProblem(a) === showProblem(b)).toBe(JSON.stringify(a) === JSON.stringify(b))
      }),
    )
  })

  test('has a text of its own for each padding', () => {
    const bits = [0, 1].flatMap((a) => [0, 1].map((b) => [a, b] as const))
    const paddings = bits.flatMap((rows) => bits.map((columns) => [rows, columns] as const))
    const texts = paddings.map((padding) => showProblem({ ...problem, padding }))
    expect(new Set(texts).size).toBe(16)
  })

  test('is cuDNN’s for f16, bf16 and f32 that hold something', () => {
    expect((['f16', 'bf16', 'f32'] as const).map((dtype) => supportedByCudnn(equation(problem, dtype)))).toEqual([
      true,
      true,
      true,
    ])
    expect((['f64', 'i32', 'u8'] as const).map((dtype) => supportedByCudnn(equation(problem, dtype)))).toEqual([
      false,
      false,
      false,
    ])
    expect(supportedByCudnn(equation({ ...problem, input: [0, 14, 14, 16] }, 'f16'))).toBe(false)
    expect(() => convProblem(equation(problem, 'f64'), 'ieee')).toThrow(/internal: cuDNN was asked for a conv2d of f64/)
  })
})

describe('the graph', () => {
  test('names the axes NCHW and strides them as NHWC memory', () => {
    fc.assert(
      fc.property(arbitraryProblem, (one) => {
        const fake = fakeCudnn({ A: [{ engine: 1 }] })
        all(propertiesSession(fake.cudnn, '{}'), one)
        const tensors = fake.made.filter(({ type }) => type === 'TENSOR').map(({ attributes }) => attributes)
        const shapes = [one.input, one.filter, one.output].map((shape) => shape.join('x')).sort()
        const seen = tensors.map((attributes) => {
          const [n, c, h, w] = attributes.get('TENSOR_DIMENSIONS')?.map(Number) as [number, number, number, number]
          const [sn, sc, sh, sw] = attributes.get('TENSOR_STRIDES') ?? []
          expect([sn, sh, sw, sc].map(Number)).toEqual(stridesOf([n, h, w, c]))
          return [n, h, w, c].join('x')
        })
        expect(seen.sort()).toEqual(shapes)
        expect(tensors.map((attributes) => attributes.get('TENSOR_UNIQUE_ID'))).toEqual([[1n], [2n], [3n]])
      }),
    )
  })

  test.each<[Fusion, ConvProblem['direction'], readonly number[], readonly number[][]]>([
    ['none', 'conv2d', [1, 2, 3], []],
    ['bias', 'conv2d', [1, 2, 3, 4], [[32]]],
    ['bias-relu', 'conv2d', [1, 2, 3, 4], [[32]]],
    ['add', 'conv2dInputGrad', [1, 2, 3, 4], []],
    ['statistics', 'conv2d', [1, 2, 3, 4, 5], [[32], [32]]],
  ])('of %s on %s has its operands in order and its vectors in f32', (fusion, direction, uids, vectors) => {
    const fake = fakeCudnn({ A: [{ engine: 1 }] })
    const session = deviceSession(fake.cudnn, fakeHandle)
    const [candidate] = all(session, { ...problem, direction }, { fusion })
    const pointers = uids.map((uid) => (BigInt(uid) * 256n) as DevicePointer)
    run(candidate, pointers, undefined)
    expect(fake.executions[0]?.uids).toEqual(uids.map(BigInt))
    const real = fake.made.filter(({ type, attributes }) => type === 'TENSOR' && !attributes.has('TENSOR_IS_VIRTUAL'))
    expect(real.length).toBe(uids.length)
    const small = real.filter(({ attributes }) => attributes.get('TENSOR_DIMENSIONS')?.[0] === 1n)
    expect(small.map(({ attributes }) => [sizeOf(attributes.get('TENSOR_DIMENSIONS')?.map(Number) ?? [])])).toEqual(
      vectors,
    )
    for (const { attributes } of small) expect(attributes.get('TENSOR_DATA_TYPE')).toEqual([0])
  })

  test('refuses a fusion that cannot follow the direction', () => {
    const { cudnn } = fakeCudnn({})
    const filterGrad = { ...problem, direction: 'conv2dFilterGrad' } as const
    expect(() => all(propertiesSession(cudnn, '{}'), filterGrad, { fusion: 'bias' })).toThrow(
      /internal: a conv2dFilterGrad was to be fused with bias/,
    )
  })
})

describe('the filter', () => {
  const notes = fc.subarray(Object.keys(numericalNotes))
  test('refuses what rounds more than asked, what varies, and nothing else', () => {
    fc.assert(
      fc.property(
        notes,
        fc.subarray(Object.keys(behaviorNotes)),
        fc.boolean(),
        fc.boolean(),
        arbitraryProblem,
        (a, b, fixed, sums, one) => {
          const why = refusal({ engine: 1, knobs: [], numericalNotes: a, behaviorNotes: b }, one, {
            ...{ deterministic: fixed, sums },
          })
          const bad =
            a.includes('REDUCED_PRECISION_REDUCTION') ||
            a.includes('DOWN_CONVERT_INPUTS') ||
            (fixed && a.includes('NONDETERMINISTIC')) ||
            (one.dtype === 'f32' && one.precision === 'ieee' && a.includes('TENSOR_CORE')) ||
            (fixed && sums && b.includes('RUNTIME_COMPILATION')) ||
            b.some((note) => note.startsWith('REQUIRES'))
          expect(why !== undefined).toBe(bad)
          if (why !== undefined) expect([...a, ...b]).toContain(why)
        },
      ),
    )
  })
})

test('the key of a fusion is not that of the plain convolution', () => {
  expect(convKey(problem)).toBe(showProblem(problem))
  expect(convKey(problem, 'statistics')).toBe(`${showProblem(problem)} + statistics`)
})
