// The tuning cache: which candidate won each problem, on disk, in one file for each combination of GPU and libraries. Each
// entry is written as soon as it is known, and carries a checksum, so that a damaged one is tuned again and never used.
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { touch } from '../../compile/cache-trim.ts'
import type { Session } from '../runtime/index.ts'

/** What won a problem. */
export interface TuningEntry {
  /** The winner's id, and what makes it again. */
  readonly id: string
  readonly recipe?: string
  /** Of one run; left out where it had no rival. */
  readonly microseconds?: number
  /** The microseconds of those it won against, by id. */
  readonly others: Readonly<Record<string, number>>
  /** That it has passed its task's acceptance, on this GPU and with these libraries, since the file is theirs alone. */
  readonly accepted?: true
}

/** What the entries depend on: the GPU's model, the versions of the driver, of the libraries and of pullback. */
export type TuningIdentity = Readonly<Record<string, string>>

/** The identity of a GPU in use; `pullback` is the version of this package, whose kernels are among the candidates. */
export function tuningIdentity({ gpu, versions }: Pick<Session, 'gpu' | 'versions'>, pullback: string): TuningIdentity {
  const numbers = { ...versions, multiprocessors: gpu.multiprocessors }
  const texts = Object.entries(numbers).map(([name, value]) => [name, String(value)] as const)
  return { gpu: gpu.name, architecture: gpu.architecture, pullback, ...Object.fromEntries(texts) }
}

/** Raised when the file's layout changes, or what ids and keys mean. */
const format = 2

/** A folder's cache for one identity. */
export class TuningCache {
  readonly file: string
  readonly #entries = new Map<string, TuningEntry>()
  /** The texts of the entries as they are written, so that plans of many kilobytes are not encoded again and again. */
  readonly #texts = new Map<string, string>()
  #state: string | undefined
  #unwritable = false

  /** Reads what is there. `note` is told of damage, one sentence each. */
  constructor(
    folder: string,
    readonly identity: TuningIdentity,
    private readonly note: (sentence: string) => void,
  ) {
    const sorted = Object.entries(identity).sort(([a], [b]) => (a < b ? -1 : 1))
    this.file = join(folder, `tuning-${digest(JSON.stringify([format, ...sorted]))}.json`)
    touch(this.file)
    this.#merge()
  }

  get(key: string): TuningEntry | undefined {
    return this.#entries.get(key)
  }

  /** How many problems it knows. */
  get size(): number {
    return this.#entries.size
  }

  /** Keeps an entry and writes the file, with what other processes have written since; makes the folder if need be. */
  set(key: string, entry: TuningEntry): void {
    this.#merge()
    this.#keep(key, entry)
    this.#write()
  }

  /** Forgets all problems that an id has won, as far as others have told of them. */
  forget(id: string): void {
    this.#merge()
    const keys = [...this.#entries].flatMap(([key, entry]) => (entry.id === id ? [key] : []))
    if (keys.length === 0) return
    for (const key of keys) {
      this.#entries.delete(key)
      this.#texts.delete(key)
    }
    this.#write()
  }

  #keep(key: string, entry: TuningEntry): void {
    this.#entries.set(key, entry)
    const record = { ...entry, checksum: checksum(key, entry) }
    this.#texts.set(key, `${JSON.stringify(key)}: ${JSON.stringify(record)}`)
  }

  /** Takes over entries of the file that this process has none for. */
  #merge(): void {
    const state = stateOf(this.file)
    if (state === undefined || state === this.#state) return
    this.#state = state
    const stored = readEntries(this.file)
    if (stored === undefined) {
      this.#setAside()
      return
    }
    const sound = Object.entries(stored).flatMap(([key, value]) => {
      const entry = readEntry(key, value)
      return entry === undefined ? [] : [{ key, entry }]
    })
    for (const { key, entry } of sound) if (!this.#entries.has(key)) this.#keep(key, entry)
    const damaged = Object.keys(stored).length - sound.length
    if (damaged > 0) this.note(`[tune] ${damaged} damaged entries of ${this.file} are not used and tuned again.`)
  }

  #setAside(): void {
    const aside = `${this.file}.damaged`
    this.note(`[tune] ${this.file} is no tuning cache or is damaged: it is now ${aside}, and tuning starts anew.`)
    this.#attempt(() => renameSync(this.file, aside))
  }

  #write(): void {
    const temporary = `${this.file}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`
    const head = `"format": ${format},\n"identity": ${JSON.stringify(this.identity)}`
    const text = `{\n${head},\n"entries": {\n${[...this.#texts.values()].join(',\n')}\n}\n}\n`
    this.#attempt(() => {
      try {
        mkdirSync(dirname(this.file), { recursive: true, mode: 0o700 })
        writeFileSync(temporary, text, { mode: 0o600, flag: 'wx' })
        renameSync(temporary, this.file)
        this.#state = stateOf(this.file)
      } finally {
        rmSync(temporary, { force: true })
      }
    })
  }

  /** A cache that cannot be written serves this process from memory; that is said once. */
  #attempt(action: () => void): void {
    try {
      action()
    } catch (error) {
      if (!this.#unwritable)
        this.note(`[tune] cannot write ${this.file} (${String(error)}): what is tuned now is not kept.`)
      this.#unwritable = true
    }
  }
}

/** What tells one state of a file from the next; undefined where there is none to be seen. */
function stateOf(file: string): string | undefined {
  try {
    const { ino, size, mtimeMs } = statSync(file)
    return [ino, size, mtimeMs].join(' ')
  } catch {
    return undefined
  }
}

function readEntries(file: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const parsed: unknown = JSON.parse(readFileSync(file, 'utf8'))
    return isRecord(parsed) && parsed['format'] === format && isRecord(parsed['entries'])
      ? parsed['entries']
      : undefined
  } catch {
    return undefined
  }
}

/** An entry as it was written; undefined where anything about it is not. */
function readEntry(key: string, value: unknown): TuningEntry | undefined {
  if (!isRecord(value)) return undefined
  const { id, recipe, microseconds, others, accepted, checksum: stored } = value
  if (typeof id !== 'string' || !isRecord(others)) return undefined
  if (recipe !== undefined && typeof recipe !== 'string') return undefined
  if (microseconds !== undefined && typeof microseconds !== 'number') return undefined
  const times = Object.entries(others).filter((pair): pair is [string, number] => typeof pair[1] === 'number')
  const entry: TuningEntry = {
    id,
    ...(recipe === undefined ? {} : { recipe }),
    ...(microseconds === undefined ? {} : { microseconds }),
    others: Object.fromEntries(times),
    ...(accepted === true ? { accepted } : {}),
  }
  return checksum(key, entry) === stored ? entry : undefined
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function checksum(key: string, { id, recipe, microseconds, others, accepted }: TuningEntry): string {
  const parts = [key, id, recipe ?? null, microseconds ?? null, Object.entries(others), accepted ?? null]
  return digest(JSON.stringify(parts))
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}
