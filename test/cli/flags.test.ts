// Every flag that the programs promise is in their usage, is read, and changes what it should; the demo's own flags arrive
// in the runs it starts.
import { describe, expect, it } from 'vitest'
import { nn } from 'pullback'
import { demoRuns, parseDemo } from '../../examples/demo.ts'
import {
  type ClassifyArguments,
  type TrainArguments,
  parseClassify,
  parseTraining,
} from '../../examples/imagenet/options.ts'
import { start } from './programs.ts'

type Row<T> = readonly [flag: string, value: string | undefined, expected: Partial<T>]

/** main.ts: each flag with a value that is not its default. */
const training: readonly Row<TrainArguments>[] = [
  ['--data-backend', 'synthetic', { data_backend: 'synthetic' }],
  ['-a', 'resnet50', { arch: 'resnet50' }],
  ['--arch', 'se-resnext26-32x4d', { arch: 'se-resnext26-32x4d' }],
  ['--image-size', '192', { image_size: 192 }],
  ['-j', '3', { workers: 3 }],
  ['--prefetch', '5', { prefetch: 5 }],
  ['--epochs', '12', { epochs: 12 }],
  ['--run-epochs', '7', { run_epochs: 7 }],
  ['-b', '48', { batch_size: 48 }],
  ['--lr', '0.125', { lr: 0.125 }],
  ['--lr-schedule', 'linear', { lr_schedule: 'linear' }],
  ['--end-lr', '0.5', { end_lr: 0.5 }],
  ['--warmup', '4', { warmup: 4 }],
  ['--label-smoothing', '0.25', { label_smoothing: 0.25 }],
  ['--mixup', '0.2', { mixup: 0.2 }],
  ['--momentum', '0.5', { momentum: 0.5 }],
  ['--wd', '0.01', { weight_decay: 0.01 }],
  ['--bn-weight-decay', undefined, { bn_weight_decay: true }],
  ['--nesterov', undefined, { nesterov: true }],
  ['-p', '3', { print_freq: 3 }],
  ['--resume', 'somewhere', { resume: 'somewhere' }],
  ['--pretrained-from-file', 'w.safetensors', { pretrained_from_file: 'w.safetensors' }],
  ['--amp', undefined, { amp: true }],
  ['--static-loss-scale', '64', { static_loss_scale: 64 }],
  ['--dynamic-loss-scale', undefined, { dynamic_loss_scale: true }],
  ['--prof', '9', { prof: 9 }],
  ['--seed', '11', { seed: 11 }],
  ['--raport-file', 'r.json', { raport_file: 'r.json' }],
  ['--evaluate', undefined, { evaluate: true }],
  ['--training-only', undefined, { training_only: true }],
  ['--no-checkpoints', undefined, { no_checkpoints: true }],
  ['--workspace', 'here', { workspace: 'here' }],
  ['--num_classes', '10', { num_classes: 10 }],
  ['--topk', '3', { topk: 3 }],
  ['--device', 'reference', { device: 'reference' }],
]

/** classify.ts: the same. */
const classifying: readonly Row<ClassifyArguments>[] = [
  ['--arch', 'resnet50', { arch: 'resnet50' }],
  ['--precision', 'FP32', { precision: 'FP32' }],
  ['--image', 'cat.jpg', { image: 'cat.jpg' }],
  ['--pretrained-from-file', 'w.safetensors', { pretrained_from_file: 'w.safetensors' }],
  ['--image-size', '192', { image_size: 192 }],
  ['--num_classes', '10', { num_classes: 10 }],
  ['--device', 'reference', { device: 'reference' }],
  ['--json', undefined, { json: true }],
]

const words = ([flag, value]: Row<unknown>): string[] => (value === undefined ? [flag] : [flag, value])

describe('flags of main.ts', () => {
  const parse = (...flags: string[]): TrainArguments => parseTraining(['DIR', ...flags], nn.architectures)
  const plain = parse()

  it.each(training)('%s %s', (...row) => {
    expect(plain).not.toMatchObject(row[2])
    expect(parse(...words(row))).toEqual({ ...plain, ...row[2] })
  })

  it('are all in the usage, with the folder', async () => {
    const { code, stdout, stderr } = await start('examples/imagenet/main.ts', ['--help'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(plain.dir).toBe('DIR')
    expect(missingFrom(stdout, ['DIR', ...training.map(([flag]) => flag)])).toEqual([])
  })
})

describe('flags of classify.ts', () => {
  const parse = (...flags: string[]): ClassifyArguments =>
    parseClassify(['--image', 'dog.jpg', ...flags], nn.architectures)
  const plain = parse()

  it.each(classifying)('%s %s', (...row) => {
    expect(plain).not.toMatchObject(row[2])
    expect(parse(...words(row))).toEqual({ ...plain, ...row[2] })
  })

  it('are all in the usage', async () => {
    const { code, stdout, stderr } = await start('examples/imagenet/classify.ts', ['--help'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(
      missingFrom(
        stdout,
        classifying.map(([flag]) => flag),
      ),
    ).toEqual([])
  })
})

/** The flags that a usage does not have as words of their own. */
function missingFrom(usage: string, flags: readonly string[]): string[] {
  const present = new Set(usage.split(/[^\w-]+/))
  return flags.filter((flag) => !present.has(flag))
}

describe('npm start', () => {
  const places = { dir: '/demo', images: '/demo/images', picture: '/demo/images/val/red_circle/0.jpg' }

  it.each(['se-resnext26-32x4d', 'se-resnext101-32x4d'])('-- --arch %s: trains that one and reads it back', (arch) => {
    const runs = demoRuns(parseDemo(['--arch', arch, '--device', 'reference']), places)
    const step = parseTraining(runs.headlineStep, nn.architectures)
    expect(step).toMatchObject({
      arch: 'se-resnext101-32x4d',
      image_size: 224,
      prof: 1,
      amp: true,
      device: 'reference',
    })
    const first = parseClassify(runs.headlineClassify, nn.architectures)
    expect(first).toMatchObject({ arch: 'se-resnext101-32x4d', image_size: 224, image: places.picture })
    const trained = parseTraining(runs.training, nn.architectures)
    expect(trained).toMatchObject({ dir: places.images, arch, image_size: 64, amp: true, dynamic_loss_scale: true })
    expect(trained).toMatchObject({ device: 'reference', workspace: '/demo', no_checkpoints: false, evaluate: false })
    const last = parseClassify(runs.classify, nn.architectures)
    expect(last).toMatchObject({ arch, image_size: 64, pretrained_from_file: '/demo/model_best.safetensors' })
  })

  it('trains the small model unless told otherwise', () => {
    expect(parseDemo([])).toMatchObject({ arch: 'se-resnext26-32x4d', device: 'auto' })
  })

  it('says what it can train, and exits 2 on anything else', async () => {
    const { code, stderr } = await start('examples/demo.ts', ['--arch', 'alexnet'])
    expect(code).toBe(2)
    expect(stderr).toMatch(/^usage: npm start -- /)
    expect(stderr).toContain('se-resnext101-32x4d')
  })
})
