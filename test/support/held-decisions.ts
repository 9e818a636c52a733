// The yes-or-no decisions of a forward pass (which side of a ReLU an element is on, which element of a window is the
// largest), recorded in one pass and taken again in another, whose rounding would have decided some of them otherwise.
import { type Interpreter, bind, currentInterpreter, withInterpreter } from '../../src/tensor/dispatch.ts'
import { cast, greater, mul } from '../../src/tensor/ops/index.ts'
import type { PrimitiveName, PrimitiveParams } from '../../src/tensor/primitives.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

/** What decides, in the order of the forward pass: 1 or 0 for each element of a ReLU, the operand of a max pool. */
export type Decisions = readonly Tensor[]

/** Runs (or traces) a forward pass in f32 and gives its decisions. */
export function recordDecisions(forward: () => unknown): Decisions {
  const found: Tensor[] = []
  intercept(forward, {
    relu: (x) => void found.push(cast(greater(x, 0), 'f32')),
    pool: (x) => void found.push(x),
  })
  return found
}

/** Runs a forward pass of the same model with those decisions instead of its own: a smooth function of its parameters. */
export function withDecisions<T>(decisions: Decisions, forward: () => T): T {
  const left = [...decisions]
  const next = (): Tensor => {
    const decision = left.shift()
    if (decision === undefined) throw new Error('more decisions than were recorded')
    return decision
  }
  const result = intercept(forward, {
    relu: (x) => mul(x, cast(next(), x.dtype)),
    pool: (x, params) => {
      const [picked] = bind('maxPool2dPick', [next(), cast(x, 'f32')], params)
      return picked === undefined ? undefined : cast(picked, x.dtype) // picking in f32 is exact
    },
  })
  if (left.length > 0) throw new Error(`${left.length} decisions were not taken`)
  return result
}

/** What to do instead; undefined leaves the primitive as it is. */
interface Instead {
  relu(x: Tensor): Tensor | undefined
  pool(x: Tensor, params: PrimitiveParams['maxPool2d']): Tensor | undefined
}

/** Runs `body` with another meaning of max(x, .) and max pools, above the interpreter in force. */
function intercept<T>(body: () => T, instead: Instead): T {
  const below = currentInterpreter()
  const replace = (primitive: PrimitiveName, x: Tensor, params: unknown): Tensor | undefined => {
    if (primitive === 'max') return instead.relu(x)
    return primitive === 'maxPool2d' ? instead.pool(x, params as PrimitiveParams['maxPool2d']) : undefined
  }
  const above: Interpreter = {
    bind: (primitive, inputs, params) =>
      withInterpreter(below, () => {
        const [x] = inputs
        const replaced = x === undefined ? undefined : replace(primitive, x, params)
        return replaced === undefined ? bind(primitive, inputs, params) : [replaced]
      }),
  }
  return withInterpreter(above, body)
}
