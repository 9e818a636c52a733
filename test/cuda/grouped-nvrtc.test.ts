// The grouped convolutions' kernels through the real NVRTC for three generations of GPUs: registers as their tilings want
// them, and no spills. Needs no GPU; where there is no NVRTC it says so.
import { describe, expect, it } from 'vitest'
import {
  groupedActivatedCandidate,
  groupedMaskedCandidate,
  groupedNormalizedCandidate,
  groupedStatisticsCandidate,
} from '../../src/cuda/kernels/grouped-fused.ts'
import { groupedCandidate } from '../../src/cuda/kernels/grouped.ts'
import type { LibraryEquation } from '../../src/compile/plan.ts'
import type { PrintedSource } from '../../src/compile/print/index.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import type { Candidate } from '../../src/cuda/work.ts'
import { kernelsOf } from './grouped-host.ts'
import { directions, equationOf, groupWidths, strides } from './grouped-problems.ts'
import { assemblerUsage, nvrtcOrAbsent } from './print-nvrtc.ts'

const nvrtc = nvrtcOrAbsent('grouped convolutions are not compiled')

interface Labelled {
  readonly label: string
  readonly source: PrintedSource
  readonly threads: number
}

/** The kernels, each source once, called by their direction, channels of a group and stride. */
function kernels(dtype: 'f16' | 'bf16', make: Make): readonly Labelled[] {
  const all = directions.flatMap((direction) =>
    groupWidths.flatMap((width) =>
      strides.flatMap((stride) => {
        const equation = equationOf({ direction, dtype, width, stride, groups: 32, images: [256, 56, 56] })
        const lowered = make(equation)
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

type Make = (equation: LibraryEquation) => Candidate | undefined

/** With what is around them, and how many kernels those are, the one that combines filter gradients included. */
const around: Readonly<Record<string, readonly [Make, number]>> = {
  statistics: [groupedStatisticsCandidate, 8],
  normalized: [(equation) => groupedNormalizedCandidate(equation), 17],
  'normalized, statistics': [(equation) => groupedNormalizedCandidate(equation, 'statistics'), 8],
  activated: [groupedActivatedCandidate, 8],
  'normalized, activated': [(equation) => groupedNormalizedCandidate(equation, 'normalize'), 8],
  masked: [groupedMaskedCandidate, 8],
}

/** What the assembler says of each kernel; nothing may be spilled. */
function compile(sources: readonly Labelled[], architecture: string, what: string) {
  if (nvrtc === undefined) throw new Error('no NVRTC')
  const text = [cudaPrelude, ...sources.map(({ source }) => source.text)].join('\n')
  const options = [...cudaOptions, `--gpu-architecture=${architecture}`, '--ptxas-options=-v']
  const { status, log } = nvrtc.compile(text, options)
  if (status !== 0) throw new Error(`NVRTC status ${status}:\n${log.slice(0, 4000)}`)
  const found = new Map(assemblerUsage(log).map((usage) => [usage.name, usage]))
  const usage = sources.map((kernel) => {
    const own = found.get(kernel.source.name)
    if (own === undefined) throw new Error(`the assembler says nothing of ${kernel.source.name}`)
    return { ...kernel, registers: own.registers, spilled: own.spilled }
  })
  const shown = usage.map(({ label, registers }) => `${label} ${registers}`)
  console.log(`registers on ${architecture}, ${what}: ${shown.join(', ')}`)
  for (const { label, spilled } of usage) expect(spilled, `${label}: bytes spilled`).toBe(0)
  return usage
}

describe.skipIf(nvrtc === undefined)('NVRTC compiles', { timeout: 900_000 }, () => {
  // What differs for bf16 is one instruction, which sm_80 was the first to have.
  it.each([
    ['f16', 'sm_80'],
    ['bf16', 'sm_80'],
    ['f16', 'sm_90'],
    ['f16', 'sm_100'],
  ] as const)('the kernels in %s for %s, without spills', (dtype, architecture) => {
    const sources = kernels(dtype, groupedCandidate)
    expect(sources).toHaveLength(25)
    for (const { label, threads, registers } of compile(sources, architecture, dtype))
      expect(registers * threads, `${label}: registers of two blocks, in a multiprocessor`).toBeLessThanOrEqual(
        65536 / 2,
      )
  })

  it.each(['sm_80', 'sm_90', 'sm_100'])('those with things around them for %s, without spills', (architecture) => {
    const sources = Object.values(around).flatMap(([make, count]) => {
      const own = kernels('f16', make)
      expect(own).toHaveLength(count)
      return own
    })
    const once = [...new Map(sources.map((kernel) => [kernel.source.name, kernel])).values()]
    for (const { label, threads, registers } of compile(once, architecture, 'with things around')) {
      const blocks = Math.floor(65536 / (Math.ceil(registers / 8) * 8 * threads))
      expect(blocks * threads, `${label}: threads in a multiprocessor`).toBeGreaterThanOrEqual(256)
    }
  })
})
