// A training step over several batches, for batches larger than memory. What a pass and a step are is in step.ts.
import { jit } from '../autograd/index.ts'
import { ValueError } from '../tensor/errors.ts'
import { zeros } from '../tensor/ops/create.ts'
import { add, cast, mul } from '../tensor/ops/pointwise.ts'
import { foldIn } from '../tensor/random.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Layer, TensorTree } from '../nn/layer.ts'
import { mapTensors } from './map.ts'
import type { TrainState } from './state.ts'
import {
  type Pass,
  type TrainBatch,
  type TrainMetrics,
  type TrainStepOptions,
  applyGradients,
  checkRate,
  differentiate,
  stepKey,
} from './step.ts'

/** One step over several batches. */
export interface AccumulatingStep<P extends TensorTree, S extends TensorTree> {
  (state: TrainState<P, S>, batches: readonly TrainBatch[], learningRate: Tensor): [TrainState<P, S>, TrainMetrics]
  /** Forgets and releases everything compiled so far. */
  clear(): void
}

/** A pass in progress over several batches: sums, and how many there were (i32). */
type Accumulator<P extends TensorTree, S extends TensorTree> = Pass<P, S> & { readonly batches: Tensor }

/**
 * A training step over `count` batches: gradients are those of the mean loss over all of them, batch norms see one batch
 * at a time, and the decision to skip is one for all. Two programs are compiled, whatever the count: one that adds a
 * batch, one that takes the step. The state is donated.
 *
 * @throws ValueError if another number of batches is given.
 */
export function makeAccumulatingStep<P extends TensorTree, S extends TensorTree>(
  model: Layer<P, S>,
  options: TrainStepOptions,
  count: number,
): AccumulatingStep<P, S> {
  if (!(Number.isInteger(count) && count >= 1))
    throw new ValueError(`[makeAccumulatingStep] expected at least one batch a step, got ${count}.`)
  const { optimize = 'fuse' } = options
  const begin = jit((state: TrainState<P, S>) => emptyAccumulator(state), { label: 'beginStep', optimize })
  const accumulate = jit(
    (state: TrainState<P, S>, sums: Accumulator<P, S>, batch: TrainBatch): Accumulator<P, S> => {
      const pass = differentiate(model, options, state, sums.state, batch, foldIn(stepKey(state), sums.batches))
      return {
        gradients: addTrees(sums.gradients, pass.gradients),
        state: pass.state,
        metrics: addTrees(sums.metrics, pass.metrics),
        batches: add(sums.batches, 1),
      }
    },
    { donate: [1], label: 'accumulate', optimize },
  )
  const finish = jit(
    (state: TrainState<P, S>, { batches: _, ...sums }: Accumulator<P, S>, learningRate: Tensor) => {
      checkRate(learningRate)
      const gradients = mapTensors(sums.gradients, (g) => mul(g, 1 / count))
      return applyGradients(options, state, { ...sums, gradients }, learningRate)
    },
    { donate: [0, 1], label: 'finishStep', optimize },
  )
  const step = (
    state: TrainState<P, S>,
    batches: readonly TrainBatch[],
    learningRate: Tensor,
  ): [TrainState<P, S>, TrainMetrics] => {
    if (batches.length !== count)
      throw new ValueError(`[accumulatingStep] expected ${count} batches, got ${batches.length}.`)
    const sums = batches.reduce((sum, batch) => accumulate(state, sum, batch), begin(state))
    return finish(state, sums, learningRate)
  }
  const clear = (): void => [begin, accumulate, finish].forEach((part) => part.clear())
  return Object.assign(step, { clear })
}

function emptyAccumulator<P extends TensorTree, S extends TensorTree>({
  params,
  state,
}: TrainState<P, S>): Accumulator<P, S> {
  const zero = (): Tensor => zeros([])
  return {
    gradients: mapTensors(params, (p) => zeros(p.shape)),
    state,
    metrics: { loss: zero(), top1: zero(), topk: zero(), count: zero() },
    batches: zeros([], 'i32'),
  }
}

function addTrees<T extends TensorTree>(a: T, b: T): T {
  return mapTensors(a, (x, _path, y = x) => add(x, cast(y, x.dtype)), b)
}
