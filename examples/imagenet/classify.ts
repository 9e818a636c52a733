// Says what is in an image: the five most likely classes. `npx tsx examples/imagenet/classify.ts -h`.
import { jit, nn, train } from 'pullback'
import type { Tensor } from 'pullback'
import { parseClassify } from './options.ts'
import { type Architectures, chooseDevice, header, isProgram, main, parameterCount, squeezeOption } from './program.ts'

/** What --json prints. */
export interface Classification {
  readonly image: string
  /** The most likely classes, the likeliest first. */
  readonly top5: readonly { readonly index: number; readonly probability: number }[]
  readonly logits: readonly number[]
}

/** Runs classify.ts with these flags; ends the process if they are not right. */
export async function run(
  argv: readonly string[],
  architectures: Architectures = nn.architectures,
): Promise<Classification> {
  const flags = parseClassify(argv, architectures)
  const device = chooseDevice(flags.device)
  const pixels = await train.imageTensor(flags.image, flags.image_size)
  const { arch, image, image_size: size, pretrained_from_file: file } = flags
  const weights = file === undefined ? undefined : await train.readWeights(file)
  const build = architectures[arch]
  if (build === undefined) throw new RangeError(`no architecture ${arch}`)
  const model = build({ ...squeezeOption(weights?.squeeze), classes: flags.num_classes ?? weights?.classes ?? 1000 })
  const { params, state } = firstValues(model, size, weights)
  if (!flags.json)
    process.stdout.write(
      header({
        device: device.description,
        precision: flags.precision === 'AMP' ? 'mixed: f16, with f32 weights and statistics' : 'f32',
        model: `${arch}, ${parameterCount(model, size).toLocaleString('en-US')} parameters, ${size} x ${size} pixels`,
        weights: file ?? 'none were given, so the answer is random: see --pretrained-from-file',
      }),
    )
  const precision = flags.precision === 'AMP' ? 'f16' : 'f32'
  const predict = jit((x: Tensor) => train.predict(model, precision, params, state, train.normalize(x)), {
    label: 'classify',
  })
  const logits = [...(await predict(pixels).data())]
  predict.clear()
  train.disposeTree([params, state])
  const result = { image, top5: likeliest(logits, 5), logits }
  process.stdout.write(flags.json ? `${JSON.stringify(result)}\n` : table(result, weights?.metadata))
  return result
}

function firstValues(model: nn.ResNet, size: number, weights: train.PretrainedWeights | undefined) {
  const inputShape = [1, size, size, 3]
  if (weights === undefined) return model.init(0, inputShape)
  const { variables, report } = train.pretrainedVariables(model, inputShape, weights, 0)
  for (const sentence of train.reportSentences(weights, report)) process.stderr.write(`${sentence}\n`)
  return variables
}

/** The `count` largest logits with their softmax probabilities; of equal ones the lower index comes first. */
function likeliest(logits: readonly number[], count: number): Classification['top5'] {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity)
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0)
  return logits
    .map((logit, index) => ({ index, probability: Math.exp(logit - largest) / total }))
    .sort((a, b) => b.probability - a.probability || a.index - b.index)
    .slice(0, count)
}

function table({ image, top5 }: Classification, metadata: ReadonlyMap<string, string> | undefined): string {
  const names = JSON.parse(metadata?.get('class_names') ?? '[]') as readonly unknown[]
  const lines = top5.map(({ index, probability }) => {
    const name = names[index]
    return `${(100 * probability).toFixed(2).padStart(7)} %  ${typeof name === 'string' ? name : `class ${index}`}\n`
  })
  return `${image}\n${lines.join('')}`
}

if (isProgram(import.meta.url))
  await main(async () => {
    await run(process.argv.slice(2))
    return 0
  })
