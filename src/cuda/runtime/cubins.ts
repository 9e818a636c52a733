// Machine code of printed kernels: each source compiled by NVRTC on its own and kept on disk under a hash of all that it
// depends on. Loading it into the GPU is modules.ts's part.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { touch } from '../../compile/cache-trim.ts'
import type { PrintedSource } from '../../compile/print/index.ts'
import { PullbackError } from '../../tensor/errors.ts'
import { logLine } from '../../tensor/log.ts'
import { at, zip } from '../../tensor/shape.ts'
import { type CompilerProgram, type Nvrtc, nvrtcErrors } from '../ffi/nvrtc.ts'
import { CudaError } from '../ffi/status.ts'
import { cudaOptions, cudaPrelude } from '../prelude.ts'
import { attempt } from './cleanup.ts'

/** What the machine code depends on besides the text. */
export interface Target {
  /** `sm_90` */
  readonly architecture: string
  /** Of NVRTC and of the driver, as they count. */
  readonly versions: readonly number[]
}

/** Told of each kernel that was compiled: how many of how many are. */
export type BuildProgress = (built: number, total: number) => void

const checksumBytes = 32
/** So few kernels are compiled before threads have started. */
const worthThreads = 4

/** A folder of cubins. */
export class Cubins {
  /** Kernels found on disk and kernels compiled, for logs and tests. */
  readonly counts = { found: 0, built: 0 }
  readonly #salt: string
  #complained = false
  #trimmed = false

  /**
   * `folder` belongs to this user alone and is made when it is first written to. `trim` makes room, before the first kernel
   * is compiled.
   */
  constructor(
    private readonly nvrtc: Nvrtc,
    private readonly folder: string,
    private readonly target: Target,
    private readonly trim: () => void = () => undefined,
  ) {
    this.#salt = JSON.stringify([cudaPrelude, cudaOptions, target.architecture, target.versions])
  }

  /**
   * The machine code of the sources, in their order; those that are missing or broken are compiled.
   *
   * @throws PullbackError 'compiler' with the kernel's name and NVRTC's words where it refuses one.
   */
  get(sources: readonly PrintedSource[], progress: BuildProgress = () => undefined): readonly Uint8Array[] {
    const kept = sources.map((source) => readChecked(this.#pathOf(source)))
    const missing = sources.filter((_, index) => kept[index] === undefined)
    this.counts.found += sources.length - missing.length
    const built = this.#build(missing, progress)
    let next = 0
    return kept.map((image) => image ?? at(built, next++))
  }

  /** What was found and what was made, for a run's header. */
  toString(): string {
    return `${this.counts.built} compiled, ${this.counts.found} found in ${this.folder}`
  }

  #pathOf({ name, text }: PrintedSource): string {
    const key = createHash('sha256').update(`${this.#salt}\n${name}\n${text}`).digest('hex').slice(0, 40)
    return join(this.folder, `${key}.cubin`)
  }

  #build(sources: readonly PrintedSource[], progress: BuildProgress): readonly Uint8Array[] {
    const { nvrtc } = this
    const programs: CompilerProgram[] = []
    if (sources.length > 0 && !this.#trimmed) this.trim()
    if (sources.length > 0) this.#trimmed = true
    try {
      for (const { name, text } of sources) programs.push(nvrtc.createProgram(`${cudaPrelude}\n${text}`, `${name}.cu`))
      const failures = this.#compile(programs, (built) => progress(built, sources.length))
      return zip(sources, zip(programs, failures)).map(([source, [program, failure]]) => {
        if (failure !== undefined) throw this.#refused(source, program, failure)
        const image = nvrtc.cubin(program)
        this.counts.built += 1
        this.#keep(this.#pathOf(source), image)
        return image
      })
    } finally {
      for (const program of programs) attempt(() => nvrtc.destroyProgram(program))
    }
  }

  /** Compiles all, several of them at once; what became of each. */
  #compile(programs: readonly CompilerProgram[], done: (built: number) => void): readonly (CudaError | undefined)[] {
    const { nvrtc } = this
    const options = [...cudaOptions, `--gpu-architecture=${this.target.architecture}`]
    if (nvrtc.compileTogether !== undefined && programs.length >= worthThreads)
      return nvrtc.compileTogether(programs, options, done)
    return programs.map((program, index) => {
      try {
        nvrtc.compileProgram(program, options)
        done(index + 1)
        return undefined
      } catch (error) {
        if (error instanceof CudaError) return error
        throw error
      }
    })
  }

  /** What to throw for a program that failed: NVRTC's words, where the text is what it refuses. */
  #refused({ name }: PrintedSource, program: CompilerProgram, error: CudaError): PullbackError {
    if (error.status !== nvrtcErrors.COMPILATION) return error
    const log = firstLines(this.nvrtc.programLog(program))
    return new PullbackError('compiler', `[cuda] NVRTC refused the kernel ${name}:\n${log}`, { cause: error })
  }

  /** A cache that cannot be written costs time at the next start and nothing else; the folder was checked when it was chosen. */
  #keep(path: string, image: Uint8Array): void {
    const temporary = `${path}.${process.pid}.tmp`
    try {
      mkdirSync(this.folder, { recursive: true, mode: 0o700 })
      writeFileSync(temporary, Buffer.concat([checksum(image), image]), { mode: 0o600 })
      renameSync(temporary, path)
    } catch (error) {
      attempt(() => rmSync(temporary, { force: true }))
      this.#complain(error)
    }
  }

  #complain(error: unknown): void {
    if (this.#complained) return
    this.#complained = true
    const why = error instanceof Error ? error.message : String(error)
    logLine('warn', () => `pullback: compiled kernels are not kept in ${this.folder}: ${why}`)
  }
}

/** The image in a file whose checksum is right; undefined for any other. */
function readChecked(path: string): Uint8Array | undefined {
  let content: Buffer
  touch(path) // before it is read, so that another process does not take it for an old one
  try {
    content = readFileSync(path)
  } catch {
    return undefined
  }
  const image = content.subarray(checksumBytes)
  return image.length > 0 && checksum(image).equals(content.subarray(0, checksumBytes)) ? image : undefined
}

function checksum(image: Uint8Array): Buffer {
  return createHash('sha256').update(image).digest()
}

function firstLines(log: string): string {
  const lines = log.split('\n').filter((line) => line !== '')
  const telling = lines.filter((line) => line.includes('error'))
  return (telling.length > 0 ? telling : lines).slice(0, 5).join('\n')
}
