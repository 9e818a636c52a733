// Which checkpoint files a run keeps, and how they appear: last, best, and every N epochs, each whole or not at all.
// What is in a checkpoint is the training loop's business.

import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ValueError } from '../../tensor/errors.ts'
import { linkAtomically, removeLeftovers } from './atomic.ts'
import { writeSafetensors } from './safetensors.ts'
import type { NamedTensor } from './safetensors.ts'

/** The names of checkpoint files. */
export const checkpointNames = {
  last: 'checkpoint.safetensors',
  best: 'model_best.safetensors',
  /** The one kept of an epoch: `checkpoint_0007.safetensors`. */
  epoch: (epoch: number): string => `checkpoint_${String(epoch).padStart(4, '0')}.safetensors`,
} as const

const epochPattern = /^checkpoint_(\d{4,})\.safetensors$/

/** Which files a checkpoint is written to. */
export interface CheckpointOptions {
  /** The epoch the checkpoint ends, counted from 0. */
  readonly epoch: number
  /** Whether the model is the best so far, and so becomes `model_best.safetensors`. */
  readonly isBest?: boolean
  /** Keep a numbered file of every so many epochs (after epoch every - 1, 2 every - 1, ...); 0 (the default): none. */
  readonly every?: number
  /** How many numbered files to keep, the latest ones; all by default. */
  readonly keep?: number
}

/**
 * Saves a checkpoint into a folder (made where it is missing) and returns the paths written.
 *
 * The data is written once; best and numbered files are further names of it. `checkpoint.safetensors` is renewed last,
 * so that a run killed in between resumes from the one before and comes by here again.
 *
 * @throws PullbackError `file` when the system refuses; files already there keep their content
 */
export async function saveCheckpoint(
  dir: string,
  options: CheckpointOptions,
  entries: Iterable<NamedTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<readonly string[]> {
  const paths = targets(options).map((name) => join(dir, name))
  const [first, ...others] = paths
  if (first === undefined) return []
  await mkdir(dir, { recursive: true })
  await removeLeftovers(dir)
  await writeSafetensors(first, entries, metadata)
  for (const path of others) await linkAtomically(first, path)
  if (options.keep !== undefined) await removeOldest(dir, options.keep)
  return paths
}

/** The names a checkpoint gets, the last-checkpoint's own at the end. */
function targets({ epoch, isBest = false, every = 0, keep }: CheckpointOptions): string[] {
  for (const [name, value, least] of [
    ['epoch', epoch, 0],
    ['every', every, 0],
    ['keep', keep ?? 1, 1],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < least) {
      throw new ValueError(`[checkpoint] expected ${name} to be a whole number of at least ${least}, got ${value}.`)
    }
  }
  const numbered = every > 0 && (epoch + 1) % every === 0
  return [
    ...(isBest ? [checkpointNames.best] : []),
    ...(numbered ? [checkpointNames.epoch(epoch)] : []),
    checkpointNames.last,
  ]
}

interface NumberedFile {
  readonly name: string
  readonly epoch: number
}

/** The numbered checkpoints of a folder, earliest first. */
async function numberedFiles(dir: string): Promise<NumberedFile[]> {
  const found = (await readdir(dir)).flatMap((name): NumberedFile[] => {
    const digits = epochPattern.exec(name)?.[1]
    return digits === undefined ? [] : [{ name, epoch: Number(digits) }]
  })
  return found.sort((a, b) => a.epoch - b.epoch)
}

async function removeOldest(dir: string, keep: number): Promise<void> {
  for (const { name } of (await numberedFiles(dir)).slice(0, -keep)) await rm(join(dir, name), { force: true })
}

/**
 * The checkpoint to resume from: `checkpoint.safetensors`, else the latest numbered one, else undefined (also where
 * there is no such folder). Files are whole or not there, so the one found is the last complete one.
 */
export async function latestCheckpoint(dir: string): Promise<string | undefined> {
  const last = join(dir, checkpointNames.last)
  if ((await stat(last).catch(() => undefined))?.isFile()) return last
  const numbered = (await numberedFiles(dir).catch(() => [])).at(-1)
  return numbered === undefined ? undefined : join(dir, numbered.name)
}
