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

/** Milliseconds inside the driver's entry points since it was last set to 0. */
const driver = { milliseconds: 0 }

const { native, machine } = await simulation()
const folder = mkdtempSync(join(tmpdir(), 'pullback-host-'))
const environment = { PULLBACK_CACHE: folder, PULLBACK_TUNE: 'heuristics' }
const device = cudaDevice({ native: watched(native), machine, environment })
setDefaultDevice(device)

const model = nn.seResNeXt101_32x4d()
const optimizer = train.sgd({ momentum: 0.875, weightDecay: 2 ** -14 })
const step = train.makeTrainStep(model, { optimizer, precision: 'f16', labelSmoothing: 0.1 })
let state = await train.initTrainState(model.init(0, shape), { optimizer, seed: 0, lossScale: train.dynamic() })
const images = tensor(new Uint8Array(2 * 32 * 32 * 3), { shape })
const batch = { images, labels: tensor(Int32Array.of(0, 1)) }
const rate = tensor(0.001)

let used = process.cpuUsage()
const taken = range(calls).map((index) => {
  if (index === calls - counted) used = process.cpuUsage()
  driver.milliseconds = 0
  const start = performance.now()
  const [next, metrics] = step(state, batch, rate)
  const whole = performance.now() - start
  const inside = driver.milliseconds
  train.disposeTree(metrics)
  state = next
  return { whole, inside, own: whole - inside }
})
const { user, system } = process.cpuUsage(used)
const over = (part: keyof (typeof taken)[number]): number[] => taken.slice(-counted).map((call) => call[part])
const { median, lower, upper } = quartiles(over('whole'))
print({
  library: 'pullback',
  op: 'call of the 101-layer training step, graph replayed, simulated GPU',
  host_ms: median,
  host_ms_lower_quartile: lower,
  host_ms_upper_quartile: upper,
  /** Of all threads, metrics disposed included: what the load of the machine does not change. */
  cpu_ms: (user + system) / 1000 / counted,
  host_ms_least: Math.min(...over('whole')),
  /** Inside the driver's entry points, which the simulation answers: most of it is its launch of the graph. */
  driver_ms: quartiles(over('inside')).median,
  /** The rest: what is this library's own. */
  own_ms: quartiles(over('own')).median,
  own_ms_lower_quartile: quartiles(over('own')).lower,
  own_ms_least: Math.min(...over('own')),
  first_call_ms: taken[0]?.whole ?? Number.NaN,
  recorded_call_ms: taken[1]?.whole ?? Number.NaN,
  tensors_in_state: tree.flatten(state).leaves.length,
  launches: device instanceof CudaDevice ? Math.max(...device.executables.map(({ launches }) => launches)) : 0,
})
rmSync(folder, { recursive: true, force: true })
process.exit(0) // with hundreds of steps enqueued that nobody is to wait for

/**
 * The simulation with a clock at its entry points. Queries are answered as by a GPU that is busy: asking the simulation
 * makes it execute something.
 */
function watched(real: Native): Native {
  return {
    ...real,
    load: (path) => {
      const library = real.load(path)
      const func: typeof library.func = (name, result, parameters) => {
        if (name === 'cuEventQuery') return () => driverErrors.NOT_READY
        const call = library.func(name, result, parameters)
        return (...values) => {
          const start = performance.now()
          const status = call(...values)
          driver.milliseconds += performance.now() - start
          return status
        }
      }
      return { ...library, func }
    },
  }
}
