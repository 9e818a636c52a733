// Trains or evaluates a model on an image folder: flags to options, then train.fit. `npx tsx examples/imagenet/main.ts -h`.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Device, PullbackError, defaultDevice, nn, train } from 'pullback'
import { type TrainArguments, parseTraining } from './options.ts'
import {
  type Architectures,
  type StopRequest,
  chooseDevice,
  header,
  isProgram,
  main,
  parameterCount,
  squeezeOption,
  stopOnSignals,
} from './program.ts'

/** How a run ended. */
export interface Outcome {
  /** 0, or 130 and 143 after SIGINT and SIGTERM. */
  readonly exitCode: number
  /** The best top-1 of the run's evaluations, in percent: that of model_best.safetensors. */
  readonly bestTop1: number
}

type ResNetRun = train.Run<nn.ResNetParams, nn.ResNetState>

/** Runs main.ts with these flags; ends the process if they are not right. */
export async function run(argv: readonly string[], architectures: Architectures = nn.architectures): Promise<Outcome> {
  const flags = parseTraining(argv, architectures)
  const device = chooseDevice(flags.device)
  const progress = train.progressReporter(process.stdout, { every: flags.print_freq })
  const say = (text: string): void => progress.message(text)
  const checkpoint = flags.resume === undefined ? undefined : await openCheckpoint(flags)
  const data = await openData(flags, checkpoint?.identity.seed ?? flags.seed, say)
  const { model, initial } = await openModel(flags, architectures, data, checkpoint, say)
  const plan = trainingPlan(flags, data)
  say(describe(flags, device, model, data).trimEnd())
  await mkdir(flags.workspace, { recursive: true })
  const log = train.openRunLog(join(flags.workspace, flags.raport_file))
  using stop = stopOnSignals((name) => say(`${name}: finishing the step in progress`))
  try {
    log.log('PARAMETER', { ...flags, lr: plan.learningRate, device: device.description, ...device.details() })
    const start = await initial(plan)
    if (flags.evaluate) return await evaluateOnly(flags, model, start, data, { log, progress }, stop)
    const { ending, run: ended } = await train.fit({
      model,
      run: start,
      data,
      ...plan,
      ...settings(flags, data),
      log,
      progress,
      signal: stop.signal,
    })
    train.disposeTree(ended.state)
    if (data.broken > 0) say(`${data.broken} images could not be read`)
    return { exitCode: ending === 'interrupted' ? stop.exitCode : 0, bestTop1: ended.position.bestTop1 }
  } finally {
    progress.finish()
    log.close()
  }
}

/** What the flags say of the optimizer, its rate and the numbers computed with. */
function trainingPlan(flags: TrainArguments, data: train.DataSource) {
  const { batchSize } = data
  const accumulate = flags.optimizer_batch_size === -1 ? 1 : flags.optimizer_batch_size / batchSize
  const learningRate = flags.lr ?? (0.256 * batchSize * accumulate) / 256
  const precision: train.Precision = flags.amp ? 'f16' : 'f32'
  const decay = {
    weightDecay: flags.weight_decay,
    ...(flags.bn_weight_decay ? { decays: () => true } : {}),
  }
  const { momentum, nesterov } = flags
  const optimizer: train.Optimizer =
    flags.optimizer === 'sgd'
      ? train.sgd({ ...decay, momentum, nesterov })
      : train.rmsprop({ ...decay, momentum, alpha: flags.rmsprop_alpha, epsilon: flags.rmsprop_eps })
  const falling = { learningRate, warmup: flags.warmup, epochs: flags.epochs, endLearningRate: flags.end_lr }
  const schedules = { step: train.stepSchedule, linear: train.linearSchedule, cosine: train.cosineSchedule }
  return { accumulate, learningRate, precision, optimizer, schedule: schedules[flags.lr_schedule](falling) }
}

function lossScale({ amp, static_loss_scale: fixed, dynamic_loss_scale: dynamic }: TrainArguments): train.LossScale {
  if (fixed !== undefined) return train.fixed(fixed)
  return dynamic ? train.dynamic() : train.defaultLossScale(amp ? 'f16' : 'f32')
}

/** The rest of what the flags say of a run. */
function settings(flags: TrainArguments, data: train.DataSource) {
  const { prof, gather_checkpoints: gather, checkpoint_every: every } = flags
  return {
    epochs: flags.epochs,
    labelSmoothing: flags.label_smoothing,
    mixup: flags.mixup,
    topk: flags.topk,
    printEvery: flags.print_freq,
    evaluation: !flags.training_only,
    ...(flags.use_ema === undefined ? {} : { emaDecay: flags.use_ema }),
    ...(flags.run_epochs === -1 ? {} : { runEpochs: flags.run_epochs }),
    ...(flags.early_stopping_patience === -1 ? {} : { patience: flags.early_stopping_patience }),
    ...(prof === -1 ? {} : { limit: prof }),
    ...(flags.no_checkpoints
      ? {}
      : {
          checkpoints: {
            dir: flags.workspace,
            every: gather > 0 ? 1 : every,
            ...(gather > 0 ? { keep: gather } : {}),
            notes: {
              arch: flags.arch,
              image_size: String(flags.image_size),
              class_names: JSON.stringify(data.classNames),
            },
          },
        }),
  }
}

async function openCheckpoint({ resume = '' }: TrainArguments): Promise<train.Checkpoint> {
  return train.readCheckpoint((await train.latestCheckpoint(resume)) ?? resume)
}

function openData(flags: TrainArguments, seed: number, say: (text: string) => void): Promise<train.DataSource> {
  const common = { size: flags.image_size, batchSize: flags.batch_size, seed }
  if (flags.data_backend === 'synthetic' || flags.dir === undefined)
    return Promise.resolve(train.syntheticSource({ ...common, classes: flags.num_classes ?? 1000 }))
  const splits: train.Split[] = [
    ...(flags.evaluate ? [] : ['train' as const]),
    ...(flags.training_only && !flags.evaluate ? [] : ['val' as const]),
  ]
  return train.folderSource({
    ...common,
    dir: flags.dir,
    splits,
    workers: flags.workers,
    prefetch: flags.prefetch,
    onBroken: (path, error) => say(`passed over ${path}, which cannot be read: ${error.message.split('\n')[0] ?? ''}`),
  })
}

/** The model, and how its run begins: from a checkpoint, from weights, or from random numbers. */
async function openModel(
  flags: TrainArguments,
  architectures: Architectures,
  data: train.DataSource,
  checkpoint: train.Checkpoint | undefined,
  say: (text: string) => void,
) {
  const { arch, image_size: size, seed, pretrained_from_file: file } = flags
  if (data.classes > (flags.num_classes ?? data.classes))
    throw new PullbackError(
      'value',
      `[data] expected at most --num_classes ${flags.num_classes ?? 0} classes in ${flags.dir ?? ''}, got ${data.classes}.`,
    )
  const trainedAs = checkpoint?.metadata.get('arch')
  if (trainedAs !== undefined && trainedAs !== arch)
    throw new PullbackError(
      'value',
      `[resume] expected --arch ${trainedAs} as in ${checkpoint?.path ?? ''}, got ${arch}.`,
    )
  const weights = file === undefined || checkpoint !== undefined ? undefined : await train.readWeights(file)
  const squeeze = checkpoint === undefined ? weights?.squeeze : train.squeezeOf(checkpoint)
  const model = buildModel(architectures, arch, {
    ...squeezeOption(squeeze),
    classes: flags.num_classes ?? data.classes,
    lastBnZeroInit: flags.last_bn_0_init,
    convInit: flags.conv_init === 'fan_in' ? 'fanIn' : 'fanOut',
  })
  const inputShape = [1, size, size, 3]
  const initial = async (plan: ReturnType<typeof trainingPlan>): Promise<ResNetRun> => {
    const options = { optimizer: plan.optimizer, lossScale: lossScale(flags), ema: flags.use_ema !== undefined }
    if (checkpoint !== undefined) {
      const { position, identity } = checkpoint
      const { batchSize, trainImages } = data
      if (!flags.evaluate)
        train.checkIdentity(checkpoint, { seed: identity.seed, accumulate: plan.accumulate, batchSize, trainImages })
      const { epoch, step } = position
      say(`resuming ${checkpoint.path} in epoch ${epoch + 1} after step ${step}`)
      return train.resumeRun(model, inputShape, checkpoint, options)
    }
    if (weights === undefined) return train.startRun(model.init(seed, inputShape), { ...options, seed })
    const { variables, report } = train.pretrainedVariables(model, inputShape, weights, seed)
    for (const sentence of train.reportSentences(weights, report)) say(sentence)
    return train.startRun(variables, { ...options, seed })
  }
  return { model, initial }
}

function buildModel(architectures: Architectures, arch: string, options: nn.ArchitectureOptions): nn.ResNet {
  const build = architectures[arch]
  if (build === undefined) throw new RangeError(`no architecture ${arch}`)
  return build(options)
}

function describe(flags: TrainArguments, device: Device, model: nn.ResNet, data: train.DataSource): string {
  const size = flags.image_size
  const scale =
    flags.static_loss_scale === undefined
      ? flags.dynamic_loss_scale || flags.amp
        ? 'dynamic loss scale'
        : 'no loss scale'
      : `loss scale ${flags.static_loss_scale}`
  return header({
    device: device.description,
    ...device.details(),
    precision: `${flags.amp ? 'mixed: f16, with f32 weights, statistics and losses' : 'f32'}; ${scale}`,
    layout: 'images [n, h, w, c], filters [out, h, w, in]',
    model: `${flags.arch}, ${parameterCount(model, size).toLocaleString('en-US')} parameters, ${size} x ${size} pixels`,
    data: `${data.description}, batches of ${data.batchSize}`,
  })
}

async function evaluateOnly(
  flags: TrainArguments,
  model: nn.ResNet,
  { state, computed }: ResNetRun,
  data: train.DataSource,
  told: { readonly log: train.RunLog; readonly progress: train.ProgressReporter },
  stop: StopRequest,
): Promise<Outcome> {
  const step = train.makeEvalStep(model, { precision: flags.amp ? 'f16' : 'f32', topk: flags.topk })
  const limit = flags.prof === -1 ? {} : { limit: flags.prof }
  const device = train.deviceReporter(defaultDevice(), told, computed)
  const found = await train.evaluate(step, state.ema ?? state, data.validation(), { ...limit, signal: stop.signal })
  device.prepared()
  device.close()
  if (found === undefined) return { exitCode: stop.exitCode, bestTop1: 0 }
  told.log.log([], train.evaluationRecord(found, flags.topk))
  process.stdout.write(`${train.evaluationLine('evaluation', found, flags.topk)}\n`)
  return { exitCode: 0, bestTop1: found.top1 }
}

if (isProgram(import.meta.url)) await main(async () => (await run(process.argv.slice(2))).exitCode)
