// Printed kernels, compiled and run, against the same kernels run by plain loops. Random ones cover axes in any order and
// of any extent, strides, broadcasts, every dtype and every operation; large ones the tiles, splits and tails.
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import type { Access, Kernel, KernelNode, KernelReduction } from '../../src/compile/index.ts'
import { cDialect, printKernel } from '../../src/compile/print/index.ts'
import { type DType, dtypes, isFloat } from '../../src/tensor/dtype.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import { at, range, zip } from '../../src/tensor/shape.ts'
import { withoutEpilogue } from '../../src/compile/kernel.ts'
import { type RunKernel, arbitraryEpilogue, expectEpilogue } from '../cuda/epilogues.ts'
import { runs } from '../runs.ts'
import { runKernel } from '../support/plan-evaluator.ts'
import { NativeKernels } from './cpu-native.ts'

const native = new NativeKernels()
afterAll(() => native.close())

describe('a printed kernel computes what the kernel means', () => {
  it('for random maps of every dtype, to the bit', () => {
    fc.assert(
      fc.property(arbitraryKernel({ reduce: false }), ({ kernel, arrays }) => agree(kernel, arrays)),
      { numRuns: runs(60) },
    )
  })

  it('for epilogues of random reductions', { timeout: 60_000 }, () => {
    const run: RunKernel = (kernel, inputs, outputs) => native.run(kernel, inputs, outputs)
    fc.assert(
      fc.property(arbitraryEpilogue(), (sample) => expectEpilogue(run, sample, withoutEpilogue(sample.kernel))),
      { numRuns: runs(20) },
    )
  })

  it('for random reductions', () => {
    fc.assert(
      fc.property(arbitraryKernel({ reduce: true }), ({ kernel, arrays }) => agree(kernel, arrays)),
      { numRuns: runs(60) },
    )
  })
})

describe('large kernels', () => {
  const f32 = (count: number): Float32Array =>
    Float32Array.from({ length: count }, (_, i) => ((i * 7919) % 257) / 64 - 2)

  it.each([
    ['one column block', 1000, 24],
    ['several column blocks with a tail', 300, 1050],
    ['many rows of few columns', 40000, 3],
    ['one column', 70000, 1],
  ])('sums over rows: %s', (_name, rows, columns) => {
    const kernel = reduceKernel([rows, columns], ['reduce', 'map'], [columns, 1], [0, 1])
    sumsAgree(kernel, f32(rows * columns), columns, (i) => i % columns)
  })

  it.each([
    ['few long rows', 3, 70001],
    ['many short rows', 5000, 7],
    ['one row', 1, 200000],
  ])('sums along rows: %s', (_name, rows, columns) => {
    const kernel = reduceKernel([rows, columns], ['map', 'reduce'], [columns, 1], [1, 0])
    sumsAgree(kernel, f32(rows * columns), rows, (i) => Math.floor(i / columns))
  })

  it('sums over outer and inner axes around one that stays', () => {
    const kernel = reduceKernel(
      [6, 40, 50, 70],
      ['reduce', 'map', 'reduce', 'map'],
      [140000, 3500, 70, 1],
      [0, 70, 0, 1],
    )
    sumsAgree(kernel, f32(6 * 140000), 2800, (i) => (Math.floor(i / 3500) % 40) * 70 + (i % 70))
  })

  it.each([
    ['pixels of three channels', 4096, 3],
    ['more tiles than one', 40960, 5],
    ['one tile of rows', 8, 7],
    ['rows that do not divide', 4095, 3],
  ])('joins short rows whose factors repeat: %s', (_name, rows, columns) => {
    const kernel: Kernel = {
      axes: [
        { extent: rows, role: 'map' },
        { extent: columns, role: 'map' },
      ],
      inputs: [
        { dtype: 'u8', strides: [columns, 1], offset: 0 },
        { dtype: 'f32', strides: [0, 2], offset: 1 },
      ],
      nodes: [
        { op: 'load', dtype: 'u8', input: 0 },
        { op: 'cast', dtype: 'f32', args: [0] },
        { op: 'load', dtype: 'f32', input: 1 },
        { op: 'mul', dtype: 'f32', args: [1, 2] },
      ],
      stores: [{ node: 3, dtype: 'f32', output: 0, strides: [columns, 1], offset: 0 }],
      reductions: [],
    }
    const pixels = Uint8Array.from({ length: rows * columns }, (_, i) => (i * 31) % 251)
    const factors = f32(2 * columns)
    const [result] = native.run(kernel, [pixels, factors], [{ dtype: 'f32', count: pixels.length }])
    pixels.forEach((pixel, i) => expect(result![i]).toBe(Math.fround(pixel * factors[1 + 2 * (i % columns)]!)))
  })

  it('transposes', () => {
    const [rows, columns] = [130, 77]
    const kernel: Kernel = {
      axes: [
        { extent: rows, role: 'map' },
        { extent: columns, role: 'map' },
      ],
      inputs: [{ dtype: 'f32', strides: [1, rows], offset: 0 }],
      nodes: [{ op: 'load', dtype: 'f32', input: 0 }],
      stores: [{ node: 0, dtype: 'f32', output: 0, strides: [columns, 1], offset: 0 }],
      reductions: [],
    }
    const values = Float32Array.from({ length: rows * columns }, (_, i) => i)
    const [result] = native.run(kernel, [values], [{ dtype: 'f32', count: values.length }])
    result!.forEach((value, i) => expect(value).toBe((i % columns) * rows + Math.floor(i / columns)))
  })

  it('gives the same bits with 1, 2 and 3 threads', () => {
    const kernel = reduceKernel([50000, 40], ['reduce', 'map'], [40, 1], [0, 1])
    const values = f32(50000 * 40).map((v) => Math.fround(v * 1.1))
    const results = [1, 2, 3].map((threads) => {
      const kernels = new NativeKernels({ threads })
      const [sums] = kernels.run(kernel, [values], [{ dtype: 'f32', count: 40 }])
      kernels.close()
      return [...(sums ?? [])]
    })
    expect(results[1]).toEqual(results[0])
    expect(results[2]).toEqual(results[0])
  })

  it('prints one text for all extents, strides and constants', () => {
    const textOf = (rows: number, columns: number, factor: number): string => {
      const scaled: Kernel = {
        axes: [
          { extent: rows, role: 'map' },
          { extent: columns, role: 'map' },
        ],
        inputs: [
          { dtype: 'f32', strides: [columns, 1], offset: 0 },
          { dtype: 'f32', strides: [0, 1], offset: 3 },
        ],
        nodes: [
          { op: 'load', dtype: 'f32', input: 0 },
          { op: 'load', dtype: 'f32', input: 1 },
          { op: 'constant', dtype: 'f32', value: factor },
          { op: 'mul', dtype: 'f32', args: [1, 2] },
          { op: 'add', dtype: 'f32', args: [0, 3] },
        ],
        stores: [{ node: 4, dtype: 'f32', output: 0, strides: [columns, 1], offset: 0 }],
        reductions: [],
      }
      return printKernel(scaled, cDialect)
        .launches.map(({ source }) => source.text)
        .join('')
    }
    expect(textOf(10, 40, 3)).toBe(textOf(5000, 777, -0.1))
  })

  function sumsAgree(kernel: Kernel, values: Float32Array, count: number, placeOf: (i: number) => number): void {
    const expected = new Float64Array(count)
    const magnitudes = new Float64Array(count)
    values.forEach((value, i) => {
      expected[placeOf(i)]! += value
      magnitudes[placeOf(i)]! += Math.abs(value)
    })
    const [sums] = native.run(kernel, [values], [{ dtype: 'f32', count }])
    // Chains of at most 128 additions in each of a few levels: 512 roundings of 2^-24 are more than there are.
    sums!.forEach((sum, i) => expect(Math.abs(sum - expected[i]!)).toBeLessThanOrEqual(magnitudes[i]! * 2 ** -24 * 512))
  }
})

function reduceKernel(
  extents: readonly number[],
  roles: readonly ('map' | 'reduce')[],
  input: readonly number[],
  output: readonly number[],
): Kernel {
  return {
    axes: zip(extents, roles).map(([extent, role]) => ({ extent, role })),
    inputs: [{ dtype: 'f32', strides: input, offset: 0 }],
    nodes: [{ op: 'load', dtype: 'f32', input: 0 }],
    stores: [],
    reductions: [{ op: 'sum', node: 0, dtype: 'f32', output: 0, strides: output, offset: 0 }],
  }
}

interface Sample {
  readonly kernel: Kernel
  /** The elements of each input, exact in its dtype. */
  readonly arrays: readonly (readonly number[])[]
}

const unary = ['neg', 'abs', 'sign', 'floor', 'sqrt'] as const
const binary = ['add', 'sub', 'mul', 'div', 'max', 'min'] as const
const integerUnary = ['neg', 'abs', 'sign'] as const
const comparisons = ['eq', 'ne', 'lt', 'le', 'gt', 'ge'] as const

/** Random kernels, decoded from plain numbers so that they shrink. */
function arbitraryKernel({ reduce }: { readonly reduce: boolean }): fc.Arbitrary<Sample> {
  return fc
    .record({
      extents: fc.array(fc.oneof(fc.integer({ min: 1, max: 5 }), fc.constantFrom(0, 8, 9, 17)), { maxLength: 4 }),
      roles: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      inputs: fc.array(fc.record({ dtype: fc.constantFrom(...dtypes), layout: fc.nat(1 << 16) }), {
        minLength: 1,
        maxLength: 3,
      }),
      codes: fc.array(fc.array(fc.nat(1 << 12), { minLength: 4, maxLength: 4 }), { maxLength: 6 }),
      layout: fc.nat(1 << 16),
      op: fc.constantFrom('sum' as const, 'max' as const, 'min' as const),
    })
    .map(({ extents, roles, inputs, codes, layout, op }) => {
      const axes = extents.map((extent, axis) => ({
        extent,
        role: reduce && roles[axis] ? ('reduce' as const) : ('map' as const),
      }))
      const empty = axes.some(({ extent, role }) => role === 'reduce' && extent === 0)
      const places = inputs.map((input) => ({ dtype: input.dtype, ...arbitraryAccess(extents, input.layout, true) }))
      const nodes = nodesOf(
        places.map(({ dtype }) => dtype),
        codes,
      )
      const last = nodes.length - 1
      const dtype = at(nodes, last).dtype
      const kept = extents.map((extent, axis) => (axes[axis]?.role === 'reduce' ? 1 : extent))
      const usable = dtype !== 'bool' && dtype !== 'u8' && !(empty && op !== 'sum')
      const result = dense(
        kept,
        axes.map(({ role }) => role === 'map'),
        layout,
      )
      const reductions: KernelReduction[] = reduce && usable ? [{ op, node: last, dtype, output: 0, ...result }] : []
      const stores =
        reductions.length > 0
          ? []
          : [
              {
                node: last,
                dtype,
                output: 0,
                ...dense(
                  extents,
                  extents.map(() => true),
                  layout,
                ),
              },
            ]
      return {
        kernel: { axes, inputs: places, nodes, stores, reductions },
        arrays: places.map((place, i) => valuesFor(place, extents, i)),
      }
    })
}

/** Strides of a dense array whose axes lie in some order. */
function dense(extents: readonly number[], present: readonly boolean[], layout: number): Access {
  const order = range(extents.length).sort((a, b) => ((layout >> (a * 3)) & 7) - ((layout >> (b * 3)) & 7) || a - b)
  const strides = extents.map(() => 0)
  let next = 1
  for (const axis of order.reverse()) {
    if (present[axis] !== true) continue
    strides[axis] = next
    next *= at(extents, axis)
  }
  return { strides, offset: 0 }
}

/** Dense, in any order of axes, with some axes broadcast and an offset. */
function arbitraryAccess(extents: readonly number[], layout: number, broadcast: boolean): Access {
  const present = extents.map((_, axis) => !broadcast || ((layout >> (axis + 5)) & 3) !== 0)
  return { ...dense(extents, present, layout), offset: layout % 3 }
}

function nodesOf(inputs: readonly DType[], codes: readonly (readonly number[])[]): KernelNode[] {
  const nodes: KernelNode[] = inputs.map((dtype, input) => ({ op: 'load', dtype, input }))
  for (const [kind = 0, a = 0, b = 0, c = 0] of codes) nodes.push(nodeOf(nodes, kind, [a, b, c]))
  return nodes
}

/** One more node; operands of other dtypes become casts. */
function nodeOf(nodes: KernelNode[], kind: number, [a, b, c]: readonly [number, number, number]): KernelNode {
  const first = a % nodes.length
  const { dtype } = at(nodes, first)
  const fitting = (choice: number, wanted: DType): number => {
    const found = choice % nodes.length
    if (at(nodes, found).dtype === wanted) return found
    return nodes.push({ op: 'cast', dtype: wanted, args: [found] }) - 1
  }
  switch (kind % 6) {
    case 0:
      return { op: 'cast', dtype: at(dtypes, b % dtypes.length), args: [first] }
    case 1:
      return {
        op: 'compare',
        dtype: 'bool',
        comparison: at(comparisons, c % comparisons.length),
        args: [first, fitting(b, dtype)],
      }
    case 2: {
      const second = fitting(b, dtype)
      return { op: 'select', dtype, args: [fitting(c, 'bool'), first, second] }
    }
    case 3:
      if (dtype === 'bool') return { op: 'not', dtype, args: [first] }
      return {
        op: isFloat(dtype) ? at(unary, b % unary.length) : at(integerUnary, b % integerUnary.length),
        dtype,
        args: [first],
      }
    case 4:
      return { op: 'constant', dtype: at(dtypes, b % dtypes.length), value: at([0, 1, -1, 0.5, -0.1, 1e6, 3], c % 7) }
    default:
      if (dtype === 'bool') return { op: c % 2 === 0 ? 'and' : 'or', dtype, args: [first, fitting(b, dtype)] }
      return { op: at(binary, c % binary.length), dtype, args: [first, fitting(b, dtype)] }
  }
}

const specials = [0, -0, 1, -1, 0.5, -2.75, 3, Number.NaN, Infinity, -Infinity, 70000, 1e-7, -1e10, 255, 256, -129]

function valuesFor(
  { dtype, strides, offset }: Access & { readonly dtype: DType },
  extents: readonly number[],
  salt: number,
): number[] {
  const count =
    zip(strides, extents).reduce((sum, [stride, extent]) => sum + stride * Math.max(0, extent - 1), offset) + 1
  return range(count).map((i) => roundTo(dtype, at(specials, (i * 5 + salt * 3 + Math.floor(i / 7)) % specials.length)))
}

function agree(kernel: Kernel, arrays: readonly (readonly number[])[]): void {
  const result = at([...kernel.stores, ...kernel.reductions], 0)
  const kept = kernel.axes.map(({ extent, role }) => (kernel.stores.length === 0 && role === 'reduce' ? 1 : extent))
  const count = kept.reduce((product, extent) => product * extent, 1)
  const evaluate = (meant: Kernel): number[] => {
    const out = new Array<number>(count).fill(Number.NaN)
    if (count > 0)
      runKernel(
        meant,
        arrays.map((values) => [...values]),
        [out],
      )
    return out
  }
  const expected = evaluate(kernel)
  const [sum] = kernel.reductions
  const slack = sum?.op === 'sum' && isFloat(sum.dtype) ? evaluate(magnitudes(kernel, sum)) : undefined
  const encoded = zip(kernel.inputs, arrays).map(([{ dtype }, values]) => encode(dtype, values))
  const [actual] = native.run(kernel, encoded, [{ dtype: result.dtype, count }])
  const got = decode(result.dtype, actual!)
  for (let i = 0; i < count; i++) {
    const [a, b] = [got[i]!, expected[i]!]
    const same = slack === undefined ? Object.is(a, b) : sumsMatch(a, b, result.dtype, at(slack, i))
    if (!same) expect.fail(`element ${i}: expected ${b}, got ${a}\n${JSON.stringify(kernel)}`)
  }
}

/** The kernel that sums the absolute values, in f64. */
function magnitudes(kernel: Kernel, { node, dtype, ...rest }: KernelReduction): Kernel {
  const last = kernel.nodes.length
  const nodes: KernelNode[] = [
    ...kernel.nodes,
    { op: 'abs', dtype, args: [node] },
    { op: 'cast', dtype: 'f64', args: [last] },
  ]
  return { ...kernel, nodes, reductions: [{ ...rest, node: last + 1, dtype: 'f64' }] }
}

/** Sums are kept in f32 (f64 for f64) and rounded once more; here they have at most 2,600 terms. */
function sumsMatch(a: number, b: number, dtype: DType, magnitude: number): boolean {
  const largest = dtype === 'f64' ? Infinity : dtype === 'f16' ? 65000 : 3e38
  if (Object.is(a, b) || a === b || magnitude >= largest || Number.isNaN(magnitude)) return true
  const unit = dtype === 'f64' ? 2 ** -53 : 2 ** -24
  const last =
    dtype === 'f16' ? Math.max(2 ** -24, Math.abs(b) * 2 ** -10) : dtype === 'bf16' ? Math.abs(b) * 2 ** -7 : 0
  return Math.abs(a - b) <= magnitude * unit * 128 + last + 1e-44
}
