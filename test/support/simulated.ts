// The simulated GPU for the tests of one file: built or found before them, as if new before each, with a folder of its own.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect } from 'vitest'
import { buildMilliseconds, type Simulation, simulation } from '../sim/library.ts'

/** What the tests of a file share; there before the first of them. */
export interface SimulatedGpu {
  readonly sim: Simulation
  /** For caches; it goes when the tests are over. */
  readonly folder: string
  /** Expects that the simulation has nothing to complain of, and that nothing is left of a device that was closed. */
  readonly expectNothingLeft: () => void
}

/** To be called once, outside of tests. */
export function simulatedGpu(): SimulatedGpu {
  let sim: Simulation | undefined
  let folder = ''
  const made = (): Simulation => {
    if (sim === undefined) throw new Error('the simulation is there from the first test on')
    return sim
  }
  beforeAll(async () => {
    sim = await simulation()
    folder = mkdtempSync(join(tmpdir(), 'pullback-simulated-'))
  }, buildMilliseconds)
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  beforeEach(() => {
    made().reset()
    made().seed(0)
  })
  return {
    get sim() {
      return made()
    },
    get folder() {
      return folder
    },
    expectNothingLeft: () => {
      const { violations, memory, live, retained } = made().report()
      expect({ violations, memory, live, retained }).toEqual({ violations: [], memory: [], live: {}, retained: 0 })
    },
  }
}
