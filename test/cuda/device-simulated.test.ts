// The CUDA device over the simulated CUDA, unchanged from discovery to recorded graph: results, order under seeds, what is left
// behind, and calls that fail. Whole training steps have a test of their own.
import { describe, expect, it, vi } from 'vitest'
import { CudaDevice } from '../../src/cuda/device.ts'
import { cudaDevice } from '../../src/cuda/index.ts'
import type { Device, Storage } from '../../src/tensor/device.ts'
import { PullbackError } from '../../src/tensor/errors.ts'
import { variable } from '../../src/tensor/program.ts'
import { range } from '../../src/tensor/shape.ts'
import { simulatedGpu } from '../support/simulated.ts'
import { compile, filled, first, step, stepped, upload, vector } from './device-harness.ts'

const gpu = simulatedGpu()

function open(environment: Readonly<Record<string, string>> = {}, ordinal = 0): Device {
  const { native, machine } = gpu.sim
  return cudaDevice({ native, machine, ordinal, environment: { PULLBACK_CACHE: gpu.folder, ...environment } })
}

/** A few steps of the little program, read while later ones are enqueued; the device is closed whatever happens. */
async function train(environment: Readonly<Record<string, string>>): Promise<void> {
  const device = open(environment)
  try {
    const executable = compile(device, step, [vector, vector], { donate: [0] })
    let state: Storage = upload(device, 1)
    let expected = 1
    const failures: unknown[] = []
    const reads: Promise<void>[] = []
    const check = (storage: Storage, wanted: Float32Array): void => {
      const read = device.read(storage).then((found) => expect(found).toEqual(wanted))
      reads.push(read.catch((error: unknown) => void failures.push(error)))
    }
    for (const k of range(5)) {
      const batch = upload(device, k)
      const [next, loss] = executable.run([state, batch])
      device.release(batch)
      const { state: value, loss: sum } = stepped(expected, k)
      check(loss!, Float32Array.of(sum))
      device.release(loss!)
      if (k % 2 === 0) check(next!, filled(value))
      state = next!
      expected = value
    }
    await Promise.all(reads)
    if (failures.length > 0) throw failures[0] as Error
    expect(device.readSync(state)).toEqual(filled(expected))
  } finally {
    await device.close()
  }
}

function nothingLeft(): void {
  const { violations, memory, live, pending, retained } = gpu.sim.report()
  expect({ violations, memory, live, pending, retained }).toEqual({
    ...{ violations: [], memory: [], live: {}, pending: 0, retained: 0 },
  })
}

describe('the device over the simulated CUDA', () => {
  it.each([
    [0, {}],
    [1, {}],
    [2, { PULLBACK_GRAPHS: '0' }],
    [3, { PULLBACK_CUDA_MEMORY: 'separate' }],
    [4, { PULLBACK_CUDA_MEMORY: 'separate', PULLBACK_GRAPHS: '0' }],
  ])('gives the right results in the order of seed %i with %o', async (seed, environment) => {
    gpu.sim.seed(seed)
    if (seed > 2) gpu.sim.alignRight(4)
    await train(environment)
    gpu.sim.alignRight(0)
    nothingLeft()
  })

  it('says what it runs on', async () => {
    const device = open()
    expect(device.name).toBe('cuda:0')
    expect(device.description).toMatch(
      /^cuda:0: Simulated H200 \(sm_90, .* GiB\), driver for CUDA 13\.\d, NVRTC 13\.\d, cuBLASLt 13\..*, cuDNN 9\./,
    )
    await device.close()
    nothingLeft()
  })

  it('refuses a GPU that is not there, and variables that mean nothing, and leaves nothing open', () => {
    expect(() => open({}, 4)).toThrow(/^\[cuda\] expected the number of a GPU, 0 to 0, got 4\./)
    expect(() => open({ PULLBACK_GRAPHS: 'no' })).toThrow(/expected PULLBACK_GRAPHS to be 1 or 0, got 'no'/)
    expect(() => open({ PULLBACK_CUDA_MEMORY: 'x' })).toThrow(/to be planned or separate, got 'x'/)
    nothingLeft()
  })

  it('checks what the compiler makes where its environment or the process says so by 1, and only then', async () => {
    const x = variable({ shape: [4], dtype: 'f32' })
    const y = variable({ shape: [4], dtype: 'f64' })
    const equations = [{ primitive: 'neg', inputs: [x], params: {}, outputs: [y] } as const]
    const compiling = (environment: Readonly<Record<string, string>>) => {
      const device = open(environment)
      const options = { optimize: 'none', donate: [], label: 'wrong' } as const
      return { device, compile: () => device.compile({ inputs: [x], equations, outputs: [y] }, options) }
    }
    for (const [process, environment, checked] of [
      ['1', {}, true],
      ['0', { PULLBACK_VERIFY: '1' }, true],
      ['0', { PULLBACK_VERIFY: '0' }, false],
      ['', {}, false],
    ] as const) {
      vi.stubEnv('PULLBACK_VERIFY', process)
      const { device, compile: broken } = compiling(environment)
      if (checked) expect(broken).toThrow(/should give f32\[4\], is declared as f64\[4\]/)
      else expect(broken).not.toThrow()
      await device.close()
    }
    vi.unstubAllEnvs()
    nothingLeft()
  })

  it('says how much memory there is where there is not enough, and goes on', async () => {
    gpu.sim.memory(64 * 2 ** 20)
    const device = open()
    const large = { shape: [80 * 2 ** 20], dtype: 'u8' } as const
    expect(() => device.upload(new Uint8Array(80 * 2 ** 20), large)).toThrow(/expected 83886080 bytes of device memory/)
    expect(await first(device, upload(device, 3))).toBe(3)
    await device.close()
    nothingLeft()
    gpu.sim.memory(8 * 2 ** 30)
  })

  it('a read goes on in its own context, whatever another device made current meanwhile', async () => {
    const device = open()
    const storage = upload(device, 7)
    const reading = device.read(storage)
    if (!(device instanceof CudaDevice)) throw new Error('another device')
    device.runtime.session.driver.setCurrentContext(undefined)
    expect(await reading).toEqual(filled(7))
    await device.close()
  })

  it('two devices on one GPU do not disturb each other', async () => {
    const [one, two] = [open(), open()]
    const [x, y] = [upload(one, 1), upload(two, 2)]
    expect(() => one.readSync(y)).toThrow(/by another device/)
    expect([await first(one, x), await first(two, y)]).toEqual([1, 2])
    await one.close()
    expect(await first(two, y)).toBe(2)
    await two.close()
    nothingLeft()
  })
})

describe('calls that fail', () => {
  it('end in a clear error, with nothing left behind', { timeout: 120_000 }, async () => {
    await train({})
    const { calls } = gpu.sim.report()
    for (let failAt = 1; failAt <= calls; failAt += 9) {
      gpu.sim.reset()
      gpu.sim.failAt(failAt)
      const error: unknown = await train({}).then(
        () => undefined,
        (reason: unknown) => reason,
      )
      const { failed, violations, memory, live } = gpu.sim.report()
      expect({ failAt, failed, violations, memory, live }).toEqual({
        ...{ failAt, failed, violations: [], memory: [], live: {} },
      })
      if (error !== undefined) expect(error).toBeInstanceOf(PullbackError)
    }
  })
})
