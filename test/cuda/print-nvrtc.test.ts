// Every kernel of the small model's training step, and some that it does not have, through the real NVRTC for three
// generations of GPUs. Needs no GPU; where there is no NVRTC it says so.
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { PrintedSource } from '../../src/compile/print/index.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import { seed } from '../runs.ts'
import { assemblerUsage, findNvrtc, nvrtcOrAbsent } from './print-nvrtc.ts'
import { kernelsOf, smallPlan, sourcesOf } from './print-plans.ts'
import { arbitrarySample, reduceKernel } from './print-samples.ts'

const nvrtc = nvrtcOrAbsent('printed kernels are not compiled')
if (nvrtc !== undefined) console.log(`NVRTC: ${nvrtc.path}`)

const architectures = ['sm_80', 'sm_90', 'sm_100'] as const
/** Bytes that a kernel may spill: ptxas aims at a step of occupancy there, and a few bytes cost less than the step would. */
const mostSpilled = { sm_80: 40, sm_90: 0, sm_100: 40 } as const

describe.skipIf(nvrtc === undefined)('NVRTC compiles', { timeout: 120_000 }, () => {
  it.each(architectures)('the small training plan in f16, bf16 and f32 for %s', (architecture) => {
    const kernels = (['f16', 'bf16', 'f32'] as const).flatMap((compute) => kernelsOf(smallPlan(compute)))
    const sources = sourcesOf(kernels)
    expect(sources.length).toBeGreaterThan(60)
    const { registers, spilled } = compileAll(sources, architecture)
    console.log(
      `${architecture}: ${sources.length} sources of ${kernels.length} kernels, ${registers} registers at most`,
    )
    expect(spilled).toBeLessThanOrEqual(mostSpilled[architecture])
  })

  it.each(architectures)('random kernels of every dtype and node, and all large reductions, for %s', (architecture) => {
    const random = [false, true].flatMap((reduce) =>
      fc.sample(arbitrarySample({ reduce }), { numRuns: 12, seed: seed() }),
    )
    const sums = [
      reduceKernel('f16', [100_000, 64], ['reduce', 'map']),
      reduceKernel('f32', [4, 99_999], ['map', 'reduce']),
    ]
    compileAll(sourcesOf([...random.map(({ kernel }) => kernel), ...sums]), architecture)
  })

  it('after garbage was collected, as before: its builtins stay loaded', async () => {
    const again = findNvrtc()
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    for (let i = 0; i < 3; i++) {
      collect()
      await sleep(1) // what was collected is closed between tasks
    }
    expect(again?.compile('extern "C" __global__ void nothing() {}', ['--gpu-architecture=sm_90']).log).toBe('')
  })

  it('refuses a text that names what the prelude lacks', () => {
    const wrong = { name: 'wrong', text: 'PB_KERNEL(wrong, 1, 1) { *(float *)a.p[0] = pbv_nothing_f(1.0f); }\n' }
    expect(() => compileAll([wrong], 'sm_90')).toThrow('pbv_nothing_f')
  })
})

/** The most registers and bytes of spills of any kernel. */
function compileAll(sources: readonly PrintedSource[], architecture: string): { registers: number; spilled: number } {
  if (nvrtc === undefined) throw new Error('no NVRTC')
  const options = [...cudaOptions, `--gpu-architecture=${architecture}`, '--ptxas-options=-v']
  const text = [cudaPrelude, ...sources.map((source) => source.text)].join('\n')
  const { status, log, cubinBytes } = nvrtc.compile(text, options)
  if (status !== 0) throw new Error(`NVRTC status ${status} for ${architecture}:\n${log.slice(0, 4000)}`)
  expect(cubinBytes).toBeGreaterThan(0)
  const usage = assemblerUsage(log)
  expect(usage.length, 'every kernel has its line of the assembler').toBe(sources.length)
  return {
    registers: Math.max(...usage.map(({ registers }) => registers)),
    spilled: Math.max(...usage.map(({ spilled }) => spilled)),
  }
}
