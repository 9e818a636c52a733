// Laws of the time that tuning may take, on a clock that only what is tried moves: it is kept but for what was under way when it
// was over, and what is left takes ways that cost nothing to make.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type TuningCache, tuningOptions } from '../../src/cuda/tune/index.ts'
import { fakeCandidate, fakeTask, tunerOver, unreleased } from './tune-fake.ts'

const three = () => ['c0', 'c1', 'c2'].map((id) => fakeCandidate(id))

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
