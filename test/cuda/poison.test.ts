// When temporaries of their own are filled with NaN: all before a run, and each again behind the last work that knows it.
import { expect, test } from 'vitest'
import type { Stream } from '../../src/cuda/ffi/driver-queues.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import type { BoundCall, BoundKernel, Place } from '../../src/cuda/lower.ts'
import { Poison } from '../../src/cuda/poison.ts'

const place = (slot: number): Place => ({ slot, offset: 0 })
const common = { step: 0, label: 'a work' }
const kernel = (...slots: number[]): BoundKernel => ({
  ...{
    ...common,
    kind: 'kernel',
    source: { name: 'k', text: '' },
    blocks: 1,
    threads: 32,
    sharedBytes: 0,
    numbers: [],
  },
  places: slots.map(place),
})
const call = (scratch: number | undefined, ...slots: number[]): BoundCall => ({
  ...{ ...common, kind: 'call', enqueue: () => undefined },
  operands: slots.map(place),
  scratch: scratch === undefined ? undefined : place(scratch),
})

test('each piece of memory before the run, and behind the last kernel, operand or scratch that is in it', () => {
  const filled: string[] = []
  const driver = {
    fill8: (address: DevicePointer, value: number, bytes: number) => void filled.push(`${address} ${value} ${bytes}`),
  }
  // Slots 0 and 1 are an input and an output; 2 to 5 are ours, of which 4 is empty and 5 is known to nobody; 6 are counters.
  const works = [kernel(0, 2), call(3, 2, 2), kernel(2, 4, 6), kernel(1)]
  const poison = new Poison(driver, works, 2, [16, 32, 0, 64])
  const memory = [1000n, 2000n, 3000n, 4000n, 5000n] as unknown as readonly DevicePointer[]
  const stream = 7n as unknown as Stream
  const behind = (work: number): readonly string[] => {
    filled.length = 0
    poison.behind(work, stream, memory)
    return [...filled]
  }
  poison.before(stream, memory)
  expect(filled).toEqual(['1000 255 16', '2000 255 32', '4000 255 64'])
  expect([0, 1, 2, 3].map(behind)).toEqual([[], ['2000 255 32'], ['1000 255 16'], []])
})
