// A bench of nothing: memory is arrays, a candidate is a function over them, and a batch takes as long as the test says.
import type { Bench, Recording } from '../../src/cuda/tune/bench.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import { Tuner, type TunerOptions } from '../../src/cuda/tune/index.ts'
import type { TuningTask } from '../../src/cuda/tune/task.ts'
import type { Candidate, Lowered } from '../../src/cuda/work.ts'
import { PullbackError } from '../../src/tensor/errors.ts'
import type { TensorType } from '../../src/tensor/program.ts'

/** Memory at addresses, each block by itself: touching anything else throws. */
export class FakeMemory {
  readonly blocks = new Map<bigint, Uint8Array>()
  used = 0
  #next = 0x10_0000n

  constructor(readonly limit = Number.POSITIVE_INFINITY) {}

  allocate(bytes: number): DevicePointer {
    if (this.used + bytes > this.limit) throw new PullbackError('out-of-memory', `no ${bytes} bytes`)
    const address = this.#next
    this.#next += BigInt(Math.ceil(bytes / 256) * 256 + 256)
    this.blocks.set(address, new Uint8Array(bytes))
    this.used += bytes
    return address as DevicePointer
  }

  free(address: DevicePointer): void {
    this.used -= this.bytes(address, 0).length
    this.blocks.delete(address)
  }

  /** The block's bytes from an address on. */
  bytes(address: bigint, length?: number): Uint8Array {
    for (const [start, block] of this.blocks) {
      const from = Number(address - start)
      if (from < 0 || from >= Math.max(block.length, 1)) continue
      if (from + (length ?? 0) > block.length) throw new Error(`${length} bytes at ${address} end outside of the block`)
      return length === undefined || length === 0 ? block.subarray(from) : block.subarray(from, from + length)
    }
    throw new Error(`${address} is in no block`)
  }
}

/** What a fake candidate does when it runs. */
export type Action = (
  memory: FakeMemory,
  operands: readonly DevicePointer[],
  scratch: DevicePointer | undefined,
) => void

export interface FakeCandidate extends Candidate {
  readonly run: Action
  released: number
}

/** A candidate that counts its releases. */
export function fakeCandidate(id: string, given: { recipe?: string; scratchBytes?: number; run?: Action } = {}) {
  const candidate: FakeCandidate = {
    id,
    works: [],
    scratchBytes: given.scratchBytes ?? 0,
    run: given.run ?? (() => {}),
    released: 0,
    ...(given.recipe === undefined ? {} : { recipe: given.recipe }),
    release: () => {
      candidate.released += 1
      if (candidate.released > 1) throw new Error(`${id} was released twice`)
    },
  }
  return candidate
}

export interface FakeBenchOptions {
  readonly memory?: FakeMemory
  /** Microseconds of one run of a candidate; `measurement` counts the batches timed of it. */
  readonly time?: (id: string, measurement: number) => number
  /** Called before each call of the bench; what it throws is what the call throws. */
  readonly before?: (call: string) => void
}

/** A bench that keeps a log, and counts what was made and not given back. */
export function fakeBench({ memory = new FakeMemory(), time = () => 10, before = () => {} }: FakeBenchOptions = {}) {
  const log: string[] = []
  const measured = new Map<string, number>()
  const held = { bounds: 0, recordings: 0 }
  let batch: { readonly id: string; readonly set: bigint }[] = []
  const call = <T>(name: string, action: () => T): T => {
    before(name)
    return action()
  }
  const inBatch = (work: () => void): typeof batch => {
    batch = []
    work()
    return batch
  }
  const bench: Bench = {
    available: () => memory.limit - memory.used,
    allocate: (bytes) => call('allocate', () => memory.allocate(bytes)),
    free: (address) => memory.free(address),
    write: (to, data) => call('write', () => memory.bytes(to, data.length).set(data)),
    read: (from, bytes) => call('read', () => memory.bytes(from, bytes).slice(0, bytes)),
    copy: (to, from, bytes) => call('copy', () => memory.bytes(to, bytes).set(memory.bytes(from, bytes))),
    fill: (to, value, bytes) => call('fill', () => memory.bytes(to, bytes).fill(value, 0, bytes)),
    bind: (lowered: Lowered, operands, scratch) =>
      call('bind', () => {
        const { id, run, scratchBytes } = lowered as FakeCandidate
        if (scratchBytes > 0) memory.bytes(scratch ?? 0n, scratchBytes)
        held.bounds += 1
        return {
          enqueue: () =>
            call('enqueue', () => {
              batch.push({ id, set: operands[0] ?? 0n })
              run(memory, operands, scratch)
            }),
          release: () => (held.bounds -= 1),
        }
      }),
    clock: {
      run: (work) =>
        call('run', () =>
          log.push(
            `run ${inBatch(work)
              .map(({ id }) => id)
              .join()}`,
          ),
        ),
      record: (work): Recording =>
        call('record', () => {
          const works = inBatch(work)
          held.recordings += 1
          const id = works[0]?.id ?? ''
          return {
            time: () =>
              call('time', () => {
                const count = measured.get(id) ?? 0
                measured.set(id, count + 1)
                log.push(`time ${id} x${works.length} on ${new Set(works.map(({ set }) => set)).size}`)
                return works.length * time(id, count)
              }),
            release: () => (held.recordings -= 1),
          }
        }),
    },
  }
  return { bench, log, memory, held }
}

export interface FakeTask extends TuningTask {
  /** Every candidate that was made, in order. */
  readonly made: FakeCandidate[]
  /** How often the candidates were asked for. */
  asked: number
}

/** A task over f32[4] -> f32[4] unless said otherwise, whose candidates are made afresh each time. */
export function fakeTask(
  key: string,
  make: () => readonly FakeCandidate[],
  given: { inputs?: readonly TensorType[]; outputs?: readonly TensorType[]; depth?: number } & Partial<
    Pick<TuningTask, 'precision'>
  > & { reference?: () => FakeCandidate } = {},
): FakeTask {
  const small: readonly TensorType[] = [{ dtype: 'f32', shape: [4] }]
  const made: FakeCandidate[] = []
  const noted = (candidate: FakeCandidate): FakeCandidate => (made.push(candidate), candidate)
  const { reference } = given
  const task: FakeTask = {
    key,
    inputs: given.inputs ?? small,
    outputs: given.outputs ?? small,
    depth: given.depth ?? 1,
    precision: given.precision ?? 'ieee',
    made,
    asked: 0,
    candidates: () => {
      task.asked += 1
      return make().map(noted)
    },
    restore: (id, recipe) => {
      const found = make().find((candidate) => candidate.id === id && candidate.recipe === recipe)
      return found === undefined ? undefined : noted(found)
    },
    ...(reference === undefined ? {} : { reference: () => noted(reference()) }),
  }
  return task
}

/** Whether each candidate that was made is released, but those listed. */
export function unreleased(task: FakeTask): readonly string[] {
  return task.made.filter(({ released }) => released === 0).map(({ id }) => id)
}

/** A tuner over a bench of nothing, with all that can be seen of both. */
export function tunerOver(given: FakeBenchOptions, options: Partial<TunerOptions> = {}) {
  const fake = fakeBench(given)
  const notes: string[] = []
  const tuner = new Tuner({
    bench: fake.bench,
    mode: 'time',
    verify: false,
    note: (said) => notes.push(said),
    ...options,
  })
  return { ...fake, tuner, notes }
}
