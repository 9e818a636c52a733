// One recorded run and what it is bound to: which blocks the graph reads and writes, what must be copied into them before a
// replay, and when it has to be recorded again. What a run means is the executable's part.
import { InternalError } from '../tensor/errors.ts'
import { at } from '../tensor/shape.ts'
import type { Driver } from './ffi/driver.ts'
import type { GraphExecutable, Stream } from './ffi/driver-queues.ts'
import type { DevicePointer } from './ffi/values.ts'
import { type Block, type Queue, attempt } from './runtime/index.ts'

/** What a run was given for an input. */
export interface Given {
  readonly block: Block
}

/** An input of every run. */
export interface InputSlot {
  readonly bytes: number
  /** Whether the block that a run is given is the executable's from then on. */
  readonly donated: boolean
}

/** How an input that is not where the graph reads it comes there. */
export type Arrival =
  /** Copied into a block that nobody but the executable holds. */
  | 'copied'
  /** Copied into a block that never was anybody else's; a donated one is copied back behind the run. */
  | 'copied into our own'

/** The inputs of a run that are not in place, which most are. */
export type Arrivals = ReadonlyMap<number, Arrival>

interface Bound {
  readonly block: Block
  readonly own: boolean
}

/** A donated input that is elsewhere so many runs in a row gets a block of our own, and is not bound in place again. */
const mostMoves = 2

/** What the recordings were and cost so far. */
export interface ReplayCounts {
  readonly recordings: number
  readonly copiedInputs: number
  readonly copiedBytes: number
}

/** A recorded run, recorded again when it no longer fits. */
export class Replays {
  #inputs: readonly Bound[] = []
  #outputs: readonly Block[] = []
  #memory: readonly DevicePointer[] = []
  #graph: GraphExecutable | undefined
  /** For each input where it was in the last run, and how many runs in a row it has been elsewhere than before. */
  readonly #seen: Block[] = []
  readonly #moves: number[] = []
  readonly #counts = { recordings: 0, copiedInputs: 0, copiedBytes: 0 }

  constructor(
    private readonly driver: Driver,
    private readonly queue: Queue,
    private readonly allocate: (bytes: number) => Block,
    /** The bytes of each output that is not a donated input. */
    private readonly outputBytes: readonly number[],
    private readonly slots: readonly InputSlot[],
    /** Puts the works on a stream, for these inputs, outputs and memory. */
    private readonly enqueue: (
      stream: Stream,
      inputs: readonly Block[],
      outputs: readonly Block[],
      memory: readonly DevicePointer[],
    ) => void,
  ) {}

  get counts(): ReplayCounts {
    return this.#counts
  }

  /** The blocks in which the graph leaves its outputs, until the next replay. */
  get outputs(): readonly Block[] {
    return this.#outputs
  }

  /** The block in which the graph reads an input, and leaves the output that takes it over. */
  input(index: number): Block {
    return at(this.#inputs, index).block
  }

  /** Notes where a run finds its inputs; to be called for each, recorded or not. */
  note(given: readonly Given[]): void {
    for (let index = 0; index < given.length; index++) {
      const { block } = at(given, index)
      const before = this.#seen[index]
      const stays = before === undefined || before === block || before.address === block.address
      this.#moves[index] = stays ? 0 : (this.#moves[index] ?? 0) + 1
      this.#seen[index] = block
    }
  }

  /**
   * Makes the graph fit a run with these inputs and this memory, and says how those arrive that are elsewhere. Where
   * recording fails, the binding before stays as it was.
   */
  fit(given: readonly Given[], memory: readonly DevicePointer[]): Arrivals {
    const sameMemory = memory.every((address, index) => address === this.#memory[index])
    const elsewhere = this.#elsewhere(given)
    const stay = elsewhere.every((index) => this.#keeps(at(given, index).block, this.#inputs[index]))
    if (this.#graph !== undefined && sameMemory && stay) return this.#arrivals(elsewhere)
    this.#record(given, memory)
    return this.#arrivals(this.#elsewhere(given))
  }

  /** Copies what is not in place to where the graph reads it. */
  copyIn(stream: Stream, given: readonly Given[], arrivals: Arrivals): void {
    for (const index of arrivals.keys()) {
      const { bytes } = at(this.slots, index)
      if (bytes === 0) continue
      this.driver.copyOnDevice(this.input(index).address, at(given, index).block.address, bytes, stream)
      this.#counts.copiedInputs += 1
      this.#counts.copiedBytes += bytes
    }
  }

  /** Replays the graph that `fit` made fit. */
  launch(stream: Stream): void {
    if (this.#graph === undefined) throw new InternalError('a replay of what was not recorded')
    this.driver.launchGraph(this.#graph, stream)
  }

  /** Gives up the graph and what it is bound to, once what was enqueued has run. */
  release(): void {
    const graph = this.#graph
    if (graph !== undefined) this.queue.afterwards(() => this.driver.destroyGraphExecutable(graph))
    for (const { block } of this.#inputs) block.release()
    for (const block of this.#outputs) block.release()
    this.#graph = undefined
    this.#inputs = []
    this.#outputs = []
  }

  /** The inputs that are not where the graph reads them. */
  #elsewhere(given: readonly Given[]): readonly number[] {
    const found: number[] = []
    for (let index = 0; index < given.length; index++)
      if (this.#inputs[index]?.block !== at(given, index).block) found.push(index)
    return found
  }

  #arrivals(elsewhere: readonly number[]): Arrivals {
    return new Map(elsewhere.map((index) => [index, at(this.#inputs, index).own ? 'copied into our own' : 'copied']))
  }

  /** Whether an input may stay bound as it is: it is there, or can be copied there without anybody noticing. */
  #keeps(block: Block, bound: Bound | undefined): bound is Bound {
    return bound !== undefined && (bound.block === block || bound.block.holders === 1)
  }

  #record(given: readonly Given[], memory: readonly DevicePointer[]): void {
    const held: Block[] = []
    const hold = (block: Block): Block => (held.push(block), block)
    try {
      const inputs = this.#bindInputs(given, hold)
      const outputs =
        this.#graph === undefined
          ? this.outputBytes.map((bytes) => hold(this.allocate(bytes)))
          : this.#outputs.map((block) => hold(block.retain()))
      const blocks = inputs.map(({ block }) => block)
      const graph = record(this.driver, this.queue, (stream) => this.enqueue(stream, blocks, outputs, memory))
      this.release()
      this.#graph = graph
      this.#inputs = inputs
      this.#outputs = outputs
      this.#memory = memory
      this.#counts.recordings += 1
    } catch (error) {
      for (const block of held) block.release()
      throw error
    }
  }

  /**
   * Inputs that cannot stay are bound anew: where they are, if they are likely to be there the next time, else to blocks of
   * our own. A batch is elsewhere in each run; a state stays where it is, since its results take its memory over.
   */
  #bindInputs(given: readonly Given[], hold: (block: Block) => Block): Bound[] {
    const again = this.#graph !== undefined
    return given.map(({ block }, index) => {
      const { bytes, donated } = at(this.slots, index)
      const before = this.#inputs[index]
      if (this.#keeps(block, before)) return { block: hold(before.block.retain()), own: before.own }
      const moves = this.#moves[index] ?? 0
      const stays = donated ? moves < mostMoves : !again && moves === 0
      if (stays) return { block: hold(block.retain()), own: false }
      return { block: hold(this.allocate(bytes)), own: true }
    })
  }
}

/** Records what `enqueue` puts on the compute stream; where anything fails, the stream is as it was before. */
export function record(driver: Driver, queue: Queue, enqueue: (stream: Stream) => void): GraphExecutable {
  const stream = queue.compute
  try {
    driver.beginCapture(stream)
    enqueue(stream)
    const graph = driver.endCapture(stream)
    try {
      return driver.instantiateGraph(graph)
    } finally {
      queue.afterwards(() => driver.destroyGraph(graph)) // not before: for want of memory the driver may be asked twice
    }
  } catch (error) {
    for (let attempts = 0; attempts < 2; attempts++) attempt(() => abandon(driver, queue, stream))
    throw error
  }
}

/** Ends a recording that is not wanted any more; the driver gives back nothing for one that was made invalid. */
function abandon(driver: Driver, queue: Queue, stream: Stream): void {
  if (driver.captureStatus(stream) === 'none') return
  const graph = driver.endCapture(stream)
  queue.afterwards(() => driver.destroyGraph(graph))
}
