// Chains of row-wise steps as one kernel, on the host: each value is what its own step makes of the values before it, maps to
// the bit and products within what f32 sums of any order allow; and what a chain keeps inside changes nothing.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { lowerKernel } from '../../src/cuda/printed.ts'
import { rowsCandidate } from '../../src/cuda/kernels/rows.ts'
import type { Candidate, Lowered } from '../../src/cuda/work.ts'
import { type DType, bytesOf } from '../../src/tensor/dtype.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { at, range, sizeOf, zip } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { HostKernels } from './grouped-host.ts'
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
  vector,
} from './rows-chains.ts'

type Stored = Uint16Array | Float32Array

function stored(dtype: DType, values: ArrayLike<number>): Stored {
  const array = encode(dtype, Array.from(values))
  if (!(array instanceof Uint16Array) && !(array instanceof Float32Array)) throw new Error(`an array of ${dtype}`)
  return array
}

function made(candidate: Candidate | undefined): Candidate {
  if (candidate === undefined) throw new Error('no kernel')
  return candidate
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
  readonly host: HostKernels
  readonly #all: ReadonlyMap<Chain, Candidate>
  readonly #maps: ReadonlyMap<BuiltPart, Lowered>

  constructor(list: readonly Chain[], more: readonly Candidate[] = []) {
    this.#all = new Map(list.map((chain) => [chain, made(rowsCandidate(chain.chain()))]))
    const maps = list.flatMap(({ parts }) => parts.flatMap((part) => (part.kind === 'map' ? [part] : [])))
    this.#maps = new Map(maps.map((part) => [part, lowerKernel(part.kernel)]))
    this.host = new HostKernels([...this.#all.values(), ...this.#maps.values(), ...more])
  }

  /** All values that the chain makes. */
  run(chain: Chain, inputs: readonly Stored[], order = 0): readonly Stored[] {
    return this.results(made(this.#all.get(chain)), inputs, chain.made, order)
  }

  results(candidate: Lowered, inputs: readonly Stored[], types: readonly TensorType[], order = 0): readonly Stored[] {
    const bytes = types.map(({ dtype, shape }) => bytesOf(dtype) * sizeOf(shape))
    return zip(this.host.runAll(candidate, inputs, bytes, order), types).map(([{ buffer }, { dtype }]) =>
      dtype === 'f32' ? new Float32Array(buffer) : new Uint16Array(buffer),
    )
  }

  /** What is wrong with the values of a chain, each by the values it is made of. */
  faults(chain: Chain, inputs: readonly Stored[], values: readonly Stored[]): readonly string[] {
    const of = ({ kind, index }: Ref): Stored => at(kind === 'input' ? inputs : values, index)
    return chain.parts.flatMap((part, i) => {
      const refs = part.refs
      if (part.kind === 'dot') return dotFaults(chain, part, of).map((fault) => `part ${i}, a product: ${fault}`)
      const from = refs.slice(0, part.kernel.inputs.length)
      const to = refs.slice(from.length)
      const types = to.map((ref) => chain.typeOf(ref))
      const wanted = this.results(made2(this.#maps.get(part)), from.map(of), types)
      return zip(zip(to.map(of), wanted), types).flatMap(([[got, want], { dtype }]) => {
        const difference = differenceOf(dtype, got, want)
        return difference === undefined ? [] : [`part ${i}, a map: ${difference}`]
      })
    })
  }

  close(): void {
    this.host.close()
  }
}

function made2(lowered: Lowered | undefined): Lowered {
  if (lowered === undefined) throw new Error('a map that was not compiled')
  return lowered
}

/** Where two arrays are not the same numbers; of NaN there is one. */
function differenceOf(dtype: DType, got: Stored, want: Stored): string | undefined {
  const [a, b] = [decode(dtype, got), decode(dtype, want)]
  const i = range(a.length).find((place) => !Object.is(at(a, place), at(b, place)))
  return i === undefined ? undefined : `element ${i}: expected ${at(b, i)}, got ${at(a, i)}`
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

/** Compiles many at once, since that is what takes time. */
function forMany<T>(one: fc.Arbitrary<T>, count: number, law: (list: readonly T[]) => void): void {
  const list = fc.array(one, { minLength: count, maxLength: count })
  fc.assert(fc.property(list, law), { numRuns: runs(1), endOnFailure: true })
}

const cases = fc.record({ chain: chains, seed: fc.nat(2 ** 30), special: fc.boolean(), kept: fc.nat(255) })

describe('chains of rows', { timeout: 240_000 }, () => {
  it('have the values of their steps, in whatever order threads run, and whatever stays inside', () => {
    forMany(cases, 14, (list) => {
      const inner = list.map(({ chain, kept }) => {
        const isOutput = (index: number): boolean => ((kept >> (index % 8)) & 1) === 1
        const outputs = range(chain.made.length).filter((i) => i === chain.made.length - 1 || isOutput(i))
        return { outputs, candidate: made(rowsCandidate(chain.chain(isOutput))) }
      })
      const compiled = new Compiled(
        list.map(({ chain }) => chain),
        inner.map(({ candidate }) => candidate),
      )
      try {
        for (const [{ chain, seed, special }, { outputs, candidate }] of zip(list, inner)) {
          const inputs = draw(chain.inputs, seed, special)
          const values = compiled.run(chain, inputs)
          expect(compiled.faults(chain, inputs, values).slice(0, 3), chain[fc.toStringMethod]()).toEqual([])
          for (const order of [7, 1_234_567])
            expect(compiled.run(chain, inputs, order), chain[fc.toStringMethod]()).toEqual(values)
          const types = outputs.map((index) => at(chain.made, index))
          const some = compiled.results(candidate, inputs, types, 7)
          for (const [[got, index], { dtype }] of zip(zip(some, outputs), types))
            expect(differenceOf(dtype, got, at(values, index)), chain[fc.toStringMethod]()).toBeUndefined()
        }
      } finally {
        compiled.close()
      }
    })
  })
})
