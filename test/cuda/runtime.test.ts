// The parts under the CUDA device: memory that is handed out and joined again, the order of work, waiting without blocking.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Allocator, type Block, type OutOfMemoryError } from '../../src/cuda/runtime/index.ts'
import { Cleanup, allOrNothing } from '../../src/cuda/runtime/cleanup.ts'
import { Queue } from '../../src/cuda/runtime/queue.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import { CudaError } from '../../src/cuda/ffi/status.ts'
import { InternalError } from '../../src/tensor/errors.ts'
import { range } from '../../src/tensor/shape.ts'
import { FakeGpu } from './fake-gpu.ts'

const mebi = 2 ** 20

/** Memory of so many bytes in which nothing runs; `done` is the last ticket that is. */
function memoryOf(total: number, options: { readonly separate?: boolean } = {}) {
  const held = new Map<bigint, number>()
  let next = 2n ** 30n
  const state = { submitted: 0, completed: 0, waits: [] as number[] }
  const used = (): number => [...held.values()].reduce((sum, bytes) => sum + bytes, 0)
  const driver = {
    allocate: (bytes: number) => {
      if (used() + bytes > total) throw new CudaError('driver', 'cuMemAlloc_v2', 2, { name: 'OUT_OF_MEMORY', text: '' })
      const address = next
      next += BigInt(Math.ceil(bytes / mebi) * mebi)
      held.set(address, bytes)
      return address as DevicePointer
    },
    free: (address: DevicePointer) => {
      if (!held.delete(address)) throw new Error('freed twice')
    },
    memoryInfo: () => ({ free: total - used(), total }),
  }
  const order = {
    get submitted() {
      return state.submitted
    },
    get completed() {
      return state.completed
    },
    waitSync: (ticket: number) => void (state.completed = Math.max(state.completed, ticket)),
    copyWaits: (ticket: number) => void state.waits.push(ticket),
  }
  return { memory: new Allocator(driver, order, () => 'f32[7] (28 bytes)', options), held, state, used }
}

describe('the allocator', () => {
  const size = fc.oneof(fc.nat(3000), fc.nat(3 * mebi), fc.nat(40 * mebi))
  const action = fc.record({ size, copy: fc.boolean(), free: fc.boolean(), which: fc.nat(), progress: fc.nat(3) })

  it('hands out no byte twice, lets copies touch nothing in use, and joins everything again', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const { memory, held, state, used } = memoryOf(2 ** 40)
        const live: Block[] = []
        const freed: { start: bigint; end: bigint; ticket: number }[] = []
        for (const { size: bytes, copy, free, which, progress } of actions) {
          state.submitted += 1
          state.completed = Math.max(state.completed, state.submitted - progress)
          const victim = free ? live.splice(which % Math.max(1, live.length), 1)[0] : undefined
          if (victim !== undefined) {
            freed.push({ ...rangeOf(victim), ticket: state.submitted })
            victim.release()
            continue
          }
          const waited = state.waits.length
          const block = memory.allocate(bytes, copy ? 'copy' : 'compute')
          const { start, end } = rangeOf(block)
          expect(block.bytes).toBeGreaterThanOrEqual(bytes)
          expect(start % 512n).toBe(0n)
          expect([...held].some(([base, length]) => base <= start && end <= base + BigInt(length))).toBe(true)
          for (const other of live.map(rangeOf)) expect(end <= other.start || other.end <= start).toBe(true)
          const users = freed.filter((other) => start < other.end && other.start < end).map(({ ticket }) => ticket)
          const allowed = Math.max(state.completed, ...state.waits.slice(waited))
          if (copy) expect(Math.max(0, ...users)).toBeLessThanOrEqual(allowed)
          live.push(block)
        }
        const inUse = live.reduce((sum, { bytes }) => sum + bytes, 0)
        expect(memory.statistics().inUse).toBe(inUse)
        expect(memory.statistics().cached).toBe(used() - inUse)
        for (const block of live) block.release()
        state.completed = state.submitted
        memory.trim()
        expect([memory.statistics().inUse, memory.statistics().cached, held.size]).toEqual([0, 0, 0])
      }),
    )
  })

  it('gives freed memory to work at once, to copies when its users are done', () => {
    const { memory, state } = memoryOf(2 ** 30)
    const first = memory.allocate(30 * mebi)
    const { address } = first
    state.submitted = 5
    first.release()
    const copied = memory.allocate(30 * mebi, 'copy')
    expect(copied.address).not.toBe(address)
    const computed = memory.allocate(30 * mebi)
    expect(computed.address).toBe(address)
    computed.release()
    state.completed = 5
    expect(memory.allocate(30 * mebi, 'copy').address).toBe(address)
  })

  it('keeps copies from taking all memory while the GPU is behind: then they wait for the work', () => {
    const { memory, state, used } = memoryOf(2 ** 36)
    for (const ticket of range(60)) {
      state.submitted = ticket + 1
      memory.allocate(64 * mebi, 'copy').release()
    }
    expect(used()).toBeLessThanOrEqual(2 ** 29 + 64 * mebi)
    expect(state.waits.length).toBeGreaterThan(40)
  })

  it('waits, returns what it keeps and asks again before it gives up', () => {
    const { memory, state } = memoryOf(100 * mebi)
    const parts = range(3).map(() => memory.allocate(30 * mebi))
    state.submitted = 9
    parts[0]?.release()
    parts[1]?.release()
    const large = memory.allocate(60 * mebi)
    expect(state.completed).toBe(9)
    large.release()
    let error: OutOfMemoryError | undefined
    try {
      memory.allocate(90 * mebi)
    } catch (caught) {
      error = caught as OutOfMemoryError
    }
    expect(error).toMatchObject({ code: 'out-of-memory', asked: 90 * mebi, available: 70 * mebi })
    expect(error?.message).toMatch(/expected 94371840 bytes.*73400320 of 104857600 are free, 31457280 in use here/)
    expect(error?.message).toMatch(/0 cached in smaller pieces\. Largest: f32\[7\] \(28 bytes\)\./)
  })

  it('says when others hold the memory', () => {
    const { memory, held } = memoryOf(100 * mebi)
    held.set(1n, 95 * mebi)
    expect(() => memory.allocate(10 * mebi)).toThrow(/99614720 bytes are held by others: see nvidia-smi/)
  })

  it('counts holders: memory is free when the last one lets go', () => {
    const { memory } = memoryOf(2 ** 30)
    const block = memory.allocate(1000)
    block.retain()
    block.release()
    expect([block.holders, memory.statistics().inUse]).toEqual([1, block.bytes])
    block.release()
    expect(memory.statistics().inUse).toBe(0)
  })

  it('allocates each block by itself, no larger than asked for, where that is asked for', () => {
    const { memory, held } = memoryOf(2 ** 30, { separate: true })
    const blocks = [1, 12, 513].map((bytes) => memory.allocate(bytes))
    expect([...held.values()]).toEqual([1, 12, 513])
    for (const block of blocks) block.release()
    expect(held.size).toBe(0)
  })
})

function rangeOf({ address, bytes }: Block): { start: bigint; end: bigint } {
  return { start: address, end: address + BigInt(bytes) }
}

describe('the queue', () => {
  function opened() {
    const gpu = new FakeGpu()
    gpu.pace = 1
    const cleanup = new Cleanup()
    const queue = new Queue(gpu.driver(), cleanup)
    const done: number[] = []
    const submit = (value: number): number =>
      queue.submit(`work ${value}`, (stream) => void gpu.enqueue(stream, () => void done.push(value)))
    return { gpu, cleanup, queue, done, submit }
  }

  it('does work in order; waiting for one ticket does not wait for later ones, nor blocks', async () => {
    const { gpu, cleanup, queue, done, submit } = opened()
    gpu.pace = 0
    const tickets = range(20).map(submit)
    gpu.pace = 1
    expect(tickets).toEqual(range(20).map((k) => k + 1))
    let turns = 0
    setImmediate(() => (turns += 1))
    await Promise.all([queue.wait(15), queue.wait(3)])
    expect(done.slice(0, 15)).toEqual(range(15))
    expect(done.length).toBeLessThan(20)
    queue.waitSync(20)
    expect(turns).toBe(1)
    expect([queue.completed, done.length]).toEqual([20, 20])
    queue.close(new InternalError('closed'))
    cleanup.release()
    expect(gpu.held()).toEqual({})
  })

  it('uses few events however much is submitted', () => {
    const { gpu, queue, submit } = opened()
    gpu.pace = 4
    for (const k of range(500)) submit(k)
    queue.waitSync(500)
    expect(gpu.held()['event']).toBeLessThan(20)
  })

  it('does what is left for afterwards only when the work before is done', async () => {
    const { queue, done, submit } = opened()
    const order: string[] = []
    submit(1)
    queue.afterwards(() => order.push(`after ${done[0]}`))
    expect(order).toEqual([])
    await queue.wait(1)
    expect(order).toEqual(['after 1'])
  })

  it('rejects everybody with one sentence when work fails, and refuses more', async () => {
    const { gpu, queue, submit } = opened()
    submit(1)
    const crash = (): never => {
      throw new Error('crash')
    }
    queue.submit('the bad one', (stream) => void gpu.enqueue(stream, crash))
    const results = await Promise.allSettled([queue.wait(2), queue.wait(2), queue.until(() => false)])
    const reasons = results.map((result) => (result.status === 'rejected' ? String(result.reason) : 'fine'))
    expect(new Set(reasons).size).toBe(1)
    expect(reasons[0]).toMatch(/the GPU failed during 'the bad one' and cannot be used any more: .*status 700/)
    expect(() => submit(4)).toThrow(/'the bad one'/)
    expect(() => queue.waitSync(2)).toThrow(/'the bad one'/)
  })

  it('keeps the order where the driver takes no event: it waits at once', () => {
    const { gpu, queue, done, submit } = opened()
    submit(1)
    gpu.failIn('recordEvent', 1)
    expect(() => submit(2)).toThrow(/recordEvent .* failed with status 1/)
    expect(done).toEqual([1, 2])
    expect(queue.completed).toBe(2)
    submit(3)
    queue.waitSync(3)
    expect(done).toEqual([1, 2, 3])
  })

  it('burns no core while it waits', async () => {
    const { gpu, queue, submit } = opened()
    gpu.pace = 0 // nothing ever gets done by asking
    submit(1)
    const waiting = queue.wait(1).catch(() => undefined)
    await new Promise((resolve) => setTimeout(resolve, 50))
    const before = gpu.calls
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(gpu.calls - before).toBeLessThan(200)
    queue.close(new InternalError('closed'))
    await waiting
  })
})

describe('a cleanup', () => {
  it('gives back last first, once, and goes on after a failure', () => {
    const log: string[] = []
    const cleanup = new Cleanup()
    cleanup.own('a', (name) => log.push(name))
    cleanup.own('b', (name) => {
      log.push(name)
      throw new Error('b failed')
    })
    cleanup.own('c', (name) => log.push(name))
    expect(() => cleanup.release()).toThrow('b failed')
    cleanup.release()
    expect(log).toEqual(['c', 'b', 'a'])
  })

  it('undoes what was made when the next thing cannot be', () => {
    const log: string[] = []
    const make = (noted: Cleanup): void => {
      noted.own('first', (name) => log.push(name))
      throw new Error('second failed')
    }
    expect(() => allOrNothing(make)).toThrow('second failed')
    expect(log).toEqual(['first'])
  })
})
