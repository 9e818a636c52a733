// autocast: mixed precision as a transformation. It sees every primitive on its way to a trace or a device and chooses
// the dtypes of the operands by one total table; explicit casts and f64 are left alone.
import { type Interpreter, bind, scalar, withInterpreter } from '../tensor/dispatch.ts'
import { type DType, isHalf } from '../tensor/dtype.ts'
import { InternalError, ValueError } from '../tensor/errors.ts'
import type { PrimitiveName, PrimitiveParams } from '../tensor/primitives.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { labelOf, refusePromise } from './partition.ts'
import { type Rewriter, baseInterpreter } from './rewriter.ts'

/** The 16-bit dtype of products and convolutions. */
export interface AutocastPolicy {
  readonly compute: 'f16' | 'bf16'
}

/**
 * compute: operands of 32 and 16 bits take the compute dtype, and so does the result.
 * wide: 16-bit operands take f32, and so does the result.
 * follow: where 16 bits meet f32, the f32 operand takes 16 bits; but if it was computed wide on purpose (a sum, an
 *   exponential, a cast to f32), the 16-bit operand takes f32, so that losses stay in f32.
 * none: operands as they are.
 */
export type Treatment = 'compute' | 'wide' | 'follow' | 'none'

/** What autocast does to each primitive. */
export const treatments: { readonly [P in PrimitiveName]: Treatment } = {
  dot: 'compute',
  conv2d: 'compute',
  conv2dInputGrad: 'compute',
  conv2dFilterGrad: 'compute',
  exp: 'wide',
  log: 'wide',
  pow: 'wide',
  sqrt: 'wide',
  rsqrt: 'wide',
  reduceSum: 'wide',
  scatterAdd: 'wide',
  neg: 'follow',
  sin: 'follow',
  cos: 'follow',
  tanh: 'follow',
  sigmoid: 'follow',
  erf: 'follow',
  abs: 'follow',
  sign: 'follow',
  floor: 'follow',
  isFinite: 'follow',
  stopGradient: 'follow',
  add: 'follow',
  sub: 'follow',
  mul: 'follow',
  div: 'follow',
  max: 'follow',
  min: 'follow',
  compare: 'follow',
  select: 'follow',
  broadcast: 'follow',
  reshape: 'follow',
  transpose: 'follow',
  slice: 'follow',
  pad: 'follow',
  concatenate: 'follow',
  reduceMax: 'follow',
  reduceMin: 'follow',
  argMax: 'follow',
  maxPool2d: 'follow',
  maxPool2dGrad: 'follow',
  maxPool2dPick: 'follow',
  avgPool2d: 'follow',
  avgPool2dGrad: 'follow',
  gather: 'follow',
  allReduce: 'follow',
  not: 'none',
  and: 'none',
  or: 'none',
  cast: 'none',
  iota: 'none',
  randomBits: 'none',
  moments: 'none', // takes 16 bits and gives f32 by itself
  call: 'none', // recorded under the policy already
}

/**
 * `f` in mixed precision: matrix products and convolutions in `compute`, reductions and exponentials in f32, the rest
 * in what its operands are. f64 and integers are left alone. Each tensor is cast at most once. Use it around the
 * forward pass, inside grad: the backward pass follows the dtypes of the forward one. Within another autocast the
 * inner policy holds.
 *
 * Source: the op lists of torch.amp and of Micikevicius et al., "Mixed Precision Training", 2018.
 *
 * @throws TraceError if `f` returns a Promise: the policy would end at its first `await`.
 * @example const loss = grad(autocast(lossOf, { compute: 'f16' }))
 */
export function autocast<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  policy: AutocastPolicy,
): (...args: A) => R {
  const label = labelOf('autocast', f)
  const compute: string = policy.compute
  if (compute !== 'f16' && compute !== 'bf16')
    throw new ValueError(`[${label}] expected compute 'f16' or 'bf16', got '${compute}'.`)
  return (...args) => {
    const result = withInterpreter(new Autocast(compute, baseInterpreter()), () => f(...args))
    refusePromise(label, result)
    return result
  }
}

/** How a tensor was made by a movement, so that a cast can be made before it, where there is less to cast. */
interface Movement {
  readonly primitive: 'broadcast' | 'reshape' | 'transpose'
  readonly source: Tensor
  readonly params: PrimitiveParams['broadcast' | 'reshape' | 'transpose']
}

class Autocast implements Rewriter {
  readonly key: string
  readonly below: Interpreter | undefined
  readonly #compute: 'f16' | 'bf16'
  readonly #casts = new WeakMap<Tensor, Map<DType, Tensor>>()
  readonly #movements = new WeakMap<Tensor, Movement>()
  /** f32 tensors that were computed in f32 on purpose. */
  readonly #wide = new WeakSet<Tensor>()

  constructor(compute: 'f16' | 'bf16', below: Interpreter | undefined) {
    this.#compute = compute
    this.key = `autocast:${compute}`
    this.below = below
  }

  above(base: Interpreter | undefined): Rewriter {
    return new Autocast(this.#compute, base)
  }

  bind<P extends PrimitiveName>(
    primitive: P,
    inputs: readonly Tensor[],
    params: PrimitiveParams[P],
  ): readonly Tensor[] {
    const operands = this.#operands(treatments[primitive], inputs)
    const outputs = this.#below(primitive, operands, params)
    this.#note(primitive, operands, params, outputs)
    return outputs
  }

  #below<P extends PrimitiveName>(
    primitive: P,
    inputs: readonly Tensor[],
    params: PrimitiveParams[P],
  ): readonly Tensor[] {
    return withInterpreter(this.below, () => bind(primitive, inputs, params))
  }

  #operands(treatment: Treatment, inputs: readonly Tensor[]): readonly Tensor[] {
    switch (treatment) {
      case 'none':
        return inputs
      case 'compute':
        return inputs.map((x) => (isNarrowable(x) ? this.#cast(x, this.#compute) : x))
      case 'wide':
        return inputs.map((x) => (isHalf(x.dtype) ? this.#cast(x, 'f32') : x))
      case 'follow': {
        const common = this.#common(inputs)
        return common === undefined ? inputs : inputs.map((x) => (isNarrowable(x) ? this.#cast(x, common) : x))
      }
      default:
        return treatment satisfies never
    }
  }

  /** The dtype that f32 and 16-bit operands agree on, undefined where they do not meet. Numbers have no say. */
  #common(inputs: readonly Tensor[]): DType | undefined {
    const floats = inputs.filter(isNarrowable)
    if (new Set(floats.map((x) => x.dtype)).size < 2) return undefined
    const weighty = floats.filter((x) => !this.#isNumber(x))
    const [half, another] = new Set(weighty.map((x) => x.dtype).filter(isHalf))
    if (another !== undefined) return undefined // f16 and bf16: for the user to decide, by the primitive's own error
    return half === undefined || weighty.some((x) => this.#wide.has(x)) ? 'f32' : half
  }

  /** Whether a tensor is a number, perhaps broadcast. */
  #isNumber(x: Tensor): boolean {
    const movement = this.#movements.get(x)
    return movement === undefined ? x.live('autocast').kind === 'literal' : this.#isNumber(movement.source)
  }

  /** x as another dtype: made once, and before the movements that made x. */
  #cast(x: Tensor, dtype: DType): Tensor {
    if (x.dtype === dtype) return x
    const known = this.#casts.get(x) ?? new Map<DType, Tensor>()
    this.#casts.set(x, known)
    const made = known.get(dtype) ?? this.#makeCast(x, dtype)
    known.set(dtype, made)
    return made
  }

  #makeCast(x: Tensor, dtype: DType): Tensor {
    const payload = x.live('autocast')
    if (payload.kind === 'literal') return scalar(payload.value, dtype)
    const movement = this.#movements.get(x)
    const [made] =
      movement === undefined
        ? this.#below('cast', [x], { dtype })
        : this.#below(movement.primitive, [this.#cast(movement.source, dtype)], movement.params)
    if (made === undefined) throw new InternalError('a cast gave no result')
    return made
  }

  #note(primitive: PrimitiveName, operands: readonly Tensor[], params: unknown, outputs: readonly Tensor[]): void {
    const [source] = operands
    const treatment = treatments[primitive]
    const onPurpose =
      treatment === 'wide' ||
      primitive === 'moments' ||
      (primitive === 'cast' && source !== undefined && isHalf(source.dtype)) ||
      (treatment === 'follow' && operands.some((x) => this.#wide.has(x)))
    for (const output of outputs) if (onPurpose && output.dtype === 'f32') this.#wide.add(output)
    if (primitive !== 'broadcast' && primitive !== 'reshape' && primitive !== 'transpose') return
    for (const output of outputs)
      if (source !== undefined) this.#movements.set(output, { primitive, source, params: params as Movement['params'] })
  }
}

/** Whether autocast may change the dtype: f32 and 16-bit floats. */
function isNarrowable(x: Tensor): boolean {
  return x.dtype === 'f32' || isHalf(x.dtype)
}
