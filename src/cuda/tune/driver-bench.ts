// The tuner's bench over the driver: events around recorded graphs, and copies through one pinned buffer. What a kernel's
// arguments look like is the runtime's part, which hands in `bind`.
import type { Driver } from '../ffi/driver.ts'
import { driverFlags } from '../ffi/driver-constants.ts'
import type { Event, GraphExecutable, QueueCalls, Stream } from '../ffi/driver-queues.ts'
import type { Native } from '../ffi/loader.ts'
import { type DevicePointer, type HostPointer, offset } from '../ffi/values.ts'
import type { Bench, Clock } from './bench.ts'

/** What a bench is made of. */
export interface BenchParts extends Pick<Bench, 'available' | 'allocate' | 'free' | 'bind'> {
  readonly driver: Driver
  readonly native: Native
  /** Work is put here and nowhere else; nothing of it is left when a call of the bench returns. */
  readonly stream: Stream
  /** False where programs are not run as graphs either. */
  readonly graphs: boolean
}

/** A bench, and its pinned buffer to give back. */
export interface DriverBench extends Bench {
  close(): void
}

/** Bytes of the pinned buffer. */
const windowBytes = 2 ** 20

/** Makes a bench of the driver. Throws a CudaError where there is no pinned memory. */
export function driverBench({ driver, native, stream, graphs, ...parts }: BenchParts): DriverBench {
  const pinned = driver.allocateHost(windowBytes, driverFlags.MEMHOSTALLOC_PORTABLE)
  return {
    available: () => parts.available(),
    allocate: (bytes) => parts.allocate(bytes),
    free: (address) => parts.free(address),
    bind: (lowered, operands, scratch) => parts.bind(lowered, operands, scratch),
    clock: driverClock(driver, stream, graphs),
    write: (to, data) => writeThrough(driver, native, stream, pinned, to, data),
    read: (from, bytes) => readThrough(driver, native, stream, pinned, from, bytes),
    copy: (to, from, bytes) => {
      driver.copyOnDevice(to, from, bytes, stream)
      driver.synchronizeStream(stream)
    },
    fill: (to, value, bytes) => {
      driver.fill8(to, value, bytes, stream)
      driver.synchronizeStream(stream)
    },
    close: () => driver.freeHost(pinned),
  }
}

type Copies = Pick<Driver, 'copyToDevice' | 'copyToHost' | 'synchronizeStream'>

function writeThrough(
  driver: Copies,
  native: Native,
  stream: Stream,
  pinned: HostPointer,
  to: DevicePointer,
  data: Uint8Array,
): void {
  for (let start = 0; start < data.length; start += windowBytes) {
    const part = data.subarray(start, start + windowBytes)
    new Uint8Array(native.view(pinned, part.length)).set(part)
    driver.copyToDevice(offset(to, start), pinned, part.length, stream)
    driver.synchronizeStream(stream)
  }
}

function readThrough(
  driver: Copies,
  native: Native,
  stream: Stream,
  pinned: HostPointer,
  from: DevicePointer,
  bytes: number,
): Uint8Array {
  const data = new Uint8Array(bytes)
  for (let start = 0; start < bytes; start += windowBytes) {
    const length = Math.min(windowBytes, bytes - start)
    driver.copyToHost(pinned, offset(from, start), length, stream)
    driver.synchronizeStream(stream)
    data.set(new Uint8Array(native.view(pinned, length)), start)
  }
  return data
}

/** A clock of driver events. With graphs a batch is captured once and replayed, which leaves the host's time out. */
export function driverClock(driver: QueueCalls, stream: Stream, graphs: boolean): Clock {
  return {
    run: (work) => {
      try {
        work()
      } finally {
        driver.synchronizeStream(stream)
      }
    },
    record: (work) => {
      if (!graphs) return { time: () => between(driver, stream, work), release: () => undefined }
      const graph = capture(driver, stream, work)
      const launch = (): void => driver.launchGraph(graph, stream)
      return { time: () => between(driver, stream, launch), release: () => driver.destroyGraphExecutable(graph) }
    },
  }
}

function capture(driver: QueueCalls, stream: Stream, work: () => void): GraphExecutable {
  driver.beginCapture(stream)
  try {
    work()
  } catch (error) {
    abandonCapture(driver, stream)
    throw error
  }
  const graph = driver.endCapture(stream)
  try {
    return driver.instantiateGraph(graph)
  } finally {
    driver.destroyGraph(graph)
  }
}

/** Ends a capture whose work failed; the driver answers with an error where that made the recording invalid. */
function abandonCapture(driver: QueueCalls, stream: Stream): void {
  try {
    driver.destroyGraph(driver.endCapture(stream))
  } catch {
    // The failure that matters is the work's own.
  }
}

function between(driver: QueueCalls, stream: Stream, work: () => void): number {
  const events: Event[] = []
  try {
    const start = driver.createEvent(driverFlags.EVENT_DEFAULT)
    events.push(start)
    const end = driver.createEvent(driverFlags.EVENT_DEFAULT)
    events.push(end)
    driver.recordEvent(start, stream)
    work()
    driver.recordEvent(end, stream)
    driver.synchronizeEvent(end)
    return driver.elapsed(start, end) * 1000
  } catch (error) {
    driver.synchronizeStream(stream) // what was enqueued before the failure still uses its operands
    throw error
  } finally {
    for (const event of events) driver.destroyEvent(event)
  }
}
