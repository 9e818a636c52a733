// Whole training steps of a small SE-ResNeXt on the simulated GPU, through src/cuda unchanged from allocation to recorded
// graph: they are the reference's steps, and the same bits however the device is told to run them.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type CudaOptions, cudaDevice } from '../../src/cuda/index.ts'
import { resnet } from '../../src/nn/index.ts'
import type { Device, OptimizeLevel } from '../../src/tensor/device.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { at, range, zip } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type Tree, flatten } from '../../src/tensor/tree.ts'
import { dynamic, initTrainState, makeTrainStep, sgd } from '../../src/train/index.ts'
import { type Simulation, simulation } from '../sim/library.ts'

const shape = [2, 32, 32, 3] as const
const steps = 4 // launched one by one, recorded, and replayed twice

/** Groups of 4 channels, as the 101-layer model has them, and a squeeze in each block. */
const model = resnet({ layers: [1, 1], widths: 64, expansion: 2, cardinality: 16, squeeze: { ratio: 16 }, classes: 10 })

let sim: Simulation
let folder = ''
beforeAll(async () => {
  sim = await simulation()
  folder = mkdtempSync(join(tmpdir(), 'pullback-train-simulated-'))
}, 600_000)
afterAll(() => rmSync(folder, { recursive: true, force: true }))
beforeEach(() => {
  sim.reset()
  sim.seed(0)
})

/** The losses and every leaf of the state after some steps, by path. */
type Outcome = ReadonlyMap<string, Float64Array>

interface Run {
  readonly precision: 'f32' | 'f16'
  readonly optimize?: OptimizeLevel
}

async function train(device: Device, { precision, optimize = 'fuse' }: Run): Promise<Outcome> {
  setDefaultDevice(device)
  const optimizer = sgd({ momentum: 0.9, weightDecay: 1e-4 })
  const step = makeTrainStep(model, { optimizer, precision, labelSmoothing: 0.1, optimize })
  const lossScale = precision === 'f16' ? dynamic({ init: 1024 }) : undefined
  const chosen = { optimizer, seed: 0, ...(lossScale === undefined ? {} : { lossScale }) }
  let state = await initTrainState(model.init(0, shape), chosen)
  const losses: number[] = []
  for (const index of range(steps)) {
    const images = Uint8Array.from(range(2 * 32 * 32 * 3), (i) => (Math.imul(i + 7 * index, 2654435761) >>> 24) & 255)
    const batch = { images: tensor(images, { shape }), labels: tensor(Int32Array.of(index, 9 - index)) }
    const [next, metrics] = step(state, batch, tensor(0.01))
    losses.push(await metrics.loss.item())
    state = next
  }
  const { leaves, structure } = flatten(state as unknown as Tree<Tensor>)
  const values = await Promise.all(leaves.map((leaf) => leaf.data()))
  const outcome = zip(structure.paths, values).map(([path, value]) => [path, Float64Array.from(value)] as const)
  return new Map([...outcome, ['losses', Float64Array.from(losses)] as const])
}

/** On a simulated GPU of its own; nothing may be left behind, and nothing of what a real one suffers in silence happen. */
async function simulated(run: Run, environment: NodeJS.ProcessEnv = {}, options: CudaOptions = {}): Promise<Outcome> {
  const { native, machine } = sim
  const settings = { PULLBACK_CACHE: folder, PULLBACK_TUNE: 'heuristics', ...environment }
  const device = cudaDevice({ native, machine, environment: settings, ...options })
  try {
    return await train(device, run)
  } finally {
    await device.close()
    const { violations, memory, live, retained } = sim.report()
    expect({ violations, memory, live, retained }).toEqual({ violations: [], memory: [], live: {}, retained: 0 })
  }
}

/** norm(a - b) / norm(b) of the worst leaf, and its path. */
function worst(found: Outcome, expected: Outcome): readonly [error: number, path: string] {
  expect([...found.keys()]).toEqual([...expected.keys()])
  const errors = [...expected].map(([path, values]) => {
    const mine = found.get(path) ?? new Float64Array()
    const norm = (list: Float64Array): number => Math.hypot(...list)
    const difference = norm(values.map((value, i) => at(mine, i) - value))
    return [difference / (norm(values) || 1), path] as const
  })
  return errors.reduce((a, b) => (b[0] > a[0] || Number.isNaN(b[0]) ? b : a))
}

describe('training steps on the simulated GPU', { timeout: 400_000 }, () => {
  const levels: readonly OptimizeLevel[] = ['none', 'simplify', 'fuse']

  it('are the reference’s in f32, at every level', async () => {
    const expected = await train(referenceDevice(), { precision: 'f32' })
    for (const optimize of levels) {
      const [error, path] = worst(await simulated({ precision: 'f32', optimize }, {}, { precision: 'ieee' }), expected)
      console.log(`f32 ${optimize}: worst ${path}, ${error.toExponential(2)}`)
      expect(error).toBeLessThan(1e-4)
    }
  })

  it('are the reference’s in f16 as far as f16 tells, and the same bits with and without graphs, arena and order', async () => {
    const run = { precision: 'f16' } as const
    const planned = await simulated(run)
    const [error, path] = worst(planned, await train(referenceDevice(), run))
    console.log(`f16: worst ${path}, ${error.toExponential(2)}`)
    // Four steps of rounding to 11 bits, and ReLUs that a rounding turns: momenta are gradients, and differ most.
    expect(error).toBeLessThan(0.3)
    expect(await simulated(run, { PULLBACK_GRAPHS: '0' })).toEqual(planned)
    expect(await simulated(run, { PULLBACK_CUDA_MEMORY: 'separate' })).toEqual(planned)
    sim.seed(12_345)
    expect(await simulated(run)).toEqual(planned)
  })

  it('are the reference’s where every contraction is fused with what follows it', async () => {
    const fused = await simulated({ precision: 'f32' }, {}, { precision: 'ieee', fusions: 'always' })
    const [error, path] = worst(fused, await train(referenceDevice(), { precision: 'f32' }))
    console.log(`f32, fused: worst ${path}, ${error.toExponential(2)}`)
    expect(error).toBeLessThan(1e-4)
  })
})
