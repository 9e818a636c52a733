// Whole training steps on the simulated GPU in 16 bits and in TF32, at every level: they are no further from the reference's f32
// steps than a few times what the reference itself is when it rounds as they do.
import { beforeAll, describe, expect, it } from 'vitest'
import { type CudaOptions, cudaDevice } from '../../src/cuda/index.ts'
import type { OptimizeLevel } from '../../src/tensor/device.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { setLibraryOption } from '../sim/cudnn-gpu.ts'
import { simulatedGpu } from '../support/simulated.ts'
import { type Outcome, type Run, outcomeParts, partOf, trainSmall, worstLeaf } from '../support/small-training.ts'

type Part = keyof typeof outcomeParts
type Rounding = 'f16' | 'bf16'

/** Launched one by one, recorded, and replayed. */
const steps = 3
/** Times what the reference's own rounding does. A loss is one number, which may come out well by luck. */
const factors: Readonly<Record<Part, number>> = { losses: 4, state: 2, params: 2, optimizer: 2 }

const gpu = simulatedGpu()
let exact: Outcome
const rounded = new Map<Rounding, Outcome>()
beforeAll(async () => {
  exact = await trainSmall(referenceDevice(), { precision: 'f32', steps })
  for (const precision of ['f16', 'bf16'] as const)
    rounded.set(precision, await trainSmall(referenceDevice(), { precision, steps }))
}, 120_000)

async function simulated(run: Run, options: CudaOptions = {}, variables: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const environment = { PULLBACK_CACHE: gpu.folder, PULLBACK_TUNE: 'heuristics', ...variables }
  const device = cudaDevice({ native: gpu.sim.native, machine: gpu.sim.machine, environment, ...options })
  try {
    return await trainSmall(device, { steps, ...run })
  } finally {
    await device.close()
    gpu.expectNothingLeft()
  }
}

/** Part by part, how far an outcome is from f32, and how far it may be: a multiple of what the reference is in a dtype. */
function expectNear(found: Outcome, name: string, rounding: Rounding): void {
  for (const part of Object.keys(outcomeParts) as Part[]) {
    const far = (outcome: Outcome) => worstLeaf(partOf(outcome, part), partOf(exact, part))
    const [[error, path], [own]] = [far(found), far(rounded.get(rounding) ?? new Map())]
    console.log(
      `${name}: ${outcomeParts[part]} ${error.toExponential(2)} (${path}), the reference ${own.toExponential(2)}`,
    )
    expect(error, `${outcomeParts[part]} of ${name}`).toBeLessThan(factors[part] * own)
  }
}

describe('training steps on the simulated GPU', { timeout: 200_000 }, () => {
  const levels: readonly OptimizeLevel[] = ['none', 'simplify', 'fuse']

  it.each(levels)('in f16, level %s', async (optimize) => {
    expectNear(await simulated({ precision: 'f16', optimize }), `f16 ${optimize}`, 'f16')
  })

  it('in f16, every contraction fused with what follows it', async () => {
    expectNear(await simulated({ precision: 'f16' }, { fusions: 'always' }), 'f16 fused', 'f16')
  })

  it('in bf16', async () => {
    expectNear(await simulated({ precision: 'bf16' }), 'bf16', 'bf16')
    expectNear(await simulated({ precision: 'bf16' }, { fusions: 'always' }), 'bf16 fused', 'bf16')
  })

  it('in TF32, whose mantissa is that of f16, and without graphs', async () => {
    setLibraryOption(gpu.sim, 'tf32', 1)
    const planned = await simulated({ precision: 'f32' })
    expectNear(planned, 'TF32', 'f16')
    expect(await simulated({ precision: 'f32' }, {}, { PULLBACK_GRAPHS: '0' })).toEqual(planned)
  })
})
