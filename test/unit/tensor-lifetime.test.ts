// When tensors' memory is freed, and what use after that says.
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { beforeEach, describe, expect, test } from 'vitest'
import { setDefaultDevice, wrapResults, wrapStorage } from '../../src/tensor/dispatch.ts'
import type { Device } from '../../src/tensor/device.ts'
import { DisposedError } from '../../src/tensor/errors.ts'
import { memory, scope } from '../../src/tensor/lifetime.ts'
import { tensor, zeros } from '../../src/tensor/ops/create.ts'
import { add, mul } from '../../src/tensor/ops/pointwise.ts'
import { sum } from '../../src/tensor/ops/reduce.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

let device: Device
const bytes = (): number => device.memory().inUse

beforeEach(() => {
  device = referenceDevice()
  setDefaultDevice(device)
})

describe('dispose', () => {
  test('frees at once, and twice is once', () => {
    const x = tensor([1, 2, 3])
    expect(bytes()).toBe(12)
    x.dispose()
    x.dispose()
    expect(bytes()).toBe(0)
  })

  test('using frees at the end of the block', () => {
    {
      using x = tensor([1, 2, 3])
      expect([x.size, bytes()]).toEqual([3, 12])
    }
    expect(bytes()).toBe(0)
  })

  test('use afterwards says what happened and in which file', async () => {
    const x = tensor([1, 2])
    x.dispose()
    const here = new RegExp(
      `^\\[add\\] this f32\\[2\\] was disposed at .*${fileURLToPath(import.meta.url)
        .split('/')
        .pop()!
        .replaceAll('.', '\\.')}:\\d+`,
    )
    expect(() => add(x, 1)).toThrow(here)
    expect(() => add(x, 1)).toThrow(DisposedError)
    await expect(x.data()).rejects.toMatchObject({ code: 'disposed' })
    await expect(x.item()).rejects.toMatchObject({ code: 'disposed' })
  })

  test('use after donation has its own code', () => {
    const x = tensor([1, 2])
    wrapResults([], [x])
    expect(() => mul(x, x)).toThrow(expect.objectContaining({ code: 'donated' }))
    expect(() => mul(x, x)).toThrow(/was donated at .* or do not donate it/)
  })
})

describe('scope', () => {
  test('frees what was made in it but what it returns, in any tree', async () => {
    const kept = await scope(async () => {
      const x = tensor([1, 2, 3])
      const y = mul(add(x, 1), x)
      await y.data()
      return { loss: sum(y), parts: [y], note: 'any leaf' }
    })
    expect(bytes()).toBe(4 + 12)
    expect(await kept.loss.item()).toBe(20)
  })

  test('frees when the body throws', async () => {
    const body = (): never => {
      zeros([10])
      throw new RangeError('of the body')
    }
    await expect(scope(body)).rejects.toThrow('of the body')
    expect(bytes()).toBe(0)
  })

  test('an inner scope hands its result to the outer, which frees it', async () => {
    await scope(async () => {
      const inner = await scope(() => add(tensor([1, 2]), 1))
      expect(await inner.data()).toEqual(Float32Array.of(2, 3))
      expect(bytes()).toBe(8)
    })
    expect(bytes()).toBe(0)
  })

  test('what was made before a scope outlives it, even when a scope inside it returns it', async () => {
    const weights = tensor([1, 2])
    await scope(async () => {
      await scope(() => weights)
    })
    expect(await weights.data()).toEqual(Float32Array.of(1, 2))
  })

  test('an inner scope may return what is no tensor', async () => {
    const body = async (): Promise<number> => {
      const inner = await scope(() => ({ steps: 5, name: 'adam' }))
      return inner.steps + 1
    }
    expect(await scope(body)).toBe(6)
  })

  test('concurrent scopes keep their tensors apart', async () => {
    const run = (value: number): Promise<Tensor> =>
      scope(async () => {
        const x = tensor([value])
        await new Promise((resolve) => setTimeout(resolve, value))
        return add(x, 1)
      })
    const results = await Promise.all([run(3), run(1)])
    expect(await Promise.all(results.map((x) => x.item()))).toEqual([4, 2])
    expect(bytes()).toBe(8)
  })
})

describe('memory.report', () => {
  test('lists live tensors, largest first, and where they were made if asked', () => {
    const before = memory.report().length
    memory.recordOrigins(true)
    const [small, large] = [tensor([1]), zeros([100], 'f16')]
    memory.recordOrigins(false)
    const mine = memory.report().filter(({ made }) => made !== undefined)
    expect(mine.map(({ type, device: place, bytes: size }) => ({ type, place, size }))).toEqual([
      { type: 'f16[100]', place: 'reference', size: 200 },
      { type: 'f32[1]', place: 'reference', size: 4 },
    ])
    expect(mine[0]?.made).toContain('tensor-lifetime.test.ts')
    small.dispose()
    large.dispose()
    expect(memory.report()).toHaveLength(before)
  })
})

test('what the garbage collector finds is freed', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const leak = (): void => {
    wrapStorage(device.upload(new Float32Array(1000), { shape: [1000], dtype: 'f32' }))
  }
  leak()
  expect(bytes()).toBe(4000)
  for (let tries = 0; tries < 50 && bytes() > 0; tries++) {
    collect()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  expect(bytes()).toBe(0)
})
