// Checkpoint files: which there are after each epoch, and what a killed run leaves.
import { spawnSync } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { writeAtomically } from '../../src/train/files/atomic.ts'
import { latestCheckpoint, readSafetensors, saveCheckpoint } from '../../src/train/files/index.ts'
import type { CheckpointOptions } from '../../src/train/files/index.ts'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pullback-checkpoint-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const save = (options: CheckpointOptions) =>
  saveCheckpoint(
    join(dir, 'run'),
    options,
    [{ name: 'w', dtype: 'F32', shape: [1], data: Float32Array.of(options.epoch) }],
    { epoch: String(options.epoch) },
  )
const epochIn = async (name: string): Promise<string | undefined> =>
  (await readSafetensors(join(dir, 'run', name))).metadata.get('epoch')

describe('saveCheckpoint', () => {
  it('renews the last, keeps the best, and the latest two of every second epoch', async () => {
    for (let epoch = 0; epoch < 9; epoch++) await save({ epoch, isBest: epoch === 3, every: 2, keep: 2 })
    expect((await readdir(join(dir, 'run'))).toSorted()).toEqual([
      'checkpoint.safetensors',
      'checkpoint_0005.safetensors',
      'checkpoint_0007.safetensors',
      'model_best.safetensors',
    ])
    expect(await epochIn('checkpoint.safetensors')).toBe('8')
    expect(await epochIn('model_best.safetensors')).toBe('3')
    expect(await epochIn('checkpoint_0005.safetensors')).toBe('5')
    expect(await epochIn('checkpoint_0007.safetensors')).toBe('7')
  })

  it('with its defaults keeps the last only; keep left out keeps all', async () => {
    await save({ epoch: 0 })
    expect(await readdir(join(dir, 'run'))).toEqual(['checkpoint.safetensors'])
    for (let epoch = 1; epoch < 4; epoch++) await save({ epoch, every: 1 })
    expect((await readdir(join(dir, 'run'))).length).toBe(4)
  })

  it('removes what a killed writer left, and not what a living process writes', async () => {
    await save({ epoch: 0 })
    const dead = spawnSync(process.execPath, ['-e', '']).pid
    await writeFile(join(dir, 'run', `.checkpoint.safetensors.${dead}.0123abcd.tmp`), 'half')
    await writeFile(
      join(dir, 'run', `.checkpoint.safetensors.${process.pid}.0123abcd.tmp`),
      'half, of an earlier process with our id',
    )
    await writeFile(join(dir, 'run', `.checkpoint.safetensors.${process.ppid}.0123abcd.tmp`), 'being written')
    expect(await latestCheckpoint(join(dir, 'run'))).toBe(join(dir, 'run', 'checkpoint.safetensors'))
    await save({ epoch: 1 })
    expect((await readdir(join(dir, 'run'))).toSorted()).toEqual([
      `.checkpoint.safetensors.${process.ppid}.0123abcd.tmp`,
      'checkpoint.safetensors',
    ])
  })

  it('refuses numbers that make no sense', async () => {
    await expect(save({ epoch: -1 })).rejects.toThrow(/epoch/)
    await expect(save({ epoch: 0, keep: 0 })).rejects.toThrow(/keep/)
    await expect(save({ epoch: 0, every: 0.5 })).rejects.toThrow(/every/)
  })
})

describe('latestCheckpoint', () => {
  it('is the last, else the highest number, else nothing', async () => {
    const run = join(dir, 'run')
    expect(await latestCheckpoint(run)).toBeUndefined()
    for (const epoch of [9, 10, 99_999]) await save({ epoch, every: 1 })
    expect(await latestCheckpoint(run)).toBe(join(run, 'checkpoint.safetensors'))
    await rm(join(run, 'checkpoint.safetensors'))
    expect(await latestCheckpoint(run)).toBe(join(run, 'checkpoint_99999.safetensors'))
    await rm(join(run, 'checkpoint_99999.safetensors'))
    expect(await latestCheckpoint(run)).toBe(join(run, 'checkpoint_0010.safetensors'))
  })
})

describe('writeAtomically', () => {
  it('leaves the old file, and nothing else, when the chunks fail half way', async () => {
    const path = join(dir, 'file')
    await writeFile(path, 'old')
    function* chunks() {
      yield Buffer.from('new')
      throw new Error('out of data')
    }
    await expect(writeAtomically(path, chunks())).rejects.toThrow(/could not write .*file: out of data/)
    expect(await readFile(path, 'utf8')).toBe('old')
    expect(await readdir(dir)).toEqual(['file'])
  })

  it('shows the old content until the new is whole', async () => {
    const path = join(dir, 'file')
    await writeFile(path, 'old')
    const seen: string[] = []
    async function* chunks() {
      for (const part of ['n', 'e', 'w']) {
        seen.push(await readFile(path, 'utf8'))
        yield Buffer.from(part)
      }
    }
    await writeAtomically(path, chunks())
    expect(seen).toEqual(['old', 'old', 'old'])
    expect(await readFile(path, 'utf8')).toBe('new')
  })
})
