// `npm start`: the headline model takes one training step and classifies one picture, then a smaller sister learns shapes
// and colours from JPEG files to at least 90 %. All of it through imagenet/main.ts and imagenet/classify.ts.
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ArgumentParser } from 'argparse'
import { nn, train } from 'pullback'
import { run as classify } from './imagenet/classify.ts'
import { run as trainOn } from './imagenet/main.ts'
import { deviceNames, isProgram, main } from './imagenet/program.ts'
import { writeShapes } from './shapes.ts'

const headline = 'se-resnext101-32x4d'
const goal = 90

/** What the demo was asked to do. */
export interface DemoArguments {
  readonly arch: string
  readonly device: string
  readonly workspace: string | undefined
}

/** Reads the demo's flags; ends the process with the usage and exit code 2 if they are not right. */
export function parseDemo(argv: readonly string[]): DemoArguments {
  const parser = new ArgumentParser({ prog: 'npm start --', description: 'Trains a model on generated pictures.' })
  parser.add_argument('--arch', {
    choices: Object.keys(nn.architectures),
    default: 'se-resnext26-32x4d',
    help: `what to train; ${headline} is the long form`,
  })
  parser.add_argument('--device', { choices: deviceNames, default: 'auto' })
  parser.add_argument('--workspace', { metavar: 'DIR', help: 'keep pictures and checkpoints here' })
  return parser.parse_args<DemoArguments>([...argv])
}

/** Found by trying: small batches for many steps, a warm-up, residual blocks that begin as shortcuts, averages. */
const recipe = [
  ...['--amp', '--dynamic-loss-scale', '-b', '16', '--epochs', '6', '--lr', '0.008', '--warmup', '2'],
  ...['--last_bn_0_init', '--nesterov', '--use-ema', '0.97', '-p', '25'],
]

/** The command lines of the demo's four runs: what it shows is what these programs do. */
export function demoRuns(
  { arch, device }: DemoArguments,
  { dir, images, picture }: { readonly dir: string; readonly images: string; readonly picture: string },
) {
  const common = ['--device', device]
  const small = ['--arch', arch, '--image-size', '64', ...common]
  const once = ['-b', '2', '--prof', '1', '--epochs', '1', '--training-only', '--no-checkpoints']
  const headlineStep = [
    '--arch',
    headline,
    '--amp',
    '--static-loss-scale',
    '128',
    ...once,
    '--workspace',
    dir,
    ...common,
  ]
  const best = join(dir, train.checkpointNames.best)
  return {
    headlineStep: [images, ...headlineStep, '--raport-file', 'headline.json'],
    headlineClassify: ['--arch', headline, '--image', picture, ...common],
    training: [images, ...small, ...recipe, '--workspace', dir],
    classify: [...small, '--image', picture, '--pretrained-from-file', best],
  }
}

/** Runs the demo and returns the exit code: 0 if the model learned what it should. */
async function demo(argv: readonly string[]): Promise<number> {
  const flags = parseDemo(argv)
  const { arch, workspace } = flags
  const began = performance.now()
  const dir = workspace ?? (await mkdtemp(join(tmpdir(), 'pullback-demo-')))
  try {
    const images = join(dir, 'images')
    title(`Pictures: red and blue circles and stars, in ${images}`)
    await writeShapes(images, { train: 1000, val: 200, size: 96, seed: 0 })
    const picture = await firstPicture(join(images, 'val', 'red_circle'))
    const runs = demoRuns(flags, { dir, images, picture })

    title(`${headline}: one training step on two pictures, one classification, with random weights`)
    const first = await trainOn(runs.headlineStep)
    if (first.exitCode !== 0) return first.exitCode
    await classify(runs.headlineClassify)

    title(`${arch}: learning to tell four classes apart (chance 25 %, goal ${goal} %)`)
    const { exitCode, bestTop1 } = await trainOn(runs.training)
    if (exitCode !== 0) return exitCode

    title('The best checkpoint, read back, on a picture of a red circle')
    await classify(runs.classify)
    const seconds = ((performance.now() - began) / 1000).toFixed(0)
    title(`${bestTop1.toFixed(1)} % of the validation pictures told right, in ${seconds} s`)
    return bestTop1 >= goal ? 0 : 1
  } finally {
    if (workspace === undefined) await rm(dir, { recursive: true, force: true })
  }
}

const title = (text: string): void => void process.stdout.write(`\n${text}\n\n`)

async function firstPicture(dir: string): Promise<string> {
  const [name = ''] = (await readdir(dir)).sort()
  return join(dir, name)
}

if (isProgram(import.meta.url)) await main(() => demo(process.argv.slice(2)))
