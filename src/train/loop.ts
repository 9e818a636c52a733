// The training loop: epochs of steps, evaluations, checkpoints, records and progress, around one compiled step.
// Batches come from a source (run/source.ts), a run begins in run/start.ts, and flags are the programs' business.
import type { Layer, TensorTree } from '../nn/layer.ts'
import { defaultDevice } from '../tensor/dispatch.ts'
import { ValueError } from '../tensor/errors.ts'
import { makeAccumulatingStep } from './accumulate.ts'
import { type RunIdentity, type RunPosition, checkpointEntries, checkpointMetadata } from './checkpoint.ts'
import { type EvalStep, makeEvalStep } from './eval-step.ts'
import { saveCheckpoint } from './files/checkpoint.ts'
import type { RunLog } from './report/dllogger.ts'
import type { ProgressReporter } from './report/progress.ts'
import { computedNotes } from './run/computed.ts'
import { type DeviceReporter, deviceReporter } from './run/device-report.ts'
import { type EpochResult, type StepFunction, trainEpoch } from './run/epoch.ts'
import { type Evaluation, evaluate } from './run/evaluate.ts'
import { checkFiniteLoss } from './run/finite-loss.ts'
import { type RunReporter, runReporter } from './run/report.ts'
import type { DataSource } from './run/source.ts'
import type { Run } from './run/start.ts'
import type { Schedule } from './schedule.ts'
import { type TrainStepOptions, makeTrainStep } from './step.ts'

/** Where checkpoints go, and which. */
export interface LoopCheckpoints {
  readonly dir: string
  /** Keep a numbered file of every so many epochs; 0 (the default): none. */
  readonly every?: number
  /** How many numbered files to keep; all by default. */
  readonly keep?: number
  /** What a reader of the file will want to know: the architecture's name, say. */
  readonly notes?: Readonly<Record<string, string>>
}

/** What a run needs, and whom it tells. */
export interface FitOptions<P extends TensorTree, S extends TensorTree> extends TrainStepOptions {
  readonly model: Layer<P, S>
  /** How the run begins; its state is donated. */
  readonly run: Run<P, S>
  readonly data: DataSource
  /** The learning rate of each epoch. */
  readonly schedule: Schedule
  /** The length of the whole run. */
  readonly epochs: number
  /** How many epochs to run now (--run-epochs); all that are left by default. */
  readonly runEpochs?: number
  /** Batches a step (--optimizer-batch-size); 1 by default. */
  readonly accumulate?: number
  /** Whether to evaluate after each epoch; true by default. */
  readonly evaluation?: boolean
  /** Only so many steps of each epoch and batches of each evaluation (--prof); all by default. */
  readonly limit?: number
  /** Stop when so many epochs in a row brought no better top-1; never by default. */
  readonly patience?: number
  /** None are saved by default. */
  readonly checkpoints?: LoopCheckpoints
  readonly log?: RunLog
  readonly progress?: ProgressReporter
  /** A record of every so many steps goes to the log (--print-freq); 10 by default. */
  readonly printEvery?: number
  /** Stops the run after the step in progress, with a checkpoint to resume from. */
  readonly signal?: AbortSignal
}

/** Why a run came to its end. */
export type Ending = 'completed' | 'stopped early' | 'interrupted'

/** How a run ended. */
export interface FitResult<P extends TensorTree, S extends TensorTree> {
  readonly ending: Ending
  readonly run: Run<P, S>
  /** The last evaluation, if there was one. */
  readonly evaluation: Evaluation | undefined
}

/** What stays the same from epoch to epoch. */
interface Context<P extends TensorTree, S extends TensorTree> {
  readonly options: FitOptions<P, S>
  readonly step: StepFunction<P, S>
  readonly evalStep: EvalStep<P, S>
  readonly stepsAnEpoch: number
  readonly report: RunReporter
  readonly device: DeviceReporter
}

/**
 * Trains a model: the step is compiled once and donates the state, metrics are read a step late, each epoch ends with an
 * evaluation and a checkpoint. A run that is resumed from a checkpoint takes the steps an uninterrupted one would have
 * taken, to the bit.
 *
 * @throws PullbackError 'not-finite', naming the step and the layer, when the loss is no number and no loss scale could
 * mend that; 'data' or 'file' when images or checkpoints fail
 */
export async function fit<P extends TensorTree, S extends TensorTree>(
  options: FitOptions<P, S>,
): Promise<FitResult<P, S>> {
  const context = await prepare(options)
  const last = Math.min(options.epochs, options.run.position.epoch + (options.runEpochs ?? Infinity))
  let [run, evaluation, ending]: [Run<P, S>, Evaluation | undefined, Ending] = [options.run, undefined, 'completed']
  try {
    while (run.position.epoch < last && ending === 'completed') {
      const epoch = await runEpoch(context, run)
      run = epoch.run
      evaluation = epoch.evaluation ?? evaluation
      ending = epoch.interrupted ? 'interrupted' : outOfPatience(options, run.position) ? 'stopped early' : 'completed'
    }
    context.report.finish(ending)
    return { ending, run, evaluation }
  } finally {
    context.step.clear()
    context.evalStep.clear()
    context.device.close()
  }
}

async function prepare<P extends TensorTree, S extends TensorTree>(options: FitOptions<P, S>): Promise<Context<P, S>> {
  const { data, accumulate = 1, limit = Infinity, run } = options
  const stepsAnEpoch = Math.min(limit, Math.floor(data.trainBatches / accumulate))
  if (stepsAnEpoch < 1)
    throw new ValueError(
      `[train] expected at least one step of ${accumulate} x ${data.batchSize} images in an epoch, got ${data.trainImages} images. Lower the batch size.`,
    )
  return {
    options,
    step: stepFunction(options),
    evalStep: makeEvalStep(options.model, options),
    stepsAnEpoch,
    report: runReporter({ ...options, stepsAnEpoch, skipped: await run.state.skipped.item() }),
    device: deviceReporter(defaultDevice(), options, run.computed),
  }
}

function stepFunction<P extends TensorTree, S extends TensorTree>(options: FitOptions<P, S>): StepFunction<P, S> {
  const { accumulate = 1, model } = options
  if (accumulate > 1) return makeAccumulatingStep(model, options, accumulate)
  const step = makeTrainStep(model, options)
  const single = (
    ...[state, [batch], learningRate]: Parameters<StepFunction<P, S>>
  ): ReturnType<StepFunction<P, S>> => {
    if (batch === undefined) throw new ValueError('[train] expected one batch a step, got none.')
    return step(state, batch, learningRate)
  }
  return Object.assign(single, { clear: () => step.clear() })
}

interface EpochOutcome<P extends TensorTree, S extends TensorTree> {
  readonly run: Run<P, S>
  readonly evaluation: Evaluation | undefined
  readonly interrupted: boolean
}

/** The rest of the epoch in progress: steps, evaluation, checkpoint. */
async function runEpoch<P extends TensorTree, S extends TensorTree>(
  context: Context<P, S>,
  run: Run<P, S>,
): Promise<EpochOutcome<P, S>> {
  const { options, stepsAnEpoch } = context
  const trained = await trainSteps(context, run)
  const { state, step } = trained
  const reached: Run<P, S> = { ...run, state, position: { ...run.position, step } }
  const evaluation = step < stepsAnEpoch ? undefined : await validate(context, reached)
  const interrupted = step < stepsAnEpoch || (evaluation === undefined && options.evaluation !== false)
  if (interrupted) {
    await save(options, reached, {})
    return { run: reached, evaluation, interrupted }
  }
  const isBest = evaluation !== undefined && (run.position.bestEpoch < 0 || evaluation.top1 > run.position.bestTop1)
  const position: RunPosition = {
    epoch: run.position.epoch + 1,
    step: 0,
    bestTop1: isBest ? evaluation.top1 : run.position.bestTop1,
    bestEpoch: isBest ? run.position.epoch : run.position.bestEpoch,
  }
  const next: Run<P, S> = { ...run, state, position }
  await save(options, next, { isBest, ended: run.position.epoch })
  return { run: next, evaluation, interrupted: options.signal?.aborted === true && position.epoch < options.epochs }
}

function trainSteps<P extends TensorTree, S extends TensorTree>(
  { options, step, stepsAnEpoch, report, device }: Context<P, S>,
  { state, position }: Run<P, S>,
): Promise<EpochResult<P, S>> {
  const { data, accumulate = 1, schedule } = options
  const { epoch } = position
  const learningRate = schedule(epoch)
  report.beginEpoch(epoch, learningRate)
  return trainEpoch(state, {
    step,
    batches: data.train(epoch, position.step * accumulate),
    accumulate,
    from: position.step,
    to: stepsAnEpoch,
    learningRate,
    compiles: report.stepsSeen === 0,
    signal: options.signal,
    onStep: async (told, newest) => {
      report.step(told)
      if (told.firstSeconds !== undefined) device.prepared()
      await checkFiniteLoss(options, told, newest, { epoch, stepsAnEpoch })
    },
  }).then((result) => {
    if (result.means !== undefined && result.step === stepsAnEpoch) report.endEpoch(result.means, result.rates)
    return result
  })
}

/** Evaluates the averages where they are kept, else the weights; undefined if interrupted or not wanted. */
async function validate<P extends TensorTree, S extends TensorTree>(
  { options, evalStep, report, device }: Context<P, S>,
  { state, position }: Run<P, S>,
): Promise<Evaluation | undefined> {
  if (options.evaluation === false) return undefined
  const { limit, signal, data } = options
  const found = await evaluate(evalStep, state.ema ?? state, data.validation(), {
    ...(limit === undefined ? {} : { limit }),
    ...(signal === undefined ? {} : { signal }),
    onBatch: (done, total, means, rates) => report.evaluating(position.epoch, done, total, means, rates),
  })
  if (found !== undefined) report.evaluated(position.epoch, found)
  device.prepared()
  return found
}

interface SaveOptions {
  readonly isBest?: boolean
  /** The epoch that has ended, if one has. */
  readonly ended?: number
}

async function save<P extends TensorTree, S extends TensorTree>(
  options: FitOptions<P, S>,
  { state, position, seed }: Run<P, S>,
  { isBest = false, ended }: SaveOptions,
): Promise<void> {
  const { checkpoints, data, accumulate = 1 } = options
  if (checkpoints === undefined) return
  const identity: RunIdentity = { seed, batchSize: data.batchSize, accumulate, trainImages: data.trainImages }
  const { dir, every = 0, keep, notes } = checkpoints
  await saveCheckpoint(
    dir,
    {
      epoch: ended ?? position.epoch,
      isBest,
      every: ended === undefined ? 0 : every,
      ...(keep === undefined ? {} : { keep }),
    },
    await checkpointEntries(state),
    checkpointMetadata(position, identity, { ...notes, ...computedNotes(defaultDevice()) }),
  )
}

function outOfPatience({ patience = Infinity }: { readonly patience?: number }, position: RunPosition): boolean {
  return position.bestEpoch >= 0 && position.epoch - 1 - position.bestEpoch >= patience
}
