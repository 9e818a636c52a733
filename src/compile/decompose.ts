// Decomposition: primitives that no device executes as such become ones that it does, once, before everything else:
// calls are inlined, moments become sums, dots get canonical operand layouts, what one process reduces is left out.
import { isFloat, accumulationType } from '../tensor/dtype.ts'
import { InternalError } from '../tensor/errors.ts'
import type { DotParams } from '../tensor/primitives.ts'
import type { Atom, Program } from '../tensor/program.ts'
import { at, range, sameShape, sizeOf } from '../tensor/shape.ts'
import { type Builder, type LocalRule, type Rewrite, filled, inlineProgram, rewriteProgram } from './builder.ts'

/** The program in the vocabulary of plans; `rule` simplifies in the same walk. */
export function decompose(program: Program, rule?: LocalRule): Program {
  return rewriteProgram(program, rewrite, rule)
}

const rewrite: Rewrite = (equation, inputs, builder) => {
  switch (equation.primitive) {
    case 'call':
      return inlineProgram(equation.params.program, inputs, builder)
    case 'moments':
      return momentsFromSums(at(inputs, 0), equation.params.axes, builder, equation.region)
    case 'dot':
      return [canonicalDot(at(inputs, 0), at(inputs, 1), equation.params, builder, equation.region)]
    case 'stopGradient':
      return [at(inputs, 0)]
    case 'allReduce':
      return equation.params.group === 1 ? [at(inputs, 0)] : undefined
    default:
      return undefined
  }
}

/**
 * Mean and biased variance from the sums of x and x^2, accumulated in f32 (f64 for f64); the variance is clamped at 0.
 * With |mean| at 30 deviations the variance keeps about three digits (test/unit/nn-variance.test.ts).
 */
function momentsFromSums(x: Atom, axes: readonly number[], builder: Builder, region?: number): Atom[] {
  if (!isFloat(x.type.dtype)) throw new InternalError(`moments of ${x.type.dtype}`)
  const dtype = accumulationType(x.type.dtype)
  const value = x.type.dtype === dtype ? x : builder.one('cast', [x], { dtype }, region)
  const count = sizeOf(axes.map((axis) => at(x.type.shape, axis)))
  const sum = builder.one('reduceSum', [value], { axes }, region)
  const squares = builder.one('reduceSum', [builder.one('mul', [value, value], {}, region)], { axes }, region)
  const average = (total: Atom): Atom => builder.one('mul', [total, filled(builder, 1 / count, total.type)], {}, region)
  const mean = average(sum)
  const meanSquare = builder.one('mul', [mean, mean], {}, region)
  const difference = builder.one('sub', [average(squares), meanSquare], {}, region)
  return [mean, builder.one('max', [difference, filled(builder, 0, mean.type)], {}, region)]
}

/** A dot whose operands have their batch axes first and then (free, contracted) or (contracted, free). */
function canonicalDot(a: Atom, b: Atom, params: DotParams, builder: Builder, region?: number): Atom {
  const [left, leftDims] = canonicalOperand(a, params.batch[0], params.contract[0], builder, region)
  const [right, rightDims] = canonicalOperand(b, params.batch[1], params.contract[1], builder, region)
  const batch = range(params.batch[0].length)
  return builder.one('dot', [left, right], { batch: [batch, batch], contract: [leftDims, rightDims] }, region)
}

function canonicalOperand(
  x: Atom,
  batch: readonly number[],
  contract: readonly number[],
  builder: Builder,
  region?: number,
): [Atom, number[]] {
  const rank = x.type.shape.length
  const free = range(rank).filter((axis) => !batch.includes(axis) && !contract.includes(axis))
  const layouts: [readonly number[], number][] = [
    [[...batch, ...free, ...contract], batch.length + free.length],
    [[...batch, ...contract, ...free], batch.length],
  ]
  const [order, first] = layouts.find(([axes]) => sameShape(axes, range(rank))) ?? at(layouts, 0)
  const moved = sameShape(order, range(rank)) ? x : builder.one('transpose', [x], { permutation: order }, region)
  return [moved, contract.map((_, i) => first + i)]
}
