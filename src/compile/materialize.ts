// Which values get memory. Everything between two such values is computed inside kernels, again in each kernel that
// needs it: that is rematerialisation and fusion in one decision, made by bytes. Inputs, results of library calls and
// reductions, operands of library calls and outputs always have memory.
import { bytesOf } from '../tensor/dtype.ts'
import { type PrimitiveName, isPointwise } from '../tensor/primitives.ts'
import type { Atom, Equation, Program, Var } from '../tensor/program.ts'
import { at, sizeOf } from '../tensor/shape.ts'
import { isAffineReshape } from './affine.ts'
import { libraryPrimitives } from './plan.ts'

const library: ReadonlySet<PrimitiveName> = new Set(libraryPrimitives)
const reductions: ReadonlySet<PrimitiveName> = new Set<PrimitiveName>(['reduceSum', 'reduceMax', 'reduceMin'])
const structural: ReadonlySet<PrimitiveName> = new Set<PrimitiveName>(['pad', 'concatenate'])

/** One of these, of values in memory and constants, costs less than reading its result. */
const cheap: ReadonlySet<PrimitiveName> = new Set<PrimitiveName>(['add', 'sub', 'mul', 'neg', 'max', 'min'])

/** More full-size operands than this, or a longer expression, and a value is stored rather than computed again. */
const maxRoots = 4
const maxNodes = 64

/** Whether an equation is a library call: its operands and results have memory. */
export function isLibrary(equation: Equation): boolean {
  return library.has(equation.primitive)
}

/** Whether an equation is a reduction, whose operand may be an expression. */
export function isReduction(equation: Equation): boolean {
  return reductions.has(equation.primitive)
}

/** What the fusion needs to know about a program's values. */
export class Values {
  readonly definitions = new Map<Var, Equation>()
  readonly consumers = new Map<Var, Equation[]>()
  readonly stored = new Set<Var>()
  readonly #outputs: ReadonlySet<Atom>

  constructor(program: Program) {
    this.#outputs = new Set(program.outputs)
    for (const input of program.inputs) this.stored.add(input)
    for (const equation of program.equations) {
      for (const output of equation.outputs) this.definitions.set(output, equation)
      for (const input of new Set(equation.inputs)) if (input.kind === 'var') append(this.consumers, input, equation)
    }
  }

  isOutput(v: Var): boolean {
    return this.#outputs.has(v)
  }

  /** The value whose memory holds v's elements in row-major order: itself, or what it is a reshape of. */
  storageOf(v: Var): Var | undefined {
    if (this.stored.has(v)) return v
    const equation = this.definitions.get(v)
    if (equation?.primitive !== 'reshape') return undefined
    const operand = at(equation.inputs, 0)
    return operand.kind === 'var' ? this.storageOf(operand) : undefined
  }
}

/** Adds to the list of a key. */
export function append<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [value])
  else list.push(value)
}

/** Decides which values have memory: all of them, or those for which it saves bytes. */
export function materialize(program: Program, everything: boolean): Values {
  const values = new Values(program)
  for (const equation of program.equations) {
    const forced = isLibrary(equation) || isReduction(equation) || structural.has(equation.primitive)
    for (const output of equation.outputs)
      if (forced || values.isOutput(output) || (everything && equation.primitive !== 'reshape'))
        values.stored.add(output)
    if (isLibrary(equation))
      for (const input of equation.inputs)
        if (input.kind === 'var' && values.storageOf(input) === undefined) values.stored.add(input)
    if (equation.primitive === 'reshape') storeUnreachable(equation.inputs, equation, values)
  }
  if (!everything) chooseByBytes(program, values)
  return values
}

/** A reshape that indices cannot follow needs its operand in memory. */
function storeUnreachable(inputs: readonly Atom[], equation: Equation, values: Values): void {
  const [operand] = inputs
  if (operand?.kind !== 'var' || values.storageOf(operand) !== undefined) return
  if (!isAffineReshape(operand.type.shape, at(equation.outputs, 0).type.shape)) values.stored.add(operand)
}

interface Closure {
  /** Values in memory that computing this one reads. */
  readonly roots: ReadonlySet<Var>
  readonly nodes: number
  /** Whether it draws random bits. */
  readonly draws: boolean
}

function chooseByBytes(program: Program, values: Values): void {
  const closures = new Map<Var, Closure>()
  for (const equation of program.equations)
    for (const output of equation.outputs) {
      const closure = closureOf(equation, values, closures)
      closures.set(output, closure)
      if (values.storageOf(output) === undefined && isWorthStoring(output, equation, closure, values, closures))
        values.stored.add(output)
    }
}

function closureOf(equation: Equation, values: Values, closures: ReadonlyMap<Var, Closure>): Closure {
  const roots = new Set<Var>()
  let nodes = 1
  let draws = equation.primitive === 'randomBits'
  for (const input of new Set(equation.inputs)) {
    if (input.kind === 'literal') continue
    const storage = values.storageOf(input)
    const below = closures.get(input)
    if (storage !== undefined || below === undefined) {
      roots.add(storage ?? input)
      continue
    }
    for (const root of below.roots) roots.add(root)
    nodes += below.nodes
    draws ||= below.draws
  }
  return { roots, nodes, draws }
}

function isWorthStoring(
  v: Var,
  equation: Equation,
  closure: Closure,
  values: Values,
  closures: ReadonlyMap<Var, Closure>,
): boolean {
  const consumers = values.consumers.get(v) ?? []
  const roots = fullSize(closure.roots, v)
  if (
    isPointwise(equation.primitive) &&
    equation.primitive !== 'cast' &&
    !(cheap.has(equation.primitive) && closure.nodes <= 2) &&
    consumers.some((consumer) => isStretch(consumer, v))
  )
    return true
  if (closure.nodes > maxNodes || roots.length > maxRoots + 2) return true
  if (consumers.length < 2) return false
  const read = roots.reduce((sum, root) => sum + bytes(root), 0)
  if (!closure.draws && read <= bytes(v)) return false
  const uses = countUses(v, closure, values, closures)
  if (uses < 2) return false
  if (closure.draws) return true
  return uses * read > read + bytes(v) + uses * bytes(v)
}

/** A broadcast to at least four times the size: what is computed before it would be computed that many times. */
function isStretch(consumer: Equation, v: Var): boolean {
  return consumer.primitive === 'broadcast' && sizeOf(consumer.params.shape) >= 4 * sizeOf(v.type.shape)
}

/**
 * How many kernels would compute v again: its stored users and reductions, found through the values in between. A
 * value that would itself read too much counts as stored.
 */
function countUses(v: Var, closure: Closure, values: Values, closures: ReadonlyMap<Var, Closure>): number {
  const uses = new Set<string | Var>()
  const seen = new Set<Var>()
  const visit = (value: Var, roots: ReadonlySet<Var>): void => {
    for (const consumer of values.consumers.get(value) ?? []) {
      if (isReduction(consumer)) {
        uses.add(`${consumer.primitive === 'reduceSum'} ${JSON.stringify(consumer.params)}`)
        continue
      }
      for (const output of consumer.outputs) {
        if (seen.has(output)) continue
        seen.add(output)
        const below = new Set(roots)
        for (const input of consumer.inputs) for (const root of rootsOf(input, values, closures)) below.add(root)
        if (values.storageOf(output) !== undefined || fullSize(below, v).length > maxRoots) uses.add(output)
        else visit(output, below)
      }
    }
  }
  visit(v, closure.roots)
  return uses.size
}

function rootsOf(input: Atom, values: Values, closures: ReadonlyMap<Var, Closure>): Iterable<Var> {
  if (input.kind === 'literal') return []
  const storage = values.storageOf(input)
  if (storage !== undefined) return [storage]
  return closures.get(input)?.roots ?? []
}

function fullSize(roots: Iterable<Var>, like: Var): Var[] {
  return [...roots].filter((root) => 2 * sizeOf(root.type.shape) >= sizeOf(like.type.shape))
}

function bytes(v: Var): number {
  return sizeOf(v.type.shape) * bytesOf(v.type.dtype)
}
