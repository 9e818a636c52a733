// The reverse-mode driver: evaluates a program forward, keeps what the rules may read, and walks the equations
// backward. It knows no primitive; the derivatives are in rules/.
import { InternalError } from '../tensor/errors.ts'
import { isFloat } from '../tensor/dtype.ts'
import { add } from '../tensor/ops/pointwise.ts'
import type { PrimitiveName } from '../tensor/primitives.ts'
import {
  type Atom,
  type Equation,
  type EquationOf,
  type Program,
  type Var,
  sameType,
  showType,
} from '../tensor/program.ts'
import { at, zip } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { evaluateProgram, rebind } from './evaluate.ts'
import { withoutRewriting } from './rewriter.ts'
import { flat, rules } from './rules/index.ts'
import { type Cotangents, type Linearization, type RuleContext, zero } from './rules/rule.ts'
import { currentTrace } from './trace.ts'

/** An equation on the way from a wanted input to an output, with the values it saw. */
interface Site {
  readonly equation: Equation
  readonly inputs: readonly Tensor[]
  /** Of a call with its own vjp also the residuals. */
  readonly outputs: readonly Tensor[]
}

/**
 * Evaluates `program` in the interpreter in force and gives its pullback, which may be applied any number of times.
 * Only inputs with `wanted` (and a floating dtype) get cotangents; undefined stands for zero.
 */
export function linearize(program: Program, inputs: readonly Tensor[], wanted: readonly boolean[]): Linearization {
  const active = activeVariables(program, wanted)
  const leads = (atom: Atom): boolean => atom.kind === 'var' && active.has(atom)
  const sites: Site[] = []
  const outputs = evaluateProgram(program, inputs, (equation, operands) => {
    if (!equation.outputs.some(leads)) return rebind(equation, operands)
    const results = forward(equation, operands)
    sites.push({ equation, inputs: operands, outputs: results })
    return results.slice(0, equation.outputs.length)
  })
  const uniform = uniformVariables(program)
  const pullback = (cotangents: Cotangents): Cotangents =>
    withoutRewriting(() => {
      const flows = new Map<Var, Tensor>()
      for (const [output, g] of zip(program.outputs, cotangents))
        if (g !== undefined && leads(output)) flow(flows, output, g)
      for (const site of sites.toReversed()) backward(site, flows, leads, uniform)
      return program.inputs.map((input) => flows.get(input))
    })
  return { outputs, pullback }
}

/** Evaluates an equation that will be differentiated; a function with its own vjp is asked for residuals, too. */
function forward(equation: Equation, inputs: readonly Tensor[]): readonly Tensor[] {
  if (equation.primitive !== 'call' || equation.params.rule.kind !== 'customVjp') return rebind(equation, inputs)
  const results = flat(equation.params.rule.forward)(inputs)
  return results.filter((result) => result !== undefined)
}

/** Takes the cotangents of a site's outputs, adds those of its inputs. */
function backward(
  site: Site,
  flows: Map<Var, Tensor>,
  leads: (atom: Atom) => boolean,
  uniform: Map<Var, number>,
): void {
  const { equation, inputs } = site
  const cotangents = equation.outputs.map((output) => flows.get(output))
  for (const output of equation.outputs) flows.delete(output)
  if (cotangents.every((g) => g === undefined)) return
  const needs = equation.inputs.map(leads)
  const context = {
    uniform: equation.inputs.map((atom) => (atom.kind === 'literal' ? atom.value : uniform.get(atom))),
    recompute,
  }
  const results = applyRule(equation, cotangents, site, needs, context)
  if (results.length !== inputs.length)
    throw new InternalError(
      `the vjp rule of ${equation.primitive} gave ${results.length} cotangents for ${inputs.length} inputs`,
    )
  equation.inputs.forEach((atom, i) => {
    const g = results[i]
    if (g === undefined || atom.kind !== 'var' || !at(needs, i)) return
    const input = at(inputs, i)
    if (!sameType(g, input))
      throw new InternalError(
        `the vjp rule of ${equation.primitive} gave ${showType(g)} for input ${i}, which is ${showType(input)}`,
      )
    flow(flows, atom, g)
  })
}

function applyRule<P extends PrimitiveName>(
  equation: EquationOf<P>,
  cotangents: Cotangents,
  site: Site,
  needs: readonly boolean[],
  context: RuleContext,
): Cotangents {
  const rule = rules[equation.primitive]
  if (rule === zero) throw new InternalError(`${equation.primitive} has no derivative, but was to be differentiated`)
  return rule(cotangents, site.inputs, site.outputs, equation.params, needs, context)
}

function flow(flows: Map<Var, Tensor>, atom: Atom, g: Tensor): void {
  if (atom.kind !== 'var') return
  const before = flows.get(atom)
  flows.set(atom, before === undefined ? g : add(before, g))
}

/** Linearizes a checkpointed program once more; what it records carries a region of its own. */
function recompute(program: Program, inputs: readonly Tensor[], wanted: readonly boolean[]): Linearization {
  const trace = currentTrace()
  const again = (): Linearization => linearize(program, inputs, wanted)
  return trace === undefined ? again() : trace.inRegion(trace.freshRegion(), again)
}

/** The floating variables through which a change of a wanted input reaches something. */
function activeVariables(program: Program, wanted: readonly boolean[]): ReadonlySet<Var> {
  const active = new Set<Var>()
  for (const [input, isWanted] of zip(program.inputs, wanted))
    if (isWanted && isFloat(input.type.dtype)) active.add(input)
  for (const { primitive, inputs, outputs } of program.equations) {
    if (rules[primitive] === zero || !inputs.some((atom) => atom.kind === 'var' && active.has(atom))) continue
    for (const output of outputs) if (isFloat(output.type.dtype)) active.add(output)
  }
  return active
}

/** The variables that are a literal in another shape or dtype, with its value. */
function uniformVariables(program: Program): Map<Var, number> {
  const uniform = new Map<Var, number>()
  for (const { primitive, inputs, outputs } of program.equations) {
    if (primitive !== 'broadcast' && primitive !== 'reshape' && primitive !== 'cast') continue
    const [source] = inputs
    const [output] = outputs
    if (source === undefined || output === undefined) continue
    const value = source.kind === 'literal' ? source.value : uniform.get(source)
    if (value !== undefined) uniform.set(output, value)
  }
  return uniform
}
