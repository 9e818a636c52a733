// Every kernel of SE-ResNeXt101-32x4d's training step and inference, in all three precisions, through the real NVRTC for
// three generations of GPUs: it compiles, and its registers and spills are told.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Plan } from '../../src/compile/index.ts'
import type { PrintedSource } from '../../src/compile/print/index.ts'
import { lowerStep } from '../../src/cuda/library.ts'
import { lowerPlan } from '../../src/cuda/lower.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import type { Lowered } from '../../src/cuda/work.ts'
import { range } from '../../src/tensor/shape.ts'
import { type AssemblerUsage, assemblerUsage } from '../cuda/print-nvrtc.ts'
import { kernelsOf, sourcesOf } from '../cuda/print-plans.ts'
import { absent } from '../cuda/wheels.ts'
import { findLibraries } from './libraries.ts'
import { modelPlans } from './model-plans.ts'

const { nvrtc } = findLibraries()
if (nvrtc === undefined) absent('the model’s kernels are not compiled, because there is no NVRTC')

/** Bytes: a few words that are parked once are no matter, a working set that does not fit is. */
const mostSpilled = 64
/** Likewise of kernels of several texts, of which those with many arguments move next to nothing. */
const mostSpilledTogether = 160

describe.skipIf(nvrtc === undefined)('NVRTC compiles the kernels of the model', () => {
  let sources: readonly PrintedSource[] = []
  beforeAll(async () => {
    for (const precision of ['f16', 'bf16', 'f32'] as const) {
      const { training, inference } = await modelPlans(precision)
      const printed = sourcesOf([...kernelsOf(training), ...kernelsOf(inference)])
      expect(printed.length, `distinct sources in ${precision}`).toBeLessThanOrEqual(80)
      const all = [...sources, ...printed, ...togetherIn(training), ...togetherIn(inference)]
      sources = [...new Map(all.map((source) => [source.name, source])).values()]
    }
  })

  test.each(['sm_80', 'sm_90', 'sm_100'])('for %s', (architecture) => {
    const usage = compile(sources, architecture)
    expect(usage.map(({ name }) => name).sort()).toEqual(sources.map(({ name }) => name).sort())
    const counts = usage.map(({ registers }) => registers)
    const groups = range(8).map((group) => counts.filter((count) => Math.ceil(count / 32) === group + 1).length)
    const spilling = usage.filter(({ spilled }) => spilled > 0).map(({ name, spilled }) => `${name} ${spilled} bytes`)
    console.log(
      [
        `${architecture}: ${usage.length} kernels, at most ${Math.max(...counts)} registers`,
        `  by registers, in steps of 32: ${groups.join(' ')}`,
        `  spills: ${spilling.length === 0 ? 'none' : spilling.join(', ')}`,
      ].join('\n'),
    )
    record(architecture, usage)
    expect(Math.max(...counts)).toBeLessThanOrEqual(255)
    const most = (together: boolean): number =>
      Math.max(...usage.filter(({ name }) => name.startsWith('pbm_') === together).map(({ spilled }) => spilled))
    expect(most(false)).toBeLessThanOrEqual(mostSpilled)
    expect(most(true)).toBeLessThanOrEqual(mostSpilledTogether)
  })
})

/** Writes registers and spills where PULLBACK_RECORD names a folder, such as bench/results. */
function record(architecture: string, usage: readonly AssemblerUsage[]): void {
  const folder = process.env['PULLBACK_RECORD']
  if (folder === undefined || folder === '') return
  const lines = usage.map(({ name, registers, spilled }) => `    ${JSON.stringify([name, registers, spilled])}`)
  const head = `{\n  "architecture": ${JSON.stringify(architecture)},\n  "columns": ["kernel", "registers", "bytes spilled"],\n`
  writeFileSync(
    join(folder, `kernels-${architecture}.json`),
    `${head}  "kernels": [\n${lines.sort().join(',\n')}\n  ]\n}\n`,
  )
}

/** The kernels of several texts by which a plan's small steps are launched together. */
function togetherIn(plan: Plan): readonly PrintedSource[] {
  const nothing = (): Lowered => ({ works: [], scratchBytes: 0 })
  const { works } = lowerPlan(plan, { lower: (step) => lowerStep(step, { lower: nothing, lowerFused: nothing }) })
  return works.flatMap((work) => (work.kind === 'kernel' && work.source.name.startsWith('pbm_') ? [work.source] : []))
}

function compile(sources: readonly PrintedSource[], architecture: string): readonly AssemblerUsage[] {
  if (nvrtc === undefined) throw new Error('no NVRTC')
  const program = nvrtc.createProgram([cudaPrelude, ...sources.map(({ text }) => text)].join('\n'), 'model.cu')
  try {
    nvrtc.compileProgram(program, [...cudaOptions, `--gpu-architecture=${architecture}`, '--ptxas-options=-v'])
    expect(nvrtc.cubin(program).length).toBeGreaterThan(0)
    return assemblerUsage(nvrtc.programLog(program))
  } catch (error) {
    throw new Error(`for ${architecture}:\n${nvrtc.programLog(program).slice(0, 4000)}`, { cause: error })
  } finally {
    nvrtc.destroyProgram(program)
  }
}
