// Compiled kernels on disk, found by the hash of their text, the preludes, the compiler and the processor. Missing ones
// are built together, a few libraries at a time; each kernel has a small file that names its library and that library's
// checksum, so that a kernel is never built twice and a broken library is never loaded.
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { PullbackError } from '../tensor/errors.ts'
import { logLine } from '../tensor/log.ts'
import { type Compiler, compileAll, digest } from './compiler.ts'
import type { KernelSource } from './kernels/launch.ts'

/** Where one kernel's machine code is. */
export interface BuiltKernel {
  readonly name: string
  /** The shared library's path; its checksum was right when it was looked up. */
  readonly library: string
}

/** What a kernel's file in the cache says. */
interface Entry {
  readonly library: string
  readonly checksum: string
}

/** Counts for logs and tests: kernels found, kernels built, libraries written. */
export interface CacheCounts {
  found: number
  built: number
  libraries: number
}

/** A folder of compiled kernels, for one compiler and one prelude. */
export class KernelCache {
  readonly counts: CacheCounts = { found: 0, built: 0, libraries: 0 }
  readonly #verified = new Map<string, string>()
  readonly #salt: string
  #header: string | undefined

  constructor(
    readonly folder: string,
    private readonly compiler: Compiler,
    private readonly prelude: string,
  ) {
    this.#salt = digest(`${compiler.fingerprint}\n${prelude}`)
  }

  /**
   * The libraries of the sources, building those that are missing or broken.
   *
   * @throws PullbackError `compiler` if the compiler refuses one, `file` if the folder cannot be written.
   */
  get(sources: readonly KernelSource[]): BuiltKernel[] {
    const found = sources.map((source) => ({ source, library: this.lookUp(source) }))
    const missing = found.flatMap(({ source, library }) => (library === undefined ? [source] : []))
    const built = missing.length === 0 ? new Map<string, string>() : this.buildAndTell(missing, sources.length)
    this.counts.found += sources.length - missing.length
    this.counts.built += missing.length
    return found.map(({ source, library }) => {
      const path = library ?? built.get(source.name)
      if (path === undefined) throw new PullbackError('internal', `internal: kernel ${source.name} was not built`)
      return { name: source.name, library: path }
    })
  }

  private keyOf({ name, text }: KernelSource): string {
    return digest(`${this.#salt}\n${name}\n${text}`)
  }

  private lookUp(source: KernelSource): string | undefined {
    const entry = readEntry(join(this.folder, `${this.keyOf(source)}.json`))
    if (entry === undefined) return undefined
    const path = join(this.folder, entry.library)
    const checksum = this.#verified.get(path) ?? checksumOf(path)
    if (checksum !== entry.checksum) return undefined
    this.#verified.set(path, checksum)
    return path
  }

  private buildAndTell(missing: readonly KernelSource[], all: number): Map<string, string> {
    const [began, before] = [performance.now(), this.counts.libraries]
    const built = this.build(missing)
    const libraries = this.counts.libraries - before
    logLine(
      'info',
      () =>
        `[cpu] kernels: ${missing.length} built (${libraries} libraries, ${(performance.now() - began).toFixed(0)} ms), ${all - missing.length} found in the cache`,
    )
    return built
  }

  /** Builds the sources in a few libraries of about equal length and notes where each kernel went. */
  private build(sources: readonly KernelSource[]): Map<string, string> {
    const scratch = mkdtempSync(join(this.folder, 'build-'))
    try {
      const groups = balance(sources, availableParallelism())
      const texts = groups.map((group) => group.map(({ text }) => text).join('\n'))
      this.compile(texts, scratch)
      const places = new Map<string, string>()
      groups.forEach((group, index) => {
        const path = this.keep(group, join(scratch, `${index}.so`))
        for (const { name } of group) places.set(name, path)
      })
      return places
    } finally {
      rmSync(scratch, { recursive: true, force: true })
    }
  }

  /** Compiles `<index>.so` for each text; with the parsed prelude if that works, else with its text. */
  private compile(texts: readonly string[], scratch: string): void {
    const jobs = texts.map((text, index) => ({ text, output: join(scratch, `${index}.so`), kind: 'library' as const }))
    if (this.prelude === '') {
      compileAll(this.compiler, jobs, scratch)
      return
    }
    try {
      const include = this.header()
      compileAll(
        this.compiler,
        jobs.map((job) => ({ ...job, include })),
        scratch,
      )
    } catch (error) {
      if (!(error instanceof PullbackError) || error.code !== 'compiler') throw error
      if (this.#header !== undefined) rmSync(join(this.#header, '..'), { recursive: true, force: true })
      this.#header = undefined
      compileAll(
        this.compiler,
        jobs.map((job) => ({ ...job, text: `${this.prelude}\n${job.text}` })),
        scratch,
      )
    }
  }

  /** The prelude as a file beside its parsed form, which saves most of the time that a small kernel takes. */
  private header(): string {
    if (this.#header !== undefined && existsSync(this.#header)) return this.#header
    const place = join(this.folder, `prelude-${this.#salt}`)
    if (!existsSync(join(place, 'prelude.h.gch'))) {
      const scratch = mkdtempSync(join(this.folder, 'build-'))
      writeFileSync(join(scratch, 'prelude.h'), this.prelude)
      const output = join(scratch, 'prelude.h.gch')
      compileAll(this.compiler, [{ text: this.prelude, output, kind: 'header' }], scratch)
      moveFolder(scratch, place)
    }
    this.#header = join(place, 'prelude.h')
    return this.#header
  }

  /** Moves a library into the folder under the name of its content, then writes its kernels' entries; both atomically. */
  private keep(group: readonly KernelSource[], built: string): string {
    const checksum = digest(readFileSync(built))
    const library = `${checksum}.so`
    const path = join(this.folder, library)
    renameSync(built, path)
    this.#verified.set(path, checksum)
    this.counts.libraries += 1
    for (const source of group) {
      const entry: Entry = { library, checksum }
      const temporary = `${built}.${source.name}.json`
      writeFileSync(temporary, JSON.stringify(entry))
      renameSync(temporary, join(this.folder, `${this.keyOf(source)}.json`))
    }
    return path
  }
}

/**
 * The folder for compiled kernels: PULLBACK_CACHE, else XDG_CACHE_HOME/pullback, else ~/.cache/pullback, made with mode
 * 0700; where none of the last two can be written to, a private folder for this process alone.
 *
 * @throws PullbackError `file` if PULLBACK_CACHE is set and cannot be used.
 */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const chosen = environment['PULLBACK_CACHE']
  if (chosen !== undefined && chosen !== '') {
    const problem = prepare(chosen)
    if (problem === undefined) return chosen
    throw new PullbackError('file', `[cache] cannot use PULLBACK_CACHE=${chosen}: ${problem}. Choose another folder.`)
  }
  const base = environment['XDG_CACHE_HOME'] ?? ''
  const usual = join(base === '' ? join(homedir(), '.cache') : base, 'pullback')
  return prepare(usual) === undefined ? usual : mkdtempSync(join(tmpdir(), 'pullback-'))
}

/** Makes the folder; what is wrong with it, if anything: code of other users must never be loaded from it. */
function prepare(folder: string): string | undefined {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    accessSync(folder, constants.W_OK | constants.X_OK)
    const { uid, mode } = statSync(folder)
    if (process.getuid !== undefined && uid !== process.getuid()) return 'it belongs to another user'
    return (mode & 0o022) !== 0 ? 'other users may write to it' : undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

/** Renames a folder; where another process was first, its folder stays. */
function moveFolder(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    rmSync(from, { recursive: true, force: true })
    if (!existsSync(to)) throw error
  }
}

function readEntry(path: string): Entry | undefined {
  if (!existsSync(path)) return undefined
  try {
    const entry: unknown = JSON.parse(readFileSync(path, 'utf8'))
    if (typeof entry !== 'object' || entry === null || !('library' in entry) || !('checksum' in entry)) return undefined
    const { library, checksum } = entry
    const sound = typeof library === 'string' && typeof checksum === 'string' && /^[0-9a-f]+\.so$/.test(library)
    return sound ? { library, checksum } : undefined
  } catch {
    return undefined // half a file left by a crash of the machine: build again
  }
}

function checksumOf(path: string): string | undefined {
  return existsSync(path) ? digest(readFileSync(path)) : undefined
}

/** Splits the sources into at most `count` lists of about equal length of text, the longest texts first. */
function balance(sources: readonly KernelSource[], count: number): KernelSource[][] {
  const lists = Array.from({ length: Math.min(count, sources.length) }, () => ({
    length: 0,
    sources: [] as KernelSource[],
  }))
  for (const source of [...sources].sort((a, b) => b.text.length - a.text.length)) {
    const shortest = lists.reduce((best, list) => (list.length < best.length ? list : best))
    shortest.length += source.text.length
    shortest.sources.push(source)
  }
  return lists.map((list) => list.sources)
}
