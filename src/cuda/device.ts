// The CUDA device: tensors in the GPU's memory, programs as plans of kernels and library calls that run in the order in which
// they were enqueued. What a GPU in use consists of is runtime/'s part.
import { compileProgram } from '../compile/index.ts'
import type { CompileOptions, Device, DeviceMemory, Executable, Preparation, Storage } from '../tensor/device.ts'
import { type StorageArray, bytesOf, storageArray } from '../tensor/dtype.ts'
import { InternalError } from '../tensor/errors.ts'
import { type Program, type TensorType, showType } from '../tensor/program.ts'
import { sizeOf } from '../tensor/shape.ts'
import { batchAdvice, batchOf, demandOf, demandOfBatch } from './batch-advice.ts'
import { CudaExecutable } from './executable.ts'
import { type CudaPlan, fuseSteps } from './fusions/arrange.ts'
import type { Lowering } from './lower.ts'
import { type Block, OutOfMemoryError, type ReadPlace, type Runtime, attempt } from './runtime/index.ts'
import { CudaStorage, liveStorage } from './storage.ts'
import { tellCompilation } from './told.ts'
import type { Tuner } from './tune/index.ts'

/** How a device runs programs. */
export interface DeviceSettings {
  readonly lowering: Lowering
  /** Whether runs are recorded as graphs and replayed. */
  readonly graphs: boolean
  /** Whether each temporary is an allocation of its own. */
  readonly separate: boolean
  /** What chooses among the ways to compute a step; undefined where there is one way. */
  readonly tuner?: Pick<Tuner, 'chosen' | 'require' | 'bar'>
  /** More about the device by name, for a run's header. */
  readonly details?: () => Readonly<Record<string, string>>
  /** Whether the works of each run are timed; runs are then launched one by one. */
  readonly profile?: boolean
  /** Whether contractions may be one step with the kernels behind them. */
  readonly fusions: boolean
  /** Whether each result of the compiler is checked, also where the process does not ask for it by PULLBACK_VERIFY=1. */
  readonly verify?: boolean
}

/** The device behind `cudaDevice`; shared with its executables, not public. */
export class CudaDevice implements Device {
  readonly name: string
  readonly description: string
  /** The blocks of live storages. One keeps its place when another storage takes it over. */
  readonly #live = new Map<Block, TensorType>()
  readonly #executables = new Set<CudaExecutable>()
  readonly #report = (): void => this.#printProfiles()
  #arena: Block | undefined
  #listener: ((state: Preparation) => void) | undefined
  #open = true
  #ending: Promise<void> | undefined

  constructor(
    readonly runtime: Runtime,
    readonly settings: DeviceSettings,
  ) {
    this.name = `cuda:${runtime.session.gpu.ordinal}`
    this.description = runtime.session.description
    if (settings.profile === true) process.once('exit', this.#report)
  }

  details(): Readonly<Record<string, string>> {
    return this.settings.details?.() ?? {}
  }

  choices(): Readonly<Record<string, string>> {
    return this.settings.tuner?.chosen() ?? {}
  }

  prefer(choices: Readonly<Record<string, string>>): void {
    this.settings.tuner?.require(choices)
  }

  watch(listener: ((state: Preparation) => void) | undefined): void {
    this.#listener = listener
  }

  upload(data: StorageArray, type: TensorType): Storage {
    const bytes = sizeOf(type.shape) * bytesOf(type.dtype)
    if (data.byteLength !== bytes || data.constructor !== storageArray(type.dtype, 0).constructor)
      throw new InternalError(`upload of a ${data.constructor.name} with ${data.length} elements as ${showType(type)}`)
    return this.use('upload', () => {
      const block = this.#blockFor(bytes, type)
      try {
        // work of its own, so that the block is not used elsewhere before the copy has arrived
        this.runtime.queue.submit('upload', () => this.runtime.staging.upload(block.address, data))
      } catch (error) {
        block.release()
        throw error
      }
      return this.hold(new CudaStorage(this, type, block, 0))
    })
  }

  async read(storage: Storage): Promise<StorageArray> {
    const mine = this.use('read', () => liveStorage(this, storage, 'read'))
    const { out, bytes } = arrayOf(mine.type)
    const block = mine.block.retain()
    mine.readers += 1
    try {
      await this.runtime.staging.read(bytes, () => {
        this.runtime.session.enter() // others may have been in between, and a slot is made where a piece needs one
        return placeOf(mine)
      })
      return out
    } finally {
      mine.readers -= 1
      if (mine.readers === 0) mine.kept?.block.release()
      if (mine.readers === 0) mine.kept = undefined
      block.release()
    }
  }

  readSync(storage: Storage): StorageArray {
    return this.use('read', () => {
      const mine = liveStorage(this, storage, 'read')
      const { out, bytes } = arrayOf(mine.type)
      this.runtime.staging.readSync(bytes, placeOf(mine))
      return out
    })
  }

  release(storage: Storage): void {
    if (!this.#open) return // tensors may outlive their device, and their memory went with it
    if (storage instanceof CudaStorage && storage.device === this && storage.state === 'lost') return
    const mine = liveStorage(this, storage, 'release')
    mine.state = 'released'
    this.#live.delete(mine.block)
    if (this.settings.separate) attempt(() => this.runtime.session.enter()) // only then is memory returned at once
    mine.block.release()
  }

  compile(program: Program, options: CompileOptions): Executable {
    return this.use(options.label, () => {
      const began = performance.now()
      const verify = this.settings.verify === true || process.env['PULLBACK_VERIFY'] === '1'
      const plan = compileProgram(program, { optimize: options.optimize, donate: options.donate, verify })
      const planned = performance.now()
      const types = program.outputs.map(({ type }) => type)
      const fuses = this.settings.fusions && options.optimize === 'fuse'
      const steps = fuses ? fuseSteps(plan, verify) : plan
      const executable = this.#advising(steps, options, () => new CudaExecutable(this, plan, steps, types, options))
      this.#executables.add(executable)
      const ready = performance.now()
      tellCompilation(this, options.label, program.equations.length, executable, [planned - began, ready - planned])
      return executable
    })
  }

  async synchronize(): Promise<void> {
    const { queue } = this.runtime
    await queue.wait(this.use('synchronize', () => queue.submitted))
  }

  memory(): DeviceMemory {
    return this.runtime.memory.statistics()
  }

  close(): Promise<void> {
    this.#report()
    process.removeListener('exit', this.#report)
    this.#open = false
    this.#ending ??= this.#end()
    return this.#ending
  }

  /** @internal Does `body` with the GPU's context current; a failure that ends the device is everybody's from then on. */
  use<T>(what: string, body: () => T): T {
    if (!this.#open) throw new InternalError(`${what} on a ${this.name} device that was closed`)
    return this.runtime.queue.guard(() => {
      this.runtime.session.enter()
      return body()
    })
  }

  /** @internal Tells whoever watches. */
  tell(state: Preparation): void {
    this.#listener?.(state)
  }

  /** @internal What was compiled and not released. */
  get executables(): readonly CudaExecutable[] {
    return [...this.#executables]
  }

  /** @internal Notes a storage as alive whose block no other had. */
  hold(storage: CudaStorage): CudaStorage {
    this.#live.set(storage.block, storage.type)
    return storage
  }

  /** @internal Before a storage is overwritten: what is being read is copied, and what is just travelling arrives. */
  settleReads(storage: CudaStorage): void {
    if (storage.readers === 0 || storage.kept !== undefined) return
    const { queue, memory, session, staging } = this.runtime
    staging.computeWaitsForReads()
    const block = memory.allocate(storage.block.bytes)
    try {
      const ready = queue.submit('a copy for a read', (stream) =>
        session.driver.copyOnDevice(block.address, storage.block.address, storage.block.bytes, stream),
      )
      storage.kept = { block, ready }
    } catch (error) {
      block.release()
      throw error
    }
  }

  /** @internal A donated storage: its block is the executable's from here on, and is returned unless a result takes it over. */
  donate(storage: CudaStorage, handedOver: boolean): void {
    storage.state = 'donated'
    if (handedOver) return
    this.#live.delete(storage.block)
    storage.block.release()
  }

  /** @internal A donated storage whose run failed half-way. */
  lose(storage: CudaStorage): void {
    storage.state = 'lost'
    this.#live.delete(storage.block)
    storage.block.release()
  }

  /** @internal The arena that all executables share, since only one of them runs at a time. */
  arena(bytes: number): Block {
    if (this.#arena !== undefined && this.#arena.bytes >= bytes) return this.#arena
    this.#arena?.release()
    this.#arena = undefined
    this.#arena = this.runtime.memory.allocate(bytes)
    return this.#arena
  }

  /** @internal Bytes of that arena as it is. */
  get arenaHeld(): number {
    return this.#arena?.bytes ?? 0
  }

  /** @internal Forgets an executable and gives the arena back if the others need much less. */
  forget(executable: CudaExecutable): void {
    this.#executables.delete(executable)
    const needed = [...this.#executables].reduce((most, { arenaBytes }) => Math.max(most, arenaBytes), 0)
    if (this.#arena === undefined || needed * 2 > this.#arena.bytes) return
    this.#arena.release()
    this.#arena = undefined
  }

  /** @internal The largest owners of memory, as text. */
  owners(): string {
    const largest = [...this.#live].sort(([a], [b]) => b.bytes - a.bytes).slice(0, 3)
    const arena = this.#arena === undefined ? [] : [`arena (${this.#arena.bytes} bytes)`]
    return [...arena, ...largest.map(([block, type]) => `${showType(type)} (${block.bytes} bytes)`)].join(', ')
  }

  /** The block of an upload; where there is none for a batch, the error says which would fit the programs that take it. */
  #blockFor(bytes: number, type: TensorType): Block {
    try {
      return this.runtime.memory.allocate(bytes, 'copy')
    } catch (error) {
      if (!(error instanceof OutOfMemoryError) || batchOf([type]) === undefined) throw error
      const taker = this.executables.find((executable) => executable.takes(type))
      if (taker !== undefined) throw taker.advised(error, false)
      throw error.adding(batchAdvice(demandOfBatch(type), error.available))
    }
  }

  /** What `make` makes of a plan; a lack of memory comes with a batch that would fit. */
  #advising<T>(plan: CudaPlan, { donate }: CompileOptions, make: () => T): T {
    try {
      return make()
    } catch (cause) {
      const error = this.runtime.memory.explain(cause)
      if (!(error instanceof OutOfMemoryError)) throw error
      throw error.adding(batchAdvice(demandOf(plan, donate, 0), error.available + this.arenaHeld))
    }
  }

  /** What was measured of the programs; a device that has failed has nothing to tell. */
  #printProfiles(): void {
    if (this.#open && this.settings.profile === true)
      for (const executable of this.#executables) attempt(() => process.stderr.write(executable.profile()))
  }

  /** Waits for what runs and frees everything. A driver that has failed refuses, which is no news. */
  async #end(): Promise<void> {
    const { queue, staging } = this.runtime
    await queue.wait(queue.submitted).catch(() => undefined)
    await staging.finish()
    for (const executable of this.#executables) attempt(() => executable.release())
    if (queue.failed) attempt(() => this.runtime.close())
    else this.runtime.close()
  }
}

/** Where a read finds the elements. */
function placeOf({ block, ready, kept }: CudaStorage): ReadPlace {
  return kept === undefined ? { address: block.address, ready } : { address: kept.block.address, ready: kept.ready }
}

/** A fresh array for a tensor's elements, and its bytes. */
function arrayOf({ dtype, shape }: TensorType): { readonly out: StorageArray; readonly bytes: Uint8Array } {
  const out = storageArray(dtype, sizeOf(shape))
  return { out, bytes: new Uint8Array(out.buffer) }
}
