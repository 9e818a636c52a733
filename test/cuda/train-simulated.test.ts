// Whole training steps of a small SE-ResNeXt on the simulated GPU, through src/cuda unchanged from allocation to recorded
// graph: they are the reference's steps, and the same bits however the device is told to run them.
import { describe, expect, it } from 'vitest'
import { type CudaOptions, cudaDevice } from '../../src/cuda/index.ts'
import type { OptimizeLevel } from '../../src/tensor/device.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { type Outcome, type Run, trainSmall, worstLeaf } from '../support/small-training.ts'
import { simulatedGpu } from '../support/simulated.ts'

const gpu = simulatedGpu()

/** On a simulated GPU of its own; nothing may be left behind, and nothing of what a real one suffers in silence happen. */
async function simulated(run: Run, environment: NodeJS.ProcessEnv = {}, options: CudaOptions = {}): Promise<Outcome> {
  const { native, machine } = gpu.sim
  const settings = { PULLBACK_CACHE: gpu.folder, PULLBACK_TUNE: 'heuristics', ...environment }
  const device = cudaDevice({ native, machine, environment: settings, ...options })
  try {
    return await trainSmall(device, run)
  } finally {
    await device.close()
    gpu.expectNothingLeft()
  }
}

describe('training steps on the simulated GPU', { timeout: 400_000 }, () => {
  const levels: readonly OptimizeLevel[] = ['none', 'simplify', 'fuse']

  it('are the reference’s in f32, at every level', async () => {
    const expected = await trainSmall(referenceDevice(), { precision: 'f32' })
    for (const optimize of levels) {
      const [error, path] = worstLeaf(
        await simulated({ precision: 'f32', optimize }, {}, { precision: 'ieee' }),
        expected,
      )
      console.log(`f32 ${optimize}: worst ${path}, ${error.toExponential(2)}`)
      expect(error).toBeLessThan(1e-4)
    }
  })

  it('have the same bits in f16 with and without graphs, in an arena or each temporary at the end of its own pages, in any order', async () => {
    const run = { precision: 'f16' } as const
    const planned = await simulated(run)
    expect(await simulated(run, { PULLBACK_GRAPHS: '0' })).toEqual(planned)
    gpu.sim.alignRight(16)
    expect(await simulated(run, { PULLBACK_CUDA_MEMORY: 'separate' })).toEqual(planned)
    gpu.sim.alignRight(0)
    gpu.sim.seed(12_345)
    expect(await simulated(run)).toEqual(planned)
  })

  it('are the reference’s where every contraction is fused with what follows it', async () => {
    const fused = await simulated({ precision: 'f32' }, {}, { precision: 'ieee', fusions: 'always' })
    const [error, path] = worstLeaf(fused, await trainSmall(referenceDevice(), { precision: 'f32' }))
    console.log(`f32, fused: worst ${path}, ${error.toExponential(2)}`)
    expect(error).toBeLessThan(1e-4)
  })
})
