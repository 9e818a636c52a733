// Batches: the laws of resuming, padding, replacing and stopping early, on real files.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Batch, BatchStream, ImageFolder } from '../../src/train/data/index.ts'
import {
  brokenImages,
  evalBatches,
  imageFolder,
  shuffledOrder,
  syntheticBatches,
  trainBatches,
} from '../../src/train/data/index.ts'
import { limiter, prefetched } from '../../src/train/data/prefetch.ts'

let dir = ''
let folder: ImageFolder
const perClass = 5

/** Every image has a colour of its own (its index times 10 in red), so that a row tells which image it holds. */
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pullback-batches-'))
  for (const [label, name] of ['a', 'b'].entries()) {
    await mkdir(join(dir, 'train', name), { recursive: true })
    for (let i = 0; i < perClass; i++) {
      const background = { r: (label * perClass + i) * 10, g: 100, b: 200 }
      await sharp({ create: { width: 50, height: 40 + i, channels: 3, background } })
        .png()
        .toFile(join(dir, 'train', name, `${i}.png`))
    }
  }
  folder = await imageFolder(dir, 'train')
})
afterAll(() => rm(dir, { recursive: true, force: true }))

const size = 8
const base = () => ({ folder, size, batchSize: 4, workers: 3, prefetch: 2 })
const training = () => ({ ...base(), seed: 5, epoch: 2 })

async function all(stream: BatchStream): Promise<Batch[]> {
  const batches: Batch[] = []
  for await (const batch of stream) batches.push(batch)
  return batches
}

const imagesIn = (batch: Batch): number[] =>
  Array.from({ length: batch.batchSize }, (_, row) => (batch.images[row * size * size * 3] ?? -1) / 10)

/** The folder with some files replaced by text. */
async function withBroken(indices: readonly number[]): Promise<ImageFolder> {
  const text = join(dir, 'text')
  await mkdir(text, { recursive: true })
  const paths = await Promise.all(
    folder.paths.map(async (path, i) => {
      if (!indices.includes(i)) return path
      const broken = join(text, `${i}.png`)
      await writeFile(broken, 'not an image')
      return broken
    }),
  )
  return { ...folder, paths }
}

describe('trainBatches', () => {
  it('gives whole batches in the shuffled order, each row with its label', async () => {
    const batches = await all(trainBatches(training()))
    expect(batches.length).toBe(2)
    const order = Array.from(shuffledOrder(5, 2, 10)).slice(0, 8)
    expect(batches.flatMap(imagesIn)).toEqual(order)
    expect(batches.flatMap(({ labels }) => Array.from(labels))).toEqual(
      order.map((index) => Math.floor(index / perClass)),
    )
    batches.forEach((batch) => {
      expect(batch).toMatchObject({ batchSize: 4, count: 4, size })
      expect(Array.from(batch.weights)).toEqual([1, 1, 1, 1])
    })
  })

  it('depends on neither workers nor prefetch, resumes at any step, and changes with epoch and seed', async () => {
    const batches = await all(trainBatches(training()))
    expect(await all(trainBatches({ ...training(), workers: 1, prefetch: 0 }))).toEqual(batches)
    const rest = trainBatches({ ...training(), startStep: 1 })
    expect(rest.length).toBe(1)
    expect(await all(rest)).toEqual(batches.slice(1))
    expect(await all(trainBatches({ ...training(), startStep: 2 }))).toEqual([])
    expect(await all(trainBatches({ ...training(), epoch: 3 }))).not.toEqual(batches)
    expect(await all(trainBatches({ ...training(), seed: 6 }))).not.toEqual(batches)
  })

  it('replaces a broken image by the next readable one, and names and counts it once for all epochs', async () => {
    const order = Array.from(shuffledOrder(5, 2, 10))
    const [first = -1, second = -1, third = -1] = order
    const named: string[] = []
    const broken = brokenImages((path) => named.push(path))
    const options = { ...training(), folder: await withBroken([first, second]), broken }
    const [batch] = await all(trainBatches(options))
    expect(batch && imagesIn(batch)).toEqual([third, third, third, order[3]])
    expect(batch?.count).toBe(4)
    await all(trainBatches({ ...options, epoch: 3 }))
    expect(broken.count).toBe(2)
    expect(named.toSorted()).toEqual([join(dir, 'text', `${first}.png`), join(dir, 'text', `${second}.png`)].toSorted())
  })

  it('fails when every image is broken, or there are fewer than one batch', async () => {
    const none = { ...training(), folder: await withBroken([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) }
    await expect(all(trainBatches(none))).rejects.toThrow(/expected readable images in .*train, got 10 that all fail/)
    expect(() => trainBatches({ ...training(), batchSize: 11 })).toThrow(/at least one batch of 11 images .*, got 10/)
    expect(() => trainBatches({ ...training(), workers: 0 })).toThrow(/workers/)
  })
})

describe('evalBatches', () => {
  it('counts every image once at any batch size; padding has weight 0', async () => {
    for (const batchSize of [1, 3, 4, 10, 16]) {
      const batches = await all(evalBatches({ ...base(), batchSize }))
      const rows = batches.flatMap((batch) => imagesIn(batch).filter((_, row) => batch.weights[row] === 1))
      expect(rows).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
      expect(batches.reduce((sum, { count }) => sum + count, 0)).toBe(10)
      batches.forEach((batch) => expect(batch.images.length).toBe(batchSize * size * size * 3))
    }
  })

  it('gives a broken image weight 0, names it, and goes on', async () => {
    const broken = brokenImages()
    const batches = await all(evalBatches({ ...base(), folder: await withBroken([1, 9]), broken }))
    expect(batches.flatMap(({ weights }) => Array.from(weights))).toEqual([1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0])
    expect(batches.map(({ count }) => count)).toEqual([3, 4, 1])
    expect(broken.count).toBe(2)
  })

  it('fails when every image is broken', async () => {
    const none = { ...base(), folder: await withBroken([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) }
    await expect(all(evalBatches(none))).rejects.toThrow(/all fail to decode/)
  })
})

describe('prefetched', () => {
  const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

  it('works ahead no further than asked, in order', async () => {
    const started: number[] = []
    const items = prefetched(
      async (index) => {
        started.push(index)
        await later(5 - index)
        return index
      },
      0,
      5,
      2,
    )
    expect(started).toEqual([])
    expect(await items.next()).toEqual({ done: false, value: 0 })
    expect(started).toEqual([0, 1, 2])
    await later(20)
    expect(started).toEqual([0, 1, 2])
    expect((await items.next()).value).toBe(1)
    expect(started).toEqual([0, 1, 2, 3])
    expect([(await items.next()).value, (await items.next()).value, (await items.next()).value]).toEqual([2, 3, 4])
    expect((await items.next()).done).toBe(true)
  })

  it('an early end aborts and waits for what had started; failures of unread items harm nobody', async () => {
    let working = 0
    let aborted = 0
    const items = prefetched(
      async (index, signal) => {
        working++
        await later(index * 5)
        working--
        if (signal.aborted) aborted++
        if (index > 0) throw new Error(`item ${index}`)
        return index
      },
      0,
      10,
      3,
    )
    expect(await items.next()).toEqual({ done: false, value: 0 })
    await items.return()
    expect(working).toBe(0)
    expect(aborted).toBe(3)
  })

  it('hands a failure to the consumer at its place', async () => {
    const items = prefetched(
      (index) => (index === 1 ? Promise.reject(new Error('one')) : Promise.resolve(index)),
      0,
      3,
      5,
    )
    expect((await items.next()).value).toBe(0)
    await expect(items.next()).rejects.toThrow('one')
    expect((await items.next()).done).toBe(true)
  })
})

describe('limiter', () => {
  it('runs at most so many tasks at a time, first come first served, and survives failures', async () => {
    const run = limiter(2)
    let now = 0
    let most = 0
    const begun: number[] = []
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) =>
        run(async () => {
          begun.push(i)
          most = Math.max(most, ++now)
          await new Promise((resolve) => setTimeout(resolve, 2))
          now--
          if (i === 3) throw new Error('three')
          return i
        }),
      ),
    )
    expect(most).toBe(2)
    expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    expect(outcomes.filter(({ status }) => status === 'rejected').length).toBe(1)
  })
})

describe('syntheticBatches', () => {
  it('gives the same random batch at every step, drawn from the seed', async () => {
    const options = { size: 5, batchSize: 3, classes: 7, seed: 1, length: 4 }
    const batches = await all(syntheticBatches(options))
    expect(batches.length).toBe(4)
    expect(new Set(batches).size).toBe(1)
    const [batch] = batches
    expect(batch).toMatchObject({ count: 3, batchSize: 3, size: 5 })
    expect(batch?.images.length).toBe(225)
    expect(new Set(batch?.images).size).toBeGreaterThan(50)
    batch?.labels.forEach((label) => expect(label >= 0 && label < 7).toBe(true))
    expect((await all(syntheticBatches(options)))[0]).toEqual(batch)
    expect((await all(syntheticBatches({ ...options, seed: 2 })))[0]).not.toEqual(batch)
  })
})
