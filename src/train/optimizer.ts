// Optimizers as pairs of pure functions over f32 trees. PyTorch's formulas, so that published recipes hold.
import { ValueError } from '../tensor/errors.ts'
import { tensor } from '../tensor/ops/create.ts'
import { add, cast, div, mul, sqrt, square, sub } from '../tensor/ops/pointwise.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { TensorTree } from '../nn/layer.ts'
import { mapTensors, mapToPair } from './map.ts'

/** An optimizer: how its state begins, and one step. */
export interface Optimizer<S extends TensorTree = TensorTree> {
  /** The state before the first step, on the default device. */
  init(params: TensorTree): S
  /** New parameters and state from f32 gradients and a learning rate (an f32 scalar tensor, so that it may change). */
  update<P extends TensorTree>(params: P, gradients: P, state: S, learningRate: Tensor): readonly [params: P, state: S]
}

/** Weight decay, added to the gradient (L2, as PyTorch's optimizers do). */
export interface DecayOptions {
  /** The coefficient; 0 unless said otherwise. */
  readonly weightDecay?: number
  /** Which parameters decay, by path; all but those of batch norms unless said otherwise. */
  readonly decays?: (path: string) => boolean
}

/** How SGD moves. */
export interface SgdOptions extends DecayOptions {
  /** 0 unless said otherwise. */
  readonly momentum?: number
  readonly nesterov?: boolean
}

/** The state of SGD: a velocity for each parameter, if there is momentum. */
export type SgdState = { readonly momentum?: TensorTree }

/**
 * Whether a path belongs to a batch norm by the names used here: `bn1.weight`, `norm.bias`, or the second part of a
 * shortcut, `downsample.1.weight`.
 */
export function isBatchNormPath(path: string): boolean {
  return /(^|\.)((bn|norm|batchNorm)\d*|downsample\.1)\.(weight|bias)$/.test(path)
}

/**
 * Stochastic gradient descent: g = gradient + weightDecay p; v = momentum v + g; p = p - rate v, or with Nesterov's
 * momentum p = p - rate (g + momentum v).
 *
 * @throws ValueError for a momentum outside [0, 1), a negative decay, or nesterov without momentum.
 */
export function sgd(options: SgdOptions = {}): Optimizer<SgdState> {
  const { momentum = 0, nesterov = false } = options
  if (!(momentum >= 0 && momentum < 1)) throw new ValueError(`[sgd] expected a momentum in [0, 1), got ${momentum}.`)
  if (nesterov && momentum === 0)
    throw new ValueError('[sgd] nesterov needs a momentum above 0. Set one, or leave it out.')
  const decayed = decay('sgd', options)
  return {
    init: (params) => (momentum === 0 ? {} : { momentum: zerosOf(params) }),
    update(params, gradients, state, learningRate) {
      const step = (p: Tensor, direction: Tensor): Tensor => sub(p, mul(direction, cast(learningRate, p.dtype)))
      if (state.momentum === undefined)
        return [mapTensors(params, (p, path, g = p) => step(p, decayed(path, p, g)), gradients), state]
      const [next, velocity] = mapToPair(
        params,
        (p, path, gradient = p, v = p) => {
          const g = decayed(path, p, gradient)
          const moved = add(mul(v, momentum), g)
          return [step(p, nesterov ? add(g, mul(moved, momentum)) : moved), moved]
        },
        gradients,
        state.momentum,
      )
      return [next, { momentum: velocity }]
    },
  }
}

/** How RMSprop moves. */
export interface RmspropOptions extends DecayOptions {
  /** How slowly the mean of squares moves: 0.9 unless said otherwise (NVIDIA's recipes). */
  readonly alpha?: number
  /** Added to the root: 1e-3 unless said otherwise (NVIDIA's recipes). */
  readonly epsilon?: number
  /** 0 unless said otherwise. */
  readonly momentum?: number
}

/** The state of RMSprop: the mean of squared gradients and the velocity of each parameter. */
export type RmspropState = { readonly square: TensorTree; readonly momentum: TensorTree }

/** RMSprop: s = alpha s + (1 - alpha) g g; v = momentum v + g / (sqrt(s) + epsilon); p = p - rate v. */
export function rmsprop(options: RmspropOptions = {}): Optimizer<RmspropState> {
  const { alpha = 0.9, epsilon = 1e-3, momentum = 0 } = options
  const decayed = decay('rmsprop', options)
  return {
    init: (params) => ({ square: zerosOf(params), momentum: zerosOf(params) }),
    update(params, gradients, state, learningRate) {
      const direction = mapTensors(gradients, (gradient, path, p = gradient) => decayed(path, p, gradient), params)
      const squares = mapTensors(
        direction,
        (g, _path, s = g) => add(mul(s, alpha), mul(square(g), 1 - alpha)),
        state.square,
      )
      const velocity = mapTensors(
        direction,
        (g, _path, s = g, v = g) => add(mul(v, momentum), div(g, add(sqrt(s), epsilon))),
        squares,
        state.momentum,
      )
      const next = mapTensors(params, (p, _path, v = p) => sub(p, mul(v, cast(learningRate, p.dtype))), velocity)
      return [next, { square: squares, momentum: velocity }]
    },
  }
}

function decay(op: string, { weightDecay = 0, decays = (path) => !isBatchNormPath(path) }: DecayOptions) {
  if (!(weightDecay >= 0)) throw new ValueError(`[${op}] expected a weight decay of at least 0, got ${weightDecay}.`)
  return (path: string, p: Tensor, gradient: Tensor): Tensor => {
    const g = cast(gradient, p.dtype)
    return weightDecay !== 0 && decays(path) ? add(g, mul(p, weightDecay)) : g
  }
}

/** Zeros uploaded from the host: no kernel has to be made for them. */
function zerosOf(params: TensorTree): TensorTree {
  return mapTensors(params, (p) =>
    tensor(p.dtype === 'f64' ? new Float64Array(p.size) : new Float32Array(p.size), { shape: p.shape }),
  )
}
