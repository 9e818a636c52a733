// The grouped convolutions' kernels through the real NVRTC for three generations of GPUs: registers as their tilings want
// them, and no spills. Needs no GPU; where there is no NVRTC it says so.
import { describe, expect, it } from 'vitest'
import { groupedCandidate } from '../../src/cuda/kernels/grouped.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import { zip } from '../../src/tensor/shape.ts'
import { kernelsOf } from './grouped-host.ts'
import { directions, equationOf, groupWidths, strides } from './grouped-problems.ts'
import { findNvrtc } from './print-nvrtc.ts'

const nvrtc = findNvrtc()
if (nvrtc === undefined)
  console.log('grouped convolutions through NVRTC skipped: no libnvrtc under PULLBACK_CUDA_PATH or CUDA_HOME')

/** The kernels, each source once, called by their direction, channels of a group and stride. */
function kernels(dtype: 'f16' | 'bf16') {
  const all = directions.flatMap((direction) =>
    groupWidths.flatMap((width) =>
      strides.flatMap((stride) => {
        const equation = equationOf({ direction, dtype, width, stride, groups: 32, images: [256, 56, 56] })
        const lowered = groupedCandidate(equation)
        return (lowered === undefined ? [] : kernelsOf(lowered)).map(({ source, threads }, i) => ({
          label: i === 0 ? `${direction} ${width}/${stride}` : 'combining',
          source,
          threads,
        }))
      }),
    ),
  )
  return [...new Map(all.map((kernel) => [kernel.source.name, kernel])).values()]
}

describe.skipIf(nvrtc === undefined)('NVRTC compiles', { timeout: 240_000 }, () => {
  // What differs for bf16 is one instruction, which sm_80 was the first to have.
  it.each([
    ['f16', 'sm_80'],
    ['bf16', 'sm_80'],
    ['f16', 'sm_90'],
    ['f16', 'sm_100'],
  ] as const)('the kernels in %s for %s, without spills', (dtype, architecture) => {
    if (nvrtc === undefined) throw new Error('no NVRTC')
    const sources = kernels(dtype)
    expect(sources).toHaveLength(25)
    const text = [cudaPrelude, ...sources.map(({ source }) => source.text)].join('\n')
    const options = [...cudaOptions, `--gpu-architecture=${architecture}`, '--ptxas-options=-v']
    const { status, log } = nvrtc.compile(text, options)
    if (status !== 0) throw new Error(`NVRTC status ${status}:\n${log.slice(0, 4000)}`)
    const usage = zip(
      sources,
      sources.map(({ source }) => usageOf(log, source.name)),
    )
    const shown = usage.map(([{ label }, { registers }]) => `${label} ${registers}`)
    console.log(`registers on ${architecture} in ${dtype}: ${shown.join(', ')}`)
    for (const [{ label, threads }, { registers, spilled }] of usage) {
      expect(spilled, `${label}: bytes spilled`).toBe(0)
      expect(registers * threads, `${label}: registers of two blocks, in a multiprocessor`).toBeLessThanOrEqual(
        65536 / 2,
      )
    }
  })
})

/** What the assembler says of a kernel. */
function usageOf(log: string, name: string): { registers: number; spilled: number } {
  const [, part = ''] = log.split(`Compiling entry function '${name}'`)
  const [own = ''] = part.split('Compiling entry function')
  const spills = [...own.matchAll(/(\d+) bytes spill (?:stores|loads)/g)]
  const registers = /Used (\d+) registers/.exec(own)
  if (registers === null || spills.length === 0) throw new Error(`the assembler says nothing of ${name}`)
  return { registers: Number(registers[1]), spilled: spills.reduce((sum, [, bytes]) => sum + Number(bytes), 0) }
}
