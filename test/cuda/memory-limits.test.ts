// Little device memory on the simulated GPU: wherever it runs out there are figures and a batch that fits, and what could be
// had by waiting and giving back is had.
import { afterEach, describe, expect, it } from 'vitest'
import { cudaDevice } from '../../src/cuda/index.ts'
import type { Device, Executable } from '../../src/tensor/device.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { range, sizeOf } from '../../src/tensor/shape.ts'
import type { Simulation } from '../sim/library.ts'
import { simulatedGpu } from '../support/simulated.ts'
import { type Flat, compile } from './device-harness.ts'

const mebi = 2 ** 20

const gpu = simulatedGpu()
afterEach(() => gpu.sim.memory(8 * 2 ** 30))

function open(): Device {
  const { native, machine } = gpu.sim
  return cudaDevice({ native, machine, environment: { PULLBACK_CACHE: gpu.folder } })
}

const state: TensorType = { shape: [256, 1024], dtype: 'f32' }
const images = (batch: number): TensorType => ({ shape: [batch, 16, 16, 3], dtype: 'u8' })

/** A step whose temporaries, all of them in memory, grow with the batch, but for those of its state. */
const step: Flat = ([weights, batch]) => {
  const x = ops.cast(batch!, 'f32')
  const y = ops.exp(ops.mul(ops.add(x, 1), 0.001))
  const moved = ops.sub(weights!, ops.mul(ops.mul(weights!, weights!), 0.5))
  return [ops.add(moved, ops.sum(y)), ops.mul(ops.add(y, 1), 2), ops.sum(ops.mul(y, x))]
}

function program(device: Device, batch: number): Executable {
  return compile(device, step, [state, images(batch)], { donate: [0] })
}

/** A few steps as a loop takes them: the next batch arrives before the last one is done with. */
async function train(device: Device, batch: number): Promise<void> {
  const executable = program(device, batch)
  let weights = device.upload(new Float32Array(sizeOf(state.shape)), state)
  for (const k of range(5)) {
    const x = device.upload(new Uint8Array(sizeOf(images(batch).shape)).fill(k), images(batch))
    const [next, predicted, loss] = executable.run([weights, x])
    weights = next!
    device.release(predicted!)
    device.release(x)
    if (k % 2 === 1) await device.read(loss!)
    device.release(loss!)
  }
  device.release(weights)
  executable.release()
}

/** What a batch that does not fit is told. */
async function told(batch: number): Promise<string> {
  const device = open()
  try {
    await train(device, batch)
    return 'it fits'
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  } finally {
    await device.close()
  }
}

describe('a batch that does not fit', () => {
  it.each([24, 30, 40, 64])('is told one that does, at %i MiB', async (limit) => {
    gpu.sim.memory(limit * mebi)
    const message = await told(8192)
    expect(message).toMatch(/^\[cuda\] expected \d+ bytes of device memory, got none: \d+ of \d+ are free, \d+ in use/)
    const advised = Number(/a batch of (\d+) instead of 8192 would fit/.exec(message)?.[1])
    expect(advised, message).toBeGreaterThan(100)
    expect(await told(advised)).toBe('it fits')
    expect(gpu.sim.report()).toMatchObject({ violations: [], memory: [], live: {} })
  })

  it('is told so where not even its upload fits', async () => {
    gpu.sim.memory(4 * mebi)
    const device = open()
    const upload = (batch: number) => device.upload(new Uint8Array(sizeOf(images(batch).shape)), images(batch))
    let said = ''
    try {
      upload(8192)
    } catch (error) {
      said = String(error)
    }
    const advised = Number(/a batch of (\d+) instead of 8192 would fit/.exec(said)?.[1])
    expect(advised, said).toBeGreaterThan(100)
    for (const storage of range(2).map(() => upload(advised))) device.release(storage)
    await device.close()
  })

  it('is told what the program that takes it would bear, where a batch of that size was compiled for', async () => {
    gpu.sim.memory(40 * mebi)
    const device = open()
    const batch = 8192
    const executable = program(device, batch)
    const taken = device.upload(new Uint8Array(36 * mebi), { shape: [36 * mebi], dtype: 'u8' })
    const upload = () => device.upload(new Uint8Array(sizeOf(images(batch).shape)), images(batch))
    expect(upload).toThrow(/not even one|a batch of \d{1,3} instead of 8192 would fit/) // its upload alone would bear 1,656
    device.release(taken)
    executable.release()
    await device.close()
  })
})

describe('memory that the driver takes by itself', () => {
  const calls = ['cuModuleLoadData', 'cuModuleGetFunction', 'cuGraphInstantiateWithFlags', 'cuGraphLaunch']

  it.each(calls)('%s is asked for once more, after what nobody uses has gone back', async (call) => {
    const device = open()
    const idle = range(3).map(() => device.upload(new Uint8Array(12 * mebi), { shape: [12 * mebi], dtype: 'u8' }))
    for (const storage of idle) device.release(storage)
    expect(device.memory().cached).toBeGreaterThan(35 * mebi)
    gpu.sim.failAt(1, 2, call)
    await train(device, 64)
    expect(gpu.sim.report().failed).toBe(call)
    expect(device.memory().cached).toBeLessThan(30 * mebi)
    await device.close()
    expect(gpu.sim.report()).toMatchObject({ violations: [], memory: [], live: {} })
  })

  it('and a launch that has none says how much there is, and what would fit', async () => {
    const device = open()
    gpu.sim.failAt(1, 2, 'cuLaunchKernel')
    const said = await train(device, 64).catch(String)
    expect(said).toMatch(
      /expected device memory for cuLaunchKernel \(driver\), got none: \d+ of \d+ are free, .* a batch of 63 instead of 64/s,
    )
    await device.close()
    expect(gpu.sim.report()).toMatchObject({ violations: [], memory: [], live: {} })
  })

  it('stays an error with the figures where that does not help', async () => {
    const environment = { PULLBACK_CACHE: gpu.folder }
    const device = cudaDevice({ native: withoutModules(gpu.sim.native), machine: gpu.sim.machine, environment })
    const said = await train(device, 64).catch(String)
    expect(said).toMatch(/expected device memory for cuModuleLoadData \(driver\), got none: \d+ of \d+ are free/)
    expect(said).toMatch(/a batch of 63 instead of 64 would fit/)
    await device.close()
    expect(gpu.sim.report()).toMatchObject({ violations: [], memory: [], live: {} })
  })
})

/** Libraries that never have memory for a module. */
function withoutModules(native: Simulation['native']): Simulation['native'] {
  return {
    ...native,
    load: (path) => {
      const library = native.load(path)
      return {
        ...library,
        func: (name, result, parameters) =>
          name === 'cuModuleLoadData' ? () => 2 : library.func(name, result, parameters),
      }
    },
  }
}
