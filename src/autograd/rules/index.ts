// The vjp rules of all primitives: one total table, so that a new primitive does not compile until its derivative is
// written, be it `zero`.
import { bindOne } from '../../tensor/dispatch.ts'
import { full } from '../../tensor/ops/create.ts'
import type { FlatFunction, PrimitiveName } from '../../tensor/primitives.ts'
import { zip } from '../../tensor/shape.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import { contractionRules } from './contractions.ts'
import { movementRules } from './movement.ts'
import { pointwiseRules } from './pointwise.ts'
import { reductionRules } from './reductions.ts'
import { type Cotangents, type RuleOrZero, type VjpRule, unary } from './rule.ts'
import { indexingRules, poolingRules } from './spatial.ts'

/** A flat function of a call rule, typed: only a backward function may leave entries out. */
export function flat(f: FlatFunction): (values: readonly Tensor[]) => Cotangents {
  return f as unknown as (values: readonly Tensor[]) => Cotangents
}

/** A checkpoint is computed again and differentiated; a function with its own vjp is asked (its outputs: also residuals). */
const call: VjpRule<'call'> = (cotangents, inputs, outputs, { program, rule }, needs, context) => {
  if (rule.kind === 'checkpoint') return context.recompute(program, inputs, needs).pullback(cotangents)
  const residuals = outputs.slice(cotangents.length)
  const filled = zip(program.outputs, cotangents).map(([{ type }, g]) => g ?? full(type.shape, 0, type.dtype))
  return flat(rule.backward)([...residuals, ...filled])
}

export const rules: { readonly [P in PrimitiveName]: RuleOrZero<P> } = {
  ...pointwiseRules,
  ...movementRules,
  ...reductionRules,
  ...contractionRules,
  ...poolingRules,
  ...indexingRules,
  allReduce: unary<'allReduce'>((g, _x, _y, params) => bindOne('allReduce', [g], params)),
  call,
}
