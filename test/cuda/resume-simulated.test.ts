// A run on the simulated GPU that is stopped and resumed where the tuning cache is gone: the checkpoint says which ways were
// chosen, and they are chosen again; where one is not to be had any more, the run says so.
import { mkdtempSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { train } from 'pullback'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { cudaDevice } from '../../src/cuda/index.ts'
import type { Preparation } from '../../src/tensor/device.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { at } from '../../src/tensor/shape.ts'
import { buildMilliseconds, type Simulation, simulation } from '../sim/library.ts'
import { memorySource, size, tinyModel } from '../unit/train-loop-data.ts'

let sim: Simulation
let folder = ''
beforeAll(async () => {
  sim = await simulation()
  folder = mkdtempSync(join(tmpdir(), 'pullback-resume-simulated-'))
}, buildMilliseconds)
afterAll(() => rmSync(folder, { recursive: true, force: true }))
afterEach(() => vi.restoreAllMocks())

const shape = [1, size, size, 3] as const
const optimizer = train.sgd({ momentum: 0.9 })
const choice = () => ({ optimizer, lossScale: train.none() })
const checkpoint = (dir: string): string => join(dir, train.checkpointNames.last)

interface Told {
  readonly lines: string[]
  readonly preparation: Preparation[]
  readonly details: Readonly<Record<string, string>>
  readonly choices: Readonly<Record<string, string>>
}

/** Trains up to so many epochs on a device of its own, whose cache is the folder `cache`. */
async function runTo(epochs: number, dir: string, cache: string, from?: string, tune = 'heuristics'): Promise<Told> {
  const environment = { PULLBACK_CACHE: join(folder, cache), PULLBACK_TUNE: tune }
  const device = cudaDevice({ native: sim.native, machine: sim.machine, environment })
  setDefaultDevice(device)
  const lines: string[] = []
  const preparation: Preparation[] = []
  const watch = device.watch.bind(device)
  vi.spyOn(device, 'watch').mockImplementation((listener) =>
    watch(
      listener &&
        ((state) => {
          preparation.push(state)
          listener(state)
        }),
    ),
  )
  try {
    const run =
      from === undefined
        ? await train.startRun(tinyModel().init(1, shape), { ...choice(), seed: 1 })
        : await train.resumeRun(tinyModel(), shape, await train.readCheckpoint(from), choice())
    const progress = train.progressReporter({ write: (text) => lines.push(text) }, { every: 0 })
    const common = { model: tinyModel(), data: memorySource(), optimizer, schedule: () => 0.01, epochs: 2, progress }
    const runEpochs = epochs - run.position.epoch
    const ended = await train.fit({ ...common, run, runEpochs, checkpoints: { dir } })
    train.disposeTree(ended.run.state)
    return { lines, preparation, details: device.details(), choices: device.choices() }
  } finally {
    await device.close()
  }
}

describe('a run resumed without the tuning cache', { timeout: 120_000 }, () => {
  it('computes as before, to the bit, and tells where its libraries are', async () => {
    const whole = await runTo(2, join(folder, 'whole'), 'first', undefined, 'time')
    expect(Object.keys(whole.choices).length).toBeGreaterThan(3)
    const untimed = await runTo(2, join(folder, 'untimed'), 'second')
    expect(untimed.choices, 'what nobody asked for').not.toEqual(whole.choices)
    await runTo(1, join(folder, 'parts'), 'first', undefined, 'time')
    const resumed = await runTo(2, join(folder, 'parts'), 'second', checkpoint(join(folder, 'parts')))
    expect(resumed.choices).toEqual(whole.choices)
    expect(await readFile(checkpoint(join(folder, 'parts')))).toEqual(await readFile(checkpoint(join(folder, 'whole'))))
    expect(resumed.lines.join('')).not.toContain('may differ')
    expect(resumed.details['tuning']).toMatch(/by heuristics: .*\d+ required/)
    expect(Object.keys(resumed.details)).toEqual(expect.arrayContaining(['driver', 'NVRTC', 'cuBLASLt', 'cuDNN']))
    expect(resumed.details['cuDNN']).toContain(String(sim.environment['PULLBACK_CUDA_PATH']))
  })

  it('tells how far tuning is, to the last problem of those announced, and what came of it', async () => {
    const { preparation, lines } = await runTo(1, join(folder, 'told'), 'third', undefined, 'time')
    const tuning = preparation.filter(({ phase }) => phase === 'tuning')
    expect(tuning.map(({ done }) => done)).toEqual(tuning.map((_, index) => index + 1 + at(tuning, 0).done - 1))
    const firstTotal = at(tuning, 0).total
    expect(tuning.find(({ done }) => done === firstTotal)?.total).toBe(firstTotal)
    expect(firstTotal).toBeGreaterThan(2)
    const compiling = preparation.filter(({ phase }) => phase === 'compiling')
    expect(at(compiling, compiling.length - 1).done).toBe(at(compiling, compiling.length - 1).total)
    expect(lines.join('')).toMatch(/\ntuning: by time: \d+ timed.*; \d+ problems known in .*tuning-\w+\.json\n/)
  })

  it('says so where a way is not to be had any more', async () => {
    const dir = join(folder, 'gone')
    const { choices } = await runTo(1, dir, 'fourth')
    const [key = ''] = Object.keys(choices).filter((name) => choices[name]?.startsWith('cudnn:'))
    const { metadata, ...rest } = await train.readCheckpoint(checkpoint(dir))
    const changed = { ...choices, [key]: 'cudnn:engine 999' }
    const edited = { ...rest, metadata: new Map([...metadata, ['choices', JSON.stringify(changed)] as const]) }
    const warned = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
    vi.spyOn(train, 'readCheckpoint').mockResolvedValue(edited)
    const { lines } = await runTo(2, dir, 'fourth', checkpoint(dir))
    const expected = `may differ in bits from an uninterrupted one: ${key} by ${choices[key] ?? ''} instead of cudnn:engine 999\n`
    expect(lines.filter((line) => line.includes('may differ')).join('')).toContain(expected)
    expect(String(warned.mock.calls)).toContain('cudnn:engine 999 is not to be had')
  })
})
