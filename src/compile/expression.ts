// From expressions of a Program to the node list of a kernel: follows definitions down to values in memory, carrying
// the affine map from loop indices to element indices.
import { InternalError } from '../tensor/errors.ts'
import { isPointwise } from '../tensor/primitives.ts'
import type { Atom, Equation, EquationOf, Var } from '../tensor/program.ts'
import { at } from '../tensor/shape.ts'
import { type IndexMap, flatAccess, identityMap, operandMap } from './affine.ts'
import type { Access, KernelInput, KernelNode } from './kernel.ts'
import type { Values } from './materialize.ts'

/** A read of memory by an expression. */
export interface Load {
  readonly storage: Var
  readonly access: Access
}

/** Collects the inputs and nodes of one kernel over loops of `domain`'s rank. */
export class ExpressionBuilder {
  readonly loads: Load[] = []
  readonly inputs: KernelInput[] = []
  readonly nodes: KernelNode[] = []
  /** Nodes by what they are: a value at the loop point itself, or any other description as text. */
  readonly #known = new Map<Var | string, number>()
  readonly #ids = new Map<Var, number>()
  readonly #values: Values
  readonly #rank: number
  /** Values with memory that are computed here all the same, because they are made or fully known in this kernel. */
  readonly #inline: ReadonlySet<Var>

  constructor(values: Values, rank: number, inline: ReadonlySet<Var>) {
    this.#values = values
    this.#rank = rank
    this.#inline = inline
  }

  /** The node of an expression evaluated at the loop point. */
  root(atom: Atom): number {
    return this.#node(atom, identityMap(this.#rank), true)
  }

  #node(atom: Atom, map: IndexMap, identity: boolean): number {
    if (atom.kind === 'literal')
      return this.#add(
        { op: 'constant', dtype: atom.type.dtype, value: atom.value },
        `${Object.is(atom.value, -0) ? '-0' : String(atom.value)}:${atom.type.dtype}`,
      )
    const key = identity ? atom : `${this.#id(atom)}@${map.map(textOf).join(';')}`
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const inlined = identity && this.#inline.has(atom)
    const storage = inlined ? undefined : this.#values.storageOf(atom)
    const node = storage === undefined ? this.#compute(atom, map, identity) : this.#load(storage, atom, map)
    this.#known.set(key, node)
    return node
  }

  #load(storage: Var, view: Var, map: IndexMap): number {
    const access = flatAccess(view.type.shape, map, this.#rank)
    const key = `load ${this.#id(storage)} ${textOf(access)}`
    const known = this.#known.get(key)
    if (known !== undefined) return known
    this.loads.push({ storage, access })
    this.inputs.push({ ...access, dtype: storage.type.dtype })
    return this.#add({ op: 'load', dtype: storage.type.dtype, input: this.inputs.length - 1 }, key)
  }

  #compute(v: Var, map: IndexMap, identity: boolean): number {
    const equation = this.#values.definitions.get(v)
    if (equation === undefined)
      throw new InternalError('an expression uses a value that has neither memory nor definition')
    const { dtype } = v.type
    if (equation.primitive === 'iota') return this.#push({ op: 'index', dtype, access: at(map, equation.params.axis) })
    if (equation.primitive === 'randomBits') return this.#philox(equation, map)
    if (!isPointwise(equation.primitive)) {
      const operand = operandMap(equation, map, this.#rank)
      if (operand === undefined) throw new InternalError(`${equation.primitive} inside an expression`)
      return this.#node(at(equation.inputs, 0), operand, false)
    }
    const args = equation.inputs.map((input) => this.#node(input, map, identity))
    return this.#pointwise(equation, args, dtype)
  }

  /** What is computed a second time in the program (rematerialised, say) is one node of the kernel. */
  #pointwise(equation: Equation, args: number[], dtype: Var['type']['dtype']): number {
    switch (equation.primitive) {
      case 'stopGradient':
        return at(args, 0)
      case 'compare':
        return this.#add(
          {
            op: 'compare',
            dtype: 'bool',
            args: [at(args, 0), at(args, 1)],
            comparison: equation.params.comparison,
          },
          `${equation.params.comparison} ${args.join()}`,
        )
      default:
        if (!isPointwise(equation.primitive)) throw new InternalError(`${equation.primitive} is not pointwise`)
        return this.#add({ op: equation.primitive, dtype, args }, `${equation.primitive}:${dtype} ${args.join()}`)
    }
  }

  #philox(equation: EquationOf<'randomBits'>, map: IndexMap): number {
    const [key, offset] = equation.inputs as readonly [Atom, Atom]
    const fixed = (index: number): IndexMap => [{ offset: index, strides: Array.from({ length: this.#rank }, () => 0) }]
    const { shape, bits, stream } = equation.params
    const args = [
      this.#node(key, fixed(0), false),
      this.#node(key, fixed(1), false),
      this.#node(offset, [], false),
    ] as const
    return this.#push({ op: 'philox', dtype: 'i32', args, access: flatAccess(shape, map, this.#rank), bits, stream })
  }

  #add(node: KernelNode, key: string): number {
    const known = this.#known.get(key)
    if (known !== undefined) return known
    this.#known.set(key, this.nodes.length)
    return this.#push(node)
  }

  #push(node: KernelNode): number {
    this.nodes.push(node)
    return this.nodes.length - 1
  }

  #id(v: Var): number {
    const known = this.#ids.get(v)
    if (known !== undefined) return known
    this.#ids.set(v, this.#ids.size)
    return this.#ids.size - 1
  }
}

/** Equal for two accesses if and only if they are the same. */
function textOf({ offset, strides }: Access): string {
  return `${offset}:${strides.join()}`
}
