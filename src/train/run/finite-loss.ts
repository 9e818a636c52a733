// What stops a run whose loss is no number: an error that says at which step, and where in the model it began.
import type { Layer, TensorTree } from '../../nn/layer.ts'
import { PullbackError } from '../../tensor/errors.ts'
import type { EvalStepOptions } from '../eval-step.ts'
import { findNonFinite } from '../finite.ts'
import { normalize } from '../normalize.ts'
import type { TrainState } from '../state.ts'
import { disposeTree, uploadTraining } from './batch.ts'
import type { StepReport } from './epoch.ts'

/** Where in the run. */
export interface StepPlace {
  readonly epoch: number
  readonly stepsAnEpoch: number
}

/**
 * Stops the run if the loss of a step is not finite and no smaller loss scale can follow. With a dynamic scale such a
 * step is skipped and the scale backs off instead, until it has reached its minimum.
 *
 * @throws PullbackError `not-finite` naming the step and the first parameter or layer whose output was not finite. The
 * step itself changed nothing, so a checkpoint written before is sound.
 */
export async function checkFiniteLoss<P extends TensorTree, S extends TensorTree>(
  options: EvalStepOptions & { readonly model: Layer<P, S> },
  report: StepReport,
  newest: TrainState<P, S>,
  { epoch, stepsAnEpoch }: StepPlace,
): Promise<void> {
  if (Number.isFinite(report.loss)) return
  const [backoff, min] = await Promise.all([newest.lossScale.backoff.item(), newest.lossScale.min.item()])
  if (backoff < 1 && report.scale > min) return
  const where = await firstNotFinite(options, report, newest)
  const step = `step ${report.step + 1} of ${stepsAnEpoch} in epoch ${epoch + 1}`
  throw new PullbackError(
    'not-finite',
    `[train] expected a finite loss, got ${report.loss} at ${step}; ${where}. Nothing of that step was kept. Lower --lr, or look at the data.`,
  )
}

async function firstNotFinite<P extends TensorTree, S extends TensorTree>(
  { model, precision = 'f32', normalization }: EvalStepOptions & { readonly model: Layer<P, S> },
  { batches }: StepReport,
  { params, state, key }: TrainState<P, S>,
): Promise<string> {
  for (const batch of batches) {
    const input = uploadTraining(batch)
    const images = normalize(input.images, normalization)
    const place = await findNonFinite(model, params, state, images, { precision, key })
    disposeTree(input)
    if (place === 'input') return 'the images themselves are not finite'
    if (place?.startsWith('parameter ') === true) return `the first value that is not finite is the ${place}`
    if (place !== undefined) return `the first output that is not finite is that of ${place}`
  }
  return 'run again layer by layer, every output is finite, so the loss itself or a blend of images was not'
}
