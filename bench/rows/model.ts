// SE-ResNeXt101-32x4d at 224 on the CPU device: one row, printed as JSON, with this process' peak memory.
import { parseArgs } from 'node:util'
import { type Tensor, defaultDevice, nn, tensor, train } from '../../src/index.ts'
import { measure, print } from './measure.ts'

const { values } = parseArgs({
  options: {
    mode: { type: 'string', default: 'training' },
    batch: { type: 'string', default: '4' },
    steps: { type: 'string', default: '5' },
    precision: { type: 'string', default: 'f32' },
  },
})
const batch = Number(values.batch)
const precision = values.precision as 'f32' | 'f16' | 'bf16'

const model = nn.seResNeXt101_32x4d()
const start = performance.now()
const variables = model.init(0, [batch, 224, 224, 3])
const initialized = performance.now()
const images = tensor(
  Uint8Array.from({ length: batch * 224 * 224 * 3 }, (_, i) => (i * 2654435761) >>> 24),
  { shape: [batch, 224, 224, 3] },
)
const labels = tensor(Int32Array.from({ length: batch }, (_, i) => i % 1000))

const step = values.mode === 'inference' ? inference() : await training()
const first = performance.now()
await step()
const ready = performance.now()
const seconds = await measure(step, Number(values.steps))
print({
  library: 'pullback',
  mode: values.mode,
  batch,
  precision,
  device: defaultDevice().description,
  seconds_per_image: seconds / batch,
  peak_rss_mb: Math.round(process.resourceUsage().maxRSS / 1024),
  init_s: (initialized - start) / 1000,
  first_step_s: (ready - first) / 1000,
})
await defaultDevice().close()

function inference(): () => Promise<void> {
  const evaluate = train.makeEvalStep(model, { precision })
  const weights = tensor(new Float32Array(batch).fill(1))
  return async () => {
    const metrics = evaluate(variables.params, variables.state, { images, labels, weights })
    await metrics.loss.item()
  }
}

async function training(): Promise<() => Promise<void>> {
  const optimizer = train.sgd({ momentum: 0.875, weightDecay: 2 ** -14 })
  const run = train.makeTrainStep(model, { optimizer, precision, labelSmoothing: 0.1 })
  let state = await train.initTrainState(variables, { optimizer, seed: 0 })
  const rate: Tensor = tensor(0.001)
  return async () => {
    const [next, metrics] = run(state, { images, labels }, rate)
    state = next
    await metrics.loss.item()
  }
}
