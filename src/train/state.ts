// The train state: everything a run carries from step to step, as one tree of tensors.
import { tensor } from '../tensor/ops/create.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { TensorTree, Variables } from '../nn/layer.ts'
import { type LossScale, none } from './loss-scale.ts'
import { mapTensors } from './map.ts'
import type { Optimizer } from './optimizer.ts'
import { seedWords } from '../tensor/philox.ts'

/** All there is to a run in progress; a checkpoint is this tree by path. */
export type TrainState<P extends TensorTree = TensorTree, S extends TensorTree = TensorTree> = {
  /** The f32 master weights. */
  readonly params: P
  /** Running statistics. */
  readonly state: S
  readonly optimizer: TensorTree
  /** Averages of params and state, if they are kept. */
  readonly ema?: { readonly params: P; readonly state: S }
  readonly lossScale: LossScale
  /** Steps applied: i32. */
  readonly step: Tensor
  /** Steps skipped because something was not finite: i32. */
  readonly skipped: Tensor
  /** The random key of the run, i32[2]; each step folds its own number into it. */
  readonly key: Tensor
}

/** What a run starts with. */
export interface TrainStateOptions {
  readonly optimizer: Optimizer
  /** Where the run's randomness starts: an integer of up to 53 bits. */
  readonly seed: number
  /** `none()` unless said otherwise. */
  readonly lossScale?: LossScale
  /** Whether to keep an average of weights and statistics. */
  readonly ema?: boolean
}

/**
 * The state before the first step. The tensors of `variables` and of the loss scale become part of it, so donating the
 * state donates them; averages start as copies.
 */
export async function initTrainState<P extends TensorTree, S extends TensorTree>(
  { params, state }: Pick<Variables<P, S>, 'params' | 'state'>,
  options: TrainStateOptions,
): Promise<TrainState<P, S>> {
  const { optimizer, seed, lossScale = none(), ema = false } = options
  return {
    params,
    state,
    optimizer: optimizer.init(params),
    ...(ema ? { ema: { params: await copyOf(params), state: await copyOf(state) } } : {}),
    lossScale,
    step: tensor(0, { dtype: 'i32' }),
    skipped: tensor(0, { dtype: 'i32' }),
    key: tensor(Int32Array.from(seedWords(seed))),
  }
}

async function copyOf<T extends TensorTree>(tree: T): Promise<T> {
  const originals: Tensor[] = []
  mapTensors(tree, (x) => {
    originals.push(x)
    return x
  })
  const data = await Promise.all(originals.map((x) => x.data()))
  let next = 0
  return mapTensors(tree, (x) => tensor(data[next++] ?? [], { shape: x.shape, dtype: x.dtype }))
}
