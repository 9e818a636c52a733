// Scenarios of training and of what is kept between runs: steps in f16 whose loss scale begins far too large, and the caches
// of kernels and of tuning.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Nvrtc } from '../../../src/cuda/ffi/nvrtc.ts'
import { Cubins } from '../../../src/cuda/runtime/cubins.ts'
import { TuningCache, tuningIdentity } from '../../../src/cuda/tune/index.ts'
import { batchNorm, conv2d, globalAvgPool, linear, relu, serial } from '../../../src/nn/index.ts'
import { setDefaultDevice } from '../../../src/tensor/dispatch.ts'
import { tensor } from '../../../src/tensor/ops/index.ts'
import { range } from '../../../src/tensor/shape.ts'
import type { Tensor } from '../../../src/tensor/tensor.ts'
import { type Tree, flatten } from '../../../src/tensor/tree.ts'
import { dynamic, initTrainState, makeTrainStep, sgd } from '../../../src/train/index.ts'
import { type Place, type Results, type Scenario, integers, usual } from './scenario.ts'

const shape = [4, 6, 6, 3] as const

/** Steps of a small classifier; the first ones overflow in f16 and must change nothing but the scale. */
async function training({ open }: Place): Promise<Results> {
  setDefaultDevice(open())
  const model = serial({
    conv1: conv2d({ features: 8, kernel: 3, padding: 1, bias: false }),
    bn1: batchNorm(),
    relu1: relu(),
    pool: globalAvgPool(),
    fc: linear(5),
  })
  const optimizer = sgd({ momentum: 0.9, weightDecay: 1e-3 })
  const step = makeTrainStep(model, { optimizer, precision: 'f16' })
  const lossScale = dynamic({ init: 2 ** 26, backoff: 2 ** -8, interval: 2 })
  let state = await initTrainState(model.init(0, shape), { optimizer, seed: 0, lossScale })
  const told: Record<string, number[]> = { losses: [], scales: [], finite: [] }
  for (const k of range(6)) {
    const images = Uint8Array.from(integers(4 * 6 * 6 * 3, k, 60), (value) => 128 + value)
    const batch = { images: tensor(images, { shape }), labels: tensor(Int32Array.from(range(4), (i) => (i + k) % 5)) }
    const [next, metrics] = step(state, batch, tensor(0.05 * (k + 1)))
    told['losses']?.push(await metrics.loss.item())
    told['scales']?.push(await metrics.scale.item())
    told['finite']?.push(await metrics.finite.item())
    state = next
  }
  const { leaves, structure } = flatten(state as unknown as Tree<Tensor>)
  const values = await Promise.all(leaves.map((leaf) => leaf.data()))
  return { ...told, ...Object.fromEntries(structure.paths.map((path, i) => [path, values[i] ?? []])) }
}

/** A compiler whose machine code is the options it was given. */
function compiler(): Nvrtc {
  const given = new Map<unknown, string>()
  const calls: Pick<Nvrtc, 'createProgram' | 'compileProgram' | 'cubin' | 'destroyProgram'> = {
    createProgram: () => BigInt(given.size) as never,
    compileProgram: (program, options) => void given.set(program, options.join(' ')),
    cubin: (program) => new TextEncoder().encode(given.get(program)),
    destroyProgram: () => undefined,
  }
  return calls as Nvrtc
}

/** Machine code for one GPU, then for another with the same folder, then again where the file is damaged. */
function kernelCache({ folder }: Place): Results {
  const source = { name: 'kernel', text: 'PB_KERNEL(kernel, 1, 1) {}' }
  const codeFor = (architecture: string, driver: number): number => {
    const cubins = new Cubins(compiler(), folder, { architecture, versions: [13000, driver] })
    const text = new TextDecoder().decode(cubins.get([source])[0])
    return Number(/sm_(\d+)$/.exec(text)?.[1] ?? Number.NaN) + (cubins.counts.found > 0 ? 1000 : 0)
  }
  const architectures = [codeFor('sm_90', 13000), codeFor('sm_80', 13000), codeFor('sm_90', 13000)]
  return { architectures, drivers: [codeFor('sm_80', 13010)] }
}

/** What won on one GPU, asked for by another of the same architecture, and by itself behind a file with another number. */
function tuningCache({ folder }: Place): Results {
  const open = (name: string, cudnn: number): TuningCache => {
    const gpu = { name, architecture: 'sm_90', multiprocessors: 132 }
    const versions = { driver: 13000, nvrtc: 13000, cublasLt: 130000, cudnn }
    return new TuningCache(folder, tuningIdentity({ gpu, versions } as never, 'test'), () => undefined)
  }
  const cache = open('GPU A', 91100)
  cache.set('problem', { id: 'winner', microseconds: 125, others: {} })
  const known = (found: TuningCache): number => found.get('problem')?.microseconds ?? 0
  const told = [known(open('GPU A', 91100)), known(open('GPU B', 91100)), known(open('GPU A', 92400))]
  const file = join(folder, cache.file.slice(folder.length))
  writeFileSync(file, readFileSync(file, 'utf8').replace('125', '126'))
  return { told, damaged: [known(open('GPU A', 91100))] }
}

export const trainingScenarios = {
  training: { tolerance: 0.02, settings: usual, run: training },
  'kernel cache': {
    ...{ tolerance: 0, settings: usual.slice(0, 1), run: kernelCache },
    expected: () => ({ architectures: [90, 80, 1090], drivers: [80] }),
  },
  'tuning cache': {
    ...{ tolerance: 0, settings: usual.slice(0, 1), run: tuningCache },
    expected: () => ({ told: [125, 0, 0], damaged: [0] }),
  },
} as const satisfies Record<string, Scenario>
