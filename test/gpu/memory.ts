// The part `memory`: many training steps with nothing growing: the device's own count, the driver's free memory, recordings.
import type { CudaDevice } from '../../src/cuda/device.ts'
import type { DeviceCalls } from '../../src/cuda/ffi/driver.ts'
import type { QueueCalls } from '../../src/cuda/ffi/driver-queues.ts'
import { trainSmall } from '../support/small-training.ts'
import { type Gpu, type Part, type Tell, sized, withDevice } from './part.ts'

/** What may grow. */
interface Reading {
  readonly inUse: number
  readonly peak: number
  readonly cached: number
  /** Bytes that the driver says are taken, by whomever. */
  readonly taken: number
  readonly recordings: number
  readonly modules: number
}

/** What the driver is asked for without being told to stop: counted from here on. */
function countCalls(calls: Pick<QueueCalls, 'instantiateGraph'> & Pick<DeviceCalls, 'loadModule'>) {
  const counts = { recordings: 0, modules: 0 }
  const { instantiateGraph, loadModule } = calls
  calls.instantiateGraph = (graph) => {
    counts.recordings += 1
    return instantiateGraph(graph)
  }
  calls.loadModule = (image) => {
    counts.modules += 1
    return loadModule(image)
  }
  return counts
}

function reading(device: CudaDevice, counts: Pick<Reading, 'recordings' | 'modules'>): Reading {
  const { free, total } = device.use('memory', () => device.runtime.session.driver.memoryInfo())
  return { ...device.memory(), taken: total - free, ...counts }
}

/**
 * What the allocator takes at once, and the driver for itself. An upload takes no block that may still be in use, so that
 * how many blocks are kept for it is a matter of time, once.
 */
const granule = 2 * 2 ** 20

/** How far each count went above where it was when everything had been recorded. */
async function compare(gpu: Gpu, device: CudaDevice, tell: Tell): Promise<void> {
  const counts = countCalls(device.runtime.session.driver)
  const [steps, settled] = [sized(gpu, 200, 8), sized(gpu, 20, 4)]
  const readings: Reading[] = []
  const stepped = (step: number): void => {
    if (step >= settled) readings.push(reading(device, counts))
  }
  await trainSmall(device, { precision: 'f16', steps, stepped })
  const [first] = readings
  if (first === undefined) throw new Error('nothing was read')
  const limits = { inUse: 0, peak: 0, cached: granule, taken: 2 * granule, recordings: 0, modules: 0 }
  const names: Readonly<Record<keyof Reading, string>> = {
    ...{ inUse: 'bytes in use', peak: 'bytes at the peak', cached: 'bytes kept for reuse' },
    ...{ taken: "bytes taken by the driver's count", recordings: 'recorded graphs', modules: 'loaded kernels' },
  }
  for (const [key, tolerance] of Object.entries(limits) as [keyof Reading, number][]) {
    const values = readings.map((one) => one[key])
    tell.compared({
      name: `${names[key]}, growth over ${steps - settled} steps`,
      ...{ cases: readings.length, worst: Math.max(...values) - first[key], tolerance },
      where: `${first[key]} after step ${settled + 1}`,
    })
  }
}

/** The part with something done before each device is used: for showing that it notices. */
export const memory: Part = {
  says: 'training steps in a row: no byte and no recording more than after the first few',
  seconds: 60,
  alone: true, // the driver's free memory is everybody's
  run: (gpu, tell) => withDevice(gpu, { environment: { PULLBACK_VERIFY: '' } }, (device) => compare(gpu, device, tell)),
}
