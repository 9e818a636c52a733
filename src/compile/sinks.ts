// Sinks: the writes a fused program must make. A stored pointwise value is one sink; a reduction is one; a pad is a
// fill and a strided copy; a concatenation is a copy for each operand. Each says over which loops its expression runs.
import type { Atom, Equation, EquationOf, Var } from '../tensor/program.ts'
import { literal } from '../tensor/program.ts'
import { type Shape, at, range, stridesOf } from '../tensor/shape.ts'
import type { Access } from './kernel.ts'
import { isLibrary } from './materialize.ts'

/** One expression computed over a domain and stored, or reduced, into `value`. */
export interface Sink {
  readonly value: Var
  readonly expression: Atom
  readonly domain: Shape
  /** Where in `value` the element for a point of the domain goes; 0 strides on reduced axes. */
  readonly access: Access
  readonly reduce: { readonly op: 'sum' | 'max' | 'min'; readonly axes: readonly number[] } | undefined
  /** Whether the expression is the value's own definition at the same place, so that others may use it in the same loop. */
  readonly whole: boolean
}

/** The sinks of an equation whose result has memory. */
export function sinksOf(equation: Equation): readonly Sink[] {
  if (isLibrary(equation) || equation.primitive === 'call') return []
  const value = at(equation.outputs, 0)
  switch (equation.primitive) {
    case 'reduceSum':
      return [reduction(equation, 'sum', equation.params.axes)]
    case 'reduceMax':
      return [reduction(equation, 'max', equation.params.axes)]
    case 'reduceMin':
      return [reduction(equation, 'min', equation.params.axes)]
    case 'pad':
      return padSinks(equation)
    case 'concatenate':
      return concatenateSinks(equation)
    default:
      return [
        {
          value,
          expression: value,
          domain: value.type.shape,
          access: dense(value.type.shape),
          reduce: undefined,
          whole: true,
        },
      ]
  }
}

/** Row-major over the whole shape. */
function dense(shape: Shape): Access {
  return { offset: 0, strides: stridesOf(shape) }
}

function reduction(equation: Equation, op: 'sum' | 'max' | 'min', axes: readonly number[]): Sink {
  const expression = at(equation.inputs, 0)
  const domain = expression.type.shape
  const kept = range(domain.length).filter((axis) => !axes.includes(axis))
  const steps = stridesOf(kept.map((axis) => at(domain, axis)))
  const strides = domain.map((_, axis) => (axes.includes(axis) ? 0 : at(steps, kept.indexOf(axis))))
  return {
    value: at(equation.outputs, 0),
    expression,
    domain,
    access: { offset: 0, strides },
    reduce: { op, axes },
    whole: false,
  }
}

function padSinks(equation: EquationOf<'pad'>): readonly Sink[] {
  const value = at(equation.outputs, 0)
  const expression = at(equation.inputs, 0)
  const { low, interior } = equation.params
  const steps = stridesOf(value.type.shape)
  const access = {
    offset: low.reduce((sum, before, axis) => sum + before * at(steps, axis), 0),
    strides: steps.map((step, axis) => step * (at(interior, axis) + 1)),
  }
  const zero = literal(0, value.type.dtype)
  return [
    {
      value,
      expression: zero,
      domain: value.type.shape,
      access: dense(value.type.shape),
      reduce: undefined,
      whole: false,
    },
    { value, expression, domain: expression.type.shape, access, reduce: undefined, whole: false },
  ]
}

function concatenateSinks(equation: EquationOf<'concatenate'>): readonly Sink[] {
  const value = at(equation.outputs, 0)
  const strides = stridesOf(value.type.shape)
  const { axis } = equation.params
  let start = 0
  return equation.inputs.map((expression) => {
    const offset = start * at(strides, axis)
    start += at(expression.type.shape, axis)
    return {
      value,
      expression,
      domain: expression.type.shape,
      access: { offset, strides },
      reduce: undefined,
      whole: false,
    }
  })
}
