// Files that appear whole or not at all: written beside their place, flushed to the disk, then renamed.
// What is written is the caller's business (safetensors.ts, checkpoint.ts).

import { constants } from 'node:fs'
import { copyFile, link, open, readdir, rename, rm } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import { PullbackError } from '../../tensor/errors.ts'

/** One write to the system at a time carries at most this many bytes. */
const writeBytes = 64 * 1024 * 1024

/** Temporary files being written by this process, which `removeLeftovers` must not take away. */
const underway = new Set<string>()

const temporaryName = (path: string): string =>
  join(dirname(path), `.${basename(path)}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`)
const temporaryPattern = /^\..+\.(\d+)\.[0-9a-f]{8}\.tmp$/

/**
 * Writes `chunks` to `path` so that a reader sees the old file or the whole new one, even after a crash.
 * The chunks must not change until the promise settles.
 *
 * @throws PullbackError `file` when the system refuses (full disk, no permission); nothing is left behind then
 */
export async function writeAtomically(
  path: string,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  await placeAtomically(path, async (temporary) => {
    const file = await open(temporary, 'wx')
    try {
      for await (const chunk of chunks) await writeChunk(file, chunk)
      await file.sync()
    } finally {
      await file.close()
    }
  })
}

/**
 * Gives the file at `from` a second name `to`, replacing what was there, at once: a hard link, or a copy where the
 * file system has no links.
 *
 * @throws PullbackError `file` when the system refuses
 */
export async function linkAtomically(from: string, to: string): Promise<void> {
  await placeAtomically(to, async (temporary) => {
    try {
      await link(from, temporary)
    } catch {
      await copyFile(from, temporary, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
      await flush(temporary, 'r+')
    }
  })
}

/** Removes what killed writers left in a folder, but nothing that is being written now. */
export async function removeLeftovers(dir: string): Promise<void> {
  for (const name of await readdir(dir)) {
    const writer = temporaryPattern.exec(name)?.[1]
    if (writer === undefined || underway.has(join(dir, name)) || isOtherLiveProcess(Number(writer))) continue
    await rm(join(dir, name), { force: true })
  }
}

async function placeAtomically(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = temporaryName(path)
  underway.add(temporary)
  try {
    await make(temporary)
    await rename(temporary, path)
    await flush(dirname(path), 'r')
  } catch (cause) {
    await rm(temporary, { force: true })
    if (cause instanceof PullbackError) throw cause
    throw new PullbackError('file', `[file] could not write ${path}: ${messageOf(cause)}.`, { cause })
  } finally {
    underway.delete(temporary)
  }
}

/** Makes a file's bytes, or a folder's list of names, survive a power cut. */
async function flush(path: string, flags: 'r' | 'r+'): Promise<void> {
  // Windows cannot open a folder to flush it, and does not need to.
  if (process.platform === 'win32' && flags === 'r') return
  const file = await open(path, flags)
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

async function writeChunk(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let start = 0; start < chunk.length; ) {
    const { bytesWritten } = await file.write(chunk, start, Math.min(writeBytes, chunk.length - start))
    start += bytesWritten
  }
}

function isOtherLiveProcess(pid: number): boolean {
  if (pid === process.pid) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // Not permitted to signal it: it lives, under another user.
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** The message of anything thrown. */
export const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown))
