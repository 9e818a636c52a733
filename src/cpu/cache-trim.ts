// Keeps the kernel cache within its limit: what was used the longest time ago goes first. What is built is cache.ts's part.
import { readdirSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { ValueError } from '../tensor/errors.ts'
import { logLine } from '../tensor/log.ts'
import { readEntry } from './cache-entry.ts'

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

/** Notes that a library or a parsed prelude is in use now. */
export function touch(path: string): void {
  try {
    const now = new Date()
    utimesSync(path, now, now)
  } catch {
    // Gone or read-only: whoever opens it next will say so.
  }
}

/** Something in the cache that can go by itself. */
interface Item {
  readonly name: string
  readonly bytes: number
  /** Milliseconds since 1970. */
  readonly used: number
}

/**
 * Removes the least recently used libraries, parsed preludes and plans until the rest is within `limit` bytes, and what
 * crashes left behind. Nothing used within the last hour goes. A library that a process has loaded may go: Linux keeps a
 * mapped file's content until it is unmapped, and whoever looks the kernel up next builds it again.
 */
export function trimCache(folder: string, limit: number, now = Date.now()): void {
  const items = itemsOf(folder)
  const total = items.reduce((sum, { bytes }) => sum + bytes, 0)
  const removed: Item[] = []
  let left = total
  for (const item of items.sort((a, b) => a.used - b.used)) {
    const age = now - item.used
    const crashed = item.name.startsWith('build-') && age > abandoned
    if (!crashed && (left <= limit || age <= grace)) continue
    remove(folder, item.name)
    removed.push(item)
    left -= item.bytes
  }
  if (removed.length === 0) return
  removeOrphans(folder)
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
  logLine(
    'info',
    () => `[cache] removed ${removed.length} old files from ${folder}: ${megabytes(total)} to ${megabytes(left)}`,
  )
}

function itemsOf(folder: string): Item[] {
  return names(folder).flatMap((name): Item[] => {
    const path = join(folder, name)
    if (name === 'plans')
      return names(path).flatMap((plan) => itemOf(join(path, plan), join(name, plan), [join(path, plan)]))
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

/** The files of kernels whose library is gone. */
function removeOrphans(folder: string): void {
  const present = new Set(names(folder))
  for (const name of present) {
    if (!name.endsWith('.json')) continue
    const entry = readEntry(join(folder, name))
    if (entry === undefined || !present.has(entry.library)) rmSync(join(folder, name), { force: true })
  }
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
