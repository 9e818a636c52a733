// The compiled CPU device: tensors in native memory, programs as plans of printed kernels that run on all cores, off the
// main thread and in the order in which they were enqueued.
import { cpus } from 'node:os'
import { compileProgram } from '../compile/index.ts'
import type { CompileOptions, Device, DeviceMemory, Executable, Storage } from '../tensor/device.ts'
import { type StorageArray, bytesOf, storageArray } from '../tensor/dtype.ts'
import { InternalError } from '../tensor/errors.ts'
import { type Program, type TensorType, showType } from '../tensor/program.ts'
import { sizeOf } from '../tensor/shape.ts'
import { vectorInstructions } from './compiler.ts'
import { Engine, type EngineOptions } from './engine.ts'
import { CpuExecutable } from './executable.ts'
import type { Pointer } from './ffi/runtime.ts'
import { type Block, Memory } from './memory.ts'
import { CpuStorage, liveStorage } from './storage.ts'
import { tellCompilation } from './told.ts'

/**
 * A new CPU device; undefined on a machine without a C compiler.
 *
 * Environment: CC, PULLBACK_THREADS, PULLBACK_CACHE, PULLBACK_CACHE_LIMIT, PULLBACK_LOG, PULLBACK_PROFILE=1 (times of each
 * step on stderr at the end).
 *
 * @throws PullbackError `compiler` if the compiler cannot build the runtime, `file` if PULLBACK_CACHE cannot be used.
 */
export function cpuDevice(options: EngineOptions = {}): Device | undefined {
  const engine = Engine.start(options)
  return engine === undefined ? undefined : new CpuDevice(engine)
}

/** The device behind `cpuDevice`; shared with its executables, not public. */
export class CpuDevice implements Device {
  readonly name = 'cpu'
  readonly description: string
  readonly #live = new Set<CpuStorage>()
  readonly #executables = new Set<CpuExecutable>()
  readonly #memory: Memory
  readonly #report: () => void
  #arena: Block | undefined
  #open = true

  constructor(readonly engine: Engine) {
    const { compiler, threads } = engine
    this.description = `cpu: ${processorName()}, ${threads} threads, ${vectorInstructions()}, kernels by ${compiler.version}`
    this.#memory = new Memory(engine.calls, engine, () => this.owners())
    this.#report = () => this.printProfiles()
    if (engine.profiled) process.once('exit', this.#report)
  }

  details(): Readonly<Record<string, string>> {
    return {}
  }

  choices(): Readonly<Record<string, string>> {
    return {}
  }

  prefer(): void {
    // each program is computed in one way
  }

  watch(): void {
    // kernels are built in one go, which PULLBACK_LOG=info tells of
  }

  upload(data: StorageArray, type: TensorType): Storage {
    this.assertOpen('upload')
    const bytes = sizeOf(type.shape) * bytesOf(type.dtype)
    if (data.byteLength !== bytes || data.constructor !== storageArray(type.dtype, 0).constructor)
      throw new InternalError(`upload of a ${data.constructor.name} with ${data.length} elements as ${showType(type)}`)
    const block = this.#memory.allocate(bytes, 'host')
    if (bytes > 0) this.engine.calls.copyIn(block.address, data, bytes)
    return this.hold(new CpuStorage(this, type, block, 0))
  }

  async read(storage: Storage): Promise<StorageArray> {
    this.assertOpen('read')
    const mine = liveStorage(this, storage, 'read')
    mine.readers += 1
    try {
      await this.engine.wait(mine.ready)
      return mine.saved?.slice() ?? this.copyOf(mine)
    } finally {
      mine.readers -= 1
      this.reclaim(mine)
    }
  }

  readSync(storage: Storage): StorageArray {
    this.assertOpen('read')
    const mine = liveStorage(this, storage, 'read')
    this.engine.waitSync(mine.ready)
    return this.copyOf(mine)
  }

  release(storage: Storage): void {
    if (!this.#open) return // tensors may outlive their device, and their memory went with it
    const mine = liveStorage(this, storage, 'release')
    mine.state = 'released'
    this.reclaim(mine)
  }

  compile(program: Program, options: CompileOptions): Executable {
    this.assertOpen('compile')
    const began = performance.now()
    const plan = compileProgram(program, { optimize: options.optimize, donate: options.donate })
    const planned = performance.now()
    const executable = new CpuExecutable(
      this,
      plan,
      program.outputs.map(({ type }) => type),
      options,
    )
    this.#executables.add(executable)
    tellCompilation({
      label: options.label,
      equations: program.equations.length,
      plan,
      arenaBytes: executable.arenaBytes,
      planned: planned - began,
      prepared: performance.now() - planned,
      folder: this.engine.cache.folder,
    })
    return executable
  }

  async synchronize(): Promise<void> {
    this.assertOpen('synchronize')
    await this.engine.wait(this.engine.submitted)
  }

  memory(): DeviceMemory {
    return this.#memory.statistics()
  }

  async close(): Promise<void> {
    if (!this.#open) return
    this.#open = false
    await this.engine.finish()
    if (this.engine.profiled) this.printProfiles()
    process.removeListener('exit', this.#report)
    for (const { block } of this.#live) this.#memory.free(block)
    this.#live.clear()
    if (this.#arena !== undefined) this.#memory.free(this.#arena)
    this.#memory.trim(0)
    this.engine.close()
  }

  /** @internal Fresh memory for a result of work that is about to be enqueued. */
  fresh(type: TensorType): Block {
    return this.#memory.allocate(sizeOf(type.shape) * bytesOf(type.dtype), 'queue')
  }

  /** @internal Gives back a block that no storage came to own. */
  giveBack(block: Block): void {
    this.#memory.free(block)
  }

  /** @internal Notes a storage as alive. */
  hold(storage: CpuStorage): CpuStorage {
    this.#live.add(storage)
    return storage
  }

  /** @internal Before a storage is overwritten: what is being read is copied out now. */
  settleReads(storage: CpuStorage): void {
    if (storage.readers === 0) return
    this.engine.waitSync(storage.ready)
    storage.saved = this.copyOf(storage)
  }

  /** @internal A donated storage: its block is the executable's from here on, and is returned unless it is handed over. */
  donate(storage: CpuStorage, handedOver: boolean): void {
    storage.state = 'donated'
    this.#live.delete(storage)
    if (!handedOver) this.#memory.free(storage.block)
  }

  /** @internal The arena that all executables share, since only one of them runs at a time. */
  arena(bytes: number): Pointer | 0n {
    if (bytes === 0) return 0n
    if (this.#arena === undefined || this.#arena.bytes < bytes) {
      if (this.#arena !== undefined) this.#memory.free(this.#arena)
      this.#arena = undefined
      this.#arena = this.#memory.allocate(bytes, 'queue')
    }
    return this.#arena.address
  }

  /** @internal Forgets an executable and gives the arena back if the others need much less. */
  forget(executable: CpuExecutable): void {
    this.#executables.delete(executable)
    const needed = [...this.#executables].reduce((most, { arenaBytes }) => Math.max(most, arenaBytes), 0)
    if (this.#arena === undefined || needed * 2 > this.#arena.bytes || !this.#open) return
    this.#memory.free(this.#arena)
    this.#arena = undefined
  }

  /** @internal Throws once the device was closed. */
  assertOpen(use: string): void {
    if (!this.#open) throw new InternalError(`${use} on a cpu device that was closed`)
  }

  private copyOf({ type, block }: CpuStorage): StorageArray {
    this.assertOpen('read')
    const out = storageArray(type.dtype, sizeOf(type.shape))
    if (out.byteLength > 0) this.engine.calls.copyOut(out, block.address, out.byteLength)
    return out
  }

  private reclaim(storage: CpuStorage): void {
    if (storage.state !== 'released' || storage.readers > 0 || !this.#live.delete(storage)) return
    this.#memory.free(storage.block)
  }

  private owners(): string {
    const largest = [...this.#live].sort((a, b) => b.block.bytes - a.block.bytes).slice(0, 3)
    const arena = this.#arena === undefined ? [] : [`arena (${this.#arena.bytes} bytes)`]
    return [...arena, ...largest.map(({ type, block }) => `${showType(type)} (${block.bytes} bytes)`)].join(', ')
  }

  private printProfiles(): void {
    for (const executable of this.#executables) process.stderr.write(executable.profile())
  }
}

function processorName(): string {
  return cpus()[0]?.model ?? process.arch
}
