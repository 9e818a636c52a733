// Kernels for the tests of printed CUDA: random ones of every dtype, shape and layout, hand-made ones, and what a correct
// result of each is.
import fc from 'fast-check'
import { expect } from 'vitest'
import type { Access, Kernel, KernelNode, KernelReduction, LoopAxis } from '../../src/compile/index.ts'
import { type DType, dtypes, isFloat } from '../../src/tensor/dtype.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import { at, range, sizeOf, zip } from '../../src/tensor/shape.ts'
import { runKernel } from '../support/plan-evaluator.ts'
import type { SimKernels } from '../sim/kernels.ts'

/** A kernel with the elements of its inputs, exact in their dtypes. */
export interface Sample {
  readonly kernel: Kernel
  readonly arrays: readonly (readonly number[])[]
}

const comparisons = ['eq', 'ne', 'lt', 'le', 'gt', 'ge'] as const
const arithmetic = ['add', 'sub', 'mul', 'div', 'max', 'min'] as const
const specials = [0, -0, 1, -1, 0.5, -2.75, 3, Number.NaN, Infinity, -Infinity, 70000, 1e-7, -1e10, 255, 256, -129]

/** Elements that meet every special value in every lane. */
export function specialValues(dtype: DType, count: number, salt: number): number[] {
  return range(count).map((i) => roundTo(dtype, at(specials, (i * 5 + salt * 3 + Math.floor(i / 7)) % specials.length)))
}

/** Random kernels, decoded from plain numbers; `wide` gives them extents that vectors of 16 bytes fit. */
export function arbitrarySample({ reduce }: { readonly reduce: boolean }): fc.Arbitrary<Sample> {
  const extent = fc.oneof(fc.integer({ min: 1, max: 5 }), fc.constantFrom(0, 8, 9, 16, 24, 33))
  return fc
    .record({
      extents: fc.array(extent, { maxLength: 4 }),
      roles: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      inputs: fc.array(fc.record({ dtype: fc.constantFrom(...dtypes), layout: fc.nat(1 << 16) }), {
        minLength: 1,
        maxLength: 3,
      }),
      codes: fc.array(fc.array(fc.nat(1 << 12), { minLength: 4, maxLength: 4 }), { maxLength: 6 }),
      layout: fc.nat(1 << 16),
      op: fc.constantFrom('sum' as const, 'max' as const, 'min' as const),
    })
    .filter(({ extents }) => sizeOf(extents) <= 20_000)
    .map(({ extents, roles, inputs, codes, layout, op }) => {
      const axes = extents.map((extent, axis): LoopAxis => ({ extent, role: reduce && roles[axis] ? 'reduce' : 'map' }))
      const places = inputs.map((input) => ({ dtype: input.dtype, ...broadcastAccess(extents, input.layout) }))
      const nodes: KernelNode[] = places.map(({ dtype }, input) => ({ op: 'load', dtype, input }))
      for (const code of codes)
        addNode(
          nodes,
          code,
          denseAccess(
            extents,
            axes.map(() => true),
            layout,
          ),
        )
      const node = nodes.length - 1
      const { dtype } = at(nodes, node)
      const empty = axes.some((axis) => axis.role === 'reduce' && axis.extent === 0)
      const reduces = reduce && dtype !== 'bool' && dtype !== 'u8' && !(empty && op !== 'sum')
      const kept = axes.map(({ role }) => !reduces || role === 'map')
      const result = { node, dtype, output: 0, ...denseAccess(extents, kept, layout) }
      const reductions: KernelReduction[] = reduces ? [{ op, ...result }] : []
      const stores = reduces ? [] : [result]
      return {
        kernel: { axes, inputs: places, nodes, stores, reductions },
        arrays: places.map((place, i) => specialValues(place.dtype, spanOf(place, extents), i)),
      }
    })
}

/** Strides of an array without gaps whose axes lie in an order that `layout` says; absent axes have stride 0. */
export function denseAccess(extents: readonly number[], present: readonly boolean[], layout: number): Access {
  const order = range(extents.length).sort((a, b) => ((layout >> (a * 3)) & 3) - ((layout >> (b * 3)) & 3) || a - b)
  const strides = extents.map(() => 0)
  order.reduceRight((next, axis) => {
    if (present[axis] !== true) return next
    strides[axis] = next
    return next * at(extents, axis)
  }, 1)
  return { strides, offset: 0 }
}

function broadcastAccess(extents: readonly number[], layout: number): Access {
  const present = extents.map((_, axis) => ((layout >> (axis * 3 + 2)) & 3) !== 0)
  return { ...denseAccess(extents, present, layout), offset: at([0, 0, 8, 3], layout % 4) }
}

function spanOf({ strides, offset }: Access, extents: readonly number[]): number {
  return zip(strides, extents).reduce((sum, [stride, extent]) => sum + stride * Math.max(0, extent - 1), offset) + 1
}

/** One more node; operands of other dtypes become casts. */
export function addNode(nodes: KernelNode[], [kind = 0, a = 0, b = 0, c = 0]: readonly number[], access: Access): void {
  const first = a % nodes.length
  const { dtype } = at(nodes, first)
  const fitting = (choice: number, wanted: DType): number => {
    const found = choice % nodes.length
    if (at(nodes, found).dtype === wanted) return found
    return nodes.push({ op: 'cast', dtype: wanted, args: [found] }) - 1
  }
  const other = at(dtypes, b % dtypes.length)
  switch (kind % 7) {
    case 0:
      nodes.push({ op: 'cast', dtype: other, args: [first] })
      return
    case 1: {
      const args = [first, fitting(b, dtype)] as const
      nodes.push({ op: 'compare', dtype: 'bool', comparison: at(comparisons, c % comparisons.length), args })
      return
    }
    case 2: {
      const second = fitting(b, dtype)
      nodes.push({ op: 'select', dtype, args: [fitting(c, 'bool'), first, second] })
      return
    }
    case 3: {
      const unary = isFloat(dtype)
        ? (['neg', 'abs', 'sign', 'floor', 'sqrt'] as const)
        : (['neg', 'abs', 'sign'] as const)
      nodes.push({ op: dtype === 'bool' ? 'not' : at(unary, b % unary.length), dtype, args: [first] })
      return
    }
    case 4:
      nodes.push({ op: 'constant', dtype: other, value: at([0, 1, -1, 0.5, -0.1, 1e6, 3], c % 7) })
      return
    case 5:
      nodes.push({ op: 'index', dtype: other === 'bool' ? 'i32' : other, access })
      return
    default: {
      const op = dtype === 'bool' ? (c % 2 === 0 ? 'and' : 'or') : at(arithmetic, c % arithmetic.length)
      nodes.push({ op, dtype, args: [first, fitting(b, dtype)] })
    }
  }
}

/** A reduction of one f32 or f16 input, and its results' count. */
export function reduceKernel(
  dtype: 'f32' | 'f16',
  extents: readonly number[],
  roles: readonly LoopAxis['role'][],
): Kernel {
  const kept = roles.map((role) => role === 'map')
  const sum = { op: 'sum', dtype: 'f32', ...denseAccess(extents, kept, 0) } as const
  return {
    axes: zip(extents, roles).map(([extent, role]) => ({ extent, role })),
    inputs: [
      {
        dtype,
        ...denseAccess(
          extents,
          roles.map(() => true),
          0,
        ),
      },
    ],
    nodes: [
      { op: 'load', dtype, input: 0 },
      { op: 'cast', dtype: 'f32', args: [0] },
      { op: 'mul', dtype: 'f32', args: [1, 1] },
    ],
    stores: [],
    reductions: [
      { ...sum, node: 1, output: 0 },
      { ...sum, node: 2, output: 1 },
    ],
  }
}

/** Fails unless the simulated kernel, under several orders of threads, gives what plain loops give. */
export function expectAgreement(sim: Pick<SimKernels, 'run'>, { kernel, arrays }: Sample): void {
  const result = at([...kernel.stores, ...kernel.reductions], 0)
  const reduced = kernel.reductions.length > 0
  const count = sizeOf(kernel.axes.map(({ extent, role }) => (reduced && role === 'reduce' ? 1 : extent)))
  const evaluate = (meant: Kernel): number[] => {
    const out = new Array<number>(count).fill(Number.NaN)
    const inputs = arrays.map((values) => [...values])
    if (count > 0) runKernel(meant, inputs, [out])
    return out
  }
  const expected = evaluate(kernel)
  const [sum] = kernel.reductions
  const slack = sum?.op === 'sum' && isFloat(sum.dtype) ? evaluate(magnitudes(kernel, sum)) : undefined
  const encoded = zip(kernel.inputs, arrays).map(([{ dtype }, values]) => encode(dtype, values))
  const runs = [0, 1, 77].map((seed) => sim.run(kernel, encoded, [{ dtype: result.dtype, count }], seed))
  const bytes = runs.map(([array]) => Buffer.from(array?.buffer ?? new ArrayBuffer(0)).toString('hex'))
  expect(new Set(bytes).size, 'the order of threads shows in the bits').toBe(1)
  const got = decode(result.dtype, at(at(runs, 0), 0))
  for (let i = 0; i < count; i++) {
    const [a, b] = [got[i] ?? Number.NaN, at(expected, i)]
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

/** Sums are kept in f32 (f64 for f64), in chains of at most 64 + 16 + 8 additions, and rounded once more. */
function sumsMatch(a: number, b: number, dtype: DType, magnitude: number): boolean {
  const largest = dtype === 'f64' ? Infinity : dtype === 'f16' ? 65000 : 3e38
  if (Object.is(a, b) || a === b || magnitude >= largest || Number.isNaN(magnitude)) return true
  const unit = dtype === 'f64' ? 2 ** -53 : 2 ** -24
  const last =
    dtype === 'f16' ? Math.max(2 ** -24, Math.abs(b) * 2 ** -10) : dtype === 'bf16' ? Math.abs(b) * 2 ** -7 : 0
  return Math.abs(a - b) <= magnitude * unit * 88 + last + 1e-44
}
