// Chains of row-wise steps as one kernel, on the host: each value is what its own step makes of the values before it, maps to
// the bit and products within what f32 sums of any order allow; and what a chain keeps inside changes nothing.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { KernelNode } from '../../src/compile/index.ts'
import { lowerKernel } from '../../src/cuda/printed.ts'
import { rowsCandidate } from '../../src/cuda/kernels/rows.ts'
import type { Candidate, Lowered } from '../../src/cuda/work.ts'
import { type DType, bytesOf } from '../../src/tensor/dtype.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { at, range, sizeOf, zip } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { HostKernels, kernelsOf } from './grouped-host.ts'
import { generator } from './grouped-problems.ts'
import {
  type BuiltPart,
  Chain,
  type Half,
  type Ref,
  chains,
  dense,
  exciteBackward,
  exciteForward,
} from './rows-chains.ts'

type Stored = Uint16Array | Float32Array

function stored(dtype: DType, values: ArrayLike<number>): Stored {
  const array = encode(dtype, Array.from(values))
  if (!(array instanceof Uint16Array) && !(array instanceof Float32Array)) throw new Error(`an array of ${dtype}`)
  return array
}

function made<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('no kernel')
  return value
}

/** Numbers from -1 to 1; rarely, where `special` says so, one that is not finite. */
function draw(types: readonly TensorType[], seed: number, special: boolean): Stored[] {
  const next = generator(seed)
  return types.map(({ dtype, shape }) => {
    const values = range(sizeOf(shape)).map(() => 2 * next() - 1)
    const place = Math.floor(next() * 3 * values.length)
    if (special && place < values.length) values[place] = at([Number.NaN, Infinity, -Infinity], place % 3)
    return stored(dtype, values)
  })
}

/** Chains compiled together with the kernels of their maps by themselves. */
class Compiled {
  readonly #host: HostKernels
  readonly #all: ReadonlyMap<Chain, Candidate>
  readonly #maps: ReadonlyMap<BuiltPart, Lowered>

  constructor(list: readonly Chain[], more: readonly Candidate[] = []) {
    this.#all = new Map(list.map((chain) => [chain, made(rowsCandidate(chain.chain()))]))
    const maps = list.flatMap(({ parts }) => parts.flatMap((part) => (part.kind === 'map' ? [part] : [])))
    this.#maps = new Map(maps.map((part) => [part, lowerKernel(part.kernel)]))
    this.#host = new HostKernels([...this.#all.values(), ...this.#maps.values(), ...more])
  }

  /** All values that the chain makes. */
  run(chain: Chain, inputs: readonly Stored[], order = 0): readonly Stored[] {
    return this.results(made(this.#all.get(chain)), inputs, chain.made, order)
  }

  results(lowered: Lowered, inputs: readonly Stored[], types: readonly TensorType[], order = 0): readonly Stored[] {
    const bytes = types.map(({ dtype, shape }) => bytesOf(dtype) * sizeOf(shape))
    return zip(this.#host.runAll(lowered, inputs, bytes, order), types).map(([{ buffer }, { dtype }]) =>
      dtype === 'f32' ? new Float32Array(buffer) : new Uint16Array(buffer),
    )
  }

  /** What is wrong with the values of a chain, each by the values it is made of. */
  faults(chain: Chain, inputs: readonly Stored[], values: readonly Stored[]): readonly string[] {
    const of = ({ kind, index }: Ref): Stored => at(kind === 'input' ? inputs : values, index)
    return chain.parts.flatMap((part, i) => {
      if (part.kind === 'dot') return dotFaults(chain, part, of).map((fault) => `part ${i}, a product: ${fault}`)
      const [from, to] = [part.refs.slice(0, part.kernel.inputs.length), part.refs.slice(part.kernel.inputs.length)]
      const types = to.map((ref) => chain.typeOf(ref))
      const wanted = this.results(made(this.#maps.get(part)), from.map(of), types)
      return zip(zip(to.map(of), wanted), types).flatMap(([[got, want], { dtype }]) =>
        differences(dtype, got, want).map((difference) => `part ${i}, a map: ${difference}`),
      )
    })
  }

  close(): void {
    this.#host.close()
  }
}

/** Where two arrays are not the same numbers; of NaN there is one. */
function differences(dtype: DType, got: Stored, want: Stored): readonly string[] {
  const [a, b] = [decode(dtype, got), decode(dtype, want)]
  return range(a.length).flatMap((i) =>
    Object.is(at(a, i), at(b, i)) ? [] : [`element ${i}: expected ${at(b, i)}, got ${at(a, i)}`],
  )
}

/** A sum of products in f32, in any order and with terms cut off rather than rounded, then rounded to the result's dtype. */
function dotFaults(
  chain: Chain,
  part: Extract<BuiltPart, { kind: 'dot' }>,
  of: (ref: Ref) => Stored,
): readonly string[] {
  const [a, b, c] = part.refs
  if (a === undefined || b === undefined || c === undefined) throw new Error('three operands')
  const [k, n, { dtype }] = [chain.columnsOf(a), chain.columnsOf(c), chain.typeOf(c)]
  const [left, right] = [decode(chain.typeOf(a).dtype, of(a)), decode(chain.typeOf(b).dtype, of(b))]
  const got = decode(dtype, of(c))
  return range(chain.rows * n).flatMap((i) => {
    const [row, column] = [Math.floor(i / n), i % n]
    let [exact, magnitude] = [0, 0]
    for (let d = 0; d < k; d++) {
      const term = at(left, row * k + d) * at(right, part.deep ? column * k + d : d * n + column)
      exact += term
      magnitude += Math.abs(term)
    }
    const off = Number.isFinite(exact) ? (k + 64) * 2 ** -23 * magnitude + 2 ** -140 : 0
    const [low, high, value] = [roundTo(dtype, exact - off), roundTo(dtype, exact + off), at(got, i)]
    const fine = Number.isNaN(exact) ? Number.isNaN(value) : low <= value && value <= high
    return fine ? [] : [`element ${row}, ${column}: expected ${exact} within ${off}, got ${value}`]
  })
}

/** A chain, what it is given, and which of its values are its results, by bits. */
interface Case {
  readonly chain: Chain
  readonly seed: number
  readonly special: boolean
  readonly kept: number
}

/** Compiles many at once, since that is what takes time. */
function forMany(one: fc.Arbitrary<Case>, count: number): void {
  const list = fc.array(one, { minLength: count, maxLength: count })
  fc.assert(fc.property(list, expectLaws), { numRuns: runs(1), endOnFailure: true })
}

function expectLaws(list: readonly Case[]): void {
  const partly = list.map(({ chain, kept }) => {
    const isOutput = (index: number): boolean => ((kept >> (index % 8)) & 1) === 1
    const outputs = range(chain.made.length).filter((i) => i === chain.made.length - 1 || isOutput(i))
    return { outputs, candidate: made(rowsCandidate(chain.chain(isOutput))) }
  })
  const chains = list.map(({ chain }) => chain)
  const candidates = partly.map(({ candidate }) => candidate)
  const compiled = new Compiled(chains, candidates)
  try {
    for (const [given, { outputs, candidate }] of zip(list, partly)) expectLaw(compiled, given, outputs, candidate)
  } finally {
    compiled.close()
  }
}

/** Right values, equal bits under three orders, the same values where some stay inside, and no row for another. */
function expectLaw(
  compiled: Compiled,
  { chain, seed, special }: Case,
  outputs: readonly number[],
  partly: Candidate,
): void {
  const name = chain[fc.toStringMethod]()
  const inputs = draw(chain.inputs, seed, special)
  const values = compiled.run(chain, inputs)
  expect(compiled.faults(chain, inputs, values).slice(0, 3), name).toEqual([])
  for (const order of [7, 1_234_567]) expect(compiled.run(chain, inputs, order), name).toEqual(values)
  const types = outputs.map((index) => at(chain.made, index))
  const some = compiled.results(partly, inputs, types, 7)
  for (const [[got, index], { dtype }] of zip(zip(some, outputs), types))
    expect(differences(dtype, got, at(values, index)).slice(0, 3), name).toEqual([])
  const row = seed % chain.rows
  const spoilt = inputs.map((input, i) => (chain.rowwise.includes(i) ? withoutRow(input, row, chain.rows) : input))
  const others = compiled.run(chain, spoilt, 7)
  for (const [got, want] of zip(others, values))
    expect(withoutRow(got, row, chain.rows), name).toEqual(withoutRow(want, row, chain.rows))
}

/** With one of `rows` rows all bits, which is NaN. */
function withoutRow<T extends Stored>(array: T, row: number, rows: number): T {
  const copy = array.slice() as T
  const [bytes, size] = [new Uint8Array(copy.buffer), copy.byteLength / rows]
  bytes.fill(0xff, row * size, (row + 1) * size)
  return copy
}

const given = { seed: fc.nat(2 ** 30), special: fc.boolean(), kept: fc.nat(255) }

describe('chains of rows', { timeout: 240_000 }, () => {
  it('have the values of their steps, in whatever order threads run, whatever stays inside, and each row by itself', () => {
    forMany(fc.record({ chain: chains, ...given }), 9)
  })

  it('of squeeze and excitation, forward and backward', () => {
    const rows = fc.integer({ min: 5, max: 40 })
    const make = fc.tuple(fc.constantFrom(exciteForward, exciteBackward), rows, fc.constantFrom<Half>('f16', 'bf16'))
    forMany(fc.record({ chain: make.map(([excite, n, dtype]) => excite(n, 256, 16, dtype)), ...given }), 3)
  })

  it('of its widest and its commonest, where warps take several pieces and share a depth', () => {
    const chosen = [exciteForward(3, 2048, 128, 'f16'), exciteBackward(9, 1024, 64, 'f16')]
    expectLaws(chosen.map((chain, seed) => ({ chain, seed, special: false, kept: 0b0101_0101 })))
  })

  it('keep what is not finite where it belongs: behind the last column there are zeros, and NaN is larger than 0', () => {
    const cases = [true, false].flatMap((deep) => [20, 32, 41].map((k) => ({ deep, k, chain: infinite(k, deep) })))
    const compiled = new Compiled(cases.map(({ chain }) => chain))
    for (const { chain, k } of cases) {
      const x = range(3 * k).map((i) => (Math.floor(i / k) === 1 ? (i % k === 2 ? Number.NaN : 1) : 1 + (i % 3)))
      const [product, rectified] = compiled.run(chain, [
        stored('f16', x),
        stored(
          'f16',
          range(k * 19).map(() => Infinity),
        ),
      ])
      const want = range(3 * 19).map((i) => (Math.floor(i / 19) === 1 ? Number.NaN : Infinity))
      expect(Array.from(decode('f16', made(product)))).toEqual(want)
      expect(Array.from(decode('f16', made(rectified)))).toEqual(want)
    }
    compiled.close()
  })

  it('have one text for all widths of the model, and one launch', () => {
    const widths = [256, 512, 1024, 2048]
    for (const excite of [exciteForward, exciteBackward]) {
      const names = widths.map((channels) => {
        const chain = excite(256, channels, channels / 16, 'f16')
        const candidate = made(rowsCandidate(chain.chain((index) => at(chain.parts, index).kind === 'map')))
        const [launch] = kernelsOf(candidate)
        expect(candidate).toMatchObject({ id: 'own:rows', scratchBytes: 0, works: [{ blocks: 32 }] })
        expect(made(launch).sharedBytes).toBeLessThanOrEqual(99 * 1024)
        return made(launch).source.name
      })
      expect(new Set(names).size).toBe(1)
    }
  })
})

/** `max(x W, 0)` of three rows, 19 columns wide. */
function infinite(k: number, deep: boolean): Chain {
  const chain = new Chain(3)
  const product = chain.dot(chain.rowInput('f16', k), 19, deep)
  const nodes: readonly KernelNode[] = [
    { op: 'load', dtype: 'f16', input: 0 },
    { op: 'constant', dtype: 'f16', value: 0 },
    { op: 'max', dtype: 'f16', args: [0, 1] },
  ]
  chain.map(19, 'flat', [dense(chain, product)], nodes, [2])
  return chain
}
