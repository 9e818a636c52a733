// What a call of the compiled 101-layer training step costs the host, from call to return, when its graph is replayed: on
// the simulated GPU, where nothing is executed meanwhile. Images are small, since launches and tensors are what counts.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CudaDevice } from '../../src/cuda/device.ts'
import { driverErrors } from '../../src/cuda/ffi/driver-constants.ts'
import type { Native } from '../../src/cuda/ffi/loader.ts'
import { cudaDevice } from '../../src/cuda/index.ts'
import { nn, setDefaultDevice, tensor, train, tree } from '../../src/index.ts'
import { range } from '../../src/tensor/shape.ts'
import { simulation } from '../../test/sim/library.ts'
import { quartiles } from '../gpu/statistics.ts'
import { print } from './measure.ts'

const calls = 400
/** The first calls are those that V8 compiles. */
const counted = 200
const shape = [2, 32, 32, 3] as const

const { native, machine } = await simulation()
const folder = mkdtempSync(join(tmpdir(), 'pullback-host-'))
const environment = { PULLBACK_CACHE: folder, PULLBACK_TUNE: 'heuristics' }
const device = cudaDevice({ native: idle(native), machine, environment })
setDefaultDevice(device)

const model = nn.seResNeXt101_32x4d()
const optimizer = train.sgd({ momentum: 0.875, weightDecay: 2 ** -14 })
const step = train.makeTrainStep(model, { optimizer, precision: 'f16', labelSmoothing: 0.1 })
let state = await train.initTrainState(model.init(0, shape), { optimizer, seed: 0, lossScale: train.dynamic() })
const images = tensor(new Uint8Array(2 * 32 * 32 * 3), { shape })
const batch = { images, labels: tensor(Int32Array.of(0, 1)) }
const rate = tensor(0.001)

let used = process.cpuUsage()
const milliseconds = range(calls).map((index) => {
  if (index === calls - counted) used = process.cpuUsage()
  const start = performance.now()
  const [next, metrics] = step(state, batch, rate)
  const taken = performance.now() - start
  train.disposeTree(metrics)
  state = next
  return taken
})
const { user, system } = process.cpuUsage(used)
const { median, lower, upper } = quartiles(milliseconds.slice(-counted))
print({
  library: 'pullback',
  op: 'call of the 101-layer training step, graph replayed, simulated GPU',
  host_ms: median,
  host_ms_lower_quartile: lower,
  host_ms_upper_quartile: upper,
  /** Of all threads, metrics disposed included: what the load of the machine does not change. */
  cpu_ms: (user + system) / 1000 / counted,
  host_ms_least: Math.min(...milliseconds.slice(-counted)),
  first_call_ms: milliseconds[0] ?? Number.NaN,
  recorded_call_ms: milliseconds[1] ?? Number.NaN,
  tensors_in_state: tree.flatten(state).leaves.length,
  launches: device instanceof CudaDevice ? Math.max(...device.executables.map(({ launches }) => launches)) : 0,
})
rmSync(folder, { recursive: true, force: true })
process.exit(0) // with hundreds of steps enqueued that nobody is to wait for

/** Queries are answered as by a GPU that is busy: asking the simulation makes it execute something. */
function idle(real: Native): Native {
  return {
    ...real,
    load: (path) => {
      const library = real.load(path)
      const func: typeof library.func = (name, result, parameters) =>
        name === 'cuEventQuery' ? () => driverErrors.NOT_READY : library.func(name, result, parameters)
      return { ...library, func }
    },
  }
}
