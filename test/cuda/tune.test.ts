// Laws of the tuner over a bench of nothing: which candidate is chosen, what is measured, and that nothing is kept.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CudaError } from '../../src/cuda/ffi/status.ts'
import { Tuner, type TunerOptions, type TuningCache, tuningOptions } from '../../src/cuda/tune/index.ts'
import { median, timeCandidates } from '../../src/cuda/tune/timing.ts'
import { PullbackError, ValueError } from '../../src/tensor/errors.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import {
  type FakeBenchOptions,
  type FakeCandidate,
  FakeMemory,
  fakeBench,
  fakeCandidate,
  fakeTask,
  unreleased,
} from './tune-fake.ts'

function tunerOver(given: FakeBenchOptions, options: Partial<TunerOptions> = {}) {
  const fake = fakeBench(given)
  const notes: string[] = []
  const tuner = new Tuner({
    bench: fake.bench,
    mode: 'time',
    verify: false,
    note: (said) => notes.push(said),
    ...options,
  })
  return { ...fake, tuner, notes }
}

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

describe('a budget', () => {
  /** Tasks whose candidates take time to make, to time and to accept, on a clock that nothing else moves. */
  interface Costs {
    readonly make: readonly number[]
    readonly measure: number
    readonly accept: number
  }
  const costs: fc.Arbitrary<Costs> = fc.record({
    make: fc.array(fc.nat(5000), { minLength: 1, maxLength: 5 }),
    measure: fc.nat(300),
    accept: fc.nat(1000),
  })
  const slow = (all: readonly Costs[], budget: number) => {
    const clock = { now: 1000 }
    const current = { measure: 0 }
    const kept: string[] = []
    const cache = { get: () => undefined, set: (key: string) => kept.push(key) } as unknown as TuningCache
    const before = (call: string): void => void (clock.now += call === 'time' ? current.measure : 0)
    const made = tunerOver({ before }, { budget, now: () => clock.now, cache })
    const tasks = all.map(({ make, measure, accept }, index) => {
      const task = fakeTask(`p${index}`, () => [])
      const list = function* (hurried = false) {
        current.measure = measure
        for (const [which, cost] of (hurried ? [0] : make).entries()) {
          clock.now += cost
          const candidate = fakeCandidate(hurried ? 'quick' : `c${which}`)
          task.made.push(candidate)
          yield candidate
        }
      }
      const acceptance = (): undefined => void (clock.now += accept)
      return {
        ...task,
        candidates: list,
        acceptance: (_: unknown, { id }: { readonly id: string }) => (id === 'quick' ? undefined : acceptance()),
      }
    })
    return { ...made, clock, tasks, kept }
  }

  test('is kept but for what was under way: one candidate made, tried or accepted', () => {
    fc.assert(
      fc.property(
        fc.array(costs, { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 20_000 }),
        (all, budget) => {
          const { tuner, tasks, clock, kept, notes, held, memory } = slow(all, budget)
          const ids = tasks.map((task) => tuner.choose(task).id)
          const longest = Math.max(...all.map(({ make, measure, accept }) => Math.max(...make, 2 * measure, accept)))
          expect(clock.now - 1000).toBeLessThanOrEqual(budget + longest)
          for (const [index, task] of tasks.entries()) expect(unreleased(task)).toEqual([ids[index]])
          expect(kept).toEqual(tasks.flatMap(({ key }, index) => (ids[index] === 'quick' ? [] : [key])))
          const hurried = ids.filter((id) => id === 'quick').length
          expect(tuner.counts.untimed).toBe(hurried)
          expect(notes).toHaveLength(Math.min(1, hurried))
          expect([held.bounds, held.recordings, memory.used]).toEqual([0, 0, 0])
        },
      ),
    )
  })

  test('counts what a problem asks for while it is settled once', () => {
    const inner = { make: [10, 10], measure: 0, accept: 0 }
    const { tuner, tasks, clock } = slow([inner, inner], 35)
    const outer = tasks[0]
    if (outer === undefined || tasks[1] === undefined) throw new Error('no tasks')
    const nested = tasks[1]
    const asking = {
      ...outer,
      candidates: function* (hurried?: boolean) {
        tuner.choose(nested)
        yield* outer.candidates(hurried)
      },
    }
    expect(tuner.choose(asking).id).toBe('quick') // 20 within, 20 itself: time is over with the last of them
    expect(clock.now).toBe(1040)
    expect(tuner.counts).toMatchObject({ timed: 1, untimed: 1 })
  })

  test('that is used up says so once, and what is left is not kept', () => {
    const one = { make: [2000, 2000], measure: 1, accept: 1 }
    const { tuner, tasks, kept, notes } = slow([one, one, one, one], 9000)
    expect(tasks.map((task) => tuner.choose(task).id)).toEqual(['c0', 'c0', 'quick', 'quick'])
    expect(kept).toEqual(['p0', 'p1'])
    expect(notes).toHaveLength(1)
    expect(notes[0]).toMatch(/tuning took 10 s, and PULLBACK_TUNE_SECONDS allows no more/)
  })

  test('is spent by what is compiled for candidates too', () => {
    const { tuner, tasks, clock } = slow([{ make: [0], measure: 0, accept: 0 }], 100)
    tuner.spend(() => (clock.now += 100))
    expect(tasks.map((task) => tuner.choose(task).id)).toEqual(['quick'])
    expect(tuner.isOpen('other')).toBe(false)
  })

  test('of no time at all is one of heuristics', () => {
    const { tuner } = tunerOver({}, { budget: 0 })
    expect(tuner.choose(fakeTask('a', three)).id).toBe('c0')
    expect(tuner.counts).toMatchObject({ timed: 0, untimed: 1 })
  })

  test('is read from the environment', () => {
    const budget = (text?: string) => tuningOptions(text === undefined ? {} : { PULLBACK_TUNE_SECONDS: text }).budget
    expect([budget(), budget('90'), budget('0')]).toEqual([40_000, 90_000, 0])
    for (const wrong of ['soon', '-1']) expect(() => budget(wrong)).toThrow(/expected PULLBACK_TUNE_SECONDS/)
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
