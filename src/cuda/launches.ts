// Bound works ready to be put on a stream: each kernel's arguments lie in native memory from the start, and a run only
// writes the addresses that changed. Recording them as a graph is replays.ts's part.
import { PullbackError } from '../tensor/errors.ts'
import { at } from '../tensor/shape.ts'
import type { Launch } from './ffi/driver.ts'
import type { Stream } from './ffi/driver-queues.ts'
import { type DevicePointer, type HostPointer, offset } from './ffi/values.ts'
import type { BoundCall, BoundKernel, BoundWork, Place } from './lower.ts'
import type { Runtime } from './runtime/index.ts'

/** A work that could not be put on the stream. */
export class WorkError extends PullbackError {
  constructor(
    label: string,
    cause: unknown,
    /** Whether anything was put on the stream before the failure. */
    readonly begun: boolean,
    /** The plan's step whose library call it was; undefined for a kernel of ours. */
    readonly call: number | undefined,
  ) {
    const said = cause instanceof Error ? cause.message.replace(/^\[cuda\] /, '') : String(cause)
    super(cause instanceof PullbackError ? cause.code : 'device', `[cuda] ${label}: ${said}`, { cause })
    this.name = 'WorkError'
  }
}

/** One word of a kernel's arguments that holds an address. */
interface PointerWord extends Place {
  readonly word: number
}

interface Prepared {
  readonly label: string
  /** The plan's step of a library call. */
  readonly call: number | undefined
  enqueue(stream: Stream): void
}

const wordBytes = 8

/** Works that can be enqueued again and again, with the addresses of a run. */
export class Launches {
  readonly #works: readonly Prepared[]
  readonly #pointers: PointerWord[] = []
  readonly #words: BigInt64Array
  readonly #address: HostPointer | undefined
  #slots: readonly DevicePointer[] = []
  #released = false

  /**
   * Compiles and loads what the works need, all together, and lays out their arguments; `progress` hears of each kernel
   * that is compiled.
   */
  constructor(
    private readonly runtime: Pick<Runtime, 'session' | 'modules'>,
    works: readonly BoundWork[],
    progress?: (built: number, total: number) => void,
  ) {
    const kernels = works.filter((work) => work.kind === 'kernel')
    runtime.modules.load(
      kernels.map(({ source }) => source),
      progress,
    )
    const words = kernels.reduce((sum, kernel) => sum + argumentWords(kernel), 0)
    const { native } = runtime.session
    this.#address = words === 0 ? undefined : (native.allocate(words * wordBytes) as HostPointer)
    const memory = this.#address === undefined ? new ArrayBuffer() : native.view(this.#address, words * wordBytes)
    this.#words = new BigInt64Array(memory, 0, words)
    try {
      let next = 0
      this.#works = works.map((work) => {
        if (work.kind === 'call') return this.#call(work)
        next += argumentWords(work)
        return this.#kernel(work, next - argumentWords(work))
      })
    } catch (error) {
      this.release()
      throw error
    }
  }

  /** How many works there are. */
  get count(): number {
    return this.#works.length
  }

  /**
   * Puts all works on the stream; `slots` holds the address of each slot, and `behind` is called behind each work.
   *
   * @throws WorkError that names the first work that could not be enqueued.
   */
  enqueue(stream: Stream, slots: readonly DevicePointer[], behind?: (work: number) => void): void {
    this.#bind(slots)
    let begun = false
    for (const [index, work] of this.#works.entries()) {
      let { call } = work
      try {
        work.enqueue(stream)
        begun = true
        call = undefined // what fails behind it is not the library's refusal
        behind?.(index)
      } catch (error) {
        throw new WorkError(work.label, error, begun, call)
      }
    }
  }

  /** Frees the arguments; nothing may be enqueued any more. */
  release(): void {
    if (this.#released) return
    this.#released = true
    if (this.#address !== undefined) this.runtime.session.native.release(this.#address)
  }

  #bind(slots: readonly DevicePointer[]): void {
    if (slots.length === this.#slots.length && slots.every((address, slot) => address === this.#slots[slot])) return
    this.#slots = [...slots]
    for (const { slot, offset: bytes, word } of this.#pointers) this.#words[word] = offset(at(slots, slot), bytes)
  }

  /** The arguments from word `first` on: pointers, numbers, and behind them the address of the first. */
  #kernel(work: BoundKernel, first: number): Prepared {
    const { source, blocks, threads, sharedBytes, places, numbers, label } = work
    const { driver } = this.runtime.session
    const base = this.#address as HostPointer
    places.forEach((place, index) => this.#pointers.push({ ...place, word: first + index }))
    numbers.forEach((number, index) => (this.#words[first + places.length + index] = BigInt(number)))
    const last = first + places.length + numbers.length
    this.#words[last] = offset(base, first * wordBytes)
    const launch: Omit<Launch, 'stream'> = {
      kernel: this.runtime.modules.kernel(source.name, sharedBytes),
      grid: [blocks, 1, 1],
      block: [threads, 1, 1],
      shared: sharedBytes,
      parameters: offset(base, last * wordBytes),
    }
    return { label, call: undefined, enqueue: (stream) => driver.launch({ ...launch, stream }) }
  }

  #call(work: BoundCall): Prepared {
    let slots: readonly DevicePointer[] | undefined
    let operands: readonly DevicePointer[] = []
    let scratch: DevicePointer | undefined
    const address = ({ slot, offset: bytes }: Place): DevicePointer => offset(at(this.#slots, slot), bytes)
    const enqueue = (stream: Stream): void => {
      if (slots !== this.#slots) {
        slots = this.#slots
        operands = work.operands.map(address)
        scratch = work.scratch && address(work.scratch)
      }
      work.enqueue(stream, operands, scratch)
    }
    return { label: work.label, call: work.step, enqueue }
  }
}

function argumentWords({ places, numbers }: BoundKernel): number {
  return places.length + numbers.length + 1
}
