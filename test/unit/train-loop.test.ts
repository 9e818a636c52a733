// The loop: resuming gives the bits of an uninterrupted run, every image counts once, and what ends a run is told.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nn, setDefaultDevice, train } from 'pullback'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDevices } from '../support/devices.ts'
import { type TinyModel, memorySource, size, tinyModel, useReference } from './train-loop-data.ts'

type Options = train.FitOptions<nn.ParamsOf<TinyModel>, nn.StateOf<TinyModel>>

let folder = ''
beforeAll(async () => {
  useReference()
  folder = await mkdtemp(join(tmpdir(), 'pullback-loop-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const inputShape = [1, size, size, 3]
const optimizer = train.sgd({ momentum: 0.875, weightDecay: 1e-4 })
let runs = 0
const newFolder = (): string => join(folder, String(runs++))

/** What the resuming tests turn on: everything that carries state from step to step. */
const everything = {
  optimizer,
  precision: 'f16',
  labelSmoothing: 0.1,
  mixup: 0.2,
  emaDecay: 0.9,
  accumulate: 2,
  epochs: 2,
} as const
const lossScale = () => train.dynamic({ init: 2 ** 20, interval: 2 })

/** A fresh run of the tiny model. */
const start = (ema = false, scale = train.none()) =>
  train.startRun(tinyModel().init(7, inputShape), { optimizer, lossScale: scale, ema, seed: 7 })

const base = (): Omit<Options, 'run'> => ({
  model: tinyModel(),
  data: memorySource(),
  optimizer,
  schedule: train.cosineSchedule({ learningRate: 0.05, epochs: 3 }),
  epochs: 3,
})

const checkpoint = (dir: string): string => join(dir, train.checkpointNames.last)

/** Runs `everything`, stopping after `steps` steps if given, and gives the folder of the checkpoints. */
async function runEverything(steps = Infinity, from?: string): Promise<string> {
  const dir = from ?? newFolder()
  const controller = new AbortController()
  let left = steps
  const run =
    from === undefined
      ? await start(true, lossScale())
      : await train.resumeRun(tinyModel(), inputShape, await train.readCheckpoint(checkpoint(dir)), {
          optimizer,
          lossScale: train.none(),
          ema: true,
        })
  const data = memorySource()
  const result = await train.fit({
    ...base(),
    ...everything,
    data: {
      ...data,
      // Counts the batches handed out, two for each step, so that the signal comes within a step.
      train: (epoch, first) => ({
        length: data.train(epoch, first).length,
        async *[Symbol.asyncIterator]() {
          for await (const batch of data.train(epoch, first)) {
            left -= 0.5
            if (left <= 0) controller.abort()
            yield batch
          }
        },
      }),
    },
    run,
    signal: controller.signal,
    checkpoints: { dir },
  })
  expect(result.ending).toBe(steps < 4 ? 'interrupted' : 'completed')
  return dir
}

describe.each(testDevices())('resuming on %s', (_name, device) => {
  beforeAll(() => void setDefaultDevice(device))
  afterAll(useReference)

  it('gives the checkpoint of an uninterrupted run to the byte, wherever it was stopped', {
    timeout: 60_000,
  }, async () => {
    const expected = await readFile(checkpoint(await runEverything()))
    for (const steps of [1, 2, 3]) {
      const dir = await runEverything(steps)
      const stopped = await train.readCheckpoint(checkpoint(dir))
      expect(2 * stopped.position.epoch + stopped.position.step).toBe(steps)
      await runEverything(Infinity, dir)
      expect((await readFile(checkpoint(dir))).equals(expected), `stopped after step ${steps}`).toBe(true)
    }
  })
})

describe('resuming', () => {
  it('refuses to go on within an epoch with other batches', async () => {
    const dir = await runEverything(1)
    const found = await train.readCheckpoint(checkpoint(dir))
    const same = { seed: 7, batchSize: 3, accumulate: 2, trainImages: 12 }
    expect(() => train.checkIdentity(found, same)).not.toThrow()
    expect(() => train.checkIdentity(found, { ...same, batchSize: 6 })).toThrow(/expected batch size 3 as then, got 6/)
  })

  it('names the tensor that does not fit, before anything is loaded', async () => {
    const dir = await runEverything(1)
    const found = await train.readCheckpoint(checkpoint(dir))
    const wide = nn.serial({ conv1: nn.conv2d({ features: 8, kernel: 3, bias: false }) })
    const options = { optimizer, lossScale: train.none() }
    await expect(train.resumeRun(wide, inputShape, found, options)).rejects.toThrow(
      /tensor '.*conv1\.weight': expected f32 8x3x3x3, got 4x3x3x3/,
    )
    const averages = train.resumeRun(tinyModel(), inputShape, { ...found, tensors: new Map() }, options)
    await expect(averages).rejects.toThrow(/tensor '.*': .*got no such tensor/)
  })
})

describe('a checkpoint', () => {
  it("holds weights under NVIDIA's names and in its layout, and loads as weights elsewhere", async () => {
    const dir = newFolder()
    await train.fit({ ...base(), run: await start(), epochs: 1, checkpoints: { dir, notes: { arch: 'tiny' } } })
    const { tensors, metadata } = await train.readSafetensors(checkpoint(dir))
    expect(tensors.get('conv1.weight')?.shape).toEqual([4, 3, 3, 3])
    expect([...tensors.keys()]).toEqual(
      expect.arrayContaining(['bn1.running_var', 'fc.bias', 'optimizer.momentum.fc.weight', 'train.step']),
    )
    expect(Object.fromEntries(metadata)).toMatchObject({ arch: 'tiny', epoch: '1', step_in_epoch: '0', seed: '7' })
    const weights = await train.readWeights(checkpoint(dir))
    const { report } = train.pretrainedVariables(tinyModel(), inputShape, weights, 0)
    expect(report).toEqual({ missing: [], unexpected: [] })
  })

  it('is kept of the best evaluation and of every second epoch', async () => {
    const dir = newFolder()
    const { run } = await train.fit({ ...base(), run: await start(), epochs: 4, checkpoints: { dir, every: 2 } })
    const best = await train.readCheckpoint(join(dir, train.checkpointNames.best))
    expect(best.position.bestTop1).toBe(run.position.bestTop1)
    expect(best.position.epoch).toBe(run.position.bestEpoch + 1)
    for (const epoch of [1, 3])
      expect((await train.readCheckpoint(join(dir, train.checkpointNames.epoch(epoch)))).position.epoch).toBe(epoch + 1)
    await expect(train.readCheckpoint(join(dir, train.checkpointNames.epoch(2)))).rejects.toThrow(/could not be read/)
  })
})

describe('an evaluation', () => {
  it('counts every image once, whatever the batch size', async () => {
    const { params, state } = tinyModel().init(3, inputShape)
    const found = await Promise.all(
      [1, 3, 7, 10].map((batchSize) =>
        train.evaluate(train.makeEvalStep(tinyModel()), { params, state }, memorySource({ batchSize }).validation()),
      ),
    )
    const [first] = found
    expect(first?.images).toBe(7)
    for (const other of found) {
      expect(other?.images).toBe(7)
      expect(other?.top1).toBe(first?.top1)
      expect(other?.loss).toBeCloseTo(first?.loss ?? Number.NaN, 5)
    }
  })
})

describe('the end of a run', () => {
  it('learns', async () => {
    const { evaluation, ending } = await train.fit({ ...base(), run: await start(), epochs: 8 })
    expect(ending).toBe('completed')
    expect(evaluation?.top1).toBe(100)
  })

  it('comes early when patience is out', async () => {
    const options = { ...base(), schedule: () => 0, epochs: 10, patience: 2 }
    const { run, ending } = await train.fit({ ...options, run: await start() })
    expect(ending).toBe('stopped early')
    expect(run.position.epoch - run.position.bestEpoch).toBe(3)
  })

  it('comes with the step and the place where a loss that is no number began, and without a checkpoint of it', async () => {
    const dir = newFolder()
    const options = { ...base(), schedule: () => 1e38, checkpoints: { dir } }
    await expect(train.fit({ ...options, run: await start() })).rejects.toThrow(
      /expected a finite loss, got (NaN|-?Infinity) at step [2-4] of 4 in epoch 1; the first (output|value) that is not finite is (that of|the parameter) [a-z0-9.]+/,
    )
    expect(await train.latestCheckpoint(dir)).toBeUndefined()
  })

  it('does not come while a dynamic loss scale can still back off: such steps are skipped and counted', async () => {
    const records: train.RecordData[] = []
    const log: train.RunLog = { log: (_step, data) => void records.push(data), close: () => undefined }
    const scale = train.dynamic({ init: 2 ** 126 })
    const { run } = await train.fit({
      ...base(),
      precision: 'f16',
      run: await start(false, scale),
      epochs: 1,
      log,
      printEvery: 1,
    })
    const skipped = await run.state.skipped.item()
    expect(skipped).toBeGreaterThan(0)
    expect(records.filter((data) => 'train.loss' in data).at(-1)).toMatchObject({ 'train.skipped': skipped })
    expect(await run.state.lossScale.scale.item()).toBe(2 ** (126 - skipped))
  })

  it('needs at least one step in an epoch', async () => {
    await expect(train.fit({ ...base(), accumulate: 5, run: await start() })).rejects.toThrow(
      /at least one step of 5 x 3 images in an epoch, got 12 images/,
    )
  })
})

describe('records', () => {
  it('are one of val for each evaluation, and of train every so many steps and for each epoch', async () => {
    const records: [train.RecordStep, train.RecordData][] = []
    const log: train.RunLog = { log: (step, data) => void records.push([step, data]), close: () => undefined }
    await train.fit({ ...base(), run: await start(), epochs: 2, log, printEvery: 2 })
    expect(records.map(([step]) => step)).toEqual([[0, 1], [0, 3], [0], [0], [1, 1], [1, 3], [1], [1]])
    const evaluations = records.filter(([, data]) => 'val.top1' in data)
    expect(evaluations).toHaveLength(2)
    for (const [, data] of evaluations) expect(data['val.top5']).toBe(100)
    const rates = ['total_ips', 'compute_ips', 'data_time', 'compute_time', 'lr', 'grad_scale']
    for (const rate of rates) expect(typeof records[0]?.[1][`train.${rate}`], rate).toBe('number')
  })
})
