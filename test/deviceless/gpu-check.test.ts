// The kernels by which `npm run gpu:check` examines the prelude through the real NVRTC, for three generations of GPUs: what
// runs there for the first time has at least been compiled.
import { describe, expect, test } from 'vitest'
import type { PrintedSource } from '../../src/compile/print/index.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import { assemblerUsage } from '../cuda/print-nvrtc.ts'
import { absent } from '../cuda/wheels.ts'
import { checkKernels } from '../gpu/prelude-kernels.ts'
import { preludeSweeps } from '../gpu/prelude-sweeps.ts'
import { smokeKernels } from '../gpu/smoke-driver.ts'
import { findLibraries } from './libraries.ts'

const { nvrtc } = findLibraries()
if (nvrtc === undefined) absent('the kernels of gpu:check are not compiled, because there is no NVRTC')

const sources: readonly PrintedSource[] = [
  ...preludeSweeps().map(({ source }) => source),
  ...checkKernels,
  ...smokeKernels,
]

describe.skipIf(nvrtc === undefined)('NVRTC compiles the kernels of gpu:check', () => {
  test.each(['sm_80', 'sm_90', 'sm_100'])('each by itself, without spills, for %s', (architecture) => {
    for (const source of sources) {
      const [usage, ...more] = compile(source, architecture)
      expect(usage?.name).toBe(source.name)
      expect(usage?.spilled, source.name).toBe(0)
      expect(more).toEqual([])
    }
  })
})

function compile({ name, text }: PrintedSource, architecture: string) {
  if (nvrtc === undefined) throw new Error('no NVRTC')
  const program = nvrtc.createProgram(`${cudaPrelude}\n${text}`, `${name}.cu`)
  try {
    nvrtc.compileProgram(program, [...cudaOptions, `--gpu-architecture=${architecture}`, '--ptxas-options=-v'])
    expect(nvrtc.cubin(program).length).toBeGreaterThan(0)
    return assemblerUsage(nvrtc.programLog(program))
  } catch (error) {
    const errors = nvrtc
      .programLog(program)
      .split(/\n(?=\S)/)
      .filter((line) => line.includes('error'))
    throw new Error(`${name} for ${architecture}:\n${errors.slice(0, 5).join('\n')}`, { cause: error })
  } finally {
    nvrtc.destroyProgram(program)
  }
}
