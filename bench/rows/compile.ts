// What happens before the first step of the 101-layer training step: tracing, planning, printing, loading; no timing of
// the C compiler unless the cache is cold.
import { defaultDevice, nn, tensor, train } from '../../src/index.ts'
import { compileProgram } from '../../src/compile/index.ts'
import { lowerPlan } from '../../src/cpu/lower.ts'
import { print } from './measure.ts'

const batch = 4
const model = nn.seResNeXt101_32x4d()
const variables = model.init(0, [batch, 224, 224, 3])
const optimizer = train.sgd({ momentum: 0.875, weightDecay: 2 ** -14 })
const step = train.makeTrainStep(model, { optimizer, precision: 'f16', labelSmoothing: 0.1 })
const state = await train.initTrainState(variables, { optimizer, seed: 0, lossScale: train.dynamic() })
const images = tensor(new Uint8Array(batch * 224 * 224 * 3), { shape: [batch, 224, 224, 3] })
const labels = tensor(new Int32Array(batch))
const rate = tensor(0.001)

const start = performance.now()
const program = step.program(state, { images, labels }, rate)
const traced = performance.now()
const plan = compileProgram(program, { optimize: 'fuse', donate: [] })
const planned = performance.now()
const lowered = lowerPlan(plan)
const printed = performance.now()
const [, metrics] = step(state, { images, labels }, rate)
await metrics.loss.item()
const ran = performance.now()
print({
  library: 'pullback',
  op: 'trace + compile of the 101-layer training step',
  equations: program.equations.length,
  steps: plan.steps.length,
  trace_s: (traced - start) / 1000,
  plan_s: (planned - traced) / 1000,
  print_s: (printed - planned) / 1000,
  sources: new Set(lowered.launches.map(({ source }) => source.name)).size,
  trace_load_and_first_step_s: (ran - printed) / 1000,
})
await defaultDevice().close()
