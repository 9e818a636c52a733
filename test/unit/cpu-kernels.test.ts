// Every lowered contraction against plain loops, over random shapes and types. The values are small integers, so all sums
// are exact in every accumulator: results must agree to the bit, whatever the order of the sums.
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { lowerConv2d, lowerConv2dFilterGrad, lowerConv2dInputGrad } from '../../src/cpu/kernels/conv.ts'
import { lowerDenseFilterGrad, lowerDenseForward, lowerDenseInputGrad } from '../../src/cpu/kernels/dense.ts'
import { lowerDirect } from '../../src/cpu/kernels/direct.ts'
import { type DotExtents, lowerDot } from '../../src/cpu/kernels/dot.ts'
import type { ConvExtents } from '../../src/cpu/kernels/geometry.ts'
import type { KernelSource, Lowered } from '../../src/cpu/kernels/launch.ts'
import type { FloatDType } from '../../src/tensor/dtype.ts'
import { decode, encode } from '../../src/tensor/half.ts'
import { runs } from '../runs.ts'
import { type Kernels, type Storage, compileKernels } from './cpu-kernels-harness.ts'
import { type ConvValues, filterGrad, forward, inputGrad, matmul, sizes } from './cpu-kernels-naive.ts'

const dtypes: readonly FloatDType[] = ['f32', 'f16', 'bf16', 'f64']

/** Integers from -3 to 3, a fixed sequence for a seed. */
function integers(count: number, seed: number): Float64Array {
  let state = (seed * 2654435761 + 12345) >>> 0
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return ((state >>> 24) % 7) - 3
  })
}

function stored(dtype: FloatDType, values: Float64Array): Storage {
  const result = encode(dtype, values)
  if (result instanceof Float32Array || result instanceof Float64Array || result instanceof Uint16Array) return result
  throw new TypeError(`${dtype} is stored otherwise`)
}

interface Pass {
  readonly lower: (conv: ConvExtents) => Lowered
  readonly reference: (conv: ConvExtents, values: ConvValues) => Float64Array
  readonly order: readonly [keyof ConvValues, keyof ConvValues]
}

const passes = {
  forward: { lower: lowerConv2d, reference: forward, order: ['x', 'w'] },
  'input gradient': { lower: lowerConv2dInputGrad, reference: inputGrad, order: ['y', 'w'] },
  'filter gradient': { lower: lowerConv2dFilterGrad, reference: filterGrad, order: ['x', 'y'] },
  'gathered forward': { lower: lowerDenseForward, reference: forward, order: ['x', 'w'] },
  'gathered input gradient': { lower: lowerDenseInputGrad, reference: inputGrad, order: ['y', 'w'] },
  'gathered filter gradient': { lower: lowerDenseFilterGrad, reference: filterGrad, order: ['x', 'y'] },
  'direct forward': { lower: (conv) => lowerDirect('forward', conv), reference: forward, order: ['x', 'w'] },
  'direct input gradient': { lower: (conv) => lowerDirect('inputGrad', conv), reference: inputGrad, order: ['y', 'w'] },
  'direct filter gradient': {
    lower: (conv) => lowerDirect('filterGrad', conv),
    reference: filterGrad,
    order: ['x', 'y'],
  },
} satisfies Record<string, Pass>

function bytes(array: ArrayBufferView): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength)
}

/** Runs a step and expects the bits of the exact sums rounded once, whether its parts run forwards or backwards. */
function expectExact(
  kernels: Kernels,
  lowered: Lowered,
  dtype: FloatDType,
  inputs: readonly Float64Array[],
  exact: Float64Array,
) {
  const expected = stored(dtype, exact)
  for (const backwards of [false, true]) {
    const result = stored(dtype, new Float64Array(exact.length))
    kernels.run(lowered, [...inputs.map((values) => stored(dtype, values)), result], backwards)
    // Comparing bytes first: deep equality of large arrays takes longer than the kernels.
    if (!bytes(result).equals(bytes(expected))) expect(decode(dtype, result)).toEqual(decode(dtype, expected))
    expect(bytes(result).equals(bytes(expected))).toBe(true)
  }
}

/** Runs one pass of a convolution in each of the types and expects the reference's bits. */
function check(
  kernels: Kernels,
  pass: Pass,
  conv: ConvExtents,
  seed: number,
  types: readonly FloatDType[] = [conv.dtype],
): void {
  const count = sizes(conv)
  const values = { x: integers(count.x, seed), w: integers(count.w, seed + 1), y: integers(count.y, seed + 2) }
  const exact = pass.reference(conv, values)
  const inputs = pass.order.map((name) => values[name])
  for (const dtype of types) expectExact(kernels, pass.lower({ ...conv, dtype }), dtype, inputs, exact)
}

/** A convolution whose output extents follow from the others. */
function conv(extents: Omit<ConvExtents, 'outHeight' | 'outWidth'>): ConvExtents {
  const { height, width, kernelHeight, kernelWidth, stride, padding, dilation } = extents
  const out = (size: number, kernel: number, axis: 0 | 1) =>
    Math.floor((size + padding[axis][0] + padding[axis][1] - dilation[axis] * (kernel - 1) - 1) / stride[axis]) + 1
  return { ...extents, outHeight: out(height, kernelHeight, 0), outWidth: out(width, kernelWidth, 1) }
}

const small = (low: number, high: number) => fc.integer({ min: low, max: high })
const pair = (low: number, high: number) => fc.tuple(small(low, high), small(low, high))

/** Any convolution with an output: filters larger than the image, one-pixel images, uneven padding. */
const anyConv = fc
  .record({
    dtype: fc.constantFrom(...dtypes),
    batch: small(1, 3),
    height: small(1, 11),
    width: small(1, 11),
    inGroup: fc.constantFrom(1, 2, 3, 4, 5, 8, 16, 24),
    outGroup: fc.constantFrom(1, 2, 3, 4, 7, 8, 16, 33),
    square: fc.boolean(),
    groups: fc.constantFrom(1, 1, 2, 3, 4, 8),
    kernelHeight: small(1, 4),
    kernelWidth: small(1, 4),
    stride: pair(1, 3),
    padding: fc.tuple(pair(0, 3), pair(0, 3)),
    dilation: pair(1, 3),
  })
  .map(({ inGroup, outGroup, square, ...rest }) => {
    const per = square ? inGroup : outGroup
    return conv({ ...rest, channels: inGroup * rest.groups, outChannels: per * rest.groups })
  })
  .filter(({ outHeight, outWidth }) => outHeight > 0 && outWidth > 0)

/** Shapes of the model's kinds, scaled down: stem, dense 1x1, strided shortcut, grouped 3x3 of 4 to 32 channels. */
function modelConvs(dtype: FloatDType): ConvExtents[] {
  const layer = (
    channels: number,
    outChannels: number,
    kernel: number,
    stride: number,
    groups: number,
    size: number,
    batch = 2,
  ) =>
    conv({
      ...{ dtype, batch, height: size, width: size, channels, outChannels, groups, dilation: [1, 1] },
      ...{ kernelHeight: kernel, kernelWidth: kernel, stride: [stride, stride] },
      padding: [
        [(kernel - 1) / 2, (kernel - 1) / 2],
        [(kernel - 1) / 2, (kernel - 1) / 2],
      ],
    })
  return [
    layer(3, 24, 7, 2, 1, 23),
    layer(64, 128, 1, 1, 1, 8),
    layer(300, 272, 1, 1, 1, 5, 1),
    layer(96, 40, 1, 2, 1, 9),
    layer(32, 32, 3, 1, 8, 28, 1),
    layer(32, 32, 3, 2, 8, 28, 1),
    layer(32, 32, 3, 1, 4, 17),
    layer(64, 64, 3, 2, 4, 14),
    layer(64, 64, 3, 1, 2, 7),
    layer(64, 64, 3, 2, 2, 14, 1),
    layer(40, 24, 3, 1, 1, 9),
  ]
}

const anyDot: fc.Arbitrary<DotExtents> = fc.record({
  dtype: fc.constantFrom(...dtypes),
  batch: small(1, 3),
  m: fc.oneof(small(1, 8), small(1, 130)),
  n: fc.oneof(small(1, 8), small(1, 130)),
  k: fc.oneof(small(0, 8), small(1, 600)),
  transposeA: fc.boolean(),
  transposeB: fc.boolean(),
})

function everySource(): KernelSource[] {
  const sources: KernelSource[] = []
  const take = ({ launches }: Lowered) => sources.push(...launches.map(({ source }) => source))
  for (const dtype of dtypes) {
    for (const pass of Object.values(passes)) {
      for (const model of modelConvs(dtype)) take(pass.lower(model))
    }
    for (const transposeA of [false, true]) {
      for (const transposeB of [false, true]) {
        take(lowerDot({ dtype, batch: 1, m: 2, n: 2, k: 2, transposeA, transposeB }))
        take(lowerDot({ dtype, batch: 1, m: 64, n: 64, k: 2000, transposeA, transposeB }))
      }
    }
  }
  return sources
}

describe('lowered contractions', () => {
  let kernels: Kernels
  beforeAll(() => {
    kernels = compileKernels(everySource())
  }, 60_000)

  for (const [name, pass] of Object.entries(passes)) {
    it(`${name}: any convolution`, () => {
      fc.assert(
        fc.property(anyConv, small(0, 1000), (extents, seed) => {
          check(kernels, pass, extents, seed)
        }),
        { numRuns: runs(60) },
      )
    })
  }

  for (const name of ['forward', 'input gradient', 'filter gradient'] as const) {
    it(`${name}: the model's kinds of layers in every type`, () => {
      for (const extents of modelConvs('f32')) check(kernels, passes[name], extents, 7, dtypes)
    })
  }

  it('any matrix product', () => {
    fc.assert(
      fc.property(anyDot, small(0, 1000), (dot, seed) => {
        const a = integers(dot.batch * dot.m * dot.k, seed)
        const b = integers(dot.batch * dot.n * dot.k, seed + 1)
        const exact = matmul(dot, a, b)
        expectExact(kernels, lowerDot(dot), dot.dtype, [a, b], exact)
      }),
      { numRuns: runs(100) },
    )
  })
})
