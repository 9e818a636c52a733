// What a vjp rule is, and the helpers that make most rules one line.
import { InternalError } from '../../tensor/errors.ts'
import type { PrimitiveName, PrimitiveParams } from '../../tensor/primitives.ts'
import type { Program } from '../../tensor/program.ts'
import { at } from '../../tensor/shape.ts'
import type { Tensor } from '../../tensor/tensor.ts'

/** One entry for each output or input; undefined where nothing flows. */
export type Cotangents = readonly (Tensor | undefined)[]

/** A program's outputs and the linear map from their cotangents to those of its inputs. */
export interface Linearization {
  readonly outputs: readonly Tensor[]
  /** undefined stands for zero, on both sides. */
  readonly pullback: (cotangents: Cotangents) => Cotangents
}

/** What a rule may ask of the driver. */
export interface RuleContext {
  /** The number every element of an input has, where the program shows that it is a constant. */
  readonly uniform: readonly (number | undefined)[]
  /** Evaluates a nested program once more, in a region of its own, and differentiates it. */
  recompute(program: Program, inputs: readonly Tensor[], wanted: readonly boolean[]): Linearization
}

/**
 * From the cotangents of the outputs to those of the inputs, in public operations so that it can be differentiated in
 * turn. At least one output has a cotangent. `needs[i]` says whether anybody asked for input i.
 */
export type VjpRule<P extends PrimitiveName> = (
  cotangents: Cotangents,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  params: PrimitiveParams[P],
  needs: readonly boolean[],
  context: RuleContext,
) => Cotangents

/** The rule of primitives whose derivative is zero or does not exist. */
export const zero = 'zero'

export type RuleOrZero<P extends PrimitiveName> = VjpRule<P> | typeof zero

/** The only cotangent of a primitive with one output. */
export function only(cotangents: Cotangents): Tensor {
  const [cotangent] = cotangents
  if (cotangent === undefined) throw new InternalError('a vjp rule was applied without a cotangent')
  return cotangent
}

/** The rule of a primitive y = p(x) from the cotangent of y, x and y. */
export function unary<P extends PrimitiveName>(
  rule: (g: Tensor, x: Tensor, y: Tensor, params: PrimitiveParams[P]) => Tensor,
): VjpRule<P> {
  return (cotangents, inputs, outputs, params) => [rule(only(cotangents), at(inputs, 0), at(outputs, 0), params)]
}

/** One side of a primitive y = p(a, b): the cotangent of that side. */
type Side<P extends PrimitiveName> = (
  g: Tensor,
  a: Tensor,
  b: Tensor,
  params: PrimitiveParams[P],
  y: Tensor,
  uniform: RuleContext['uniform'],
) => Tensor

/** The rule of a primitive with two operands; a side nobody needs is not computed, one without derivative not given. */
export function binary<P extends PrimitiveName>(left: Side<P> | undefined, right: Side<P> | undefined): VjpRule<P> {
  return (cotangents, inputs, outputs, params, needs, { uniform }) => {
    const [a, b, y] = [at(inputs, 0), at(inputs, 1), at(outputs, 0)]
    return [left, right].map((side, i) =>
      side !== undefined && at(needs, i) ? side(only(cotangents), a, b, params, y, uniform) : undefined,
    )
  }
}
