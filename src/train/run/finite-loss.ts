// What stops a run whose loss is no number: an error that says at which step, and where in the model it began.
import type { Layer, TensorTree } from '../../nn/layer.ts'
import { PullbackError } from '../../tensor/errors.ts'
import { add } from '../../tensor/ops/pointwise.ts'
import { foldIn } from '../../tensor/random.ts'
import { findNonFinite } from '../finite.ts'
import { type TrainStepOptions, inputsOf, stepKey, trainingMode } from '../step.ts'
import { disposeTree, uploadTraining } from './batch.ts'
import type { Newest, StepReport } from './epoch.ts'

/** Where in the run. */
export interface StepPlace {
  readonly epoch: number
  readonly stepsAnEpoch: number
}

/** How the run takes its steps. */
type Steps<P extends TensorTree, S extends TensorTree> = TrainStepOptions & { readonly model: Layer<P, S> }

/**
 * Stops the run if the loss of a step is not finite and no smaller loss scale can follow. With a dynamic scale such a
 * step is skipped and the scale backs off instead, until it has reached its minimum.
 *
 * The step is run again layer by layer with its own images, random key and weights. It changed nothing itself; but as
 * its loss is read a step late, the next step may have changed the weights since, and then the sentence says so.
 *
 * @throws PullbackError `not-finite` naming the step and the first parameter or layer whose output was not finite. The
 * step itself changed nothing, so a checkpoint written before is sound.
 */
export async function checkFiniteLoss<P extends TensorTree, S extends TensorTree>(
  options: Steps<P, S>,
  report: StepReport,
  newest: Newest<P, S>,
  { epoch, stepsAnEpoch }: StepPlace,
): Promise<void> {
  if (Number.isFinite(report.loss)) return
  const { backoff, min } = newest.state.lossScale
  if ((await backoff.item()) < 1 && report.scale > (await min.item())) return
  const where = await firstNotFinite(options, report, newest)
  const step = `step ${report.step + 1} of ${stepsAnEpoch} in epoch ${epoch + 1}`
  throw new PullbackError(
    'not-finite',
    `[train] expected a finite loss, got ${report.loss} at ${step}; ${where}. Nothing of that step was kept. Lower --lr, or look at the data.`,
  )
}

async function firstNotFinite<P extends TensorTree, S extends TensorTree>(
  options: Steps<P, S>,
  { batches }: StepReport,
  { state: newest, nextApplied }: Newest<P, S>,
): Promise<string> {
  const { params, state } = newest
  // Each step tried, applied or not, adds one to one of the two: so this is the key that the failed step had.
  const tried = nextApplied === undefined ? 1 : 2
  const keyThen = stepKey({ ...newest, step: add(newest.step, -tried) })
  const moved = nextApplied !== undefined && (await nextApplied.item()) !== 0 ? 'with the weights one step later, ' : ''
  for (const [index, batch] of batches.entries()) {
    const batchKey = batches.length === 1 ? keyThen : foldIn(keyThen, index)
    const input = uploadTraining(batch)
    const { images } = inputsOf(options.model, options, input, batchKey)
    const { precision = 'f32' } = options
    const place = await findNonFinite(options.model, params, state, images, { precision, ...trainingMode(batchKey) })
    disposeTree(input)
    if (place === 'input') return 'the images themselves are not finite'
    if (place?.startsWith('parameter ') === true) return `${moved}the first value that is not finite is the ${place}`
    if (place !== undefined) return `${moved}the first output that is not finite is that of ${place}`
  }
  return `${moved}run again layer by layer, every output is finite, so the loss itself was not`
}
