// The command lines of the programs here: the reference's flag names, Python's argparse rules (exit 2 with the usage).
import { availableParallelism } from 'node:os'
import { ArgumentParser, ArgumentTypeError } from 'argparse'
import { type Architectures, deviceNames } from './program.ts'

/** What main.ts was asked to do. */
export interface TrainArguments {
  readonly dir: string | undefined
  readonly data_backend: 'folder' | 'synthetic'
  readonly arch: string
  readonly image_size: number
  readonly num_classes: number | undefined
  readonly last_bn_0_init: boolean
  readonly conv_init: 'fan_in' | 'fan_out'
  readonly workers: number
  readonly prefetch: number
  readonly epochs: number
  readonly run_epochs: number
  readonly early_stopping_patience: number
  readonly batch_size: number
  readonly optimizer_batch_size: number
  readonly lr: number | undefined
  readonly lr_schedule: 'step' | 'linear' | 'cosine'
  readonly end_lr: number
  readonly warmup: number
  readonly label_smoothing: number
  readonly mixup: number
  readonly optimizer: 'sgd' | 'rmsprop'
  readonly momentum: number
  readonly weight_decay: number
  readonly bn_weight_decay: boolean
  readonly nesterov: boolean
  readonly rmsprop_alpha: number
  readonly rmsprop_eps: number
  readonly use_ema: number | undefined
  readonly print_freq: number
  readonly topk: number
  readonly resume: string | undefined
  readonly pretrained_from_file: string | undefined
  readonly amp: boolean
  readonly static_loss_scale: number | undefined
  readonly dynamic_loss_scale: boolean
  readonly prof: number
  readonly seed: number
  readonly workspace: string
  readonly raport_file: string
  readonly gather_checkpoints: number
  readonly checkpoint_every: number
  readonly no_checkpoints: boolean
  readonly evaluate: boolean
  readonly training_only: boolean
  readonly device: (typeof deviceNames)[number]
}

/** What classify.ts was asked to do. */
export interface ClassifyArguments {
  readonly arch: string
  readonly precision: 'AMP' | 'FP32'
  readonly image: string
  readonly pretrained_from_file: string | undefined
  readonly image_size: number
  readonly num_classes: number | undefined
  readonly device: (typeof deviceNames)[number]
  readonly json: boolean
}

type Convert = (text: string) => number

const deviceOption = {
  choices: deviceNames,
  default: 'auto',
  help: 'where to compute: auto takes a GPU if there is one',
}

function archOption(architectures: Architectures) {
  const usual = 'se-resnext101-32x4d'
  return { choices: Object.keys(architectures), default: usual, help: `the model (${usual})` }
}

/** A whole number of at least `least`; -1 too where that means "not set". */
const whole =
  (least: number, unset?: -1): Convert =>
  (text) => {
    const value = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN
    if (value === unset) return value
    if (!Number.isSafeInteger(value) || value < least)
      throw new ArgumentTypeError(`expected a whole number of at least ${least}, got '${text}'`)
    return value
  }

/** A number from `least` to `most`; `open` leaves `least` itself out. */
const real =
  (least: number, most = Infinity, open = false): Convert =>
  (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text)
    if (!Number.isFinite(value) || value > most || value < least || (open && value === least)) {
      const range =
        most === Infinity ? `a number ${open ? 'above' : 'of at least'} ${least}` : `a number from ${least} to ${most}`
      throw new ArgumentTypeError(`expected ${range}, got '${text}'`)
    }
    return value
  }

/** Reads main.ts's flags; ends the process with the usage and exit code 2 if they are not right. */
export function parseTraining(argv: readonly string[], architectures: Architectures): TrainArguments {
  const parser = new ArgumentParser({
    prog: 'main.ts',
    description: 'Trains (or evaluates) a model of the ResNet family on an image folder.',
  })
  addData(parser)
  addModel(parser, architectures)
  addSchedule(parser)
  addOptimizer(parser)
  addPrecision(parser)
  addRun(parser)
  const flags = parser.parse_args<TrainArguments>([...argv])
  if (flags.data_backend === 'folder' && flags.dir === undefined)
    parser.error('DIR is needed with --data-backend folder')
  if (flags.optimizer_batch_size % flags.batch_size !== 0 && flags.optimizer_batch_size !== -1)
    parser.error(
      `argument --optimizer-batch-size: expected a multiple of the batch size ${flags.batch_size}, got ${flags.optimizer_batch_size}`,
    )
  if (flags.nesterov && flags.momentum === 0) parser.error('argument --nesterov: not allowed with --momentum 0')
  return flags
}

function addData(parser: ArgumentParser): void {
  const data = parser.add_argument_group('data')
  data.add_argument('dir', {
    metavar: 'DIR',
    nargs: '?',
    help: 'the images: DIR/train/<class>/<image> and DIR/val/<class>/<image>',
  })
  data.add_argument('--data-backend', {
    choices: ['folder', 'synthetic'],
    default: 'folder',
    help: 'where images come from (folder)',
  })
  data.add_argument('--interpolation', { choices: ['bilinear'], default: 'bilinear' })
  data.add_argument('--augmentation', { choices: ['disabled'], default: 'disabled' })
  data.add_argument('--image-size', { type: whole(1), default: 224, help: "pixels of an image's side (224)" })
  data.add_argument('-j', '--workers', {
    type: whole(1),
    default: availableParallelism(),
    help: 'images decoded at a time (the number of cores)',
  })
  data.add_argument('--prefetch', { type: whole(0), default: 2, help: 'batches made ahead (2)' })
  data.add_argument('-b', '--batch-size', { type: whole(1), default: 32, help: 'images a batch (32)' })
}

function addModel(parser: ArgumentParser, architectures: Architectures): void {
  const model = parser.add_argument_group('model')
  model.add_argument('-a', '--arch', archOption(architectures))
  model.add_argument('--num_classes', {
    type: whole(2),
    help: 'outputs of the model (as many as the data has classes)',
  })
  model.add_argument('--last_bn_0_init', {
    action: 'store_true',
    help: "start the last batch norm's gamma of each block at 0",
  })
  model.add_argument('--conv_init', {
    choices: ['fan_in', 'fan_out'],
    default: 'fan_in',
    help: 'the variance of first filters (fan_in)',
  })
  model.add_argument('--pretrained-from-file', {
    metavar: 'FILE',
    help: "start from weights in safetensors with timm's or NVIDIA's names",
  })
  model.add_argument('--device', deviceOption)
}

function addSchedule(parser: ArgumentParser): void {
  const schedule = parser.add_argument_group('schedule')
  schedule.add_argument('--epochs', { type: whole(1), default: 90, help: 'epochs of the whole run (90)' })
  schedule.add_argument('--run-epochs', { type: whole(1, -1), default: -1, help: 'stop after so many epochs of it' })
  schedule.add_argument('--early-stopping-patience', {
    type: whole(1, -1),
    default: -1,
    help: 'stop when so many epochs in a row brought no better top-1',
  })
  schedule.add_argument('--lr', '--learning-rate', {
    type: real(0),
    help: "the learning rate (0.256 times the optimizer's batch size / 256)",
  })
  schedule.add_argument('--lr-schedule', {
    choices: ['step', 'linear', 'cosine'],
    default: 'cosine',
    help: 'how the learning rate falls (cosine)',
  })
  schedule.add_argument('--end-lr', { type: real(0), default: 0, help: 'what linear and cosine schedules fall to (0)' })
  schedule.add_argument('--warmup', { type: whole(0), default: 0, help: 'epochs of warm-up (0)' })
}

function addOptimizer(parser: ArgumentParser): void {
  const optimizer = parser.add_argument_group('optimizer and loss')
  optimizer.add_argument('--optimizer', { choices: ['sgd', 'rmsprop'], default: 'sgd', help: '(sgd)' })
  optimizer.add_argument('--optimizer-batch-size', {
    type: whole(1, -1),
    default: -1,
    help: 'images a step, a multiple of the batch size: gradients are accumulated',
  })
  optimizer.add_argument('--momentum', { type: real(0, 0.999999), default: 0.875, help: '(0.875)' })
  optimizer.add_argument('--weight-decay', '--wd', { type: real(0), default: 6.103515625e-5, help: '(6.1e-5)' })
  optimizer.add_argument('--bn-weight-decay', { action: 'store_true', help: 'weight decay on batch norms too' })
  optimizer.add_argument('--nesterov', { action: 'store_true', help: "Nesterov's momentum" })
  optimizer.add_argument('--rmsprop-alpha', { type: real(0, 1), default: 0.9, help: '(0.9)' })
  optimizer.add_argument('--rmsprop-eps', { type: real(0), default: 1e-3, help: '(0.001)' })
  optimizer.add_argument('--label-smoothing', { type: real(0, 1), default: 0.1, help: '(0.1)' })
  optimizer.add_argument('--mixup', {
    type: real(0, 4),
    default: 0,
    metavar: 'ALPHA',
    help: 'blend images and labels in pairs by Beta(ALPHA, ALPHA); 0, the default, does not',
  })
  optimizer.add_argument('--use-ema', {
    type: real(0, 1),
    metavar: 'DECAY',
    help: 'keep averages of weights and statistics, and evaluate those',
  })
}

function addPrecision(parser: ArgumentParser): void {
  const precision = parser.add_argument_group('precision')
  precision.add_argument('--amp', { action: 'store_true', help: '16-bit products, convolutions and activations' })
  const scale = precision.add_mutually_exclusive_group()
  scale.add_argument('--static-loss-scale', { type: real(0, Infinity, true), help: 'a loss scale that stays' })
  scale.add_argument('--dynamic-loss-scale', {
    action: 'store_true',
    help: 'a loss scale that grows and backs off (with --amp the default)',
  })
  precision.add_argument('--memory-format', { choices: ['nhwc'], default: 'nhwc' })
}

function addRun(parser: ArgumentParser): void {
  const run = parser.add_argument_group('run')
  run.add_argument('--seed', { type: whole(0), default: 0, help: 'where weights, order and augmentation start (0)' })
  run.add_argument('--resume', { metavar: 'PATH', help: 'go on from a checkpoint, or from the latest one in a folder' })
  run.add_argument('--evaluate', { action: 'store_true', help: 'evaluate only' })
  run.add_argument('--training-only', { action: 'store_true', help: 'do not evaluate' })
  run.add_argument('--prof', { type: whole(1, -1), default: -1, metavar: 'N', help: 'only N steps of each epoch' })
  run.add_argument('-p', '--print-freq', {
    type: whole(1),
    default: 10,
    metavar: 'N',
    help: 'print every N steps (10)',
  })
  run.add_argument('--topk', { type: whole(1), default: 5, help: 'also count answers among the first N (5)' })
  run.add_argument('--workspace', { default: '.', metavar: 'DIR', help: 'where checkpoints and records go (.)' })
  run.add_argument('--raport-file', { default: 'experiment_raport.json', help: "JSON lines in DLLogger's format" })
  run.add_argument('--no-checkpoints', { action: 'store_true', help: 'save nothing' })
  run.add_argument('--checkpoint-every', {
    type: whole(0),
    default: 0,
    metavar: 'N',
    help: 'keep a numbered checkpoint of every Nth epoch, besides the last and the best one',
  })
  run.add_argument('--gather-checkpoints', {
    type: whole(0),
    default: 0,
    metavar: 'N',
    help: 'keep numbered checkpoints of the last N epochs',
  })
}

/** Reads classify.ts's flags; ends the process with the usage and exit code 2 if they are not right. */
export function parseClassify(argv: readonly string[], architectures: Architectures): ClassifyArguments {
  const parser = new ArgumentParser({ prog: 'classify.ts', description: 'Says what is in an image.' })
  parser.add_argument('--arch', archOption(architectures))
  parser.add_argument('--precision', {
    choices: ['AMP', 'FP32'],
    default: 'AMP',
    help: '16 bits where that suffices (AMP)',
  })
  parser.add_argument('--image', {
    required: true,
    metavar: 'PATH',
    help: 'the image: JPEG, PNG or another known format',
  })
  parser.add_argument('--pretrained-from-file', { metavar: 'FILE', help: 'weights, or a checkpoint of main.ts' })
  parser.add_argument('--image-size', { type: whole(1), default: 224, help: "pixels of an image's side (224)" })
  parser.add_argument('--num_classes', { type: whole(2), help: 'outputs of the model (those of the weights, or 1000)' })
  parser.add_argument('--device', deviceOption)
  parser.add_argument('--json', { action: 'store_true', help: 'one JSON object with all logits, and nothing else' })
  return parser.parse_args<ClassifyArguments>([...argv])
}
