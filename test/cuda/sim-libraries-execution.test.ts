// What the simulated cuDNN refuses and complains of when a plan is executed: addresses, scratch memory, streams, handles, and
// calls that are made to fail.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Descriptor } from '../../src/cuda/ffi/cudnn.ts'
import { type DevicePointer, offset } from '../../src/cuda/ffi/values.ts'
import { at } from '../../src/tensor/shape.ts'
import { type LibraryGpu, libraryGpu } from '../sim/cudnn-gpu.ts'
import { fusedSteps } from './sequences/graphs.ts'
import { operationGraph, tensor } from './sequences/parts.ts'
import { assemble, statusOf } from './sequences/sequence.ts'
import { type Planned, execute, plansOf } from './sim-libraries-plans.ts'
import { eighths } from './sim-libraries-values.ts'

let gpu: LibraryGpu
let expected: readonly unknown[]
beforeEach(async () => {
  gpu = await libraryGpu()
  expected = []
}, 600_000)
afterEach(() => {
  expect(gpu.close().violations).toEqual(expected)
})

const extents = { batch: 2, size: 5, channels: 16, outputs: 24 }
const { batch: n, size, channels: c, outputs: k } = extents
const pixels = n * size * size

describe('execution', () => {
  const ids = [1, 2, 3]
  let plans: ReadonlyMap<number, Planned>
  let good: Planned
  let addresses: DevicePointer[]
  const status = (planned: Planned, names: readonly number[], pointers: readonly bigint[], workspace = 0n): number =>
    statusOf(() => execute(gpu, planned, names, pointers, workspace))

  beforeEach(() => {
    plans = plansOf(gpu, fusedSteps({ direction: 'FORWARD', parts: [] }, extents), ['conv'])
    good = plans.get(22) ?? at([...plans.values()], 0)
    addresses = [
      gpu.upload('f16', eighths(1, pixels * c)),
      gpu.upload('f16', eighths(2, k * c)),
      gpu.allocate(pixels * k * 2),
    ]
  })
  afterEach(() => {
    for (const { release } of plans.values()) release()
  })

  test('tensors without an address, at 0, or aligned worse than they say are refused', () => {
    const [a, b, y] = addresses as [DevicePointer, DevicePointer, DevicePointer]
    expect(status(good, [1, 2], [a, b])).toBe(2000)
    expect(status(good, [1, 2, 4], [a, b, y])).toBe(2000)
    expect(status(good, [1, 2, 2], [a, b, y])).toBe(2009)
    expect(status(good, ids, [0n, b, y])).toBe(2002)
    expect(status(good, ids, [a, offset(b, 8), y])).toBe(2003)
    expect(status(good, ids, [a, b, y])).toBe(0)
  })

  test('scratch memory is needed where the plan says so, and is overwritten', () => {
    const planned = plans.get(45)
    if (planned === undefined) throw new Error('no engine 45')
    expect(status(planned, ids, addresses)).toBe(2002)
    const workspace = gpu.allocate(planned.workspace)
    gpu.driver.fill8(workspace, 1, planned.workspace, gpu.stream)
    expect(status(planned, ids, addresses, workspace)).toBe(0)
    gpu.driver.synchronizeStream(gpu.stream)
    expect(new Set(gpu.download('u8', workspace, planned.workspace))).toEqual(new Set([0xdb]))
  })

  test('memory that is too short, freed, or shared with the result is a violation', () => {
    const [a, b, y] = addresses as [DevicePointer, DevicePointer, DevicePointer]
    const short = gpu.driver.allocate(pixels * k * 2 - 2)
    const planned = plans.get(45)
    if (planned === undefined) throw new Error('no engine 45')
    expect(status(good, ids, [a, b, short])).toBe(5000)
    expect(status(planned, ids, [a, b, y], short)).toBe(5000)
    expect(status(good, ids, [y, b, y])).toBe(5000)
    gpu.driver.free(short)
    expect(status(good, ids, [short, b, y])).toBe(5000)
    expected = [
      expect.stringMatching(/cudnn engine 22: tensor 3 .* is not inside live device memory when it is executed/),
      expect.stringMatching(/cudnn engine 45: its workspace .* is not inside live/),
      expect.stringMatching(/cudnn engine 22: the result 3 shares memory with tensor 1/),
      expect.stringMatching(/cudnn engine 22: tensor 1 .* is not inside live/),
    ]
  })

  test('a stream that is gone, a plan that is none, and a handle that was destroyed are refused', () => {
    const { cudnn, driver } = gpu
    const stream = driver.createStream(0)
    driver.destroyStream(stream)
    expect(statusOf(() => cudnn.setStream(gpu.cudnnHandle, stream))).toBe(2007)
    const handle = cudnn.create()
    cudnn.destroy(handle)
    expect(statusOf(() => cudnn.setStream(handle, gpu.stream))).toBe(2000)
    const made = assemble(cudnn, tensor('x', { dims: [1, 1, 1, 1], uid: 1 }))
    const none = made.get('x') ?? (0n as Descriptor)
    expect(status({ ...good, plan: none }, ids, addresses)).toBe(2012)
    cudnn.destroyDescriptor(none)
    expected = [expect.stringMatching(/cudnnSetStream got .* no living cuDNN handle/)]
  })

  test('the n-th call fails where it is told to, and nothing is left behind by it', () => {
    const { cudnn, simulation } = gpu
    const live = simulation.report().live
    simulation.failAt(4)
    const steps = [...fusedSteps({ direction: 'FORWARD', parts: [] }, extents), ...operationGraph('graph', ['conv'])]
    const failures = steps.map((_, index) => {
      simulation.failAt(index + 1)
      try {
        for (const descriptor of assemble(cudnn, steps.slice(0, index + 1)).values())
          cudnn.destroyDescriptor(descriptor)
        return 'nothing failed'
      } catch (error) {
        return error instanceof Error && /status 4\d\d\d/.test(error.message) ? 'failed' : String(error)
      }
    })
    expect(new Set(failures)).toEqual(new Set(['failed']))
    simulation.failAt(0)
    expect(Object.keys(live)).not.toEqual([])
  })
})
