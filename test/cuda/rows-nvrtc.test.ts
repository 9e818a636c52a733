// The kernels of row-wise chains through the real NVRTC for three generations of GPUs: no spills, and registers that leave room
// for a whole block. Needs no GPU; where there is no NVRTC it says so.
import { describe, expect, it } from 'vitest'
import { rowsCandidate } from '../../src/cuda/kernels/rows.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import { at } from '../../src/tensor/shape.ts'
import { kernelsOf } from './grouped-host.ts'
import { assemblerUsage, nvrtcOrAbsent } from './print-nvrtc.ts'
import { type Chain, type Half, exciteBackward, exciteForward } from './rows-chains.ts'

const nvrtc = nvrtcOrAbsent('chains of rows are not compiled')

/** The kernel of a chain whose products stay inside. */
function kernelOf(chain: Chain) {
  const candidate = rowsCandidate(chain.chain((made) => at(chain.parts, made).kind === 'map'))
  if (candidate === undefined) throw new Error('no kernel')
  return at(kernelsOf(candidate), 0)
}

const excites = { forward: exciteForward, backward: exciteBackward }
/** Of the model, and with extents that leave tails everywhere. */
const even = { even: [1024, 64] } as const
const both = { ...even, odd: [1021, 63] } as const

describe.skipIf(nvrtc === undefined)('NVRTC compiles', { timeout: 600_000 }, () => {
  it.each([
    ['f16', 'sm_80', even],
    ['bf16', 'sm_80', even],
    ['f16', 'sm_90', both],
    ['f16', 'sm_100', even],
  ] as const)(
    'the chains of squeeze and excitation in %s for %s, without spills',
    (dtype: Half, architecture, extents) => {
      const kernels = Object.entries(excites).flatMap(([direction, excite]) =>
        Object.entries(extents).map(([kind, [channels, reduced]]) => {
          const { source, threads } = kernelOf(excite(256, channels, reduced, dtype))
          return { label: `${direction}, ${kind}`, source, threads }
        }),
      )
      const text = [cudaPrelude, ...kernels.map(({ source }) => source.text)].join('\n')
      const options = [...cudaOptions, `--gpu-architecture=${architecture}`, '--ptxas-options=-v']
      const compiled = nvrtc?.compile(text, options)
      expect(compiled?.status, compiled?.log.slice(0, 4000)).toBe(0)
      const found = new Map(assemblerUsage(compiled?.log ?? '').map((usage) => [usage.name, usage]))
      const usage = kernels.map(({ label, source, threads }) => ({ label, threads, usage: found.get(source.name) }))
      console.log(
        `registers on ${architecture}, ${dtype}: ${usage.map((own) => `${own.label} ${own.usage?.registers}`).join('; ')}`,
      )
      for (const { label, threads, usage: own } of usage) {
        expect(own?.spilled, `${label}: bytes spilled`).toBe(0)
        expect((own?.registers ?? Number.NaN) * threads, `${label}: registers of a block`).toBeLessThanOrEqual(65_536)
      }
    },
  )
})
