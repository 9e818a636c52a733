// Keeps the cache of all devices within its limit: what was used the longest time ago goes first. What lies in it, and which
// names it has, is each device's part; here are only those that can go by themselves.
import { readdirSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { ValueError } from '../tensor/errors.ts'
import { logLine } from '../tensor/log.ts'

const units: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }
const usualLimit = 2 * 2 ** 30

/** What was used within the last hour stays: a process may have looked it up and not opened it yet. Milliseconds. */
const grace = 60 * 60 * 1000
/** A compilation takes minutes; what is left of one after a day was left by a crash. Milliseconds. */
const abandoned = 24 * 60 * 60 * 1000

/**
 * Bytes that the cache may take: PULLBACK_CACHE_LIMIT, as bytes or with K, M or G (1024 each); 2G unless it is set.
 *
 * @throws ValueError for anything else.
 */
export function cacheLimit(environment: NodeJS.ProcessEnv = process.env): number {
  const text = environment['PULLBACK_CACHE_LIMIT'] ?? ''
  if (text === '') return usualLimit
  const [, digits, unit = ''] = /^(\d+)([KMG]?)B?$/i.exec(text.trim()) ?? []
  const factor = units[unit.toUpperCase()]
  if (digits === undefined || factor === undefined)
    throw new ValueError(
      `[cache] expected PULLBACK_CACHE_LIMIT to be bytes, or a number with K, M or G, got '${text}'. Try 2G.`,
    )
  return Number(digits) * factor
}

/** Notes that a file or folder of the cache is in use now. */
export function touch(path: string): void {
  try {
    const now = new Date()
    utimesSync(path, now, now)
  } catch {
    // Gone or read-only: whoever opens it next will say so.
  }
}

/** Folders whose files can each go by itself: printed plans, machine code for GPUs, what was tuned for them. */
const subfolders: readonly string[] = ['plans', 'cubin', 'tuning']

/** Something in the cache that can go by itself. */
interface Item {
  readonly name: string
  readonly bytes: number
  /** Milliseconds since 1970. */
  readonly used: number
}

/**
 * Removes the least recently used libraries, parsed preludes, plans, cubins and tuning files until the rest is within
 * `limit` bytes, and what crashes left behind. Nothing used within the last hour goes. A library that a process has loaded
 * may go: Linux keeps a mapped file's content until it is unmapped, and whoever looks the kernel up next builds it again.
 *
 * @param removed Called if anything went, for what is worth nothing without it.
 */
export function trimCache(
  folder: string,
  limit: number,
  removed: () => void = () => undefined,
  now = Date.now(),
): void {
  const items = itemsOf(folder)
  const total = items.reduce((sum, { bytes }) => sum + bytes, 0)
  let count = 0
  let left = total
  for (const item of items.sort((a, b) => a.used - b.used)) {
    const age = now - item.used
    const crashed = item.name.startsWith('build-') && age > abandoned
    if (!crashed && (left <= limit || age <= grace)) continue
    remove(folder, item.name)
    count += 1
    left -= item.bytes
  }
  if (count === 0) return
  removed()
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
  logLine('info', () => `[cache] removed ${count} old files from ${folder}: ${megabytes(total)} to ${megabytes(left)}`)
}

/** The folders that this process has trimmed. */
const trimmed = new Set<string>()

/** Trims a folder unless this process has done so: to look at thousands of files takes time, and one process adds few. */
export function trimCacheOnce(folder: string, limit: number): void {
  if (trimmed.has(folder)) return
  trimmed.add(folder)
  trimCache(folder, limit)
}

function itemsOf(folder: string): Item[] {
  return names(folder).flatMap((name): Item[] => {
    const path = join(folder, name)
    if (subfolders.includes(name))
      return names(path).flatMap((file) => itemOf(join(path, file), join(name, file), [join(path, file)]))
    if (/^[0-9a-f]+\.so$/.test(name)) return itemOf(path, name, [path])
    if (!/^(prelude|build)-/.test(name)) return []
    return itemOf(
      path,
      name,
      names(path).map((inner) => join(path, inner)),
    )
  })
}

/** An item of these files; none if it has gone meanwhile. */
function itemOf(path: string, name: string, files: readonly string[]): Item[] {
  const own = statSync(path, { throwIfNoEntry: false })
  if (own === undefined) return []
  const bytes = files.reduce((sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0), 0)
  return [{ name, bytes, used: own.mtimeMs }]
}

/** Folders get another name first, so that nobody finds half of one. */
function remove(folder: string, name: string): void {
  const path = join(folder, name)
  if (!name.startsWith('prelude-')) {
    rmSync(path, { recursive: true, force: true })
    return
  }
  const aside = join(folder, `build-removed-${process.pid}-${name}`)
  try {
    renameSync(path, aside)
  } catch {
    return // another process removes it
  }
  rmSync(aside, { recursive: true, force: true })
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
