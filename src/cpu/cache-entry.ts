// The small files of the kernel cache that say which library holds a kernel. What is built into the cache is cache.ts's part.
import { readFileSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { digest } from './compiler.ts'

/** What a kernel's file in the cache says. */
export interface Entry {
  readonly library: string
  readonly checksum: string
}

/** What a kernel's file says; undefined where there is none, or half a one left by a crash of the machine. */
export function readEntry(path: string): Entry | undefined {
  try {
    const entry: unknown = JSON.parse(readFileSync(path, 'utf8'))
    if (typeof entry !== 'object' || entry === null || !('library' in entry) || !('checksum' in entry)) return undefined
    const { library, checksum } = entry
    const sound = typeof library === 'string' && typeof checksum === 'string' && /^[0-9a-f]+\.so$/.test(library)
    return sound ? { library, checksum } : undefined
  } catch {
    return undefined
  }
}

/** The checksum of a library; undefined where it cannot be read: another process may just have removed it. */
export function checksumOf(path: string): string | undefined {
  try {
    return digest(readFileSync(path))
  } catch {
    return undefined
  }
}

/** Removes the files of kernels whose library is gone. */
export function removeOrphans(folder: string): void {
  const present = new Set(readdirSync(folder))
  for (const name of present) {
    if (!name.endsWith('.json')) continue
    const entry = readEntry(join(folder, name))
    if (entry === undefined || !present.has(entry.library)) rmSync(join(folder, name), { force: true })
  }
}
