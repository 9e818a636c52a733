// The CPU device as its users see it: order of execution, donation, reads under way, memory that comes back, errors that
// say what happened, threads, and processes that end.
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from 'vitest'
import { traceFlat } from '../../src/autograd/trace.ts'
import { cpuDevice } from '../../src/cpu/index.ts'
import { type RuntimeCalls, bindRuntime } from '../../src/cpu/ffi/runtime.ts'
import type { NativeFunction } from '../../src/cpu/ffi/loader.ts'
import { Memory, sizeClass } from '../../src/cpu/memory.ts'
import type { Device, Executable, Storage } from '../../src/tensor/device.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

const device = cpuDevice() as Device
afterAll(() => device.close())

const vector = (length: number): TensorType => ({ shape: [length], dtype: 'f32' })

function compile(
  f: (inputs: readonly Tensor[]) => readonly Tensor[],
  types: readonly TensorType[],
  donate: readonly number[] = [],
  on = device,
): Executable {
  const { program } = traceFlat(f, types, 'test', { keepCalls: false })
  return on.compile(program, { optimize: 'fuse', donate, label: 'test' })
}

function counting(length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => i)
}

describe('the CPU device', () => {
  it('runs what is enqueued in order, and reads wait for it', async () => {
    const n = 300_000
    const double = compile(([x]) => [ops.add(x!, x!)], [vector(n)])
    let x = device.upload(counting(n), vector(n))
    for (let i = 0; i < 10; i++) {
      const [next] = double.run([x])
      device.release(x) // while the run that reads it may still be under way
      x = next!
    }
    const result = await device.read(x)
    expect([...result.slice(0, 4), result[n - 1]]).toEqual([0, 1024, 2048, 3072, (n - 1) * 1024])
    device.release(x)
    double.release()
  })

  it('uploads into memory that no enqueued work uses any more', async () => {
    const n = 500_000
    const sum = compile(([x]) => [ops.sum(x!)], [vector(n)])
    const totals: Storage[] = []
    for (let i = 0; i < 20; i++) {
      const x = device.upload(new Float32Array(n).fill(i), vector(n))
      totals.push(...sum.run([x]))
      device.release(x)
    }
    const values = await Promise.all(totals.map((total) => device.read(total)))
    expect(values.map(([value]) => value)).toEqual(Array.from({ length: 20 }, (_, i) => i * n))
    for (const total of totals) device.release(total)
  })

  it('hands donated storage over, and to nobody else', async () => {
    const n = 10_000
    const step = compile(([x, y]) => [ops.add(x!, y!)], [vector(n), vector(n)], [0])
    const before = device.memory().inUse
    let state = device.upload(counting(n), vector(n))
    const one = device.upload(new Float32Array(n).fill(1), vector(n))
    const held = device.memory().inUse - before
    for (let i = 0; i < 5; i++) {
      const given = state
      state = step.run([given, one])[0]!
      expect(() => step.run([given, one])).toThrow(/input 0 of test of a f32\[10000\] that was donated/)
    }
    expect(device.memory().inUse - before).toBe(held)
    expect((await device.read(state)).slice(0, 3)).toEqual(Float32Array.of(5, 6, 7))
    expect((await device.read(one)).slice(0, 3)).toEqual(Float32Array.of(1, 1, 1))
    for (const storage of [state, one]) device.release(storage)
    expect(device.memory().inUse).toBe(before)
  })

  it('keeps the elements for a read that began before the donation', async () => {
    const n = 100_000
    const step = compile(([x]) => [ops.sub(x!, x!)], [vector(n)], [0])
    const x = device.upload(counting(n), vector(n))
    const reading = device.read(x)
    const [y] = step.run([x])
    expect((await reading)[7]).toBe(7)
    expect((await device.read(y!))[7]).toBe(0)
    device.release(y!)
  })

  it('keeps the elements for a read that began before the release', async () => {
    const x = device.upload(counting(1000), vector(1000))
    const reading = device.read(x)
    device.release(x)
    const y = device.upload(new Float32Array(1000), vector(1000))
    expect((await reading)[999]).toBe(999)
    device.release(y)
  })

  it('refuses wrong inputs, released storage and other devices with internal errors', async () => {
    const f = compile(([x]) => [ops.neg(x!)], [vector(3)])
    const x = device.upload(counting(3), vector(3))
    expect(() => f.run([])).toThrow(/takes 1 inputs, got 0/)
    expect(() => f.run([device.upload(counting(4), vector(4))])).toThrow(/takes f32\[3\] as input 0, got f32\[4\]/)
    const other = cpuDevice() as Device
    expect(() => f.run([other.upload(counting(3), vector(3))])).toThrow(/by another device/)
    await other.close()
    device.release(x)
    expect(() => f.run([x])).toThrow(/was released/)
    expect(() => device.readSync(x)).toThrow(/was released/)
    f.release()
    expect(() => f.run([x])).toThrow(/after its executable was released/)
  })

  it('throws on every use after close, but for releases', async () => {
    const other = cpuDevice() as Device
    const x = other.upload(counting(3), vector(3))
    await other.close()
    expect(() => other.upload(counting(3), vector(3))).toThrow(/closed/)
    expect(() => other.readSync(x)).toThrow(/closed/)
    await expect(other.read(x)).rejects.toThrow(/closed/)
    await expect(other.synchronize()).rejects.toThrow(/closed/)
    other.release(x)
    await other.close()
  })

  it('gives memory back: nothing is in use after everything was released', async () => {
    const other = cpuDevice() as Device
    const f = compile(
      ([x]) => [ops.sum(ops.exp(x!), { axes: [0] }), ops.neg(x!)],
      [{ shape: [400, 300], dtype: 'f32' }],
      [],
      other,
    )
    for (let i = 0; i < 10; i++) {
      const x = other.upload(new Float32Array(120_000), { shape: [400, 300], dtype: 'f32' })
      for (const storage of [x, ...f.run([x])]) other.release(storage)
      await other.synchronize() // memory of what still runs is not used again, however busy the machine is
    }
    f.release()
    const { inUse, peak, cached } = other.memory()
    expect(inUse).toBe(0)
    expect(peak).toBeLessThan(2_000_000)
    expect(cached).toBeLessThan(4_000_000)
    await other.close()
  })

  it('gives the same bits whatever the number of threads', async () => {
    const shape = [64, 37, 29]
    const values = Float32Array.from({ length: 64 * 37 * 29 }, (_, i) => Math.sin(i))
    const results = await Promise.all(
      ['1', '2', '3'].map(async (threads) => {
        const other = cpuDevice({ environment: { ...process.env, PULLBACK_THREADS: threads } }) as Device
        expect(other.description).toContain(`${threads} threads`)
        const f = compile(
          ([x]) => [ops.sum(x!, { axes: [0, 1] }), ops.sum(x!), ops.softmax(x!, 2)],
          [{ shape, dtype: 'f32' }],
          [],
          other,
        )
        const outputs = f.run([other.upload(values, { shape, dtype: 'f32' })])
        const read = await Promise.all(outputs.map((output) => other.read(output)))
        await other.close()
        return read.map((array) => Buffer.from(array.buffer).toString('base64'))
      }),
    )
    expect(results[1]).toEqual(results[0])
    expect(results[2]).toEqual(results[0])
  })

  it('says what PULLBACK_THREADS may be', () => {
    expect(() => cpuDevice({ environment: { ...process.env, PULLBACK_THREADS: 'all' } })).toThrow(
      /integer from 1 to 1024, got 'all'/,
    )
  })

  it('survives thousands of short runs from many promises', async () => {
    const add = compile(([x, y]) => [ops.add(x!, y!)], [vector(40), vector(40)])
    const big = compile(([x]) => [ops.exp(x!)], [vector(200_000)])
    const [x, y, z] = [
      device.upload(counting(40), vector(40)),
      device.upload(counting(40), vector(40)),
      device.upload(new Float32Array(200_000), vector(200_000)),
    ]
    const check = async (i: number): Promise<void> => {
      if (i % 10 === 0) for (const storage of big.run([z])) device.release(storage)
      const [sum] = add.run([x, y])
      expect((await device.read(sum!))[39]).toBe(78)
      device.release(sum!)
    }
    for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 100 }, (_, i) => check(i)))
    for (const storage of [x, y, z]) device.release(storage)
  })
})

describe('processes', () => {
  const script = (body: string): string => `
    import { cpuDevice } from '${process.cwd()}/src/cpu/index.ts'
    import { traceFlat } from '${process.cwd()}/src/autograd/trace.ts'
    import * as ops from '${process.cwd()}/src/tensor/ops/index.ts'
    const device = cpuDevice()
    const type = { shape: [1000000], dtype: 'f32' }
    const { program } = traceFlat(([x]) => [ops.exp(ops.sin(x))], [type], 'test', { keepCalls: false })
    const f = device.compile(program, { optimize: 'fuse', donate: [], label: 'test' })
    const x = device.upload(new Float32Array(1000000), type)
    ${body}`
  async function runScript(
    body: string,
    environment: NodeJS.ProcessEnv = {},
  ): Promise<{ stdout: string; stderr: string; milliseconds: number }> {
    const folder = mkdtempSync(join(tmpdir(), 'pullback-exit-'))
    try {
      const path = join(folder, 'script.mts')
      writeFileSync(path, script(body))
      const start = performance.now()
      const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--import', 'tsx', path], {
        env: { ...process.env, ...environment },
        timeout: 60_000,
      })
      return { stdout, stderr, milliseconds: performance.now() - start }
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }

  it('end by themselves, though the device was not closed', async () => {
    const { stdout } = await runScript(`const [y] = f.run([x]); console.log((await device.read(y))[0])`)
    expect(stdout).toBe('1\n')
  })

  it('end at process.exit while work is queued and waited for', async () => {
    const body = `const start = performance.now()
      for (let i = 0; i < 1000; i++) for (const y of f.run([x])) device.release(y)
      void device.synchronize().catch(() => {})
      process.on('exit', () => console.log('exit', Math.round(performance.now() - start)))
      setTimeout(() => process.exit(0), 50)`
    const { stdout } = await runScript(body)
    expect(stdout).toMatch(/^exit \d+\n$/)
  })

  it('burn no processor time while idle', async () => {
    const body = `for (const y of f.run([x])) await device.read(y)
      await new Promise((resolve) => setTimeout(resolve, 100))
      const before = process.cpuUsage()
      await new Promise((resolve) => setTimeout(resolve, 1000))
      const { user, system } = process.cpuUsage(before)
      console.log(user + system)`
    const { stdout } = await runScript(body)
    expect(Number(stdout)).toBeLessThan(50_000) // microseconds of one second, by all threads
  })

  it('print where the time went with PULLBACK_PROFILE=1', async () => {
    const { stderr } = await runScript(`await device.read(f.run([x])[0])`, { PULLBACK_PROFILE: '1' })
    expect(stderr).toMatch(/profile of test: 1 runs, [\d.]+ ms a run in 1 steps\n.*GB\/s.*store exp\(sin\(\$0\)\)/)
  })
})

describe('memory', () => {
  it('is asked for again after a trim, and its absence says who has it', () => {
    const freed: bigint[] = []
    let left = 2
    const calls = {
      alloc: () => (left-- > 0 ? (BigInt(1000 + left) as never) : undefined),
      free: (block: bigint) => void freed.push(block),
    } as Pick<RuntimeCalls, 'alloc' | 'free'>
    const order = { submitted: 5, completed: 5, waitSync: () => undefined }
    const memory = new Memory(calls, order, () => 'f32[1000] (4000 bytes)')
    const block = memory.allocate(4000, 'queue')
    memory.free(memory.allocate(100, 'queue'))
    left = 0
    expect(() => memory.allocate(1e9, 'queue')).toThrow(
      expect.objectContaining({
        code: 'out-of-memory',
        message: expect.stringMatching(/expected \d+ bytes.*4096 are in use.*Largest: f32\[1000\]/) as string,
      }),
    )
    expect(freed).toHaveLength(1)
    memory.free(block)
    expect(memory.statistics().inUse).toBe(0)
  })

  it('has few classes, at most an eighth larger than asked for', () => {
    for (const bytes of [0, 1, 64, 65, 1000, 4096, 100_000, 12_345_678]) {
      const size = sizeClass(bytes)
      expect(size).toBeGreaterThanOrEqual(Math.max(64, bytes))
      expect(size).toBeLessThanOrEqual(Math.max(bytes * 1.125, bytes + 64))
      expect(size % 64).toBe(0)
    }
  })
})

describe('foreign calls', () => {
  it('refuse what is no pointer, no count and no array', () => {
    const called: string[] = []
    const stub = (name: string): NativeFunction =>
      Object.assign(() => (called.push(name), 0), { async: () => undefined })
    const calls = bindRuntime({ func: stub })
    const [bad, good] = [undefined as never, 8n as never]
    expect(() => calls.free(bad)).toThrow(/as a pointer/)
    expect(() => calls.free(0n as never)).toThrow(/as a pointer/)
    expect(() => calls.free('text' as never)).toThrow(/as a pointer/)
    expect(() => calls.alloc(Number.NaN)).toThrow(/as a count/)
    expect(() => calls.alloc(0)).toThrow(/0 as a size/)
    expect(() => calls.copyOut(new Float32Array(2), good, 9)).toThrow(/8 bytes for 9/)
    expect(() => calls.wait(good, -1)).toThrow(/as a count/)
    expect(() => calls.open(`a\0b`)).toThrow(/bad string/)
    expect(called).toEqual([])
  })
})
