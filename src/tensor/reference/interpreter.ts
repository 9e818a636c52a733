// The meaning of Programs: every equation in turn, in float64, each result rounded to its dtype. It is the oracle of the
// tests and the last resort of machines with neither a GPU nor a C compiler; speed is left to the devices.
import { type DType, isFloat } from '../dtype.ts'
import { InternalError } from '../errors.ts'
import type { PrimitiveName, PrimitiveParams } from '../primitives.ts'
import { type Atom, type Equation, type Program, type Var, sameType, showType } from '../program.ts'
import { sizeOf, zip } from '../shape.ts'
import { contractionRules } from './contractions.ts'
import { indexingRules } from './indexing.ts'
import { movementRules } from './movement.ts'
import { pointwiseRules, roundAll } from './pointwise.ts'
import { poolingRules } from './pooling.ts'
import { reductionRules } from './reductions.ts'
import type { InterpretOptions, ReferenceValue, Rule, Rules } from './value.ts'

/** What every primitive means. */
const rules: Rules<PrimitiveName> = {
  ...pointwiseRules,
  ...movementRules,
  ...reductionRules,
  ...contractionRules,
  ...poolingRules,
  ...indexingRules,
  call: (inputs, { program }, _outputs, options) => interpret(program, inputs, options).map(({ data }) => data),
}

/**
 * The program's outputs for the given inputs, one value for each of `program.inputs` in order and of its type.
 *
 * With `round: false` floating results keep their float64 values: for finite differences, and to derive error bounds.
 *
 * @throws InternalError if the inputs do not fit the program.
 */
export function interpret(
  program: Program,
  inputs: readonly ReferenceValue[],
  options: InterpretOptions = {},
): readonly ReferenceValue[] {
  const values = new Map<Var, ReferenceValue>()
  if (inputs.length !== program.inputs.length)
    throw new InternalError(`the program takes ${program.inputs.length} inputs, got ${inputs.length}`)
  for (const [variable, value] of zip(program.inputs, inputs)) {
    checkValue(variable, value)
    values.set(variable, value)
  }
  const lastUses = lastUsesOf(program)
  const look = (atom: Atom): ReferenceValue => {
    const value = atom.kind === 'literal' ? literalValue(atom.value, atom.type.dtype, options) : values.get(atom)
    if (value === undefined) throw new InternalError(`a ${showType(atom.type)} is used before its definition`)
    return value
  }
  program.equations.forEach((equation, index) => {
    const results = evaluate(equation, equation.inputs.map(look), options)
    for (const [variable, value] of zip(equation.outputs, results)) values.set(variable, value)
    for (const variable of lastUses[index] ?? []) values.delete(variable)
  })
  return program.outputs.map(look)
}

/** The results of one equation, rounded. */
function evaluate(equation: Equation, inputs: readonly ReferenceValue[], options: InterpretOptions): ReferenceValue[] {
  const types = equation.outputs.map(({ type }) => type)
  const results = apply(equation.primitive, inputs, equation.params as never, types, options)
  return zip(types, results).map(([type, data]) => {
    if (data.length !== sizeOf(type.shape))
      throw new InternalError(`${equation.primitive} gave ${data.length} elements for ${showType(type)}`)
    const asStored = inputs.some((input) => input.data === data && input.type.dtype === type.dtype)
    return { type, data: asStored ? data : stored(type.dtype, data, options) }
  })
}

function apply<P extends PrimitiveName>(
  primitive: P,
  inputs: readonly ReferenceValue[],
  params: PrimitiveParams[P],
  ...rest: [Parameters<Rule<P>>[2], InterpretOptions]
): readonly Float64Array[] {
  const rule: Rule<P> = rules[primitive]
  return rule(inputs, params, ...rest)
}

function stored(dtype: DType, data: Float64Array, { round = true }: InterpretOptions): Float64Array {
  return round || !isFloat(dtype) ? roundAll(dtype, data) : data
}

function literalValue(value: number, dtype: DType, options: InterpretOptions): ReferenceValue {
  return { type: { shape: [], dtype }, data: stored(dtype, Float64Array.of(value), options) }
}

function checkValue(variable: Var, { type, data }: ReferenceValue): void {
  if (!sameType(variable.type, type) || data.length !== sizeOf(type.shape))
    throw new InternalError(
      `the program takes ${showType(variable.type)}, got ${showType(type)} with ${data.length} elements`,
    )
}

/** For each equation the variables nobody needs after it, so that a deep program keeps only what is alive. */
function lastUsesOf(program: Program): Var[][] {
  const last = new Map<Var, number>()
  program.equations.forEach((equation, index) => {
    for (const atom of [...equation.outputs, ...equation.inputs]) if (atom.kind === 'var') last.set(atom, index)
  })
  for (const atom of program.outputs) if (atom.kind === 'var') last.delete(atom)
  const dying: Var[][] = program.equations.map(() => [])
  for (const [variable, index] of last) dying[index]?.push(variable)
  return dying
}
