// A program in another floating dtype: the laws of single primitives are written in f64, and hold in every other.
import { abstractEvaluate } from '../../src/tensor/abstract.ts'
import type { FloatDType } from '../../src/tensor/dtype.ts'
import type { PrimitiveName, PrimitiveParams } from '../../src/tensor/primitives.ts'
import {
  type Atom,
  type Equation,
  type Program,
  type TensorType,
  type Var,
  literal,
  variable,
} from '../../src/tensor/program.ts'
import { zip } from '../../src/tensor/shape.ts'

/** The program with `dtype` wherever it has f64; results that are kept in f32 are, as abstract evaluation says. */
export function retyped(program: Program, dtype: FloatDType): Program {
  const known = new Map<Var, Var>()
  const typed = ({ shape, dtype: was }: TensorType): TensorType => ({ shape, dtype: was === 'f64' ? dtype : was })
  const made = (old: Var, type: TensorType): Var => {
    const fresh = variable(type)
    known.set(old, fresh)
    return fresh
  }
  const look = (atom: Atom): Atom => {
    if (atom.kind === 'literal') return literal(atom.value, typed(atom.type).dtype)
    const found = known.get(atom)
    if (found === undefined) throw new Error('a variable is used before its definition')
    return found
  }
  const inputs = program.inputs.map((input) => made(input, typed(input.type)))
  const equations = program.equations.map((equation): Equation => {
    const operands = equation.inputs.map(look)
    const params = withDType(equation.params, dtype)
    const types = evaluated(equation.primitive, operands, params)
    const outputs = zip(equation.outputs, types).map(([output, type]) => made(output, type))
    return { ...equation, inputs: operands, params, outputs } as Equation
  })
  return { inputs, equations, outputs: program.outputs.map(look) }
}

function withDType<P extends object>(params: P, dtype: FloatDType): P {
  return 'dtype' in params && params.dtype === 'f64' ? { ...params, dtype } : params
}

function evaluated(primitive: PrimitiveName, operands: readonly Atom[], params: unknown): readonly TensorType[] {
  const types = operands.map(({ type }) => type)
  return abstractEvaluate(primitive, types, params as PrimitiveParams[typeof primitive])
}
