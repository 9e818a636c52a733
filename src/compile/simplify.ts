// Local simplification: rules that look at one equation and the definitions of its operands. Together with the
// Builder's merging of equal equations and the removal of unused ones this is the whole 'simplify' pass but for sums.ts.
import { roundTo } from '../tensor/half.ts'
import { isFloat } from '../tensor/dtype.ts'
import { isPointwise } from '../tensor/primitives.ts'
import { type Atom, type Equation, type EquationOf, literal, sameType } from '../tensor/program.ts'
import { interpret } from '../tensor/reference/interpreter.ts'
import { at, range, sameShape, sizeOf } from '../tensor/shape.ts'
import type { Builder, LocalRule } from './builder.ts'

/** The local rule: a simpler atom of the same value, or undefined. */
export const simplifyEquation: LocalRule = (equation, builder) => {
  switch (equation.primitive) {
    case 'stopGradient':
      return at(equation.inputs, 0)
    case 'cast':
      return simplifyCast(equation, builder) ?? narrowPointwise(equation, builder)
    case 'add':
    case 'sub':
    case 'mul':
    case 'div':
      return dropNeutral(equation, builder) ?? narrowPointwise(equation, builder)
    case 'neg':
      return undo(equation, builder, 'neg') ?? narrowPointwise(equation, builder)
    case 'not':
      return undo(equation, builder, 'not') ?? narrowPointwise(equation, builder)
    case 'reshape':
      return simplifyReshape(equation, builder)
    case 'broadcast':
      return simplifyBroadcast(equation, builder)
    case 'transpose':
      return simplifyTranspose(equation, builder)
    case 'reduceSum':
    case 'reduceMax':
    case 'reduceMin':
      return reduceNothing(equation, builder)
    case 'slice':
    case 'pad':
      return sameType(at(equation.inputs, 0).type, at(equation.outputs, 0).type) ? at(equation.inputs, 0) : undefined
    default:
      return isPointwise(equation.primitive) ? narrowPointwise(equation, builder) : undefined
  }
}

/** Casts that change nothing, and f16 -> f32 -> f16, which is exact. */
function simplifyCast(equation: EquationOf<'cast'>, builder: Builder): Atom | undefined {
  const x = at(equation.inputs, 0)
  if (x.type.dtype === equation.params.dtype) return x
  const inner = builder.definition(x)
  if (inner?.primitive !== 'cast') return undefined
  const origin = at(inner.inputs, 0)
  const widened =
    (x.type.dtype === 'f32' || x.type.dtype === 'f64') && isFloat(origin.type.dtype) && origin.type.dtype !== 'f64'
  if (!widened || equation.region !== inner.region) return undefined
  return origin.type.dtype === equation.params.dtype ? origin : undefined
}

/** x + 0, x - 0, x * 1, x / 1; division by a power of two becomes a product. */
function dropNeutral(equation: EquationOf<'add' | 'sub' | 'mul' | 'div'>, builder: Builder): Atom | undefined {
  const [a, b] = equation.inputs as readonly [Atom, Atom]
  const left = constantOf(a, builder)
  const right = constantOf(b, builder)
  const neutral = equation.primitive === 'add' || equation.primitive === 'sub' ? 0 : 1
  if (right === neutral) return a
  if (left === neutral && (equation.primitive === 'add' || equation.primitive === 'mul')) return b
  if (equation.primitive !== 'div' || right === undefined || !isFloat(a.type.dtype)) return undefined
  const exact =
    right !== 0 && Math.abs(Math.log2(Math.abs(right))) <= 14 && Number.isInteger(Math.log2(Math.abs(right)))
  return exact
    ? builder.one('mul', [a, stretch(builder, literal(1 / right, b.type.dtype), b)], {}, equation.region)
    : undefined
}

/** The number everywhere in an atom: a literal or a literal's broadcast. */
export function constantOf(atom: Atom, builder: Builder): number | undefined {
  if (atom.kind === 'literal') return atom.value
  const definition = builder.definition(atom)
  return definition?.primitive === 'broadcast' ? constantOf(at(definition.inputs, 0), builder) : undefined
}

function stretch(builder: Builder, atom: Atom, like: Atom): Atom {
  return like.type.shape.length === 0 ? atom : builder.one('broadcast', [atom], { shape: like.type.shape, axes: [] })
}

function undo(equation: Equation, builder: Builder, primitive: 'neg' | 'not'): Atom | undefined {
  const inner = builder.definition(at(equation.inputs, 0))
  return inner?.primitive === primitive ? at(inner.inputs, 0) : undefined
}

function simplifyReshape(equation: EquationOf<'reshape'>, builder: Builder): Atom | undefined {
  const x = at(equation.inputs, 0)
  if (sameShape(x.type.shape, equation.params.shape)) return x
  const inner = builder.definition(x)
  if (inner?.primitive === 'reshape')
    return builder.one('reshape', [at(inner.inputs, 0)], equation.params, equation.region)
  const constant = constantOf(x, builder)
  if (constant === undefined) return undefined
  const scalar = literal(constant, x.type.dtype)
  return equation.params.shape.length === 0
    ? scalar
    : builder.one('broadcast', [scalar], { shape: equation.params.shape, axes: [] })
}

function simplifyBroadcast(equation: EquationOf<'broadcast'>, builder: Builder): Atom | undefined {
  const x = at(equation.inputs, 0)
  const { shape, axes } = equation.params
  if (sameShape(x.type.shape, shape)) return x
  const inner = builder.definition(x)
  if (inner?.primitive === 'broadcast')
    return builder.one(
      'broadcast',
      [at(inner.inputs, 0)],
      { shape, axes: inner.params.axes.map((axis) => at(axes, axis)) },
      equation.region,
    )
  return undefined
}

function simplifyTranspose(equation: EquationOf<'transpose'>, builder: Builder): Atom | undefined {
  const x = at(equation.inputs, 0)
  const { permutation } = equation.params
  if (sameShape(permutation, range(permutation.length))) return x
  const inner = builder.definition(x)
  if (inner?.primitive === 'transpose')
    return builder.one(
      'transpose',
      [at(inner.inputs, 0)],
      { permutation: permutation.map((axis) => at(inner.params.permutation, axis)) },
      equation.region,
    )
  // Moving only axes of extent 1 moves no element.
  const moved = permutation.filter((axis) => x.type.shape[axis] !== 1)
  const inOrder = moved.every((axis, i) => i === 0 || axis > at(moved, i - 1))
  return inOrder
    ? builder.one('reshape', [x], { shape: at(equation.outputs, 0).type.shape }, equation.region)
    : undefined
}

/** A reduction over axes of extent 1 is a reshape. */
function reduceNothing(
  equation: EquationOf<'reduceSum' | 'reduceMax' | 'reduceMin'>,
  builder: Builder,
): Atom | undefined {
  const x = at(equation.inputs, 0)
  if (equation.params.axes.some((axis) => x.type.shape[axis] !== 1)) return undefined
  return builder.one('reshape', [x], { shape: at(equation.outputs, 0).type.shape }, equation.region)
}

/**
 * A pointwise equation whose operands are all broadcasts is computed before the broadcast, at the size its operands
 * really have; one of literals alone is computed here and now.
 */
function narrowPointwise(equation: Equation, builder: Builder): Atom | undefined {
  const folded = foldLiterals(equation)
  if (folded !== undefined) return folded
  const { shape } = at(equation.outputs, 0).type
  if (shape.length === 0) return undefined
  const used = new Set<number>()
  for (const input of equation.inputs) {
    const definition = builder.definition(input)
    if (definition?.primitive !== 'broadcast') return undefined
    for (const axis of definition.params.axes) used.add(axis)
  }
  const varying = shape.flatMap((extent, axis) => (used.has(axis) || extent === 1 ? [axis] : []))
  const axes = [...used].sort((a, b) => a - b)
  if (varying.length === shape.length) return undefined
  const small = axes.map((axis) => at(shape, axis))
  const operands = equation.inputs.map((input) => {
    const definition = builder.definition(input) as EquationOf<'broadcast'>
    const source = at(definition.inputs, 0)
    const places = definition.params.axes.map((axis) => axes.indexOf(axis))
    return sameShape(source.type.shape, small)
      ? source
      : builder.one('broadcast', [source], { shape: small, axes: places }, equation.region)
  })
  const result = builder.one(equation.primitive, operands, equation.params, equation.region)
  return builder.one('broadcast', [result], { shape, axes }, equation.region)
}

function foldLiterals(equation: Equation): Atom | undefined {
  if (!isPointwise(equation.primitive) || !equation.inputs.every((input) => input.kind === 'literal')) return undefined
  const output = at(equation.outputs, 0)
  if (sizeOf(output.type.shape) !== 1 || output.type.shape.length !== 0) return undefined
  const [value] = interpret({ inputs: [], equations: [equation], outputs: [output] }, [])
  return literal(roundTo(output.type.dtype, at(value?.data ?? [], 0)), output.type.dtype)
}
