// Derivatives of the pointwise primitives. Where PyTorch has a convention (sqrt at 0, pow at 0, ties), it is followed.
import { zerosLike } from '../../tensor/ops/create.ts'
import {
  cast,
  cos,
  div,
  equal,
  exp,
  greater,
  greaterEqual,
  less,
  log,
  logicalAnd,
  mul,
  neg,
  pow,
  sign,
  sin,
  sub,
  where,
} from '../../tensor/ops/pointwise.ts'
import { at } from '../../tensor/shape.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import { type VjpRule, binary, only, unary, zero } from './rule.ts'

type Order = (a: Tensor, b: Tensor) => Tensor

/** Equal operands of max and min share the cotangent. */
function shared(wins: Order) {
  return (g: Tensor, mine: Tensor, other: Tensor): Tensor =>
    where(wins(mine, other), g, where(equal(mine, other), mul(g, 0.5), 0))
}

/**
 * Against a constant only the output is read: the cotangent passes where it is beyond the constant, so that relu at 0
 * has the derivative 0 and its input need not be kept.
 */
function extremum<P extends 'max' | 'min'>(wins: Order): VjpRule<P> {
  const share = shared(wins)
  return binary<P>(
    (g, a, b, _params, y, uniform) => (uniform[1] === undefined ? share(g, a, b) : where(wins(y, b), g, 0)),
    (g, a, b, _params, y, uniform) => (uniform[0] === undefined ? share(g, b, a) : where(wins(y, a), g, 0)),
  )
}

/** b a^(b-1), which is 0 where b is 0 whatever a is. */
function powBase(g: Tensor, a: Tensor, b: Tensor, exponent: number | undefined): Tensor {
  if (exponent === undefined) return where(equal(b, 0), 0, mul(g, mul(b, pow(a, sub(b, 1)))))
  if (exponent === 0) return zerosLike(a)
  if (exponent === 1) return g
  return mul(g, mul(exponent === 2 ? a : pow(a, exponent - 1), exponent))
}

/** a^b log(a), which is 0 where a is 0 and b is not negative. */
function powExponent(g: Tensor, a: Tensor, b: Tensor, y: Tensor): Tensor {
  const flat = logicalAnd(equal(a, 0), greaterEqual(b, 0))
  return where(flat, 0, mul(g, mul(y, log(where(flat, 1, a)))))
}

export const pointwiseRules = {
  neg: unary<'neg'>((g) => neg(g)),
  exp: unary<'exp'>((g, _x, y) => mul(g, y)),
  log: unary<'log'>((g, x) => div(g, x)),
  sqrt: unary<'sqrt'>((g, _x, y) => div(g, mul(y, 2))),
  rsqrt: unary<'rsqrt'>((g, _x, y) => mul(mul(g, -0.5), mul(y, mul(y, y)))),
  sin: unary<'sin'>((g, x) => mul(g, cos(x))),
  cos: unary<'cos'>((g, x) => mul(g, neg(sin(x)))),
  tanh: unary<'tanh'>((g, _x, y) => mul(g, sub(1, mul(y, y)))),
  sigmoid: unary<'sigmoid'>((g, _x, y) => mul(g, mul(y, sub(1, y)))),
  erf: unary<'erf'>((g, x) => mul(g, mul(exp(neg(mul(x, x))), 2 / Math.sqrt(Math.PI)))),
  abs: unary<'abs'>((g, x) => mul(g, sign(x))),
  sign: zero,
  floor: zero,
  isFinite: zero,
  not: zero,
  cast: unary<'cast'>((g, x) => cast(g, x.dtype)),
  stopGradient: zero,
  add: binary<'add'>(
    (g) => g,
    (g) => g,
  ),
  sub: binary<'sub'>(
    (g) => g,
    (g) => neg(g),
  ),
  mul: binary<'mul'>(
    (g, _a, b) => mul(g, b),
    (g, a) => mul(g, a),
  ),
  div: binary<'div'>(
    (g, _a, b) => div(g, b),
    (g, _a, b, _params, y) => neg(mul(g, div(y, b))),
  ),
  pow: binary<'pow'>(
    (g, a, b, _params, _y, uniform) => powBase(g, a, b, uniform[1]),
    (g, a, b, _params, y) => powExponent(g, a, b, y),
  ),
  max: extremum<'max'>(greater),
  min: extremum<'min'>(less),
  and: zero,
  or: zero,
  compare: zero,
  select: ((cotangents, inputs, _outputs, _params, needs) => {
    const [g, condition] = [only(cotangents), at(inputs, 0)]
    return [
      undefined,
      at(needs, 1) ? where(condition, g, 0) : undefined,
      at(needs, 2) ? where(condition, 0, g) : undefined,
    ]
  }) satisfies VjpRule<'select'>,
} as const
