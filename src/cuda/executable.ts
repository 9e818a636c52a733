// A program made ready for the GPU: its plan, its launches, and what happens to storages when it runs. The first run launches
// one work after the other; from the second on a recorded graph is replayed.
import type { Plan } from '../compile/index.ts'
import { showPlan } from '../compile/index.ts'
import type { CompileOptions, Executable, Storage } from '../tensor/device.ts'
import { InternalError } from '../tensor/errors.ts'
import { logLine } from '../tensor/log.ts'
import { type TensorType, sameType, showType } from '../tensor/program.ts'
import { at, zip } from '../tensor/shape.ts'
import { batchAdvice, batchBytes, demandOf } from './batch-advice.ts'
import type { CudaDevice } from './device.ts'
import type { CudaPlan } from './fusions/arrange.ts'
import type { Stream } from './ffi/driver-queues.ts'
import type { DevicePointer } from './ffi/values.ts'
import { Launches, WorkError } from './launches.ts'
import { type LoweredPlan, type Way, lowerPlan } from './lower.ts'
import { Poison } from './poison.ts'
import { Profile, type StepTimes, showTimes } from './profile.ts'
import { type Arrivals, Replays } from './replays.ts'
import { type Block, OutOfMemoryError } from './runtime/index.ts'
import { isOutOfMemory, isSticky } from './runtime/failure.ts'
import { CudaStorage, liveStorage } from './storage.ts'
import { showTraffic, trafficOf } from './traffic.ts'
import { tensorBytes } from './tune/index.ts'

/** Programs with fewer works are launched each time: recording them gains nothing. */
const fewWorks = 8
/** What libraries' own candidates are called. */
const isOfLibrary = /^(cudnn|cublaslt):/

/** A compiled program on the GPU. */
export class CudaExecutable implements Executable {
  readonly #lowered: LoweredPlan
  readonly #launches: Launches
  readonly #replays: Replays
  readonly #profile: Profile | undefined
  /** Where temporaries are separate allocations. */
  readonly #poison: Poison | undefined
  readonly #inputTypes: readonly TensorType[]
  /** The outputs', the very objects of the inputs' where they take those over: equal at a glance. */
  readonly #outputTypes: readonly TensorType[]
  /** For each output the input whose storage it takes over, or undefined. */
  readonly #takeovers: readonly (number | undefined)[]
  /** The donated inputs that no output takes over. */
  readonly #givenAway: readonly number[]
  /** The types of the outputs that take over nothing. */
  readonly #freshTypes: readonly TensorType[]
  /** Memory of our own where temporaries are separate allocations. */
  #separate: readonly Block[] = []
  #runs = 0
  /** False once a library has refused to be recorded. */
  #recordable = true
  #released = false

  /** All or nothing: where a part cannot be made, the others are given back. */
  constructor(
    private readonly device: CudaDevice,
    /** As the compiler made it, for printing. */
    readonly planned: Plan,
    readonly plan: CudaPlan,
    types: readonly TensorType[],
    private readonly options: CompileOptions,
  ) {
    const { runtime, settings } = device
    this.#inputTypes = plan.inputs.map((buffer) => at(plan.buffers, buffer).type)
    this.#takeovers = plan.outputs.map((buffer) => {
      const { place } = at(plan.buffers, buffer)
      return place.kind === 'input' ? place.index : undefined
    })
    this.#outputTypes = zip(types, this.#takeovers).map(([type, input]) => this.#inputTypes[input ?? -1] ?? type)
    this.#givenAway = options.donate.filter((input) => !this.#takeovers.includes(input))
    this.#freshTypes = types.filter((_, index) => this.#takeovers[index] === undefined)
    this.#lowered = lowerPlan(plan, settings.lowering, settings.separate)
    try {
      const progress = (done: number, total: number): void => device.tell({ phase: 'compiling', done, total })
      this.#launches = new Launches(runtime, this.#lowered.works, progress)
    } catch (error) {
      this.#lowered.release()
      throw error
    }
    const { works, memory } = this.#lowered
    const { driver } = runtime.session
    this.#poison = settings.separate
      ? new Poison(driver, works, plan.inputs.length + plan.outputs.length, memory)
      : undefined
    this.#profile = settings.profile
      ? new Profile(runtime.session.driver, this.#lowered.works, plan.steps.length)
      : undefined
    this.#replays = new Replays(
      runtime.session.driver,
      runtime.queue,
      (bytes) => runtime.memory.allocate(bytes),
      this.#freshTypes.map(tensorBytes),
      this.#inputTypes.map((type, index) => ({ bytes: tensorBytes(type), donated: options.donate.includes(index) })),
      (stream, inputs, outputs, memory) => this.#enqueue(stream, inputs, outputs, memory),
    )
  }

  /** What it wants of the arena that all executables share, in bytes. */
  get arenaBytes(): number {
    return this.device.settings.separate ? 0 : this.#memoryBytes
  }

  /** How many works a run enqueues, launches and library calls. */
  get works(): number {
    return this.#launches.count
  }

  run(inputs: readonly Storage[]): readonly Storage[] {
    const { device, options } = this
    return device.use(options.label, () => {
      if (this.#released) throw new InternalError(`${options.label} runs after its executable was released`)
      const run = (): readonly Storage[] => this.#run(inputs)
      try {
        return this.#profile === undefined ? run() : this.#profile.around(run)
      } catch (error) {
        throw this.advised(device.runtime.memory.explain(error), true)
      }
    })
  }

  /** How many launches a run takes, calls into libraries included. */
  get launches(): number {
    return this.#launches.count
  }

  /** What it is called. */
  get label(): string {
    return this.options.label
  }

  /** Whether it takes a batch of this type. */
  takes(type: TensorType): boolean {
    return this.#inputTypes.some((taken, index) => sameType(taken, type) && !this.options.donate.includes(index))
  }

  /** For each step of the plan how it is done. */
  get ways(): readonly Way[] {
    return this.#lowered.ways
  }

  /** The steps that are launched together with this one, as far as it is the first of them. */
  joined(step: number): readonly number[] {
    return this.#lowered.works.find((work) => work.step === step)?.joined ?? []
  }

  /** The times of its steps so far, where the device profiles; waits for the last run. */
  times(): StepTimes | undefined {
    return this.#profile === undefined ? undefined : this.device.use(this.label, () => this.#profile?.times())
  }

  /** The same as text; '' where nothing was measured. */
  profile(): string {
    const times = this.times()
    return times === undefined ? '' : showTimes(this.plan, this.#lowered, this.label, times)
  }

  toString(): string {
    const { recordings, copiedInputs, copiedBytes } = this.#replays.counts
    const how =
      recordings === 0
        ? 'launched one by one'
        : `recorded ${recordings} times, ${copiedInputs} inputs copied into place (${copiedBytes} bytes)`
    const fused = this.plan.steps.flatMap((step) => (step.kind === 'fused' ? [step.fusion.kind] : []))
    const count = (kind: (typeof fused)[number]): number => fused.filter((one) => one === kind).length
    return [
      showPlan(this.planned),
      ...this.ways.flatMap(({ id, scratchBytes }, step) => showWay(step, id, scratchBytes)),
      `cuda: ${showTraffic(trafficOf(this.plan, this.ways))}`,
      `cuda: ${count('contraction')} contractions with what follows them, ${count('rows')} chains of rows, ${count('products')} groups of products, ${this.#launches.count} launches, ${this.#memoryBytes} bytes of temporaries; ${this.#runs} runs, ${how}`,
    ].join('\n')
  }

  release(): void {
    if (this.#released) return
    this.#released = true
    this.#replays.release()
    for (const block of this.#separate) block.release()
    this.device.runtime.queue.afterwards(() => this.#launches.release())
    this.device.runtime.queue.afterwards(() => this.#profile?.release())
    this.device.runtime.queue.afterwards(() => this.#lowered.release())
    this.device.forget(this)
  }

  get #memoryBytes(): number {
    return this.#lowered.memory.reduce((sum, bytes) => sum + bytes, 0)
  }

  /** One run: launched work by work the first time, and wherever the works are timed. */
  #run(inputs: readonly Storage[]): readonly Storage[] {
    const { device, options } = this
    const given = this.#check(inputs)
    for (const index of options.donate) device.settleReads(at(given, index))
    const memory = this.#memory()
    this.#replays.note(given)
    const few = this.#launches.count < fewWorks
    const graph = device.settings.graphs && !few && this.#runs > 0 && this.#profile === undefined
    const arrivals = graph && this.#recordable ? this.#fit(given, memory) : undefined
    const outputs = arrivals === undefined ? this.#launch(given, memory) : this.#replay(given, arrivals)
    this.#runs += 1
    return outputs
  }

  /**
   * Makes the recorded run fit. Undefined where a library refuses to be recorded, which is only known of what was timed: then
   * its way is dropped by name for programs to come, and this one is launched work by work from here on.
   */
  #fit(given: readonly CudaStorage[], memory: readonly DevicePointer[]): Arrivals | undefined {
    try {
      return this.#replays.fit(given, memory)
    } catch (error) {
      if (!(error instanceof WorkError) || error.call === undefined || isSticky(error) || isOutOfMemory(error))
        throw error
      const { id } = at(this.ways, error.call)
      const { tuner } = this.device.settings
      if (id !== undefined && isOfLibrary.test(id)) tuner?.bar(id, `it cannot be recorded: ${error.message}`)
      const said = `[cuda] ${this.label} is launched step by step from here on, since a step cannot be recorded: ${error.message}`
      logLine('warn', () => `pullback: ${said}`)
      this.#recordable = false
      this.#replays.release()
      return undefined
    }
  }

  /** Launches the works with the addresses as they are. */
  #launch(given: readonly CudaStorage[], memory: readonly DevicePointer[]): readonly Storage[] {
    const fresh = this.#freshBlocks()
    const inputs = given.map(({ block }) => block)
    const ticket = this.#submit(given, fresh, (stream) => this.#enqueue(stream, inputs, fresh, memory))
    return this.#finish(given, fresh, ticket, new Map())
  }

  /** Replays the recorded run; results that it leaves in its own blocks are copied to fresh ones behind it. */
  #replay(given: readonly CudaStorage[], arrivals: Arrivals): readonly Storage[] {
    const { driver } = this.device.runtime.session
    const fresh = this.#freshBlocks()
    const copy = (stream: Stream, to: Block, from: Block, type: TensorType): void => {
      if (tensorBytes(type) > 0) driver.copyOnDevice(to.address, from.address, tensorBytes(type), stream)
    }
    const ticket = this.#submit(given, fresh, (stream, began) => {
      this.#replays.copyIn(stream, given, arrivals)
      this.#replays.launch(stream)
      began()
      zip(this.#freshTypes, zip(fresh, this.#replays.outputs)).forEach(([type, [to, from]]) =>
        copy(stream, to, from, type),
      )
      for (const [input, arrival] of arrivals) {
        if (arrival !== 'copied into our own' || !this.#takeovers.includes(input)) continue
        const { block, type } = at(given, input)
        copy(stream, block, this.#replays.input(input), type)
      }
    })
    const left = [...arrivals].filter(([input, arrival]) => arrival === 'copied' && this.#takeovers.includes(input))
    const blocks = new Map(left.map(([input]) => [input, this.#replays.input(input).retain()]))
    return this.#finish(given, fresh, ticket, blocks)
  }

  /** Puts all works on a stream. */
  #enqueue(stream: Stream, inputs: readonly Block[], fresh: readonly Block[], memory: readonly DevicePointer[]): void {
    this.#poison?.before(stream, memory)
    let next = 0
    const outputs = this.#takeovers.map((input) => (input === undefined ? at(fresh, next++) : at(inputs, input)))
    this.#profile?.start(stream)
    const slots = [...[...inputs, ...outputs].map(({ address }) => address), ...memory]
    this.#launches.enqueue(stream, slots, (work) => {
      this.#poison?.behind(work, stream, memory)
      this.#profile?.between(stream)
    })
  }

  /** Submits; where that fails half-way, the donated storages are lost, and the fresh blocks go back. */
  #submit(
    given: readonly CudaStorage[],
    fresh: readonly Block[],
    enqueue: (stream: Stream, began: () => void) => void,
  ): number {
    const progress = { begun: false }
    const began = (): void => void (progress.begun = true)
    try {
      return this.device.runtime.queue.submit(this.options.label, (stream) => {
        enqueue(stream, began)
        began()
      })
    } catch (error) {
      for (const block of fresh) block.release()
      if (progress.begun || (error instanceof WorkError && error.begun))
        for (const index of this.options.donate) this.device.lose(at(given, index))
      throw error
    }
  }

  /**
   * The results' storages, and what becomes of the donated ones: a block that is taken over changes hands, unless the
   * result is in one of the `elsewhere` blocks.
   */
  #finish(
    given: readonly CudaStorage[],
    fresh: readonly Block[],
    ticket: number,
    elsewhere: ReadonlyMap<number, Block>,
  ): readonly Storage[] {
    const { device } = this
    let next = 0
    for (const input of this.#givenAway) device.donate(at(given, input), false)
    return this.#outputTypes.map((type, index) => {
      const input = this.#takeovers[index]
      if (input === undefined) return device.hold(new CudaStorage(device, type, at(fresh, next++), ticket))
      const storage = at(given, input)
      const block = elsewhere.get(input) ?? storage.block
      const result = new CudaStorage(device, type, block, ticket)
      device.donate(storage, block === storage.block)
      return block === storage.block ? result : device.hold(result)
    })
  }

  /** Fresh blocks for the outputs that take over nothing; all or none. */
  #freshBlocks(): Block[] {
    return this.#allocateAll(this.#freshTypes.map(tensorBytes))
  }

  #allocateAll(sizes: readonly number[]): Block[] {
    const { memory } = this.device.runtime
    const made: Block[] = []
    try {
      for (const bytes of sizes) made.push(memory.allocate(bytes))
      return made
    } catch (error) {
      for (const block of made) block.release()
      throw error
    }
  }

  /** Where the slots of our own memory are in this run, and the counters. */
  #memory(): readonly DevicePointer[] {
    const { memory, counterBytes } = this.#lowered
    const { runtime, settings } = this.device
    const counters = counterBytes === 0 ? [] : [runtime.counters.address(counterBytes)]
    if (!settings.separate) return [...memory.map((bytes) => this.device.arena(bytes).address), ...counters]
    if (this.#separate.length === 0) this.#separate = this.#allocateAll(memory)
    return [...this.#separate.map(({ address }) => address), ...counters]
  }

  /** @internal A lack of memory with a batch that would fit; any other error as it is. `arrived`: the GPU has the batch. */
  advised(error: unknown, arrived: boolean): unknown {
    if (!(error instanceof OutOfMemoryError)) return error
    const { donate } = this.options
    const demand = demandOf(this.plan, donate, this.#memoryBytes - this.plan.arenaBytes)
    const batches = this.#inputTypes.filter((_, index) => !donate.includes(index))
    const held = this.device.arenaHeld + (arrived ? batchBytes(batches) : 0)
    return error.adding(batchAdvice(demand, error.available + held))
  }

  #check(inputs: readonly Storage[]): CudaStorage[] {
    const { label } = this.options
    if (inputs.length !== this.#inputTypes.length)
      throw new InternalError(`${label} takes ${this.#inputTypes.length} inputs, got ${inputs.length}`)
    return inputs.map((storage, index) => {
      const type = at(this.#inputTypes, index)
      if (!sameType(type, storage.type))
        throw new InternalError(`${label} takes ${showType(type)} as input ${index}, got ${showType(storage.type)}`)
      return liveStorage(this.device, storage, label)
    })
  }
}

/** The way of a step, where there was a choice or it needs scratch memory. */
function showWay(step: number, id: string | undefined, scratchBytes: number): readonly string[] {
  if (id === undefined && scratchBytes === 0) return []
  return [`${String(step).padStart(4)}  ${id ?? 'own kernels'}, workspace ${scratchBytes} bytes`]
}
