// A GPU in TypeScript for fast tests of the runtime: memory is arrays, kernels are functions, streams are queues whose work is
// done as late as the driver allows. It counts calls, can let any of them fail, and knows what is still held.
import type { Driver, Launch } from '../../src/cuda/ffi/driver.ts'
import type { Native } from '../../src/cuda/ffi/loader.ts'
import { CudaError } from '../../src/cuda/ffi/status.ts'

/** A kernel: how many words its argument has, and what it does with them. */
export interface FakeKernel {
  readonly words: number
  run(words: readonly bigint[]): void
}

interface Item {
  readonly run: () => void
  /** The item that must be done before this one may run. */
  readonly after?: Item | undefined
  readonly stream: FakeStream
  done: boolean
}

interface FakeStream {
  readonly items: Item[]
  recording: { readonly works: (() => void)[]; invalid: boolean } | undefined
}

const givesBack = /^(destroy|free|release|unload)/
const statuses = { invalid: 1, memory: 2, handle: 400, illegal: 700, capture: 900, invalidated: 901 } as const

/** The driver, memory and queues of one made-up GPU. */
export class FakeGpu {
  readonly kernels = new Map<string, FakeKernel>()
  /** Bytes that may be allocated. */
  limit = 2 ** 30
  /** Calls so far, and the one that is to fail. */
  calls = 0
  failAt = 0
  failed: string | undefined
  /** The status of a kernel that failed: the driver answers nothing else from then on. */
  broken = false
  /** How many works are done each time somebody asks whether an event is. */
  pace = 5
  readonly log: string[] = []
  readonly #failing = new Map<string, number>()
  readonly #objects = new Map<bigint, { readonly kind: string; readonly value: unknown }>()
  readonly #memory = new Map<bigint, Uint8Array>()
  #next = 0x10000n

  /** What is still held, by kind. */
  held(): Record<string, number> {
    const counts: Record<string, number> = {}
    for (const { kind } of this.#objects.values()) counts[kind] = (counts[kind] ?? 0) + 1
    return counts
  }

  /** A handle of something that must be destroyed. */
  make(kind: string, value?: unknown): bigint {
    this.#next += 0x1000n
    this.#objects.set(this.#next, { kind, value })
    return this.#next
  }

  /** What a handle stands for. */
  get(kind: string, handle: bigint): unknown {
    const found = this.#objects.get(handle)
    if (found?.kind !== kind) throw new Error(`violation: ${handle} is no living ${kind}`)
    return found.value
  }

  #stream(handle: bigint): FakeStream {
    return this.get('stream', handle) as FakeStream
  }

  #event(handle: bigint): { item?: Item | undefined } {
    return this.get('event', handle) as { item?: Item | undefined }
  }

  destroy(kind: string, handle: bigint): void {
    this.get(kind, handle)
    this.#objects.delete(handle)
  }

  /** The bytes at an address; outside of an allocation it is a violation. */
  bytes(address: bigint, length: number): Uint8Array {
    for (const [base, memory] of this.#memory)
      if (address >= base && address + BigInt(length) <= base + BigInt(memory.length))
        return memory.subarray(Number(address - base), Number(address - base) + length)
    throw new Error(`violation: ${length} bytes at ${address} are in no allocation`)
  }

  native(): Native {
    return {
      load: () => {
        throw new Error('nothing is loaded here')
      },
      text: () => '',
      allocate: (bytes) => this.#allocate('native memory', bytes),
      release: (address) => this.#free('native memory', address),
      view: (address, bytes) => {
        const memory = this.#memory.get(address)
        if (memory?.length !== bytes) throw new Error(`violation: a view of ${bytes} bytes at ${address}`)
        return memory.buffer as ArrayBuffer
      },
    }
  }

  /** The driver API as the runtime uses it. */
  driver(): Driver {
    return this.counted({
      ...this.#devices(),
      ...this.#modules(),
      ...this.#copies(),
      ...this.#queues(),
      ...this.#graphs(),
    })
  }

  /** The same functions, each call counted, and the one numbered `failAt` failing before it does anything. */
  counted<T extends object>(functions: T): T {
    const entries = Object.entries(functions as Record<string, (...values: never[]) => unknown>)
    return Object.fromEntries(
      entries.map(([name, call]) => [
        name,
        (...values: never[]) => {
          this.calls += 1
          const left = this.#failing.get(name)
          if (left !== undefined) this.#failing.set(name, left - 1)
          if (this.calls === this.failAt || left === 1) {
            this.failed = name
            if (givesBack.test(name)) call(...values) // as a late error would come
            throw this.error(name, name.startsWith('allocate') ? statuses.memory : statuses.invalid)
          }
          if (this.broken && !givesBack.test(name) && name !== 'setCurrentContext')
            throw this.error(name, statuses.illegal)
          return call(...values)
        },
      ]),
    ) as T
  }

  /** Lets the call of that name fail that comes as the `count`-th from now on. */
  failIn(name: string, count: number): void {
    this.#failing.set(name, count)
  }

  error(call: string, status: number): CudaError {
    return new CudaError('driver', call, status, { name: `STATUS_${status}`, text: '' })
  }

  /** Puts work on a stream, or into its recording. */
  enqueue(stream: bigint, run: () => void, after?: Item): Item | undefined {
    const target = this.#stream(stream)
    if (target.recording !== undefined) {
      target.recording.works.push(run)
      return undefined
    }
    const item = { run, after, stream: target, done: false }
    target.items.push(item)
    return item
  }

  /** Does the work of a stream up to an item, and what that waits for. */
  #finish(item: Item): void {
    while (!item.done) this.#advance(item.stream)
  }

  #drain({ items }: FakeStream): void {
    for (let last = items.at(-1); last !== undefined; last = items.at(-1)) this.#finish(last)
  }

  #advance(stream: FakeStream): void {
    const [first] = stream.items
    if (first === undefined) return
    if (first.after !== undefined) this.#finish(first.after)
    stream.items.shift()
    first.done = true
    try {
      if (!this.broken) first.run()
    } catch (error) {
      if (error instanceof Error && error.message.startsWith('violation')) throw error
      this.broken = true
    }
    if (this.broken) throw this.error('work', statuses.illegal)
  }

  #allocate(kind: string, bytes: number): never {
    if (bytes <= 0) throw this.error(`allocation of ${bytes} bytes`, statuses.invalid)
    const address = this.make(kind)
    this.#next += BigInt(Math.ceil(bytes / 0x1000)) * 0x1000n
    this.#memory.set(address, new Uint8Array(bytes).fill(0xff))
    return address as never
  }

  #free(kind: string, address: bigint): void {
    this.destroy(kind, address)
    this.#memory.delete(address)
  }

  /** Throws while any stream records: the call is not allowed then, and spoils the recording. */
  #outsideOfRecording(call: string): void {
    for (const { kind, value } of this.#objects.values()) {
      const { recording } = kind === 'stream' ? (value as FakeStream) : { recording: undefined }
      if (recording === undefined) continue
      recording.invalid = true
      throw this.error(call, statuses.capture)
    }
  }

  #devices() {
    return {
      init: () => undefined,
      version: () => 13_000,
      deviceCount: () => 1,
      device: () => 0 as never,
      deviceName: () => 'Fake GPU',
      deviceUuid: () => '00',
      deviceMemory: () => this.limit,
      deviceAttribute: (_, name) =>
        ({ COMPUTE_CAPABILITY_MAJOR: 9, COMPUTE_CAPABILITY_MINOR: 0 })[name as string] ?? 132,
      retainPrimaryContext: () => this.make('context') as never,
      releasePrimaryContext: () => {
        for (const [handle, { kind }] of this.#objects) if (kind === 'context') this.#objects.delete(handle)
      },
      setPrimaryContextFlags: () => undefined,
      setCurrentContext: (context) => {
        if (context !== undefined) this.get('context', context)
      },
      synchronizeContext: () => {
        for (const { kind, value } of this.#objects.values()) if (kind === 'stream') this.#drain(value as FakeStream)
      },
    } satisfies Partial<Driver>
  }

  #modules() {
    return {
      loadModule: (image) => this.make('module', new TextDecoder().decode(image)) as never,
      unloadModule: (module) => this.destroy('module', module),
      kernel: (module, name) => {
        if (this.get('module', module) !== name) throw new Error(`violation: no ${name} in the module`)
        this.#next += 8n
        this.#names.set(this.#next, name)
        return this.#next as never
      },
      global: () => ({ address: 8n as never, bytes: 8 }),
      kernelAttribute: () => 0,
      setKernelAttribute: (_, attribute, value) => void this.log.push(`${attribute} ${value}`),
      occupancy: () => 1,
      launch: (launch) => this.#launch(launch),
    } satisfies Partial<Driver>
  }

  readonly #names = new Map<bigint, string>()

  #launch({ kernel, stream, parameters }: Launch): void {
    const name = this.#names.get(kernel) ?? '?'
    const found = this.kernels.get(name)
    if (found === undefined) throw new Error(`violation: nobody said what ${name} does`)
    const argument = new BigUint64Array(this.bytes(parameters, 8).slice().buffer)[0] ?? 0n
    const words = [...new BigUint64Array(this.bytes(argument, found.words * 8).slice().buffer)]
    this.enqueue(stream, () => found.run(words))
  }

  #copies() {
    const used = (): number =>
      [...this.#objects].reduce(
        (sum, [address, { kind }]) => sum + (kind === 'device memory' ? (this.#memory.get(address)?.length ?? 0) : 0),
        0,
      )
    const copy = (to: bigint, from: bigint, length: number, stream: bigint): void => {
      this.bytes(to, length)
      this.bytes(from, length)
      this.enqueue(stream, () => this.bytes(to, length).set(this.bytes(from, length)))
    }
    return {
      allocate: (bytes) => {
        this.#outsideOfRecording('cuMemAlloc_v2')
        if (used() + bytes > this.limit) throw this.error('cuMemAlloc_v2', statuses.memory)
        return this.#allocate('device memory', bytes)
      },
      free: (address) => {
        this.#outsideOfRecording('cuMemFree_v2')
        this.#free('device memory', address)
      },
      memoryInfo: () => ({ free: this.limit - used(), total: this.limit }),
      allocateHost: (bytes) => this.#allocate('pinned memory', bytes),
      freeHost: (address) => this.#free('pinned memory', address),
      copyToDevice: copy,
      copyToHost: copy,
      copyOnDevice: copy,
      fill8: (to, value, length, stream) => void this.enqueue(stream, () => this.bytes(to, length).fill(value)),
      fill32: () => undefined,
    } satisfies Partial<Driver>
  }

  #queues() {
    const recorded = (event: bigint): Item | undefined => this.#event(event).item
    return {
      createStream: () => this.make('stream', { items: [], recording: undefined }) as never,
      destroyStream: (stream) => this.destroy('stream', stream),
      synchronizeStream: (stream) => {
        this.#outsideOfRecording('cuStreamSynchronize')
        this.#drain(this.#stream(stream))
      },
      streamDone: (stream) => this.#stream(stream).items.length === 0,
      streamWaits: (stream, event) => void this.enqueue(stream, () => undefined, recorded(event)),
      createEvent: () => this.make('event', {}) as never,
      destroyEvent: (event) => this.destroy('event', event),
      recordEvent: (event, stream) => {
        this.#event(event).item = this.enqueue(stream, () => undefined)
      },
      eventDone: (event) => {
        const item = recorded(event)
        for (let works = 0; works < this.pace && item?.done === false; works++) this.#advance(item.stream)
        return item?.done !== false
      },
      synchronizeEvent: (event) => {
        const item = recorded(event)
        if (item !== undefined) this.#finish(item)
      },
      elapsed: () => 1,
    } satisfies Partial<Driver>
  }

  #graphs() {
    return {
      beginCapture: (stream) => {
        this.#stream(stream).recording = { works: [], invalid: false }
      },
      endCapture: (stream) => {
        const target = this.#stream(stream)
        const { recording } = target
        target.recording = undefined
        if (recording === undefined || recording.invalid) throw this.error('cuStreamEndCapture', statuses.invalidated)
        return this.make('graph', recording.works) as never
      },
      captureStatus: (stream) => {
        const { recording } = this.#stream(stream)
        return recording === undefined ? 'none' : recording.invalid ? 'invalidated' : 'active'
      },
      instantiateGraph: (graph) => this.make('graph executable', this.get('graph', graph)) as never,
      uploadGraph: () => undefined,
      launchGraph: (graph, stream) => {
        for (const work of this.get('graph executable', graph) as (() => void)[]) this.enqueue(stream, work)
        this.log.push('replay')
      },
      destroyGraph: (graph) => this.destroy('graph', graph),
      destroyGraphExecutable: (graph) => this.destroy('graph executable', graph),
      graphNodeCount: (graph) => (this.get('graph', graph) as unknown[]).length,
    } satisfies Partial<Driver>
  }
}
