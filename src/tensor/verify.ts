// The verifier of Programs: every variable defined once and before use, every equation well-typed in shape and dtype.
import { abstractEvaluate } from './abstract.ts'
import { InternalError } from './errors.ts'
import { type Equation, type Program, type TensorType, type Var, sameType, showType } from './program.ts'
import { sizeOf, zip } from './shape.ts'

/** Throws an InternalError that names the first broken equation; returns the program, so that passes can be wrapped in it. */
export function verifyProgram(program: Program, after: string): Program {
  const defined = new Set<Var>()
  const define = (v: Var, where: string): void => {
    if (defined.has(v)) throw new InternalError(`after ${after}: ${where} defines a variable twice`)
    defined.add(v)
  }
  for (const input of program.inputs) define(input, 'the input list')
  program.equations.forEach((equation, index) => {
    const where = `equation ${index} (${equation.primitive})`
    for (const atom of equation.inputs) {
      if (atom.kind === 'var' && !defined.has(atom))
        throw new InternalError(`after ${after}: ${where} uses a variable before its definition`)
      if (atom.kind === 'literal' && sizeOf(atom.type.shape) !== 1)
        throw new InternalError(`after ${after}: ${where} has a literal that is no scalar`)
    }
    verifyTypes(equation, `after ${after}: ${where}`)
    for (const output of equation.outputs) define(output, where)
  })
  for (const output of program.outputs)
    if (output.kind === 'var' && !defined.has(output))
      throw new InternalError(`after ${after}: an output is never defined`)
  return program
}

function verifyTypes(equation: Equation, where: string): void {
  const inputs = equation.inputs.map((atom) => atom.type)
  const expected = abstractEvaluate(equation.primitive, inputs, equation.params as never)
  const actual = equation.outputs.map((output) => output.type)
  const agree = expected.length === actual.length && zip(expected, actual).every(([a, b]) => sameType(a, b))
  const show = (types: readonly TensorType[]): string => types.map(showType).join(' ')
  if (!agree) throw new InternalError(`${where} should give ${show(expected)}, is declared as ${show(actual)}`)
}
