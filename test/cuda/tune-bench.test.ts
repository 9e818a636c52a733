// The tuner's bench on a runtime: what the driver is asked for a batch, in which order, and what remains when a call fails.
import { describe, expect, test } from 'vitest'
import type { Driver } from '../../src/cuda/ffi/driver.ts'
import type { Stream } from '../../src/cuda/ffi/driver-queues.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import { Cleanup, type Modules, type Runtime } from '../../src/cuda/runtime/index.ts'
import { Queue } from '../../src/cuda/runtime/queue.ts'
import { runtimeBench } from '../../src/cuda/tune/index.ts'
import type { LibraryCall } from '../../src/cuda/work.ts'
import { at } from '../../src/tensor/shape.ts'
import { FakeMemory } from './tune-fake.ts'

/** A runtime whose driver notes its calls; the events' time is the number of launches between them. */
function fakeRuntime(failing?: string) {
  const calls: string[] = []
  const live = new Set<string>()
  let [made, launched] = [0, 0]
  const stamps = new Map<bigint, number>()
  const note = (call: string): void => {
    calls.push(call)
    if (call === failing) throw new Error(`${call} failed`)
  }
  const make = (kind: string): never => {
    note(`create ${kind}`)
    const handle = BigInt((made += 1))
    live.add(`${kind} ${handle}`)
    return handle as never
  }
  const destroy = (kind: string, handle: bigint): void => {
    calls.push(`destroy ${kind}`)
    if (!live.delete(`${kind} ${handle}`)) throw new Error(`${kind} ${handle} is not there`)
  }
  let capturing = false
  const driver = {
    createStream: () => make('stream'),
    destroyStream: (handle) => destroy('stream', handle),
    synchronizeStream: () => note('synchronize'),
    createEvent: () => make('event'),
    destroyEvent: (handle) => destroy('event', handle),
    recordEvent: (event) => {
      note('record')
      stamps.set(event, launched)
    },
    eventDone: () => true,
    synchronizeEvent: () => note('wait'),
    elapsed: (from, to) => (stamps.get(to) ?? 0) - (stamps.get(from) ?? 0),
    beginCapture: () => {
      note('begin')
      capturing = true
    },
    endCapture: () => {
      capturing = false
      return make('graph')
    },
    captureStatus: () => (capturing ? 'active' : 'none'),
    instantiateGraph: () => make('executable'),
    launchGraph: () => {
      note('launch')
      launched += 1
    },
    destroyGraph: (handle) => destroy('graph', handle),
    destroyGraphExecutable: (handle) => destroy('executable', handle),
    memoryInfo: () => ({ free: 1000, total: 5000 }),
  } satisfies Partial<Driver> as unknown as Driver
  const memory = new FakeMemory()
  const allocator = {
    allocate: (bytes: number) => {
      const address = memory.allocate(bytes)
      return { address, release: () => memory.free(address) }
    },
    statistics: () => ({ inUse: 0, peak: 0, cached: 234 }),
  }
  const cleanup = new Cleanup()
  const queue = new Queue(driver, cleanup)
  const staging = {
    upload: (to: DevicePointer, data: Uint8Array) => memory.bytes(to, data.length).set(data),
    readSync: (out: Uint8Array, place: { address: DevicePointer }) => out.set(memory.bytes(place.address, out.length)),
  }
  const modules = { load: () => undefined } as unknown as Modules
  const runtime = { session: { driver, native: {} }, queue, memory: allocator, staging, modules } as unknown as Runtime
  const end = (): void => {
    queue.close(new Error('closed') as never)
    cleanup.release()
  }
  calls.length = 0
  return { runtime, calls, memory, live, end }
}

function step(run: LibraryCall['enqueue']) {
  return { works: [{ kind: 'call', label: 'a call', enqueue: run } as const], scratchBytes: 64 }
}

describe('a recorded batch', () => {
  test('is captured once, replayed between events, and everything is destroyed', () => {
    const { runtime, calls, live, end } = fakeRuntime()
    const bench = runtimeBench(runtime, true)
    const recording = bench.clock.record(() => void calls.push('work'))
    expect(calls).toEqual(['begin', 'work', 'create graph', 'create executable'])
    calls.length = 0
    expect(recording.time()).toBe(1000)
    expect(calls).toEqual([
      'create event',
      'create event',
      'record',
      'launch',
      'record',
      'wait',
      'destroy event',
      'destroy event',
    ])
    recording.release()
    end()
    expect([...live]).toEqual([])
  })

  test('without graphs is enqueued each time', () => {
    const { runtime, calls } = fakeRuntime()
    const recording = runtimeBench(runtime, false).clock.record(() => void calls.push('work'))
    expect(calls).toEqual([])
    recording.time()
    expect(calls.slice(2, 6)).toEqual(['record', 'work', 'record', 'wait'])
    recording.release()
  })

  test('whose work fails leaves the stream as it was', () => {
    const { runtime, live, end } = fakeRuntime()
    const work = (): never => {
      throw new Error('not while recording')
    }
    expect(() => runtimeBench(runtime, true).clock.record(work)).toThrow('not while recording')
    expect(runtime.session.driver.captureStatus(runtime.queue.compute)).toBe('none')
    end()
    expect([...live]).toEqual([])
  })

  test.each(['launch', 'record', 'wait'])('whose %s fails is waited for, and its events are destroyed', (failing) => {
    const { runtime, calls, live, end } = fakeRuntime(failing)
    const recording = runtimeBench(runtime, true).clock.record(() => undefined)
    calls.length = 0
    expect(() => recording.time()).toThrow(`${failing} failed`)
    expect(calls.slice(-3)).toEqual(['synchronize', 'destroy event', 'destroy event'])
    recording.release()
    end()
    expect([...live]).toEqual([])
  })
})

describe('steps and memory', () => {
  test('a step gets its operands and its scratch memory on the compute stream', () => {
    const { runtime } = fakeRuntime()
    const bench = runtimeBench(runtime, true)
    const seen: unknown[] = []
    const lowered = step((...values: readonly [Stream, readonly DevicePointer[], DevicePointer | undefined]) =>
      seen.push(values),
    )
    const bound = bench.bind(lowered, [1n, 2n] as unknown as DevicePointer[], 3n as DevicePointer)
    bench.clock.run(() => bound.enqueue())
    expect(seen).toEqual([[runtime.queue.compute, [1n, 2n], 3n]])
    bound.release()
  })

  test('a run waits, and tells what failed in it', () => {
    const { runtime, calls } = fakeRuntime()
    const bench = runtimeBench(runtime, true)
    const failing = (): never => {
      throw new Error('refused')
    }
    expect(() => bench.clock.run(failing)).toThrow('refused')
    expect(calls).toEqual(['synchronize'])
  })

  test('memory is had once everything before has run, written, read and given back', () => {
    const { runtime, calls, memory } = fakeRuntime()
    const bench = runtimeBench(runtime, true)
    expect(bench.available()).toBe(1234)
    const address = bench.allocate(300)
    expect(calls).toEqual(['synchronize'])
    bench.write(address, Uint8Array.of(1, 2, 3))
    expect([...bench.read(address, 4)]).toEqual([1, 2, 3, 0])
    bench.free(address)
    expect(memory.used).toBe(0)
    expect(() => bench.free(address)).toThrow('which it does not hold')
  })
})

test('the stream is the one programs run on', () => {
  const { runtime, live } = fakeRuntime()
  expect(at([...live], 0)).toBe(`stream ${runtime.queue.compute}`)
})
