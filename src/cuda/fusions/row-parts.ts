// The parts of a chain one after the other, as they are done where no kernel does them all: a product and the bias behind it
// are still one call of the library.
import { at } from '../../tensor/shape.ts'
import type { RowChain, RowPart } from '../row-chain.ts'
import type { Wire } from '../wires.ts'
import type { Fusion } from './fusion.ts'
import { productEpilogue } from './recognize.ts'

/** A part by itself, or a product with its epilogue; wires lead to the chain's values. */
export type SeparatePart =
  | RowPart
  | { readonly kind: 'product'; readonly fusion: Fusion; readonly wires: readonly Wire[] }

/** The launches of a chain that is not one. */
export function separateParts(chain: RowChain): readonly SeparatePart[] {
  const made: SeparatePart[] = []
  let next = 0
  while (next < chain.parts.length) {
    const product = productAt(chain, next)
    made.push(product ?? at(chain.parts, next))
    next += product === undefined ? 1 : 2
  }
  return made
}

/** The part at a position and the next one, if these are a product and what a library adds to it. */
function productAt(chain: RowChain, index: number): SeparatePart | undefined {
  const [dot, map] = [chain.parts[index], chain.parts[index + 1]]
  if (dot?.kind !== 'dot' || map?.kind !== 'map') return undefined
  const result = at(dot.wires, dot.wires.length - 1)
  const uses = chain.parts.flatMap(({ wires }) => wires).filter((wire) => same(wire, result)).length
  const input = map.wires.findIndex((wire) => same(wire, result))
  // Its maker names it once, and the kernel.
  if (result.kind !== 'inside' || uses !== 2 || input < 0) return undefined
  const { type } = at(dot.equation.outputs, 0)
  const found = productEpilogue(map.kernel, input, type)
  if (found === undefined) return undefined
  const inputs = distinct([...dot.wires.slice(0, -1), ...map.wires.slice(0, -1).filter((wire) => !same(wire, result))])
  const stored = at(map.wires, map.wires.length - 1)
  const place = (wire: Wire): Wire => {
    if (same(wire, result)) return { kind: 'inside', index: 0 }
    const known = inputs.findIndex((one) => same(one, wire))
    return { kind: 'operand', index: known < 0 ? inputs.length : known }
  }
  const typeOf = ({ kind, index: of }: Wire) =>
    at(kind === 'inside' ? chain.inside : [...chain.inputs, ...chain.outputs], of)
  const { epilogue, bias } = found
  const fusion: Fusion = {
    kind: 'contraction',
    contraction: { equation: dot.equation, wires: dot.wires.map(place) },
    before: [],
    kernels: [{ kernel: map.kernel, wires: map.wires.map(place) }],
    inputs: inputs.map(typeOf),
    outputs: [typeOf(stored)],
    inside: [type],
    way: { kind: 'product', epilogue, bias: place(at(map.wires, bias)), result: place(stored) },
  }
  return { kind: 'product', fusion, wires: [...inputs, stored] }
}

function distinct(wires: readonly Wire[]): readonly Wire[] {
  return wires.filter((wire, index) => wires.findIndex((one) => same(one, wire)) === index)
}

function same(a: Wire, b: Wire): boolean {
  return a.kind === b.kind && a.index === b.index
}
