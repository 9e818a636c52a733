// Laws of the tuner over a bench of nothing: which candidate is chosen, what is measured, and that nothing is kept.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CudaError } from '../../src/cuda/ffi/status.ts'
import { type TuningCache, tuningOptions } from '../../src/cuda/tune/index.ts'
import { median, timeCandidates } from '../../src/cuda/tune/timing.ts'
import { PullbackError, ValueError } from '../../src/tensor/errors.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import {
  type FakeCandidate,
  FakeMemory,
  fakeBench,
  fakeCandidate,
  fakeTask,
  tunerOver,
  unreleased,
} from './tune-fake.ts'

const names = (count: number): string[] => range(count).map((index) => `c${index}`)
const three = () => names(3).map((id) => fakeCandidate(id))

describe('choosing', () => {
  test('the smallest median wins, the earlier of equals, whatever two rounds of five say', () => {
    const times = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 2, maxLength: 8 })
    fc.assert(
      fc.property(times, fc.array(fc.nat(4), { minLength: 2, maxLength: 2 }), (base, disturbed) => {
        // The first two measurements are the first try; each later one is a round.
        const time = (id: string, measurement: number): number => {
          const usual = base[Number(id.slice(1))] ?? 0
          return measurement >= 2 && disturbed.includes(measurement - 2) ? usual * 50 : usual
        }
        const { tuner, held, memory } = tunerOver({ time })
        const task = fakeTask('p', () => names(base.length).map((id) => fakeCandidate(id)))
        const best = base.indexOf(Math.min(...base))
        expect(tuner.choose(task).id).toBe(`c${best}`)
        expect(unreleased(task)).toEqual([`c${best}`])
        expect([held.bounds, held.recordings, memory.used]).toEqual([0, 0, 0])
      }),
    )
  })

  test('rounds are interleaved, batches go round two sets of operands, and the hopeless are tried but once', () => {
    const { tuner, log } = tunerOver({ time: (id) => ({ c0: 100, c1: 350, c2: 120 })[id] ?? 0 })
    expect(tuner.choose(fakeTask('p', three)).id).toBe('c0')
    const first = names(3).flatMap((id) => [`run ${id}`, `run ${id}`, `time ${id} x2 on 2`, `time ${id} x2 on 2`])
    const round = ['time c0 x6 on 2', 'time c2 x6 on 2']
    expect(log).toEqual([...first, ...range(5).flatMap(() => round)])
  })

  test('a single candidate is taken as it is', () => {
    const { tuner, log } = tunerOver({})
    expect(tuner.choose(fakeTask('p', () => [fakeCandidate('only')])).id).toBe('only')
    expect(log).toEqual([])
    expect(tuner.counts).toMatchObject({ single: 1, timed: 0 })
  })

  test('a candidate that fails is dropped by name, and the best of the others taken', () => {
    const broken = (id: string) =>
      fakeCandidate(id, {
        run: () => {
          throw new Error('no such engine')
        },
      })
    const { tuner, notes, held, memory } = tunerOver({ time: (id) => Number(id.slice(1)) + 1 })
    const task = fakeTask('p', () => [broken('c0'), fakeCandidate('c1'), fakeCandidate('c2')])
    expect(tuner.choose(task).id).toBe('c1')
    expect(tuner.counts).toMatchObject({ timed: 1, dropped: 1 })
    expect(notes).toEqual(['[tune] dropped c0 for p: no such engine'])
    expect([held.bounds, held.recordings, memory.used]).toEqual([0, 0, 0])
  })

  test('where none is left the error says what became of each', () => {
    const broken = (id: string) =>
      fakeCandidate(id, {
        run: () => {
          throw new Error(`${id} is broken`)
        },
      })
    const { tuner, memory } = tunerOver({})
    const task = fakeTask('p', () => [broken('c0'), broken('c1')])
    expect(() => tuner.choose(task)).toThrow(
      /expected a way to compute p, got none \(c0: c0 is broken; c1: c1 is broken\)/,
    )
    expect(unreleased(task)).toEqual([])
    expect(memory.used).toBe(0)
    expect(() => tuner.choose(fakeTask('q', () => []))).toThrow('expected a way to compute q, got none.')
  })

  test('a kernel that faults ends it, because nothing runs on the GPU afterwards', () => {
    const fault = () => {
      throw new CudaError('driver', 'cuStreamSynchronize', 700, { name: 'ILLEGAL_ADDRESS', text: '' })
    }
    const { tuner } = tunerOver({})
    const task = fakeTask('p', () => [fakeCandidate('c0', { run: fault }), fakeCandidate('c1')])
    expect(() => tuner.choose(task)).toThrow(/expected c0 to run, got: .*status 700/)
    expect(unreleased(task)).toEqual([])
  })

  test('whichever call of the bench fails, nothing is kept but the winner', () => {
    fc.assert(
      fc.property(fc.nat(120), fc.boolean(), (nth, verify) => {
        let calls = 0
        const before = (): void => {
          if (calls++ === nth) throw new Error('the n-th call failed')
        }
        const { tuner, held, memory } = tunerOver({ before }, { verify })
        const task = fakeTask('p', three, { reference: () => fakeCandidate('plain', { run: () => {} }) })
        let winner: string[] = []
        try {
          winner = [tuner.choose(task).id]
        } catch (error) {
          expect(String(error)).toMatch(/the n-th call failed|got none/)
        }
        expect(unreleased(task)).toEqual(winner)
        expect([held.bounds, held.recordings, memory.used]).toEqual([0, 0, 0])
      }),
      { numRuns: runs(150) },
    )
  })
})

describe('memory', () => {
  const oneMegabyte = [{ dtype: 'f32', shape: [2 ** 18] }] as const
  const operands = { inputs: oneMegabyte, outputs: oneMegabyte }

  test('with room for one set of operands only, it is used alone', () => {
    const { tuner, log } = tunerOver({ memory: new FakeMemory(3 * 2 ** 20) })
    tuner.choose(fakeTask('p', three, operands))
    expect(log).toContain('time c0 x1 on 1')
    expect(tuner.counts.timed).toBe(1)
  })

  test('without room for one, the first candidate is taken untimed', () => {
    const { tuner, notes, memory } = tunerOver({ memory: new FakeMemory(2 ** 20) })
    const task = fakeTask('p', three, operands)
    expect(tuner.choose(task).id).toBe('c0')
    expect(tuner.counts).toMatchObject({ untimed: 1, timed: 0 })
    expect(notes[0]).toContain('no memory to time the candidates for p: the first is taken')
    expect(unreleased(task)).toEqual(['c0'])
    expect(memory.used).toBe(0)
  })

  test('candidates that want more scratch memory than there is are dropped by name', () => {
    const { tuner, notes } = tunerOver({ memory: new FakeMemory(2 ** 20), time: (id) => Number(id.slice(1)) })
    const sizes = [2 ** 21, 2 ** 16, 0]
    const task = fakeTask('p', () => sizes.map((scratchBytes, index) => fakeCandidate(`c${index}`, { scratchBytes })))
    expect(tuner.choose(task).id).toBe('c1')
    expect(notes).toEqual(['[tune] dropped c0 for p: no memory for 2097152 bytes of scratch'])
  })

  test('operands are random numbers, not zeros, and differ from each other', () => {
    const seen: Float32Array[] = []
    const elements = 5 * 65_521 + 7
    const type = { dtype: 'f32', shape: [elements] } as const
    const run: FakeCandidate['run'] = (memory, operands) => {
      if (seen.length > 0) return
      for (const address of operands.slice(0, 2))
        seen.push(new Float32Array(memory.bytes(address, elements * 4).slice().buffer))
    }
    const { bench } = fakeBench({})
    const task = fakeTask('p', () => [], { inputs: [type, type] })
    timeCandidates(bench, task, [fakeCandidate('c', { run })])
    const [a, b] = [at(seen, 0), at(seen, 1)]
    expect(a.every((value) => value >= -1 && value < 1)).toBe(true)
    expect(new Set(a).size).toBeGreaterThan(60_000)
    expect(a.slice(0, 4)).not.toEqual(b.slice(0, 4))
    expect(a.every((value, index) => value === a[index % 65_521])).toBe(true)
  })
})

describe('modes', () => {
  test('heuristics take the first of the list, ask for no second, and leave bench and cache alone', () => {
    const { tuner, log } = tunerOver(
      {
        before: () => {
          throw new Error('the bench was used')
        },
      },
      { mode: 'heuristics' },
    )
    const task = {
      ...fakeTask('p', three),
      candidates: function* () {
        yield fakeCandidate('c0')
        throw new Error('the second was asked for')
      },
    }
    expect(tuner.choose(task).id).toBe('c0')
    expect(log).toEqual([])
    expect(tuner.toString()).toBe('by heuristics: 1 untimed')
  })

  test('a list that ends in an error is used as far as it goes', () => {
    const { tuner, notes } = tunerOver({ time: (id) => Number(id.slice(1)) })
    const list = (count: number) =>
      function* () {
        for (const id of names(count)) yield fakeCandidate(id)
        throw new PullbackError('device', 'no plan')
      }
    expect(tuner.choose({ ...fakeTask('p', three), candidates: list(2) }).id).toBe('c0')
    expect(notes).toEqual(['[tune] not all candidates for p could be made: no plan'])
    expect(() => tuner.choose({ ...fakeTask('q', three), candidates: list(0) })).toThrow('no plan')
  })

  test('the environment chooses', () => {
    expect(tuningOptions({})).toMatchObject({ mode: 'time', verify: false })
    expect(tuningOptions({ PULLBACK_TUNE: 'heuristics', PULLBACK_VERIFY: '1' })).toMatchObject({
      mode: 'heuristics',
      verify: true,
    })
    expect(() => tuningOptions({ PULLBACK_TUNE: 'fast' })).toThrow(ValueError)
  })
})

describe('steps that share a choice', () => {
  test('a problem is settled once, and its candidate released with its last user', () => {
    const { tuner } = tunerOver({})
    const task = fakeTask('p', three)
    const [first, second] = [tuner.choose(task), tuner.choose(task)]
    expect([task.asked, task.made.length]).toEqual([1, 3])
    first.release?.()
    first.release?.()
    expect(unreleased(task)).toEqual(['c0'])
    second.release?.()
    expect(unreleased(task)).toEqual([])
  })

  test('once chosen, always chosen: a later step with the same problem has the same bits', () => {
    const { tuner } = tunerOver({ time: (_, measurement) => 100 - measurement })
    const task = fakeTask('p', three)
    const { id, release } = tuner.choose(task)
    release?.()
    expect(tuner.choose(task).id).toBe(id)
    expect(tuner.counts).toMatchObject({ timed: 1, required: 1 })
  })

  test('progress tells how many are settled of how many were announced', () => {
    const said: unknown[] = []
    const { tuner } = tunerOver({}, { progress: (...values) => said.push(values) })
    tuner.announce(2)
    for (const key of ['a', 'b', 'a', 'c']) tuner.choose(fakeTask(key, three))
    expect(said).toEqual([
      [1, 2, 'a'],
      [2, 2, 'b'],
      [3, 3, 'c'],
    ])
  })
})

test('a problem is open as long as nothing says how it will be settled', () => {
  const cache = { get: (key: string) => (key === 'kept' ? { id: 'c2' } : undefined), set: () => undefined }
  const { tuner } = tunerOver({}, { cache: cache as unknown as TuningCache })
  tuner.require({ wanted: 'c1' })
  tuner.choose(fakeTask('settled', three))
  expect(['fresh', 'kept', 'wanted', 'settled'].map((key) => tuner.isOpen(key))).toEqual([true, false, false, false])
  expect(['fresh', 'settled'].map((key) => tuner.isSettled(key))).toEqual([false, true])
  expect(tunerOver({}, { mode: 'heuristics' }).tuner.isOpen('fresh')).toBe(false)
  expect(['fresh', 'kept', 'wanted', 'settled'].map((key) => tuner.known(key))).toEqual([undefined, 'c2', 'c1', 'c0'])
  expect(tuner.chosen()).toEqual({ wanted: 'c1', settled: 'c0' })
})

describe('resuming', () => {
  const fastest = (fast: string) => ({ time: (id: string) => (id === fast ? 1 : 10) })

  test('what a checkpoint asks for is taken, though another is faster', () => {
    const before = tunerOver(fastest('c2')).tuner
    before.choose(fakeTask('p', three))
    const { tuner } = tunerOver(fastest('c0'))
    tuner.require(before.chosen())
    const task = fakeTask('p', three)
    expect(tuner.choose(task).id).toBe('c2')
    expect(unreleased(task)).toEqual(['c2'])
    expect(tuner.chosen()).toEqual(before.chosen())
  })

  test('what is not to be had any more is chosen anew, and said', () => {
    const { tuner, notes } = tunerOver(fastest('c1'))
    tuner.require({ p: 'gone', unused: 'x' })
    expect(tuner.choose(fakeTask('p', three)).id).toBe('c1')
    expect(tuner.chosen()).toEqual({ p: 'c1', unused: 'x' })
    expect(notes).toEqual([
      '[tune] gone is not to be had for p any more: another candidate is chosen, whose bits may differ.',
    ])
  })

  test('what was settled before stays so', () => {
    const { tuner } = tunerOver(fastest('c1'))
    tuner.choose(fakeTask('p', three))
    tuner.require({ p: 'c0' })
    expect(tuner.choose(fakeTask('p', three)).id).toBe('c1')
    expect(tuner.chosen()).toEqual({ p: 'c1' })
  })
})

test('the median is the middle', () => {
  expect([median([3]), median([3, 1]), median([5, 1, 3]), median([4, 1, 3, 2])]).toEqual([3, 2, 3, 2.5])
})
