// The place where candidates are tried on a device: the tuner's bench, of the runtime's memory, stream and kernels.
import { InternalError } from '../tensor/errors.ts'
import type { DevicePointer } from './ffi/values.ts'
import { Launches } from './launches.ts'
import { bindAlone } from './lower.ts'
import type { Block, Runtime } from './runtime/index.ts'
import { type DriverBench, driverBench } from './tune/index.ts'

/** A bench on the compute stream, whose memory comes from the device's allocator. */
export function tuningBench(runtime: Runtime, graphs: boolean): DriverBench {
  const { session, queue, memory } = runtime
  const { driver, native } = session
  const blocks = new Map<DevicePointer, Block>()
  return driverBench({
    driver,
    native,
    graphs,
    stream: queue.compute,
    available: () => driver.memoryInfo().free + memory.statistics().cached,
    allocate: (bytes) => {
      const block = memory.allocate(bytes)
      blocks.set(block.address, block)
      return block.address
    },
    free: (address) => {
      const block = blocks.get(address)
      if (block === undefined) throw new InternalError('the tuner frees what it did not allocate')
      blocks.delete(address)
      block.release()
    },
    bind: (lowered, operands, scratch) => {
      const launches = new Launches(runtime, bindAlone(lowered, operands.length, 'a candidate'))
      const slots = scratch === undefined ? operands : [...operands, scratch]
      return { enqueue: () => launches.enqueue(queue.compute, slots), release: () => launches.release() }
    },
  })
}
