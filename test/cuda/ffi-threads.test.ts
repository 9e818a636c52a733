// A native function called on several threads: everything is called once, whoever does it, and each result is where its
// values were.
import koffi from 'koffi'
import { availableParallelism } from 'node:os'
import { describe, expect, it } from 'vitest'
import { callOnThreads } from '../../src/cuda/ffi/threads.ts'
import { range } from '../../src/tensor/shape.ts'

const file = 'libc.so.6'
const absolute = { file, name: 'abs', parameters: ['int'] } as const
const call = koffi.load(file).func('abs', 'int', ['int']) as (...values: readonly unknown[]) => unknown
const pause = new Int32Array(new SharedArrayBuffer(4))

describe('calls on threads', () => {
  it.each([0, 1, 2, 500])('%d calls: each result in its place, and the count goes up to them all', (count) => {
    const heard: number[] = []
    const given = callOnThreads(
      { ...absolute, call },
      range(count).map((index) => [-index]),
      (done) => heard.push(done),
    )
    expect(given).toEqual(range(count))
    expect(heard.at(-1) ?? 0).toBe(count)
    expect(heard).toEqual([...heard].sort((a, b) => a - b))
  })

  it('are made by other threads too, while the calling one is busy', (context) => {
    if (availableParallelism() < 2) {
      process.stderr.write('skipped: threads beside a busy one, because there is one core\n')
      context.skip()
    }
    const slowly = (): number => {
      Atomics.wait(pause, 0, 0, 20)
      return -1
    }
    const given = callOnThreads({ ...absolute, call: slowly }, Array<[number]>(200).fill([-7]), () => undefined)
    expect(new Set(given)).toEqual(new Set([-1, 7]))
  })

  it('are made by the calling one alone where no thread can work', () => {
    const calls = range(20).map((index) => [-index])
    expect(callOnThreads({ ...absolute, call, file: '/no/such/library.so' }, calls, () => undefined)).toEqual(range(20))
  })
})
