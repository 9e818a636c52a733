// A chain of row-wise steps as the steps of one block: what of it this kernel understands, where each value is read and kept,
// and where it lies in shared memory. Everything not understood is refused; printing is rows.ts's part.
import { type Kernel, dotExtents, inputCount } from '../../compile/index.ts'
import { type DType, isHalf } from '../../tensor/dtype.ts'
import type { TensorType } from '../../tensor/program.ts'
import { at, range, sizeOf, zip } from '../../tensor/shape.ts'
import type { RowChain, RowPart } from '../row-chain.ts'
import type { Wire } from '../wires.ts'
import { ceilDiv } from './launch.ts'
import { type RowAccesses, areAll, rowAccesses } from './rows-access.ts'
import { placeRows } from './rows-layout.ts'
import { blockWarps, chunkDepth, tileColumns } from './rows-text.ts'

/** A value of the chain: [rows, columns], dense and row-major where it is in device memory. */
export interface RowValue {
  readonly dtype: DType
  readonly columns: number
  /** The operand of the whole that it is. */
  readonly operand: number | undefined
  /** Whether a product reads whole chunks of it. */
  readonly multiplied: boolean
  /** Bytes in shared memory: where it begins, and from row to row. Undefined where no step reads it there. */
  readonly place: SharedPlace | undefined
}

/** Where a value lies in shared memory, in bytes. */
export interface SharedPlace {
  readonly offset: number
  readonly pitch: number
}

/** What a map reads: a value of the chain, or an operand of the whole by its own strides. */
export type MapInput =
  | { readonly kind: 'value'; readonly value: number }
  | { readonly kind: 'operand'; readonly operand: number }

/** One step of a block; all threads are done with one before the next begins. Numbers of values are their places in the list. */
export type RowStep =
  /** Brings an operand's rows to shared memory. */
  | { readonly kind: 'stage'; readonly value: number }
  /** Copies rows in shared memory to the operand that they are. */
  | { readonly kind: 'keep'; readonly value: number }
  | DotStep
  | MapStep

/** A product of a value with a matrix, whose depth `shares` warps share, `size` chunks each. */
export interface DotStep {
  readonly kind: 'dot'
  readonly from: number
  readonly to: number
  /** The operand that the matrix is: stored [n, k] if deep, else [k, n]. */
  readonly matrix: number
  readonly deep: boolean
  readonly n: number
  readonly k: number
  readonly shares: number
  readonly size: number
  /** Where in shared memory the warps' sums meet; 0 where no warps share. */
  readonly partial: number
}

/** A pointwise kernel. */
export interface MapStep {
  readonly kind: 'map'
  readonly kernel: Kernel
  readonly accesses: RowAccesses
  readonly inputs: readonly MapInput[]
  /** The values it stores. */
  readonly outputs: readonly number[]
}

/** What a block does, and the shared memory it needs. */
export interface RowsPlan {
  readonly rows: number
  readonly values: readonly RowValue[]
  readonly steps: readonly RowStep[]
  readonly sharedBytes: number
}

/** Extents and pitches are 32-bit numbers with room to spare. */
const mostExtent = 2 ** 20

/** The plan of a chain; undefined where it is not understood, or does not fit into shared memory. */
export function planRows(chain: RowChain): RowsPlan | undefined {
  const { rows, parts } = chain
  if (rows < 1 || !parts.some(({ kind }) => kind === 'dot')) return undefined
  const drafting = new Drafting(chain)
  if (!parts.every((part) => drafting.take(part)) || !drafting.isComplete()) return undefined
  return placeRows(rows, drafting.values, drafting.steps)
}

/** Values and steps so far, without places. */
class Drafting {
  readonly values: Omit<RowValue, 'place'>[] = []
  readonly steps: RowStep[] = []
  readonly #known = new Map<string, number>()

  constructor(private readonly chain: RowChain) {}

  /** Adds a part's steps; false where the part is not understood. */
  take(part: RowPart): boolean {
    return part.kind === 'dot' ? this.#dot(part) : this.#map(part)
  }

  /** Whether every output of the whole has been made. */
  isComplete(): boolean {
    const { inputs, outputs } = this.chain
    return range(outputs.length).every((i) => this.#known.has(keyOf({ kind: 'operand', index: inputs.length + i })))
  }

  #dot({ equation, wires }: Extract<RowPart, { kind: 'dot' }>): boolean {
    const [a, b, c] = wires
    if (a === undefined || b === undefined || c === undefined || wires.length > 3 || !this.#isInput(b)) return false
    const extents = dotExtents(equation)
    const { batch, m, n, k, transposeA, dtype } = extents
    const result = at(equation.outputs, 0).type.dtype
    if (!isHalf(dtype) || (result !== dtype && result !== 'f32')) return false
    if (batch !== 1 || transposeA || m !== this.chain.rows || !fits(n) || !fits(k)) return false
    if (!this.#has(b, dtype, k * n)) return false
    const from = this.#isInput(a) ? this.#stage(a, dtype, k) : this.#read(a, dtype, k)
    const to = this.#make(c, result, n)
    if (from === undefined || to === undefined) return false
    this.values[from] = { ...at(this.values, from), multiplied: true }
    const deep = extents.transposeB || n === 1
    this.steps.push({ kind: 'dot', from, to, matrix: b.index, deep, n, k, ...sharesOf(n, k), partial: 0 })
    if (at(this.values, to).operand !== undefined) this.steps.push({ kind: 'keep', value: to })
    return true
  }

  #map({ kernel, wires }: Extract<RowPart, { kind: 'map' }>): boolean {
    const accesses = rowAccesses(kernel, this.chain.rows)
    if (accesses === undefined || !fits(accesses.columns)) return false
    const count = inputCount(kernel)
    if (kernel.stores.length === 0 || wires.length !== count + kernel.stores.length) return false
    const inputs = zip(kernel.inputs, wires.slice(0, count)).map(([{ dtype }, wire], i): MapInput | undefined => {
      if (this.#isInput(wire))
        return this.#typeOf(wire)?.dtype === dtype ? { kind: 'operand', operand: wire.index } : undefined
      const value = accesses.isDense(at(accesses.inputs, i)) ? this.#read(wire, dtype, accesses.columns) : undefined
      return value === undefined ? undefined : { kind: 'value', value }
    })
    const outputs = kernel.stores.map(({ dtype, output }, i) => {
      const wire = wires[count + output]
      if (wire === undefined || !accesses.isDense(at(accesses.stores, i))) return undefined
      return this.#make(wire, dtype, accesses.columns)
    })
    if (!areAll(inputs) || !areAll(outputs)) return false
    this.steps.push({ kind: 'map', kernel, accesses, inputs, outputs })
    return true
  }

  #isInput({ kind, index }: Wire): boolean {
    return kind === 'operand' && index < this.chain.inputs.length
  }

  #typeOf({ kind, index }: Wire): TensorType | undefined {
    const { inputs, outputs, inside } = this.chain
    return kind === 'inside' ? inside[index] : [...inputs, ...outputs][index]
  }

  #has(wire: Wire, dtype: DType, elements: number): boolean {
    const type = this.#typeOf(wire)
    return type?.dtype === dtype && sizeOf(type.shape) === elements
  }

  /** A value that a step before has made, of these columns. */
  #read(wire: Wire, dtype: DType, columns: number): number | undefined {
    const value = this.#known.get(keyOf(wire))
    const found = value === undefined ? undefined : this.values[value]
    return found?.dtype === dtype && found.columns === columns ? value : undefined
  }

  /** A new value; undefined where it is none, or its type is another. */
  #make(wire: Wire, dtype: DType, columns: number): number | undefined {
    const fresh = !this.#isInput(wire) && !this.#known.has(keyOf(wire))
    return fresh && this.#has(wire, dtype, columns * this.chain.rows) ? this.#add(wire, dtype, columns) : undefined
  }

  /** An operand of the whole that products read, brought to shared memory once. */
  #stage(wire: Wire, dtype: DType, columns: number): number | undefined {
    if (this.#known.has(keyOf(wire))) return this.#read(wire, dtype, columns)
    if (!this.#has(wire, dtype, columns * this.chain.rows)) return undefined
    const value = this.#add(wire, dtype, columns)
    this.steps.push({ kind: 'stage', value })
    return value
  }

  #add(wire: Wire, dtype: DType, columns: number): number {
    const value = this.values.length
    this.#known.set(keyOf(wire), value)
    const operand = wire.kind === 'operand' ? wire.index : undefined
    this.values.push({ dtype, columns, operand, multiplied: false })
    return value
  }
}

function keyOf({ kind, index }: Wire): string {
  return `${kind} ${index}`
}

function fits(extent: number): boolean {
  return extent >= 1 && extent <= mostExtent
}

/** As many warps share a depth as are idle otherwise; extents alone decide. */
function sharesOf(n: number, k: number): Pick<DotStep, 'shares' | 'size'> {
  const chunks = ceilDiv(k, chunkDepth)
  const size = ceilDiv(chunks, Math.max(1, Math.floor(blockWarps / ceilDiv(n, tileColumns))))
  return { shares: ceilDiv(chunks, size), size }
}
