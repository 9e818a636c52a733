// How far two ways to compute a chain of rows may be apart, for operands uniform in [-1, 1): what rounding explains is carried
// from part to part.
import { type KernelNode, dotExtents } from '../../compile/index.ts'
import { type DType, isFloat, isHalf } from '../../tensor/dtype.ts'
import { at } from '../../tensor/shape.ts'
import type { ConvPrecision } from '../conv/index.ts'
import type { RowChain, RowPart } from '../row-chain.ts'
import { type TuningTask, roundings, tolerance } from '../tune/index.ts'
import type { Wire } from '../wires.ts'

/** How large an element may be, and how far two ways to compute it may be apart. */
interface Spread {
  readonly size: number
  readonly error: number
}

/** What each output of a chain may differ by. */
export function rowTolerance(chain: RowChain, precision: ConvPrecision): NonNullable<TuningTask['tolerance']> {
  const spreads = new Map<string, Spread>()
  const nameOf = ({ kind, index }: Wire): string => `${kind} ${index}`
  const spreadOf = (wire: Wire): Spread => {
    const given = wire.kind === 'operand' ? chain.inputs[wire.index] : undefined
    return given === undefined
      ? (spreads.get(nameOf(wire)) ?? nothing)
      : { size: isFloat(given.dtype) ? 1 : 0, error: 0 }
  }
  for (const part of chain.parts) {
    if (part.kind === 'dot') {
      const [a, , result] = [at(part.wires, 0), at(part.wires, 1), at(part.wires, 2)]
      spreads.set(nameOf(result), product(part, spreadOf(a), precision))
      continue
    }
    const { kernel, wires } = part
    const nodes = spreadsOf(kernel.nodes, wires.map(spreadOf))
    for (const { node, output } of kernel.stores)
      spreads.set(nameOf(at(wires, kernel.inputs.length + output)), at(nodes, node))
  }
  return (output) => {
    const { error: known } = spreadOf({ kind: 'operand', index: chain.inputs.length + output })
    const { dtype } = at(chain.outputs, output)
    const last = isFloat(dtype) ? 2 * roundings[dtype] : 0
    const [error, factor] = Number.isFinite(known) ? [known, last] : [unknown, unknown + last]
    return (a, b) => error + factor * (Math.abs(a) + Math.abs(b))
  }
}

const nothing: Spread = { size: 0, error: 0 }
/** Where an operation's slope is not known, in proportion to 1 and the values. */
const unknown = 2 ** -6

/**
 * A sum of K products of elements of size s with ones of size 1 has a deviation of `s sqrt(K) / 3`, and is taken to stay
 * below `2 s sqrt(K)`. Errors e of the elements are independent: `4 sqrt(K) e`. To that come what two products of exact
 * elements may differ by, in proportion to s, and the rounding of the result.
 */
function product(part: Extract<RowPart, { kind: 'dot' }>, { size, error }: Spread, precision: ConvPrecision): Spread {
  const { equation } = part
  const { k } = dotExtents(equation)
  const inputs = equation.inputs.map(({ type }) => type)
  const { dtype } = at(equation.outputs, 0).type
  const large = 2 * size * Math.sqrt(k)
  const summed = tolerance({ inputs, depth: k, precision }, dtype)(0, 0)
  return rounded(dtype, { size: large, error: 4 * Math.sqrt(k) * error + size * summed })
}

/** A value after it is stored or computed in a dtype: two that are apart, or were summed differently, round differently. */
function rounded(dtype: DType, { size, error }: Spread): Spread {
  return { size, error: isFloat(dtype) && error > 0 ? error + 2 * roundings[dtype] * size : error }
}

/** What becomes of them in the nodes of a kernel, which are computed alike in both ways. */
function spreadsOf(nodes: readonly KernelNode[], inputs: readonly Spread[]): readonly Spread[] {
  const made: Spread[] = []
  for (const node of nodes) {
    const args = 'args' in node ? node.args.map((arg) => at(made, arg)) : []
    const given =
      node.op === 'load' ? at(inputs, node.input) : node.op === 'constant' ? constant(node.value) : undefined
    const spread = given ?? spreadOfNode(node, args)
    made.push(isHalf(node.dtype) ? rounded(node.dtype, spread) : spread)
  }
  return made
}

function constant(value: number): Spread {
  return { size: Math.abs(value), error: 0 }
}

/** By the operation's slope; what is not known of it may be anything once its operands are apart. */
function spreadOfNode({ op }: KernelNode, args: readonly Spread[]): Spread {
  const [a = nothing, b = nothing, c = nothing] = args
  const error = Math.max(...args.map((arg) => arg.error), 0)
  switch (op) {
    case 'add':
    case 'sub':
      return { size: a.size + b.size, error: a.error + b.error }
    case 'mul':
      return { size: a.size * b.size, error: a.size * b.error + b.size * a.error }
    case 'max':
    case 'min':
      return { size: Math.max(a.size, b.size), error }
    case 'neg':
    case 'abs':
    case 'cast':
      return a
    case 'sigmoid':
      return { size: 1, error: a.error / 4 }
    case 'tanh':
      return { size: 1, error: a.error }
    case 'select':
      // Where the condition depends on what is apart, one way may choose the other operand.
      return { size: Math.max(b.size, c.size), error: a.error > 0 ? b.size + c.size : Math.max(b.error, c.error) }
    default:
      return { size: 1, error: error > 0 ? Number.POSITIVE_INFINITY : 0 }
  }
}
