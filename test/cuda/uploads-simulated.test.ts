// Uploads on the simulated GPU: while a step runs none of them waits for it, however large the batch, and the bits are right
// when pinned memory is used again or there is no more of it.
import { describe, expect, it } from 'vitest'
import { cudaDevice } from '../../src/cuda/index.ts'
import { probe } from '../../src/cuda/discovery-probe.ts'
import { openRuntime } from '../../src/cuda/runtime/index.ts'
import { Cleanup } from '../../src/cuda/runtime/cleanup.ts'
import { Staging } from '../../src/cuda/runtime/staging.ts'
import type { Storage } from '../../src/tensor/device.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { at, range, zip } from '../../src/tensor/shape.ts'
import { simulatedGpu } from '../support/simulated.ts'
import { compile } from './device-harness.ts'

const mebi = 2 ** 20

const gpu = simulatedGpu()

/** Calls by which the main thread has waited for the GPU. */
function waits(): number {
  const { counts } = gpu.sim.report()
  return Object.entries(counts).reduce((sum, [call, count]) => sum + (call.includes('Synchronize') ? count : 0), 0)
}

/** How much pinned memory there is, in slots. */
function slots(): number {
  return gpu.sim.report().memory.filter((one) => one.includes('pinned')).length
}

/** Two and a half slots of bytes that differ from batch to batch. */
const batchBytes = 10 * mebi
const batch = (k: number): Uint8Array =>
  Uint8Array.from(Buffer.alloc(batchBytes, `batch ${k} of thirty-one odd bytes.`))

function nothingLeft(): void {
  const { violations, memory, live } = gpu.sim.report()
  expect({ violations, memory, live }).toEqual({ violations: [], memory: [], live: {} })
}

describe('a batch that is uploaded while a step runs', () => {
  const type: TensorType = { shape: [10, mebi], dtype: 'u8' }
  const corner = (x: Uint8Array): number[] => range(10).map((row) => at(x, row * mebi + mebi - 1 - row))

  it.each([0, 1, 2])('does not wait for it, in the order of seed %i', async (seed) => {
    gpu.sim.seed(seed)
    const environment = { PULLBACK_CACHE: gpu.folder }
    const device = cudaDevice({ native: gpu.sim.native, machine: gpu.sim.machine, environment })
    const corners = compile(
      device,
      ([x]) => [
        ops.concatenate(
          range(10).map((row) => ops.slice(x!, [row, mebi - 1 - row], [row + 1, mebi - row])),
          0,
        ),
      ],
      [type],
    )
    const results: Storage[] = []
    for (const k of range(5)) {
      const data = batch(k)
      const before = waits()
      if (k > 0) expect(gpu.sim.report().pending, `step ${k - 1} is over`).toBeGreaterThan(0)
      const x = device.upload(data, type)
      expect(waits(), `batch ${k}`).toBe(before)
      data.fill(0)
      results.push(at(corners.run([x]), 0))
      device.release(x)
    }
    for (const [k, result] of results.entries())
      expect([...(await device.read(result))], `step ${k}`).toEqual(corner(batch(k)))
    await device.close()
    nothingLeft()
  })
})

describe('where the GPU has no memory for one batch more', () => {
  it('an upload takes the place of one that a running step still reads, and the copy waits instead of Node', async () => {
    gpu.sim.memory(24 * mebi)
    const environment = { PULLBACK_CACHE: gpu.folder }
    const device = cudaDevice({ native: gpu.sim.native, machine: gpu.sim.machine, environment })
    const type: TensorType = { shape: [batchBytes], dtype: 'u8' }
    const last = compile(device, ([x]) => [ops.slice(x!, [batchBytes - 1], [batchBytes])], [type])
    const results: Storage[] = []
    for (const k of range(6)) {
      const data = batch(k)
      const before = waits()
      const x = device.upload(data, type)
      expect(waits(), `batch ${k}`).toBe(before)
      results.push(at(last.run([x]), 0))
      device.release(x)
    }
    for (const [k, result] of results.entries())
      expect([...(await device.read(result))], `step ${k}`).toEqual([batch(k).at(-1)])
    await device.close()
    gpu.sim.memory(8 * 2 ** 30)
    nothingLeft()
  })
})

describe('pinned memory for uploads', () => {
  /** Uploads so many batches at once, twice, and reads them all. */
  function uploads(count: number, most: number | undefined, between: () => void): readonly number[] {
    const runtime = openRuntime(probe(gpu.sim.machine, gpu.sim.native), gpu.sim.native, {
      ...{ ordinal: 0, environment: { PULLBACK_CACHE: gpu.folder }, separate: false },
      owners: () => '',
    })
    const { session, queue, memory } = runtime
    const cleanup = new Cleanup()
    const staging = new Staging(session.driver, session.native, queue, cleanup, most)
    const used = range(2).map((round) => {
      const blocks = range(count).map(() => memory.allocate(batchBytes, 'copy'))
      staging.upload(at(blocks, 0).address, batch(round))
      between()
      for (const [k, block] of blocks.entries()) staging.upload(block.address, batch(10 * round + k))
      const grown = slots()
      queue.settleCopies()
      for (const [k, block] of blocks.entries()) {
        const read = new Uint8Array(batchBytes)
        runtime.staging.readSync(read, { address: block.address, ready: 0 })
        expect(Buffer.compare(read, batch(10 * round + k)), `batch ${k}`).toBe(0)
      }
      for (const block of blocks) block.release()
      return grown
    })
    cleanup.release()
    runtime.close()
    nothingLeft()
    return used
  }

  it('grows to what is under way, and is used again', () => {
    const [first = 0, second = 0] = uploads(3, undefined, () => undefined)
    expect(first).toBeGreaterThan(3) // a batch is three pieces, and the simulation copies as late as it may
    expect(first).toBeLessThanOrEqual(12)
    expect(second).toBeLessThanOrEqual(12 + 2) // blocking reads have theirs
  })

  it('stays within its bound: then uploads wait for earlier ones', () => {
    for (const [used, round] of zip(
      uploads(3, 2, () => undefined),
      range(2),
    ))
      expect(used).toBeLessThanOrEqual(2 + 2 * round)
    expect(waits()).toBeGreaterThan(0)
  })

  it('does with what there is where the machine has no more', () => {
    const [first = 0] = uploads(3, undefined, () => gpu.sim.failAt(1, 2, 'cuMemHostAlloc'))
    expect(first).toBeGreaterThan(0)
    expect(gpu.sim.report().failed).toBe('cuMemHostAlloc')
  })

  it('is not written any more where a slot cannot be had half-way', () => {
    const runtime = openRuntime(probe(gpu.sim.machine, gpu.sim.native), gpu.sim.native, {
      ...{ ordinal: 0, environment: { PULLBACK_CACHE: gpu.folder }, separate: false },
      owners: () => '',
    })
    const block = runtime.memory.allocate(batchBytes, 'copy')
    gpu.sim.failAt(2, 304, 'cuMemHostAlloc')
    expect(() => runtime.staging.upload(block.address, batch(0))).toThrow(/cuMemHostAlloc/)
    expect(gpu.sim.report().pending).toBe(0)
    block.release()
    runtime.close()
    nothingLeft()
  })

  it('several small arrays lie side by side in it', () => {
    const environment = { PULLBACK_CACHE: gpu.folder }
    const device = cudaDevice({ native: gpu.sim.native, machine: gpu.sim.machine, environment })
    const small: TensorType = { shape: [3], dtype: 'f32' }
    const storages = range(100).map((k) => device.upload(Float32Array.of(k, k + 1, k + 2), small))
    expect(slots()).toBe(1)
    expect(storages.map((storage) => [...device.readSync(storage)])).toEqual(range(100).map((k) => [k, k + 1, k + 2]))
    return device.close()
  })
})
