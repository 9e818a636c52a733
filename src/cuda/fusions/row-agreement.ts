// Whether our kernel for a chain of rows gives what the separate steps give, where that can be told: with matrices so small
// that products have elements of about the size of their operands', and no sigmoid behind one is always at its end.
import { dotExtents } from '../../compile/index.ts'
import { isFloat } from '../../tensor/dtype.ts'
import { at, zip } from '../../tensor/shape.ts'
import type { RowChain } from '../row-chain.ts'
import { type TuningTask, fillRandom, results, roundings, valuesOf, withOperands } from '../tune/index.ts'
import { type Separate, besideSeparate } from './acceptance.ts'

/** Roundings of its dtype that an output may be off by, in proportion to its norm; of wrong elements it is off by about 1. */
const mostRoundings = 16

/** The question to a candidate; asked once, with one set of operands. */
export function rowAgreement(chain: RowChain, separate: Separate): NonNullable<TuningTask['acceptance']> {
  const matrices = matricesOf(chain)
  return besideSeparate(separate, 'it on small matrices', (bench, candidate, expected) => {
    const [mine, theirs] = withOperands(bench, chain, 1, ([operands = []]) => {
      // Of a product with elements of deviation 1 those have deviation 1 too.
      for (const [input, depth] of matrices)
        fillRandom(bench, at(operands, input), at(chain.inputs, input), input, { scale: Math.sqrt(3 / depth) })
      return [candidate, expected].map((one) => results(bench, chain, one, operands))
    })
    for (const [index, { dtype }] of chain.outputs.entries()) {
      if (!isFloat(dtype)) continue
      const off = distance(valuesOf(dtype, at(mine ?? [], index)), valuesOf(dtype, at(theirs ?? [], index)))
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
