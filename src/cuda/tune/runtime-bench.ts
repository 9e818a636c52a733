// The tuner's bench on a GPU in use: candidates run on the compute stream, once everything before has run, and are timed by
// events around recordings such as programs are replayed from.
import { Launches } from '../launches.ts'
import { bindAlone } from '../lower.ts'
import { record } from '../replays.ts'
import { type Block, type Runtime, allOrNothing } from '../runtime/index.ts'
import { driverFlags } from '../ffi/driver-constants.ts'
import type { DevicePointer } from '../ffi/values.ts'
import { InternalError } from '../../tensor/errors.ts'
import type { Lowered } from '../work.ts'
import type { Bench, Bound, Clock } from './bench.ts'

/** The bench of a runtime. Without `graphs` batches are enqueued each time, as programs then are. */
export function runtimeBench(runtime: Runtime, graphs: boolean): Bench {
  const { queue, memory, staging, session } = runtime
  const { driver } = session
  const blocks = new Map<DevicePointer, Block>()
  const settle = (): void => queue.guard(() => driver.synchronizeStream(queue.compute))
  return {
    clock: runtimeClock(runtime, graphs),
    available: () => driver.memoryInfo().free + memory.statistics().cached,
    allocate: (bytes) => {
      settle()
      const block = memory.allocate(bytes)
      blocks.set(block.address, block)
      return block.address
    },
    free: (address) => {
      const block = blocks.get(address)
      if (block === undefined) throw new InternalError(`the tuner frees ${address}, which it does not hold`)
      blocks.delete(address)
      block.release()
    },
    write: (to, data) => {
      staging.upload(to, data)
      settle()
    },
    read: (from, bytes) => {
      const data = new Uint8Array(bytes)
      staging.readSync(data, { address: from, ready: 0 })
      return data
    },
    copy: (to, from, bytes) => {
      driver.copyOnDevice(to, from, bytes, queue.compute)
      settle()
    },
    fill: (to, value, bytes) => {
      driver.fill8(to, value, bytes, queue.compute)
      settle()
    },
    bind: (lowered, operands, scratch) => bindTo(runtime, lowered, operands, scratch),
  }
}

function bindTo(
  runtime: Runtime,
  lowered: Lowered,
  operands: readonly DevicePointer[],
  scratch: DevicePointer | undefined,
): Bound {
  const launches = new Launches(runtime, bindAlone(lowered, operands.length, 'candidate'))
  const { counterBytes = 0 } = lowered
  const counters = counterBytes === 0 ? [] : [runtime.counters.address(counterBytes)]
  const slots = [...operands, ...(scratch === undefined ? [] : [scratch]), ...counters]
  return {
    enqueue: () => launches.enqueue(runtime.queue.compute, slots),
    release: () => launches.release(),
  }
}

function runtimeClock(runtime: Runtime, graphs: boolean): Clock {
  const { queue, session } = runtime
  const { driver } = session
  const settle = (): void => queue.guard(() => driver.synchronizeStream(queue.compute))
  return {
    run: (work) => {
      try {
        work()
      } finally {
        settle()
      }
    },
    record: (work) => {
      if (!graphs) return { time: () => timed(runtime, work), release: () => undefined }
      const graph = record(driver, queue, work)
      return {
        time: () => timed(runtime, () => driver.launchGraph(graph, queue.compute)),
        release: () => driver.destroyGraphExecutable(graph),
      }
    },
  }
}

/** Microseconds on the GPU; nothing is under way afterwards, also where a call fails. */
function timed({ queue, session: { driver } }: Runtime, work: () => void): number {
  const { value: events, cleanup } = allOrNothing((noted) => {
    const event = () => noted.own(driver.createEvent(driverFlags.EVENT_DEFAULT), (made) => driver.destroyEvent(made))
    return { start: event(), end: event() }
  })
  try {
    driver.recordEvent(events.start, queue.compute)
    work()
    driver.recordEvent(events.end, queue.compute)
    queue.guard(() => driver.synchronizeEvent(events.end))
    return driver.elapsed(events.start, events.end) * 1000
  } catch (error) {
    queue.guard(() => driver.synchronizeStream(queue.compute))
    throw error
  } finally {
    cleanup.release()
  }
}
