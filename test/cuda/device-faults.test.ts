// The CUDA device where things go wrong or happen at once: reads under way while memory changes hands, memory that runs out,
// kernels that crash, and every driver call failing once.
import { describe, expect, it } from 'vitest'
import type { Storage } from '../../src/tensor/device.ts'
import { PullbackError } from '../../src/tensor/errors.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { range } from '../../src/tensor/shape.ts'
import { batchAdvice, batchOf } from '../../src/cuda/batch-advice.ts'
import { compile, filled, first, step, stepped, upload, vector } from './device-harness.ts'
import { fakeDevice } from './fake-device.ts'
import { FakeGpu } from './fake-gpu.ts'

describe('reads', () => {
  it('keep the elements though the tensor is donated or released meanwhile', async () => {
    const { gpu, device } = fakeDevice()
    const train = compile(device, step, [vector, vector], { donate: [0] })
    const batch = upload(device, 2)
    let state = upload(device, 1)
    let expected = 1
    const reads: Promise<void>[] = []
    for (const turn of range(8)) {
      const value = expected
      for (const storage of range(turn % 3).map(() => state))
        reads.push(device.read(storage).then((read) => expect(read).toEqual(filled(value))))
      if (turn % 2 === 1) await new Promise(setImmediate) // some copies are under way by now
      state = train.run([state, batch])[0]!
      expected = stepped(expected, 2).state
    }
    const last = device.read(state)
    device.release(state)
    device.release(upload(device, 77))
    expect(await last).toEqual(filled(expected))
    await Promise.all(reads)
    await device.close()
    expect(gpu.held()).toEqual({})
  })

  it('come in pieces where the array is larger than a slot, and do not disturb each other', async () => {
    const { device } = fakeDevice()
    const length = 2 ** 23 + 100
    const type: TensorType = { shape: [length], dtype: 'u8' }
    const arrays = range(2).map((k) => Uint8Array.from(Buffer.alloc(length, `pattern ${k} of thirty-one bytes`)))
    const storages = arrays.map((array) => {
      const copy = array.slice()
      const storage = device.upload(copy, type)
      copy.fill(0) // the caller may do so at once
      return storage
    })
    const read = await Promise.all(storages.map((storage) => device.read(storage)))
    expect(read.map((array, k) => Buffer.compare(array as Uint8Array, arrays[k]!))).toEqual([0, 0])
    expect(Buffer.compare(device.readSync(storages[1]!) as Uint8Array, arrays[1]!)).toBe(0)
    await device.close()
  })

  it('are settled when the device is closed, one way or the other', async () => {
    const { gpu, device } = fakeDevice()
    const train = compile(device, step, [vector, vector])
    const [x, y] = [upload(device, 1), upload(device, 2)]
    const reads = range(5).map(() => device.read(train.run([x, y])[0]!))
    const settled = Promise.allSettled(reads)
    await device.close()
    for (const result of await settled)
      if (result.status === 'fulfilled') expect(result.value).toEqual(filled(stepped(1, 2).state))
      else expect(String(result.reason)).toMatch(/closed/)
    expect(gpu.held()).toEqual({})
    expect(() => upload(device, 1)).toThrow(/closed/)
    await expect(device.read(x)).rejects.toThrow(/closed/)
    device.release(x)
    await device.close()
  })
})

describe('memory that runs out', () => {
  it('is waited for, then asked for again, then an error that says who has it and which batch would fit', async () => {
    const gpu = new FakeGpu()
    const { device } = fakeDevice({ gpu })
    const images = (batch: number): TensorType => ({ shape: [batch, 16, 16, 3], dtype: 'u8' })
    const program = (batch: number) =>
      compile(device, ([x]) => [ops.sum(ops.exp(ops.mul(ops.cast(x!, 'f32'), ops.add(ops.cast(x!, 'f32'), 1))))], [
        images(batch),
      ])
    const batch = 4096
    const large = program(batch)
    const x = device.upload(new Uint8Array(batch * 768), images(batch))
    gpu.limit = 30 * 2 ** 20
    const message = await failure(() => large.run([x]))
    expect(message).toMatch(/^\[cuda\] expected \d+ bytes of device memory, got none: \d+ of 31457280 are free/)
    expect(message).toMatch(/Largest: u8\[4096,16,16,3\] \(\d+ bytes\)/)
    const fitting = Number(/a batch of (\d+) instead of 4096 would fit/.exec(message)?.[1])
    expect(fitting).toBeGreaterThan(1000)
    device.release(x)
    const y = device.upload(new Uint8Array(2 * 768), images(2))
    expect(() => program(2).run([y])).not.toThrow()
    await device.close()
    expect(gpu.held()).toEqual({})
  })

  it('is found in blocks that were freed a moment ago', async () => {
    const gpu = new FakeGpu()
    const { device } = fakeDevice({ gpu })
    const type: TensorType = { shape: [12 * 2 ** 20], dtype: 'u8' }
    gpu.limit = 30 * 2 ** 20
    for (const _ of range(4)) device.release(device.upload(new Uint8Array(12 * 2 ** 20), type))
    const wider: TensorType = { shape: [20 * 2 ** 20], dtype: 'u8' }
    device.release(device.upload(new Uint8Array(20 * 2 ** 20), wider))
    expect(device.memory().inUse).toBe(0)
    await device.close()
  })

  it('names a batch only where there is one, rounded down, and never the same', () => {
    expect(batchOf([vector])).toBeUndefined()
    expect(
      batchOf([
        { shape: [8, 224, 224, 3], dtype: 'f32' },
        { shape: [512, 3, 3, 512], dtype: 'f32' },
      ]),
    ).toBe(8)
    expect(
      batchOf([
        { shape: [64, 3], dtype: 'u8' },
        { shape: [8, 224, 224, 3], dtype: 'f32' },
      ]),
    ).toBe(64)
    expect(batchAdvice({ batch: undefined, examples: 10, fixed: 0 }, 5)).toBe('')
    expect(batchAdvice({ batch: 256, examples: 100, fixed: 0 }, 50)).toMatch(/a batch of 120 instead of 256/)
    expect(batchAdvice({ batch: 256, examples: 100, fixed: 20 }, 50)).toMatch(/a batch of 64 instead of 256/)
    expect(batchAdvice({ batch: 256, examples: 100, fixed: 0 }, 120)).toMatch(/a batch of 255 instead/)
    expect(batchAdvice({ batch: 4, examples: 100, fixed: 0 }, 10)).toMatch(/not even one of the 4/)
    expect(batchAdvice({ batch: 4, examples: 10, fixed: 100 }, 50)).toMatch(/not even one of the 4/)
  })
})

describe('a kernel that crashes', () => {
  it('ends the device with one sentence for everybody, and closing still works', async () => {
    const { gpu, device } = fakeDevice()
    const train = compile(device, step, [vector, vector])
    const [x, y] = [upload(device, 1), upload(device, 2)]
    for (const kernel of gpu.kernels.keys())
      gpu.kernels.set(kernel, {
        words: 4,
        run: () => {
          throw new Error('crash')
        },
      })
    const results = train.run([x, y])
    const reads = await Promise.allSettled([...results, ...results].map((storage) => device.read(storage)))
    for (const read of reads)
      expect(String((read as PromiseRejectedResult).reason)).toMatch(
        /^PullbackError: \[cuda\] the GPU failed during 'train' and cannot be used any more: .*status 700/,
      )
    expect(() => upload(device, 1)).toThrow(/the GPU failed during 'train'/)
    device.release(x)
    await device.close()
    expect(gpu.held()).toEqual({})
  })
})

describe('a step that cannot be enqueued', () => {
  it('is named, and what it was given half-way is lost', async () => {
    const { gpu, device } = fakeDevice()
    const train = compile(device, step, [vector, vector], { donate: [0] })
    const [x, y] = [upload(device, 1), upload(device, 2)]
    gpu.failIn('launch', 4)
    expect(() => train.run([x, y])).toThrow(/^\[cuda\] map, kernel fake_\d+: launch .* failed with status 1/)
    await expect(device.read(x)).rejects.toThrow(/was donated to a run that failed half-way/)
    device.release(x)
    expect(await first(device, train.run([upload(device, 1), y])[0]!)).toBe(stepped(1, 2).state)
    await device.close()
    expect(gpu.held()).toEqual({})
  })

  it('spoils no recording: the stream is as before, and the next run records', async () => {
    const { gpu, device } = fakeDevice()
    const train = compile(device, step, [vector, vector], { donate: [0] })
    const y = upload(device, 2)
    const [x] = train.run([upload(device, 1), y])
    gpu.failIn('launch', 4)
    expect(() => train.run([x!, y])).toThrow(/kernel fake_\d+: launch/)
    const [z] = train.run([x!, y])
    expect(await first(device, z!)).toBe(stepped(stepped(1, 2).state, 2).state)
    expect(train.toString()).toMatch(/recorded 1 times/)
    await device.close()
    expect(gpu.held()).toEqual({})
  })
})

describe('every call of the driver and the libraries, failing once', () => {
  /** A run of everything: what was allocated last is closed, whatever happens. */
  async function scenario(gpu: FakeGpu, separate: boolean): Promise<void> {
    gpu.pace = 40
    const { device } = fakeDevice({ gpu, separate })
    try {
      const train = compile(device, step, [vector, vector], { donate: [0] })
      let state: Storage = upload(device, 1)
      for (const k of range(3)) {
        const batch = upload(device, k)
        const [next, loss] = train.run([state, batch])
        device.release(batch)
        state = next!
        await device.read(loss!)
        device.release(loss!)
      }
      expect(device.readSync(state)).toEqual(filled(range(3).reduce((value, k) => stepped(value, k).state, 1)))
      train.release()
    } finally {
      await device.close()
    }
  }

  it.each([false, true])('gives a clear error and leaves nothing behind (separate: %s)', async (separate) => {
    const whole = new FakeGpu()
    await scenario(whole, separate)
    expect(whole.calls).toBeGreaterThan(100)
    const unnoticed: string[] = []
    for (const failAt of range(whole.calls).map((call) => call + 1)) {
      if (separate && failAt % 7 !== 0) continue // most calls are the same in both ways
      const gpu = new FakeGpu()
      gpu.failAt = failAt
      const error = await scenario(gpu, separate).then(
        () => undefined,
        (reason: unknown) => reason,
      )
      expect([failAt, gpu.failed, gpu.held()]).toEqual([failAt, gpu.failed, {}])
      if (error === undefined) unnoticed.push(gpu.failed ?? 'nothing')
      else expect(error).toBeInstanceOf(PullbackError)
    }
    // memory that is asked for again, and what is given back behind an error or where nobody waits for the answer
    const harmless = /^(allocate|free|destroy|unload|release|setCurrent)/
    expect([...new Set(unnoticed)].filter((call) => !harmless.test(call))).toEqual([])
  })
})

async function failure(action: () => unknown): Promise<string> {
  try {
    await action()
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
  return 'nothing was thrown'
}
