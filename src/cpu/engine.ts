// The native side of one CPU device: the runtime library, its threads and queue, and the kernels loaded into the process.
// Memory is memory.ts's part; what programs consist of, lower.ts's.
import { availableParallelism } from 'node:os'
import { cacheFolder } from '../compile/cache-folder.ts'
import { PullbackError, ValueError } from '../tensor/errors.ts'
import { KernelCache } from './cache.ts'
import { cacheLimit } from '../compile/cache-trim.ts'
import { type Compiler, findCompiler } from './compiler.ts'
import { type LibraryLoader, koffiLoader } from './ffi/loader.ts'
import { type Pointer, type RuntimeCalls, bindRuntime } from './ffi/runtime.ts'
import type { KernelSource } from './kernels/launch.ts'
import { kernelPrelude } from './prelude.ts'
import { runtimeSource } from './runtime.ts'

export interface EngineOptions {
  /** Threads that share the parts of a launch; PULLBACK_THREADS, or one for each core. */
  readonly threads?: number
  readonly environment?: NodeJS.ProcessEnv
  /** Loads the runtime's library. */
  readonly loader?: LibraryLoader
  /** Measures each launch; PULLBACK_PROFILE=1. */
  readonly profile?: boolean
}

/** A pending wait for a ticket. */
interface Waiter {
  readonly ticket: number
  readonly done: () => void
  readonly failed: (error: unknown) => void
}

/** Threads, queue and kernels. Work is done in the order of its tickets. */
export class Engine {
  readonly #kernels = new Map<string, { readonly text: string; readonly address: Pointer }>()
  readonly #libraries = new Map<string, Pointer>()
  readonly #waiters: Waiter[] = []
  readonly #runtime: Pointer
  readonly #abandon: () => void
  #waiting = false
  #submitted = 0
  #open = true

  private constructor(
    readonly calls: RuntimeCalls,
    readonly compiler: Compiler,
    readonly cache: KernelCache,
    readonly threads: number,
    readonly profiled: boolean,
  ) {
    this.#runtime = calls.create(threads, profiled)
    this.#abandon = () => calls.abandon(this.#runtime)
    process.once('exit', this.#abandon)
  }

  /**
   * Starts an engine; undefined if there is no C compiler.
   *
   * @throws PullbackError `compiler` if there is one that cannot build the runtime, ValueError for a bad PULLBACK_THREADS
   * or PULLBACK_CACHE_LIMIT.
   */
  static start(options: EngineOptions = {}): Engine | undefined {
    const environment = options.environment ?? process.env
    const compiler = findCompiler(environment)
    if (compiler === undefined) return undefined
    const threads = options.threads ?? threadsOf(environment)
    const [folder, limit] = [cacheFolder(environment), cacheLimit(environment)]
    const [runtime] = new KernelCache(folder, compiler, '', limit).get([{ name: 'runtime', text: runtimeSource }])
    if (runtime === undefined) throw new PullbackError('internal', 'internal: the runtime was not built')
    const load = options.loader ?? koffiLoader()
    const calls = bindRuntime(load(runtime.library))
    const profile = options.profile ?? environment['PULLBACK_PROFILE'] === '1'
    return new Engine(calls, compiler, new KernelCache(folder, compiler, kernelPrelude, limit), threads, profile)
  }

  /** Builds what is missing of the sources, all together, and loads the rest. Equal names must have equal texts. */
  load(sources: readonly KernelSource[]): void {
    const missing = new Map<string, KernelSource>()
    for (const source of sources) {
      const known = this.#kernels.get(source.name) ?? missing.get(source.name)
      if (known === undefined) missing.set(source.name, source)
      else if (known.text !== source.text)
        throw new PullbackError('internal', `internal: two kernels are named ${source.name}`)
    }
    const list = [...missing.values()]
    for (const [index, { name, library }] of this.cache.get(list).entries()) {
      const handle = this.#libraries.get(library) ?? this.calls.open(library)
      this.#libraries.set(library, handle)
      this.#kernels.set(name, { text: list[index]?.text ?? '', address: this.calls.symbol(handle, name) })
    }
  }

  /** The address of a loaded kernel. */
  kernel(name: string): Pointer {
    const found = this.#kernels.get(name)
    if (found === undefined) throw new PullbackError('internal', `internal: kernel ${name} was not loaded`)
    return found.address
  }

  /** How many kernels are loaded. */
  get kernelCount(): number {
    return this.#kernels.size
  }

  /** Enqueues a program; `io` holds the addresses of its inputs and outputs. Returns its ticket. */
  submit(program: Pointer, arena: Pointer | 0n, io: BigInt64Array): number {
    this.#submitted = this.calls.submit(this.#runtime, program, arena, io)
    return this.#submitted
  }

  /** Frees a program after everything enqueued so far. */
  dispose(program: Pointer): void {
    if (this.#open) this.calls.dispose(this.#runtime, program)
  }

  /** The ticket of the last work that was enqueued. */
  get submitted(): number {
    return this.#submitted
  }

  /** Everything up to this ticket has run. */
  get completed(): number {
    return this.calls.completed(this.#runtime)
  }

  /** Blocks until the ticket is done. */
  waitSync(ticket: number): void {
    if (this.completed < ticket && !this.calls.wait(this.#runtime, ticket)) throw abandoned()
  }

  /** Resolves when the ticket is done. At most one thread of libuv's pool waits, however many callers there are. */
  wait(ticket: number): Promise<void> {
    if (this.completed >= ticket) return Promise.resolve()
    return new Promise((done, failed) => {
      this.#waiters.push({ ticket, done, failed })
      this.pump()
    })
  }

  /** Resolves when everything enqueued has run; nothing may be enqueued after. */
  finish(): Promise<void> {
    return this.wait(this.#submitted)
  }

  /** Ends the threads; what is still enqueued runs before, on this thread's time. */
  close(): void {
    if (!this.#open) return
    this.#open = false
    process.removeListener('exit', this.#abandon)
    this.calls.close(this.#runtime)
  }

  private pump(): void {
    const next = this.#waiters.reduce((least, { ticket }) => Math.min(least, ticket), Number.POSITIVE_INFINITY)
    if (this.#waiting || next === Number.POSITIVE_INFINITY) return
    this.#waiting = true
    this.calls.waitAsync(this.#runtime, next).then(
      (finished) => this.settle(finished ? undefined : abandoned()),
      (error: unknown) => this.settle(error),
    )
  }

  private settle(error: unknown): void {
    this.#waiting = false
    const { completed } = this
    const ready = this.#waiters.filter(({ ticket }) => error !== undefined || ticket <= completed)
    const rest = this.#waiters.filter((waiter) => !ready.includes(waiter))
    this.#waiters.splice(0, this.#waiters.length, ...rest)
    for (const { done, failed } of ready) {
      if (error === undefined) done()
      else failed(error)
    }
    this.pump()
  }
}

function abandoned(): PullbackError {
  return new PullbackError('device', '[cpu] the process is exiting; the result was given up.')
}

function threadsOf(environment: NodeJS.ProcessEnv): number {
  const text = environment['PULLBACK_THREADS'] ?? ''
  if (text === '') return availableParallelism()
  const threads = Number(text)
  if (Number.isInteger(threads) && threads >= 1 && threads <= 1024) return threads
  throw new ValueError(`[cpu] expected PULLBACK_THREADS to be an integer from 1 to 1024, got '${text}'.`)
}
