// Compiled kernels on disk, found by the hash of their text, the preludes, the compiler and the processor. Missing ones
// are built together, a few libraries at a time; each kernel has a small file that names its library and that library's
// checksum, so that a kernel is never built twice and a broken library is never loaded.
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { cacheLimit, touch, trimCache } from '../compile/cache-trim.ts'
import { PullbackError } from '../tensor/errors.ts'
import { logLine } from '../tensor/log.ts'
import { type Entry, checksumOf, readEntry, removeOrphans } from './cache-entry.ts'
import { type Compiler, compileAll, digest } from './compiler.ts'
import type { KernelSource } from './kernels/launch.ts'

/** Where one kernel's machine code is. */
export interface BuiltKernel {
  readonly name: string
  /** The shared library's path; its checksum was right when it was looked up. */
  readonly library: string
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
  #trimmed = false

  constructor(
    readonly folder: string,
    private readonly compiler: Compiler,
    private readonly prelude: string,
    /** Bytes that the folder may take: more is removed before the first build. */
    private readonly limit = cacheLimit(),
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
    if (this.#verified.get(path) === entry.checksum) return path
    touch(path) // before it is read, so that another process does not take it for an old one
    if (checksumOf(path) !== entry.checksum) return undefined
    this.#verified.set(path, entry.checksum)
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
    if (!this.#trimmed) trimCache(this.folder, this.limit, () => removeOrphans(this.folder))
    this.#trimmed = true
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
    touch(place)
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

/** Renames a folder; where another process was first, its folder stays. */
function moveFolder(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    rmSync(from, { recursive: true, force: true })
    if (!existsSync(to)) throw error
  }
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
