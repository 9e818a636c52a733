// Chains of row-wise steps for tests: built part by part with any of their values as outputs, random ones and those of squeeze
// and excitation.
import fc from 'fast-check'
import type { Access, Kernel, KernelInput, KernelNode } from '../../src/compile/index.ts'
import type { DotEquation } from '../../src/cuda/matmul/index.ts'
import type { RowChain, RowPart } from '../../src/cuda/row-chain.ts'
import type { Wire } from '../../src/cuda/wires.ts'
import type { FloatDType } from '../../src/tensor/dtype.ts'
import { type TensorType, variable } from '../../src/tensor/program.ts'
import { at, range } from '../../src/tensor/shape.ts'

/** A value: an input of the chain, or one that a part has made. */
export type Ref = { readonly kind: 'input' | 'made'; readonly index: number }

export type Half = 'f16' | 'bf16'

/** A part, with its operands by value. */
export type BuiltPart =
  | { readonly kind: 'dot'; readonly equation: DotEquation; readonly deep: boolean; readonly refs: readonly Ref[] }
  | { readonly kind: 'map'; readonly kernel: Kernel; readonly refs: readonly Ref[] }

/** Parts over the same rows, in order. */
export class Chain {
  readonly inputs: TensorType[] = []
  readonly made: TensorType[] = []
  readonly parts: BuiltPart[] = []

  constructor(readonly rows: number) {}

  /** What fast-check shows of it. */
  [fc.toStringMethod](): string {
    const show = (ref: Ref): string => {
      const { dtype, shape } = this.typeOf(ref)
      return `${ref.kind} ${ref.index} ${dtype}[${shape.join()}]`
    }
    return this.parts.map(({ kind, refs }) => `${kind}(${refs.map(show).join(', ')})`).join(' ')
  }

  input(dtype: FloatDType, shape: readonly number[]): Ref {
    return { kind: 'input', index: this.inputs.push({ dtype, shape }) - 1 }
  }

  typeOf({ kind, index }: Ref): TensorType {
    return at(kind === 'input' ? this.inputs : this.made, index)
  }

  columnsOf(ref: Ref): number {
    return at(this.typeOf(ref).shape, 1)
  }

  make(dtype: FloatDType, columns: number): Ref {
    return { kind: 'made', index: this.made.push({ dtype, shape: [this.rows, columns] }) - 1 }
  }

  /** `from` times a new matrix, stored [n, k] if deep. */
  dot(from: Ref, n: number, deep: boolean, result = this.typeOf(from).dtype as FloatDType): Ref {
    const { dtype } = this.typeOf(from)
    const k = this.columnsOf(from)
    const matrix = this.input(dtype as FloatDType, deep ? [n, k] : [k, n])
    const to = this.make(result, n)
    const refs = [from, matrix, to]
    const [a, b, c] = refs.map((ref) => variable(this.typeOf(ref)))
    if (a === undefined || b === undefined || c === undefined) throw new Error('three operands')
    const params = { batch: [[], []], contract: [[1], [deep ? 1 : 0]] } as const
    this.parts.push({ kind: 'dot', equation: { primitive: 'dot', inputs: [a, b], outputs: [c], params }, deep, refs })
    return to
  }

  /** A kernel over [rows, columns] or, if `flat`, [rows x columns]; each store is a new value. */
  map(
    columns: number,
    flat: boolean,
    sources: readonly Source[],
    nodes: readonly KernelNode[],
    stored: readonly number[],
  ) {
    const access = ({ offset, row, column }: Walk): Access => ({ offset, strides: flat ? [column] : [row, column] })
    const dense = access({ offset: 0, row: columns, column: 1 })
    const inputs = sources.map(({ ref, walk }): KernelInput => ({ dtype: this.typeOf(ref).dtype, ...access(walk) }))
    const stores = stored.map((node, output) => ({ ...dense, node, dtype: at(nodes, node).dtype, output }))
    const results = stores.map(({ dtype }) => this.make(dtype as FloatDType, columns))
    const extents = flat ? [this.rows * columns] : [this.rows, columns]
    const axes = extents.map((extent) => ({ extent, role: 'map' }) as const)
    const kernel: Kernel = { axes, inputs, nodes, stores, reductions: [] }
    this.parts.push({ kind: 'map', kernel, refs: [...sources.map(({ ref }) => ref), ...results] })
    return results
  }

  /** With those of the made values as outputs that `isOutput` wants; the last is always one. */
  chain(isOutput: (made: number) => boolean = () => true): RowChain {
    const last = this.made.length - 1
    const outputs = range(last + 1).filter((made) => made === last || isOutput(made))
    const inside = range(last + 1).filter((made) => !outputs.includes(made))
    const wireOf = ({ kind, index }: Ref): Wire => {
      if (kind === 'input') return { kind: 'operand', index }
      if (!outputs.includes(index)) return { kind: 'inside', index: inside.indexOf(index) }
      return { kind: 'operand', index: this.inputs.length + outputs.indexOf(index) }
    }
    const parts = this.parts.map((part): RowPart => {
      const wires = part.refs.map(wireOf)
      return part.kind === 'dot'
        ? { kind: 'dot', equation: part.equation, wires }
        : { kind: 'map', kernel: part.kernel, wires }
    })
    const pick = (list: readonly number[]): TensorType[] => list.map((made) => at(this.made, made))
    return { kind: 'rows', rows: this.rows, parts, inputs: this.inputs, outputs: pick(outputs), inside: pick(inside) }
  }
}

/** Elements from the offset on, by row and column. */
export interface Walk {
  readonly offset: number
  readonly row: number
  readonly column: number
}

export interface Source {
  readonly ref: Ref
  readonly walk: Walk
}

/** All of a [rows, columns]. */
export function dense(chain: Chain, ref: Ref): Source {
  return { ref, walk: { offset: 0, row: chain.columnsOf(ref), column: 1 } }
}

/** One value for each column, or for all. */
export function vector(chain: Chain, dtype: FloatDType, columns: number): Source {
  return { ref: chain.input(dtype, [columns]), walk: { offset: 0, row: 0, column: columns === 1 ? 0 : 1 } }
}

/** `relu(x + bias)`, or with a sigmoid, of a product, as a plan's kernel has them. */
function activated(chain: Chain, x: Ref, kind: 'relu' | 'sigmoid'): Ref {
  const { dtype } = chain.typeOf(x)
  const columns = chain.columnsOf(x)
  const nodes: readonly KernelNode[] = [
    { op: 'load', dtype, input: 0 },
    { op: 'load', dtype: 'f32', input: 1 },
    { op: 'cast', dtype, args: [1] },
    { op: 'add', dtype, args: [0, 2] },
    ...(kind === 'sigmoid'
      ? [{ op: 'sigmoid', dtype, args: [3] } as const]
      : [{ op: 'constant', dtype, value: 0 } as const, { op: 'max', dtype, args: [3, 4] } as const]),
  ]
  const sources = [dense(chain, x), vector(chain, 'f32', columns)]
  return at(chain.map(columns, false, sources, nodes, [nodes.length - 1]), 0)
}

/** The forward pass: squeeze of a batch-normalised sum, reduce, ReLU, expand, sigmoid. All made values but products are kept. */
export function exciteForward(rows: number, channels: number, reduced: number, dtype: Half): Chain {
  const chain = new Chain(rows)
  const sums = chain.input('f32', [rows, channels])
  const sources = [dense(chain, sums), ...range(3).map(() => vector(chain, 'f32', channels))]
  const nodes: readonly KernelNode[] = [
    ...range(4).map((input): KernelNode => ({ op: 'load', dtype: 'f32', input })),
    { op: 'mul', dtype: 'f32', args: [0, 1] },
    { op: 'add', dtype: 'f32', args: [4, 2] },
    { op: 'constant', dtype: 'f32', value: 196 },
    { op: 'mul', dtype: 'f32', args: [6, 3] },
    { op: 'add', dtype: 'f32', args: [5, 7] },
    { op: 'constant', dtype: 'f32', value: 1 / 196 },
    { op: 'mul', dtype: 'f32', args: [8, 9] },
    { op: 'cast', dtype, args: [10] },
  ]
  const squeezed = at(chain.map(channels, false, sources, nodes, [11]), 0)
  const hidden = activated(chain, chain.dot(squeezed, reduced, true), 'relu')
  activated(chain, chain.dot(hidden, channels, true), 'sigmoid')
  return chain
}

/** The backward pass: expand's input gradient, ReLU's mask, reduce's input gradient. */
export function exciteBackward(rows: number, channels: number, reduced: number, dtype: Half): Chain {
  const chain = new Chain(rows)
  const cotangent = chain.dot(chain.input(dtype, [rows, channels]), reduced, false)
  const nodes: readonly KernelNode[] = [
    { op: 'load', dtype, input: 0 },
    { op: 'constant', dtype, value: 0 },
    { op: 'compare', dtype: 'bool', args: [0, 1], comparison: 'gt' },
    { op: 'load', dtype, input: 1 },
    { op: 'select', dtype, args: [2, 3, 1] },
  ]
  const hidden = chain.input(dtype, [rows, reduced])
  const sources = [dense(chain, hidden), dense(chain, cotangent)]
  const [masked] = chain.map(reduced, true, sources, nodes, [4])
  if (masked === undefined) throw new Error('a map of one store')
  chain.dot(masked, channels, false)
  return chain
}

const widths = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(16, 24, 32, 64, 72, 100, 130, 136, 264, 1030))

/** One random part's choices; all numbers are taken modulo what there is. */
const choices = fc.record({
  kind: fc.constantFrom('dot', 'map', 'map'),
  width: widths,
  pick: fc.nat(100),
  others: fc.array(
    fc.record({ kind: fc.nat(6), dtype: fc.constantFrom('f32', 'f16', 'bf16'), pick: fc.nat(100), op: fc.nat(5) }),
    {
      maxLength: 3,
    },
  ),
  dtype: fc.constantFrom<FloatDType>('f32', 'f16', 'bf16'),
  flat: fc.boolean(),
  deep: fc.boolean(),
  wide: fc.nat(5),
  last: fc.nat(3),
  two: fc.boolean(),
})
type Choices = typeof choices extends fc.Arbitrary<infer T> ? T : never

/** Chains of one to three products and up to four maps, of any extents and layouts. */
export const chains: fc.Arbitrary<Chain> = fc
  .record({
    rows: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 10, max: 40 })),
    half: fc.constantFrom<Half>('f16', 'bf16'),
    first: widths,
    parts: fc.array(choices, { minLength: 1, maxLength: 7 }),
  })
  .map(({ rows, half, first, parts }) => {
    const chain = new Chain(rows)
    let current = chain.input(half, [rows, first])
    const of = (kind: BuiltPart['kind']): number => chain.parts.filter((part) => part.kind === kind).length
    for (const part of parts) {
      if (part.kind === 'map') current = of('map') < 4 ? randomMap(chain, current, half, part) : current
      else current = of('dot') < 3 ? randomDot(chain, current, half, part) : current
    }
    if (of('dot') === 0) randomDot(chain, current, half, at(parts, 0))
    return chain
  })

/** Of a value that has the products' dtype, made ones first. */
function randomDot(chain: Chain, current: Ref, half: Half, { pick, width, deep, wide }: Choices): Ref {
  const made = range(chain.made.length).map((index): Ref => ({ kind: 'made', index }))
  const fitting = [current, ...made].filter((ref) => chain.typeOf(ref).dtype === half)
  const from =
    fitting.length === 0
      ? chain.input(half, [chain.rows, chain.columnsOf(current)])
      : at(fitting, pick % fitting.length)
  return chain.dot(from, width, deep, wide === 0 ? 'f32' : half)
}

function randomMap(chain: Chain, current: Ref, half: Half, { others, dtype, flat, last, two }: Choices): Ref {
  const columns = chain.columnsOf(current)
  const sources: Source[] = [dense(chain, current)]
  const result = two ? half : dtype
  const nodes: KernelNode[] = [{ op: 'load', dtype: chain.typeOf(current).dtype, input: 0 }]
  const push = (node: KernelNode): number => nodes.push(node) - 1
  let value = push({ op: 'cast', dtype: result, args: [0] })
  for (const other of others) {
    const source = randomSource(chain, columns, other)
    const own = source.ref.kind === 'input'
    const loaded = push({ op: 'load', dtype: chain.typeOf(source.ref).dtype, input: sources.push(source) - 1 })
    const ops = ['add', 'sub', 'max', 'min', own ? 'mul' : 'add', own ? 'mul' : 'max'] as const // values stay small
    value = push({
      op: at(ops, other.op),
      dtype: result,
      args: [value, push({ op: 'cast', dtype: result, args: [loaded] })],
    })
  }
  const middle = value
  const zero = push({ op: 'constant', dtype: result, value: 0 })
  if (last === 0) value = push({ op: 'max', dtype: result, args: [value, zero] })
  if (last === 1) value = push({ op: 'sigmoid', dtype: result, args: [value] })
  if (last === 2) {
    const positive = push({ op: 'compare', dtype: 'bool', args: [value, zero], comparison: 'gt' })
    value = push({
      op: 'select',
      dtype: result,
      args: [positive, push({ op: 'neg', dtype: result, args: [value] }), zero],
    })
  }
  const walks = sources.every(({ walk }) => walk.row === walk.column * columns)
  const results = chain.map(columns, flat && walks, sources, nodes, two ? [value, middle] : [value])
  return at(results, 0)
}

/** A value of the chain, or an operand by one of many walks. */
function randomSource(chain: Chain, columns: number, { kind, dtype, pick }: Choices['others'][number]): Source {
  const { rows } = chain
  const made = range(chain.made.length)
    .map((index): Ref => ({ kind: 'made', index }))
    .filter((ref) => chain.columnsOf(ref) === columns)
  const fresh = (shape: readonly number[], walk: Walk): Source => ({
    ref: chain.input(dtype as FloatDType, shape),
    walk,
  })
  switch (kind) {
    case 0:
      return vector(chain, dtype as FloatDType, columns)
    case 1:
      return vector(chain, dtype as FloatDType, 1)
    case 2:
      return fresh([rows, 2 * columns + 3], { offset: 3, row: 2 * columns + 3, column: 2 })
    case 3:
      return fresh([rows], { offset: 0, row: 1, column: 0 })
    case 4:
      return fresh([rows, columns + 1], { offset: 1, row: columns + 1, column: 1 })
    case 5:
      return fresh([rows, columns], { offset: 0, row: columns, column: 1 })
    default:
      return made.length === 0
        ? vector(chain, dtype as FloatDType, columns)
        : dense(chain, at(made, pick % made.length))
  }
}
