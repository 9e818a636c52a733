// How a run begins: from first values, or where a checkpoint left off. What happens then is loop.ts's business.
import { defaultDevice } from '../../tensor/dispatch.ts'
import { PullbackError } from '../../tensor/errors.ts'
import { tensor } from '../../tensor/ops/create.ts'
import { type Shape, sizeOf } from '../../tensor/shape.ts'
import { type Layer, type TensorTree, type Variables, variables } from '../../nn/layer.ts'
import { type Checkpoint, type RunIdentity, type RunPosition, isRunEntry, restoreState } from '../checkpoint.ts'
import { type SqueezeWidth, squeezeWidth } from '../files/names.ts'
import type { LossScale } from '../loss-scale.ts'
import type { Optimizer } from '../optimizer.ts'
import { type Computed, computedOf, preferComputed } from './computed.ts'
import { type TrainState, initTrainState } from '../state.ts'

/** A run between two steps: everything that the next step depends on. */
export interface Run<P extends TensorTree = TensorTree, S extends TensorTree = TensorTree> {
  readonly state: TrainState<P, S>
  readonly position: RunPosition
  /** Where order, augmentation and the step's randomness start. */
  readonly seed: number
  /** How it was computed before, where it is resumed and its device had a choice. */
  readonly computed?: Computed
}

/** What a run starts from. */
export interface StartOptions {
  readonly optimizer: Optimizer
  readonly lossScale: LossScale
  /** Whether to keep averages of weights and statistics. */
  readonly ema?: boolean
  readonly seed: number
}

/** A run before its first step. The tensors given become part of it. */
export async function startRun<P extends TensorTree, S extends TensorTree>(
  values: Pick<Variables<P, S>, 'params' | 'state'>,
  options: StartOptions,
): Promise<Run<P, S>> {
  const state = await initTrainState(values, options)
  return { state, position: { epoch: 0, step: 0, bestTop1: 0, bestEpoch: -1 }, seed: options.seed }
}

/**
 * The run that a checkpoint holds, to the bit: the state (loss scale included), the position and the seed are the
 * checkpoint's; of the options only the optimizer's kind, and whether there are averages, must be those of that run. The
 * default device is asked to compute it as it was computed before.
 *
 * @throws PullbackError `file` naming the tensor that does not fit
 */
export async function resumeRun<P extends TensorTree, S extends TensorTree>(
  model: Layer<P, S>,
  inputShape: Shape,
  checkpoint: Checkpoint,
  options: Omit<StartOptions, 'seed'>,
): Promise<Run<P, S>> {
  const { seed } = checkpoint.identity
  const computed = computedOf(checkpoint)
  if (computed !== undefined) preferComputed(computed, defaultDevice())
  const blank = variables<P, S>(model, inputShape, (_path, { shape }) =>
    tensor(new Float32Array(sizeOf(shape)), { shape }),
  )
  const like = await initTrainState(blank, { ...options, seed })
  const state = restoreState(checkpoint, like)
  return { state, position: checkpoint.position, seed, ...(computed === undefined ? {} : { computed }) }
}

/** The squeeze width of the model in a checkpoint: an option of the architecture. */
export function squeezeOf({ tensors }: Checkpoint): SqueezeWidth {
  return squeezeWidth([...tensors].filter(([name]) => !isRunEntry(name)).map(([name, { shape }]) => [name, shape]))
}

/**
 * Whether a run may go on in the middle of an epoch: its batches must be the ones it would have had.
 *
 * @throws PullbackError `value` naming what differs
 */
export function checkIdentity({ path, position, identity }: Checkpoint, now: RunIdentity): void {
  if (position.step === 0) return
  const named = { batchSize: 'batch size', accumulate: 'batches a step', trainImages: 'training images', seed: 'seed' }
  for (const key of ['batchSize', 'accumulate', 'trainImages', 'seed'] as const) {
    if (identity[key] === now[key]) continue
    throw new PullbackError(
      'value',
      `[checkpoint] ${path} was saved within an epoch, after step ${position.step}: expected ${named[key]} ${identity[key]} as then, got ${now[key]}.`,
    )
  }
}
