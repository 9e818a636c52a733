// The law of the compiled CPU device: at every level it computes what the program means.
import { afterAll, describe, expect, it } from 'vitest'
import { cpuDevice } from '../../src/cpu/index.ts'
import type { OptimizeLevel } from '../../src/tensor/device.ts'
import { showProgram } from '../../src/tensor/program.ts'
import { zip } from '../../src/tensor/shape.ts'
import { runs, seed } from '../runs.ts'
import { runJoined } from '../support/joined.ts'
import { programLaws, samplePrograms, worstElement } from '../support/program-laws.ts'

const device = cpuDevice()
afterAll(() => device?.close())

const levels: readonly OptimizeLevel[] = ['none', 'simplify', 'fuse']

describe.runIf(device !== undefined)('native code computes what programs mean', () => {
  describe.each(programLaws)('for $name', (law) => {
    it.each(levels)('%s', { timeout: 120_000 }, async (optimize) => {
      if (device === undefined) throw new Error('no device')
      const given = samplePrograms(law, runs(law.count), seed())
      const found = await runJoined(device, given, { optimize, label: 'random programs' })
      for (const [one, results] of zip(given, found)) {
        const worst = worstElement(one, results)
        const shown = (): string => `${JSON.stringify(worst)} in\n${showProgram(one.program)}`
        if (!(worst.error <= law.tolerance)) expect.fail(shown())
      }
    })
  })
})

if (device === undefined) it.skip('no C compiler here: the compiled CPU device is not tested', () => undefined)
