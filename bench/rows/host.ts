// What a call of the compiled 101-layer training step costs the host, from call to return: on the simulated GPU, whose
// streams run as late as they may, so that nothing is executed in between. Images are small, since launches are what counts.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { cudaDevice } from '../../src/cuda/index.ts'
import { nn, setDefaultDevice, tensor, train } from '../../src/index.ts'
import { range } from '../../src/tensor/shape.ts'
import { simulation } from '../../test/sim/library.ts'
import { print } from './measure.ts'

const { values } = parseArgs({ options: { steps: { type: 'string', default: '12' } } })
const [batch, size] = [2, 32]
const sim = await simulation()
const folder = mkdtempSync(join(tmpdir(), 'pullback-host-'))
const environment = { PULLBACK_CACHE: folder, PULLBACK_TUNE: 'heuristics' }
const device = cudaDevice({ native: sim.native, machine: sim.machine, environment })
setDefaultDevice(device)

const model = nn.seResNeXt101_32x4d()
const optimizer = train.sgd({ momentum: 0.875, weightDecay: 2 ** -14 })
const step = train.makeTrainStep(model, { optimizer, precision: 'f16', labelSmoothing: 0.1 })
let state = await train.initTrainState(model.init(0, [batch, size, size, 3]), { optimizer, seed: 0, lossScale: train.dynamic() })
const images = Uint8Array.from({ length: batch * size * size * 3 }, (_, i) => (i * 2654435761) >>> 24)
const rate = tensor(0.001)

const [calls, uploads]: [number[], number[]] = [[], []]
for (const index of range(Number(values.steps))) {
  const start = performance.now()
  const fed = { images: tensor(images, { shape: [batch, size, size, 3] }), labels: tensor(Int32Array.of(index, 9)) }
  const uploaded = performance.now()
  const [next, metrics] = step(state, fed, rate)
  const returned = performance.now()
  if (process.env['VERBOSE']) console.error(index, returned - uploaded)
  uploads.push(uploaded - start)
  calls.push(returned - uploaded)
  state = next
  await metrics.loss.item()
  if (process.env['VERBOSE']) console.error('executed', performance.now() - returned)
}
console.error(calls, uploads, step.plan(state, { images: tensor(images, { shape: [batch, size, size, 3] }), labels: tensor(Int32Array.of(0, 1)) }, rate).split('\n').at(-1))
await device.close()
rmSync(folder, { recursive: true, force: true })
