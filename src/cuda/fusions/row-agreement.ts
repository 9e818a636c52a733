// Whether our kernel for a chain of rows gives what the separate steps give, where that can be told: with matrices so small that
// every product has elements of about the size of its operands', so that no step behind one, a sigmoid's say, is always at its end.
import { dotExtents } from '../../compile/index.ts'
import { type FloatDType, isFloat, storageView, bytesOf } from '../../tensor/dtype.ts'
import { decode, encode } from '../../tensor/half.ts'
import { at, range, zip } from '../../tensor/shape.ts'
import type { RowChain } from '../row-chain.ts'
import { type Bench, type TuningTask, results, roundings, withOperands } from '../tune/index.ts'
import { type Separate, besideSeparate } from './acceptance.ts'

/** Roundings of its dtype that an output may be off by, as a share of its norm; a product of wrong elements is off by about 1. */
const mostRoundings = 16

/** The question to a candidate; asked once, with one set of operands. */
export function rowAgreement(chain: RowChain, separate: Separate): NonNullable<TuningTask['acceptance']> {
  const matrices = matricesOf(chain)
  return besideSeparate(separate, 'it on small matrices', (bench, candidate, expected) => {
    const [mine, theirs] = withOperands(bench, chain, 1, ([operands = []]) => {
      for (const [input, depth] of matrices) fillMatrix(bench, at(operands, input), chain, input, depth)
      return [candidate, expected].map((one) => results(bench, chain, one, operands))
    })
    for (const [index, { dtype }] of chain.outputs.entries()) {
      if (!isFloat(dtype)) continue
      const off = distance(floats(dtype, at(mine ?? [], index)), floats(dtype, at(theirs ?? [], index)))
      if (!(off <= mostRoundings * roundings[dtype]))
        return `result ${index} is ${(100 * off).toPrecision(2)} % off what the separate steps give`
    }
    return undefined
  })
}

/** The inputs that are matrices, and over how many elements their products sum. */
function matricesOf({ parts }: RowChain): ReadonlyMap<number, number> {
  return new Map(
    parts.flatMap((part) => {
      if (part.kind !== 'dot') return []
      const { kind, index } = at(part.wires, 1)
      return kind === 'operand' ? [[index, dotExtents(part.equation).k] as const] : []
    }),
  )
}

/** Elements uniform in [-1, 1) times sqrt(3 / depth): of a product with elements of deviation 1 those have deviation 1 too. */
function fillMatrix(
  bench: Bench,
  address: Parameters<Bench['write']>[0],
  chain: RowChain,
  input: number,
  depth: number,
): void {
  const { dtype, shape } = at(chain.inputs, input)
  if (!isFloat(dtype)) return
  const scale = Math.sqrt(3 / depth)
  const count = shape.reduce((product, extent) => product * extent, 1)
  const stored = encode(
    dtype,
    Float64Array.from(range(count), (i) => scale * fraction(i + 7919 * input)),
  )
  bench.write(address, new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength))
}

/** Numbers in [-1, 1) that repeat nowhere near. */
function fraction(index: number): number {
  return (Math.imul(index + 1, 2654435761) >>> 0) / 2 ** 31 - 1
}

function floats(dtype: FloatDType, bytes: Uint8Array): ArrayLike<number> {
  return decode(dtype, storageView(dtype, new Uint8Array(bytes).buffer, 0, bytes.length / bytesOf(dtype)))
}

/** norm(a - b) / norm(b) over the elements that are not both NaN. */
function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [apart, whole] = [0, 0]
  for (const [x, y] of zip(Array.from(a), Array.from(b))) {
    if (Number.isNaN(x) && Number.isNaN(y)) continue
    apart += (x - y) ** 2
    whole += y ** 2
  }
  return apart === 0 ? 0 : Math.sqrt(apart / whole)
}
