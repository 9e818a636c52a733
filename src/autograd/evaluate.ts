// Running a recorded program again: every equation is bound in the interpreter in force, so that a program can be
// executed, recorded into another one, or differentiated.
import { bind, scalar } from '../tensor/dispatch.ts'
import { InternalError } from '../tensor/errors.ts'
import type { Atom, Equation, Program, Var } from '../tensor/program.ts'
import { zip } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { withoutRewriting } from './rewriter.ts'
import { currentTrace } from './trace.ts'

/** What to do with one equation: gives its outputs. */
export type Apply = (equation: Equation, inputs: readonly Tensor[]) => readonly Tensor[]

/** Binds an equation as it is; a `call` is expanded unless the trace in force keeps calls. */
export const rebind: Apply = (equation, inputs) => {
  if (equation.primitive === 'call' && currentTrace()?.keepsCalls !== true)
    return evaluateProgram(equation.params.program, inputs)
  return bind(equation.primitive, inputs, equation.params as never)
}

/**
 * The outputs of `program` for the given inputs. Equations that carry a region keep one: each evaluation gives its
 * regions fresh tags.
 */
export function evaluateProgram(program: Program, inputs: readonly Tensor[], apply: Apply = rebind): Tensor[] {
  const values = new Map<Var, Tensor>(zip(program.inputs, inputs))
  const read = (atom: Atom): Tensor => {
    if (atom.kind === 'literal') return scalar(atom.value, atom.type.dtype)
    const value = values.get(atom)
    if (value === undefined) throw new InternalError('a program uses a variable before its definition')
    return value
  }
  const inRegion = regionMapper()
  return withoutRewriting(() => {
    for (const equation of program.equations) {
      const operands = equation.inputs.map(read)
      const results = inRegion(equation.region, () => apply(equation, operands))
      for (const [output, result] of zip(equation.outputs, results)) values.set(output, result)
    }
    return program.outputs.map(read)
  })
}

/** Maps the regions of one program to fresh regions of the trace in force, if there is one. */
function regionMapper(): <T>(region: number | undefined, body: () => T) => T {
  const trace = currentTrace()
  const regions = new Map<number, number>()
  return (region, body) => {
    if (trace === undefined || region === undefined) return body()
    const mapped = regions.get(region) ?? trace.freshRegion()
    regions.set(region, mapped)
    return trace.inRegion(mapped, body)
  }
}
