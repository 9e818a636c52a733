// Laws of who owns memory: whatever is made, donated, kept, disposed and dropped, the live tensors own what is in use, each
// its own, and what nobody can reach is freed.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { jit } from '../../src/autograd/index.ts'
import type { Device } from '../../src/tensor/device.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { memory, scope } from '../../src/tensor/lifetime.ts'
import { tensor } from '../../src/tensor/ops/create.ts'
import { add } from '../../src/tensor/ops/pointwise.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { runs } from '../runs.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

let device: Device
const bytes = (): number => device.memory().inUse

beforeEach(() => {
  device = referenceDevice()
  setDefaultDevice(device)
})

/** Collects until so many bytes are in use, or for long enough. */
async function collectedTo(expected: number): Promise<number> {
  for (let tries = 0; tries < 50 && bytes() !== expected; tries++) {
    collect()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return bytes()
}

/** One more in each element; the first argument is donated, and comes back with `extra` copies of its first leaf. */
const steps = [0, 1, 3].map((extra) =>
  jit(
    (given: readonly Tensor[]) => [
      ...given.map((x) => add(x, 1)),
      ...given.slice(0, 1).flatMap((x) => Array.from({ length: extra }, () => add(x, 1))),
    ],
    {
      donate: [0],
    },
  ),
)
/** One more in each element of the first half of what is donated; the rest is gone. */
const shrink = jit((given: readonly Tensor[]) => given.slice(0, given.length >> 1).map((x) => add(x, 1)), {
  donate: [0],
})

interface Held {
  readonly tensor: Tensor
  readonly value: number
}

type Action = (held: readonly Held[]) => readonly Held[]

const one = (value: number): Held => ({ tensor: tensor([value, value]), value })

/** Calls with the tensors from `start` on, at most `count` of them. */
function calling(f: (given: readonly Tensor[]) => readonly Tensor[], start: number, count: number): Action {
  return (held) => {
    const from = held.length === 0 ? 0 : start % held.length
    const given = held.slice(from, from + count)
    const results = f(given.map((entry) => entry.tensor))
    const made = results.map((result, index) => ({
      tensor: result,
      value: (given[index] ?? given[0] ?? { value: 0 }).value + 1,
    }))
    return [...held.slice(0, from), ...made, ...held.slice(from + count)]
  }
}

const place = fc.nat({ max: 7 })
const action: fc.Arbitrary<Action> = fc.oneof(
  fc.integer({ min: -9, max: 9 }).map(
    (value): Action =>
      (held) => [...held, one(value)],
  ),
  fc
    .tuple(fc.constantFrom(...steps, shrink), place, fc.nat({ max: 4 }))
    .map(([f, start, count]) => calling(f, start, count)),
  place.map(
    (index): Action =>
      (held) => {
        held[index]?.tensor.dispose()
        return held.filter((_, other) => other !== index)
      },
  ),
)

const mine = (): number => memory.report().filter(({ type }) => type === 'f32[2]').length

describe('after any calls and disposals', () => {
  test('the tensors that are left own all that is in use, and have their values', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 12 }), async (actions) => {
        const others = mine()
        const held = actions.reduce<readonly Held[]>((before, next) => next(before), [])
        expect([bytes(), mine() - others]).toEqual([8 * held.length, held.length])
        for (const { tensor: left, value } of held) expect([...(await left.data())]).toEqual([value, value])
        for (const { tensor: left } of held) left.dispose()
        expect([bytes(), mine() - others]).toEqual([0, 0])
      }),
    )
  })

  test('a scope frees what was made in it, and nothing that was made before and is still there', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { maxLength: 6 }),
        fc.array(action, { maxLength: 6 }),
        async (before, inside) => {
          const outer = before.reduce<readonly Held[]>((held, next) => next(held), [])
          const inner: { held: readonly Held[] } = { held: outer }
          await scope(() => {
            inner.held = inside.reduce((held, next) => next(held), outer)
          })
          const left = inner.held.filter((entry) => outer.includes(entry))
          expect(bytes()).toBe(8 * left.length)
          for (const { tensor: kept, value } of left) expect([...(await kept.data())]).toEqual([value, value])
          for (const { tensor: kept } of left) kept.dispose()
          expect(bytes()).toBe(0)
        },
      ),
    )
  })

  test('the collector frees what cannot be reached any more, and only that', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { maxLength: 10 }),
        fc.array(fc.boolean(), { maxLength: 10 }),
        async (actions, keeps) => {
          const kept = keptOf(actions, keeps)
          expect(await collectedTo(8 * kept.length)).toBe(8 * kept.length)
          for (const { tensor: left, value } of kept) expect([...(await left.data())]).toEqual([value, value])
          for (const { tensor: left } of kept) left.dispose()
          expect(bytes()).toBe(0)
        },
      ),
      { numRuns: runs(8) },
    )
  })
})

/** The tensors that are kept of those left after the actions; in a frame of its own, so that nothing refers to the others. */
function keptOf(actions: readonly Action[], keeps: readonly boolean[]): readonly Held[] {
  const held = actions.reduce<readonly Held[]>((before, next) => next(before), [])
  return held.filter((_, index) => keeps[index] === true)
}

describe('a state that goes from step to step', () => {
  const state = (): Tensor[] => [tensor([1, 2]), tensor([3, 4, 5]), tensor([6])]
  const [step = shrink] = steps

  test('keeps its memory when the tensors of earlier steps are collected', async () => {
    let held: readonly Tensor[] = state()
    for (let count = 0; count < 20; count++) held = step(held)
    for (let turn = 0; turn < 3; turn++) {
      collect()
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    expect(bytes()).toBe(24)
    expect(await Promise.all(held.map(async (x) => [...(await x.data())]))).toEqual([[21, 22], [23, 24, 25], [26]])
  })

  test('is freed but for the one leaf that is kept', async () => {
    const afterwards = (): Tensor | undefined => step(step(state()))[1]
    const kept = afterwards()
    expect(await collectedTo(12)).toBe(12)
    expect([...((await kept?.data()) ?? [])]).toEqual([5, 6, 7])
  })

  test('was made where the last step was', () => {
    const before = memory.report().length
    memory.recordOrigins(true)
    const first = state()
    const made = new Set(memory.report().map((entry) => entry.made))
    const second = step(first)
    memory.recordOrigins(false)
    const origins = memory.report().flatMap((entry) => entry.made ?? [])
    expect(origins).toHaveLength(3)
    expect(origins.filter((origin) => made.has(origin))).toEqual([])
    const third = step(second)
    expect(memory.report().flatMap((entry) => entry.made ?? [])).toEqual([])
    for (const x of third) x.dispose()
    expect(memory.report()).toHaveLength(before)
  })

  test('cannot be used any more where it was, and says where it was donated', () => {
    const first = state()
    step(first)
    const again = (): unknown => first.map((x) => add(x, 1))
    expect(again).toThrow(expect.objectContaining({ code: 'donated' }))
    expect(again).toThrow(/^\[add\] this f32\[2\] was donated at .*lifetime\.test\.ts:\d+/)
  })
})
