// The last rewriting before memory is assigned: every output gets a value of its own, and every operand of a library
// call is a value, not a literal.
import { type Atom, type Equation, type EquationOf, type Program, type Var, variable } from '../tensor/program.ts'
import { isLibrary } from './materialize.ts'

/** A copy, as an equation: a cast to the dtype the operand has. */
function copyOf(atom: Atom): EquationOf<'cast'> {
  return { primitive: 'cast', inputs: [atom], params: { dtype: atom.type.dtype }, outputs: [variable(atom.type)] }
}

/**
 * The program with those casts of its inputs in front that several equations use: the 16-bit weights of a training step,
 * which are kept from the forward to the backward pass anyway. Made all at once, they do not wait for each other's memory.
 */
export function castInputsFirst(program: Program): Program {
  const inputs = new Set<Atom>(program.inputs)
  const uses = new Map<Atom, number>()
  for (const equation of program.equations)
    for (const input of new Set(equation.inputs)) uses.set(input, (uses.get(input) ?? 0) + 1)
  const isEarly = ({ primitive, inputs: operands, outputs }: Equation): boolean =>
    primitive === 'cast' &&
    operands.every((operand) => inputs.has(operand)) &&
    outputs.every((output) => (uses.get(output) ?? 0) > 1)
  const [early, late] = [program.equations.filter(isEarly), program.equations.filter((one) => !isEarly(one))]
  return { ...program, equations: [...early, ...late] }
}

/**
 * The program with distinct outputs that are neither inputs nor reshapes of something else (those are copied), and
 * without literals as library operands. A donated input may be an output as it is, once.
 */
export function finishProgram(program: Program, donate: readonly number[]): Program {
  const equations = program.equations.flatMap((equation) => {
    if (!isLibrary(equation) || equation.inputs.every((input) => input.kind === 'var')) return [equation]
    const copies: EquationOf<'cast'>[] = []
    const inputs = equation.inputs.map((input): Atom => {
      if (input.kind === 'var') return input
      const copy = copyOf(input)
      copies.push(copy)
      return copy.outputs[0] ?? input
    })
    return [...copies, { ...equation, inputs }]
  })
  const handedOver = new Set<Atom>(donate.flatMap((index) => program.inputs[index] ?? []))
  const reshapes = new Set<Atom>(
    equations.flatMap((equation) => (equation.primitive === 'reshape' ? equation.outputs : [])),
  )
  const given = new Set<Atom>(program.inputs)
  const taken = new Set<Atom>()
  const copies: EquationOf<'cast'>[] = []
  const outputs = program.outputs.map((output): Var => {
    const usable =
      output.kind === 'var' &&
      !taken.has(output) &&
      !reshapes.has(output) &&
      (!given.has(output) || handedOver.has(output))
    taken.add(output)
    if (usable) return output
    const copy = copyOf(output)
    copies.push(copy)
    return copy.outputs[0] ?? variable(output.type)
  })
  return { inputs: program.inputs, equations: [...equations, ...copies], outputs }
}
