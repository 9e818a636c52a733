// Element-by-element operations. Operands broadcast as in NumPy (the broadcast becomes an equation of its own); both
// sides must have one dtype; plain numbers take the tensor's.
import { bindOne } from '../dispatch.ts'
import type { DType } from '../dtype.ts'
import type { BinaryPrimitive, Comparison, UnaryPrimitive } from '../primitives.ts'
import { broadcastShapes } from '../shape.ts'
import { Tensor } from '../tensor.ts'
import { asTensor } from './create.ts'
import { broadcastTo } from './movement.ts'

/** What pointwise operations take: a tensor, or a number that takes the other operand's dtype. */
export type Operand = Tensor | number

function unary(primitive: Exclude<UnaryPrimitive, 'cast'>) {
  return (x: Operand): Tensor => bindOne(primitive, [asTensor(primitive, x)], {})
}

function pair(op: string, a: Operand, b: Operand): [Tensor, Tensor] {
  const left = asTensor(op, a, b instanceof Tensor ? b : undefined)
  const right = asTensor(op, b, left)
  const shape = broadcastShapes(op, left.shape, right.shape)
  return [broadcastTo(left, shape), broadcastTo(right, shape)]
}

function binary(primitive: Exclude<BinaryPrimitive, 'compare'>, op: string = primitive) {
  return (a: Operand, b: Operand): Tensor => bindOne(primitive, pair(op, a, b), {})
}

function comparison(op: string, kind: Comparison) {
  return (a: Operand, b: Operand): Tensor => bindOne('compare', pair(op, a, b), { comparison: kind })
}

/** -x, elementwise. */
export const neg = unary('neg')
/** e to the x, elementwise. */
export const exp = unary('exp')
/** The natural logarithm, elementwise: -Infinity at 0, NaN below. */
export const log = unary('log')
/** The square root, elementwise: NaN below 0. */
export const sqrt = unary('sqrt')
/** 1 / sqrt(x), elementwise. */
export const rsqrt = unary('rsqrt')
/** The sine of x radians, elementwise. */
export const sin = unary('sin')
/** The cosine of x radians, elementwise. */
export const cos = unary('cos')
/** The hyperbolic tangent, elementwise. */
export const tanh = unary('tanh')
/** 1 / (1 + exp(-x)), elementwise. */
export const sigmoid = unary('sigmoid')
/** The error function, elementwise. */
export const erf = unary('erf')
/** The absolute value, elementwise. */
export const abs = unary('abs')
/** -1, 0 or 1 by the sign of x, elementwise. */
export const sign = unary('sign')
/** The largest integer not above x, elementwise; its gradient is zero. */
export const floor = unary('floor')
/** Whether x is neither infinite nor NaN, elementwise: bool. */
export const isFinite = unary('isFinite')
/** Logical not of a bool tensor. */
export const logicalNot = unary('not')
/** x itself, with a gradient of zero. */
export const stopGradient = unary('stopGradient')

/** x as another dtype: floats round to nearest even; to integers truncates and saturates; to bool is x != 0. */
export function cast(x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x : bindOne('cast', [x], { dtype })
}

/** a + b, elementwise. */
export const add = binary('add')
/** a - b, elementwise. */
export const sub = binary('sub')
/** a * b, elementwise. */
export const mul = binary('mul')
/** a / b, elementwise; integers truncate towards zero and x / 0 is 0. */
export const div = binary('div')
/** a to the power b, elementwise. */
export const pow = binary('pow')
/** The larger, elementwise; NaN if either is NaN; ties share the gradient. */
export const maximum = binary('max', 'maximum')
/** The smaller, elementwise; NaN if either is NaN; ties share the gradient. */
export const minimum = binary('min', 'minimum')
/** Logical and of bool tensors. */
export const logicalAnd = binary('and', 'logicalAnd')
/** Logical or of bool tensors. */
export const logicalOr = binary('or', 'logicalOr')

/** a == b, elementwise: bool. */
export const equal = comparison('equal', 'eq')
/** a != b, elementwise: bool. */
export const notEqual = comparison('notEqual', 'ne')
/** a < b, elementwise: bool. */
export const less = comparison('less', 'lt')
/** a <= b, elementwise: bool. */
export const lessEqual = comparison('lessEqual', 'le')
/** a > b, elementwise: bool. */
export const greater = comparison('greater', 'gt')
/** a >= b, elementwise: bool. */
export const greaterEqual = comparison('greaterEqual', 'ge')

/** a where `condition` (bool) holds, else b; all three broadcast. The branch not taken passes no gradient, NaN or not. */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  const [left, right] = pair('where', a, b)
  const shape = broadcastShapes('where', condition.shape, left.shape)
  return bindOne('select', [broadcastTo(condition, shape), broadcastTo(left, shape), broadcastTo(right, shape)], {})
}

/** x * x. */
export function square(x: Tensor): Tensor {
  return mul(x, x)
}

/** 1 / x. */
export function reciprocal(x: Tensor): Tensor {
  return div(1, x)
}

/** x limited to [low, high]. */
export function clip(x: Tensor, low: Operand, high: Operand): Tensor {
  return minimum(maximum(x, low), high)
}
