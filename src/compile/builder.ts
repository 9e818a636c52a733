// Building Programs: equations are added one at a time, equal ones are merged (CSE) and local rules get a look at each
// before it is recorded. Every pass that rewrites a program walks the old one and builds the new one with this.
import { abstractEvaluate } from '../tensor/abstract.ts'
import { InternalError } from '../tensor/errors.ts'
import type { PrimitiveName, PrimitiveParams } from '../tensor/primitives.ts'
import {
  type Atom,
  type Equation,
  type EquationOf,
  type Program,
  type TensorType,
  type Var,
  literal,
  variable,
} from '../tensor/program.ts'
import { zip } from '../tensor/shape.ts'

/** A look at an equation before it is recorded: another atom that has the same value, or undefined. */
export type LocalRule = (equation: Equation, builder: Builder) => Atom | undefined

export class Builder {
  readonly equations: Equation[] = []
  readonly #definitions = new Map<Var, Equation>()
  readonly #identities = new Map<Var, number>()
  readonly #known = new Map<string, readonly Var[]>()
  readonly #rule: LocalRule

  constructor(rule: LocalRule = () => undefined) {
    this.#rule = rule
  }

  /** The results of a primitive, newly recorded or known already. */
  emit<P extends PrimitiveName>(
    primitive: P,
    inputs: readonly Atom[],
    params: PrimitiveParams[P],
    region?: number,
  ): readonly Atom[] {
    const types = abstractEvaluate(
      primitive,
      inputs.map((atom) => atom.type),
      params,
    )
    return this.emitTyped(primitive, inputs, params, types, region)
  }

  /** The same where the result types are known: those of an equation that is recorded again. */
  emitTyped<P extends PrimitiveName>(
    primitive: P,
    inputs: readonly Atom[],
    params: PrimitiveParams[P],
    types: readonly TensorType[],
    region?: number,
  ): readonly Atom[] {
    const outputs = types.map((type) => variable({ shape: type.shape, dtype: type.dtype }))
    const record: EquationOf<P> =
      region === undefined ? { primitive, inputs, params, outputs } : { primitive, inputs, params, outputs, region }
    const equation = record as unknown as Equation
    const simpler = outputs.length === 1 ? this.#rule(equation, this) : undefined
    return simpler === undefined ? this.record(equation) : [simpler]
  }

  /** The results of an equation as it is, for which no rule has to be tried; those of an equal one if there is one. */
  record(equation: Equation): readonly Var[] {
    const { primitive, inputs, params, outputs, region } = equation
    const key = `${primitive}${textOf(params)}${inputs.map((atom) => this.#key(atom)).join()}@${region ?? ''}`
    const known = this.#known.get(key)
    if (known !== undefined) return known
    this.#known.set(key, outputs)
    this.equations.push(equation)
    for (const output of outputs) this.#definitions.set(output, equation)
    return outputs
  }

  /** The same for primitives with one result. */
  one<P extends PrimitiveName>(
    primitive: P,
    inputs: readonly Atom[],
    params: PrimitiveParams[P],
    region?: number,
  ): Atom {
    const [result] = this.emit(primitive, inputs, params, region)
    if (result === undefined) throw new InternalError(`${primitive} gave no result`)
    return result
  }

  /** The equation that defines an atom; undefined for inputs and literals. */
  definition(atom: Atom): Equation | undefined {
    return atom.kind === 'var' ? this.#definitions.get(atom) : undefined
  }

  /** A small number that identifies a variable in this builder, for stable orders. */
  identity(v: Var): number {
    const known = this.#identities.get(v)
    if (known !== undefined) return known
    this.#identities.set(v, this.#identities.size)
    return this.#identities.size - 1
  }

  #key(atom: Atom): string {
    if (atom.kind === 'var') return String(this.identity(atom))
    return `${Object.is(atom.value, -0) ? '-0' : String(atom.value)}:${atom.type.dtype}`
  }
}

/** What a pass does with one equation: the atoms that stand for its outputs, or undefined to record it unchanged. */
export type Rewrite = (equation: Equation, inputs: readonly Atom[], builder: Builder) => readonly Atom[] | undefined

/**
 * Walks `program`, giving each equation to `rewrite`, and drops what no output needs. Where `rule` was applied to the whole
 * program before (`settled`), it is tried only on equations whose operands changed.
 */
export function rewriteProgram(program: Program, rewrite: Rewrite, rule?: LocalRule, settled = false): Program {
  const builder = new Builder(rule)
  const replaced = new Map<Var, Atom>()
  const resolve = (atom: Atom): Atom => (atom.kind === 'var' ? (replaced.get(atom) ?? atom) : atom)
  for (const input of program.inputs) builder.identity(input)
  for (const equation of program.equations) {
    const inputs = equation.inputs.map(resolve)
    const asBefore = settled && inputs.every((input, index) => input === equation.inputs[index])
    const results =
      rewrite(equation, inputs, builder) ??
      (asBefore
        ? builder.record(equation)
        : builder.emitTyped(equation.primitive, inputs, equation.params, equation.outputs.map(typeOf), equation.region))
    for (const [output, result] of zip(equation.outputs, results)) replaced.set(output, result)
  }
  return dropUnused({ inputs: program.inputs, equations: builder.equations, outputs: program.outputs.map(resolve) })
}

const texts = new WeakMap<object, string>()

/** Parameters as text; they stay the same object from pass to pass, so most are written once. */
function textOf(params: object): string {
  const known = texts.get(params)
  if (known !== undefined) return known
  const text = JSON.stringify(params)
  texts.set(params, text)
  return text
}

function typeOf(v: Var): TensorType {
  return v.type
}

/** The program without equations whose results nothing uses. */
export function dropUnused(program: Program): Program {
  const needed = new Set<Atom>(program.outputs)
  const kept: Equation[] = []
  for (const equation of program.equations.toReversed()) {
    if (!equation.outputs.some((output) => needed.has(output))) continue
    kept.push(equation)
    for (const input of equation.inputs) needed.add(input)
  }
  return { ...program, equations: kept.reverse() }
}

/** Copies the equations of `program` into `builder` with `inputs` in place of its inputs; gives the outputs. */
export function inlineProgram(
  program: Program,
  inputs: readonly Atom[],
  builder: Builder,
  region?: number,
): readonly Atom[] {
  const values = new Map<Var, Atom>(zip(program.inputs, inputs))
  const resolve = (atom: Atom): Atom => (atom.kind === 'var' ? (values.get(atom) ?? atom) : atom)
  for (const equation of program.equations) {
    const operands = equation.inputs.map(resolve)
    const results =
      equation.primitive === 'call'
        ? inlineProgram(equation.params.program, operands, builder, region)
        : builder.emit(equation.primitive, operands, equation.params, equation.region ?? region)
    for (const [output, result] of zip(equation.outputs, results)) values.set(output, result)
  }
  return program.outputs.map(resolve)
}

/** A literal stretched to a type. */
export function filled(builder: Builder, value: number, type: Atom['type']): Atom {
  const atom = literal(value, type.dtype)
  return type.shape.length === 0 ? atom : builder.one('broadcast', [atom], { shape: type.shape, axes: [] })
}
