// The CUDA device's bookkeeping on a made-up GPU: which memory a run reads and writes, when graphs are recorded and when they
// no longer fit, what donation, reads and releases under way may do to each other, and what is left after a failure.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as ops from '../../src/tensor/ops/index.ts'
import type { Storage } from '../../src/tensor/device.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { compile, filled, first, n, step, stepped, upload, vector } from './device-harness.ts'
import { fakeDevice } from './fake-device.ts'

describe('runs', () => {
  it('are launched once, recorded once, and replayed from then on', async () => {
    const { gpu, device } = fakeDevice()
    const train = compile(device, step, [vector, vector], { donate: [0] })
    let state = upload(device, 4)
    let expected = { state: 4, loss: 0 }
    for (const k of range(6)) {
      const batch = upload(device, k)
      const [next, loss] = train.run([state, batch])
      device.release(batch)
      expected = stepped(expected.state, k)
      expect(await first(device, loss!)).toBe(expected.loss)
      device.release(loss!)
      state = next!
    }
    expect(await device.read(state)).toEqual(filled(expected.state))
    expect(gpu.log.filter((entry) => entry === 'replay')).toHaveLength(5)
    expect(train.toString()).toMatch(/6 runs, recorded 1 times/)
    device.release(state)
    train.release()
    await device.synchronize()
    expect(device.memory().inUse).toBe(0)
    await device.close()
    expect(gpu.held()).toEqual({})
  })

  it('of few launches are never recorded', async () => {
    const { gpu, device } = fakeDevice()
    const f = compile(device, ([x]) => [ops.add(x!, 1)], [vector])
    for (const k of range(5)) expect(await first(device, f.run([upload(device, k)])[0]!)).toBe(k + 1)
    expect(gpu.log).toEqual([])
    await device.close()
  })

  it('give the same with graphs turned off', async () => {
    const { gpu, device } = fakeDevice({ graphs: false })
    const train = compile(device, step, [vector, vector], { donate: [0] })
    const batch = upload(device, 2)
    let [state] = train.run([upload(device, 4), batch])
    ;[state] = train.run([state!, batch])
    expect(gpu.log).toEqual([])
    expect(await first(device, state!)).toBe(stepped(stepped(4, 2).state, 2).state)
    await device.close()
  })

  it('leave every result alone that an earlier run gave', async () => {
    const { device } = fakeDevice()
    const train = compile(device, step, [vector, vector])
    const state = upload(device, 4)
    const results = range(5).map((k) => train.run([state, upload(device, k)]))
    for (const [k, [next, loss]] of results.entries()) {
      const expected = stepped(4, k)
      expect(await device.read(next!)).toEqual(filled(expected.state))
      expect(await first(device, loss!)).toBe(expected.loss)
    }
    await device.close()
  })

  it('are recorded again where the memory of temporaries has moved, and leave the old one alone', async () => {
    const { device } = fakeDevice()
    const train = compile(device, step, [vector, vector])
    const wide: TensorType = { shape: [2 ** 11], dtype: 'f32' }
    const wider = compile(device, ([x]) => [ops.add(ops.mul(x!, 2), 1)], [wide])
    const [state, batch] = [upload(device, 4), upload(device, 7)]
    for (const _ of range(2)) for (const storage of train.run([state, batch])) device.release(storage)
    for (const storage of wider.run([device.upload(new Float32Array(2 ** 11), wide)])) device.release(storage)
    const others = range(20).map((k) => upload(device, k)) // some of them where temporaries were
    expect(await first(device, train.run([state, batch])[0]!)).toBe(stepped(4, 7).state)
    for (const [k, other] of others.entries()) expect(await first(device, other)).toBe(k)
    expect(train.toString()).toMatch(/3 runs, recorded 2 times/)
    await device.close()
  })
})

describe('inputs of a recorded run', () => {
  it('are copied into place where nobody else holds it, and counted', async () => {
    const { device } = fakeDevice()
    const train = compile(device, step, [vector, vector])
    const state = upload(device, 1)
    for (const k of range(4)) {
      const [batch, other] = [upload(device, k), upload(device, 9)] // two at a time, so that each is elsewhere
      const results = train.run([state, k % 2 === 0 ? batch : other])
      expect(await first(device, results[0]!)).toBe(stepped(1, k % 2 === 0 ? k : 9).state)
      for (const storage of [batch, other, ...results]) device.release(storage)
    }
    expect(train.toString()).toMatch(/recorded 1 times, [1-9] inputs copied/)
    await device.close()
  })

  it('that are elsewhere in each run get a place of our own at the first recording', async () => {
    const { device } = fakeDevice()
    const train = compile(device, step, [vector, vector])
    const state = upload(device, 1)
    const batches = range(6).map((k) => upload(device, k))
    for (const round of range(3))
      for (const [k, batch] of batches.entries())
        expect([round, await first(device, train.run([state, batch])[0]!)]).toEqual([round, stepped(1, k).state])
    for (const [k, batch] of batches.entries()) expect(await first(device, batch)).toBe(k)
    expect(train.toString()).toMatch(/18 runs, recorded 1 times, 17 inputs copied/)
    await device.close()
  })

  it('that were always the same get one where they no longer are, and the caller keeps the old one', async () => {
    const { device } = fakeDevice()
    const train = compile(device, step, [vector, vector])
    const [one, two, batch] = [upload(device, 1), upload(device, 2), upload(device, 9)]
    for (const [turn, state] of [one, one, one, two, one, two, two].entries()) {
      const expected = stepped(state === one ? 1 : 2, 9).state
      expect([turn, await first(device, train.run([state, batch])[0]!)]).toEqual([turn, expected])
    }
    expect([await first(device, one), await first(device, two)]).toEqual([1, 2])
    expect(train.toString()).toMatch(/7 runs, recorded 2 times, 4 inputs copied/)
    await device.close()
  })

  it('may be the same twice, and differ the next time', async () => {
    const { device } = fakeDevice()
    const train = compile(device, step, [vector, vector])
    const [x, y] = [upload(device, 2), upload(device, 6)]
    const pairs = [
      [x, x],
      [x, x],
      [x, y],
      [y, x],
      [y, y],
    ] as const
    const values = [stepped(2, 2), stepped(2, 2), stepped(2, 6), stepped(6, 2), stepped(6, 6)]
    for (const [i, pair] of pairs.entries()) expect(await first(device, train.run(pair)[0]!)).toBe(values[i]?.state)
    await device.close()
  })

  it('may change places: each is read before it is written', async () => {
    const { device } = fakeDevice()
    const both = compile(device, ([x, y]) => [...step([x!, y!]), ...step([y!, x!])], [vector, vector], {
      donate: [0, 1],
    })
    let [x, y] = [upload(device, 2), upload(device, 6)] as [Storage, Storage]
    let expected = [2, 6] as [number, number]
    for (const swap of [false, false, true, false, true, true, false]) {
      if (swap) [x, y, expected] = [y, x, [expected[1], expected[0]]]
      const results = both.run([x, y])
      ;[x, y] = [results[0]!, results[2]!]
      expected = [stepped(expected[0], expected[1]).state, stepped(expected[1], expected[0]).state]
      expect([await first(device, x), await first(device, y)]).toEqual(expected)
    }
    await device.close()
  })

  it('that are donated and always elsewhere stop being recorded again', async () => {
    const { device } = fakeDevice()
    const train = compile(device, step, [vector, vector], { donate: [0] })
    const batch = upload(device, 1)
    const states = range(3).map((k) => upload(device, 8 * k))
    const expected = range(3).map((k) => 8 * k)
    for (const turn of range(24)) {
      const k = turn % 3
      states[k] = train.run([at(states, k), batch])[0]!
      expected[k] = stepped(at(expected, k), 1).state
    }
    for (const [k, state] of states.entries()) expect(await first(device, state)).toBe(expected[k])
    expect(train.toString()).toMatch(/24 runs, recorded 2 times/)
    await device.close()
  })
})

describe('any order of calls', () => {
  const action = fc.record({
    kind: fc.constantFrom('step', 'step', 'step', 'upload', 'read', 'bigger'),
    a: fc.nat(5),
    b: fc.nat(5),
    keep: fc.boolean(),
  })
  const given = [fc.array(action, { maxLength: 30 }), fc.boolean(), fc.boolean()] as const

  it('gives what each call by itself would give', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(...given, async (actions, separate, donates) => {
        const { gpu, device } = fakeDevice({ separate })
        const train = compile(device, step, [vector, vector], { donate: donates ? [0] : [] })
        const bigger = compile(device, ([x]) => step([x!, x!]).slice(1), [{ shape: [4 * n], dtype: 'f32' }])
        const large = device.upload(new Float32Array(4 * n), { shape: [4 * n], dtype: 'f32' })
        const slots = range(6).map((k) => ({ storage: upload(device, k), value: k }))
        const put = (index: number, storage: Storage, value: number): void => {
          device.release(at(slots, index).storage)
          slots[index] = { storage, value }
        }
        const reads: Promise<void>[] = []
        for (const { kind, a, b, keep } of actions) {
          const [x, y] = [at(slots, a), at(slots, b)]
          if (kind === 'upload') put(a, upload(device, 10 * b), 10 * b)
          else if (kind === 'bigger') for (const storage of bigger.run([large])) device.release(storage)
          else if (kind === 'read')
            reads.push(device.read(x.storage).then((read) => expect(read).toEqual(filled(x.value))))
          else if (a !== b || !donates) {
            const [next, loss] = train.run([x.storage, y.storage])
            const { state } = stepped(x.value, y.value)
            if (donates) slots[a] = { storage: next!, value: state }
            else if (keep) put(b, next!, state)
            else device.release(next!)
            device.release(loss!)
          }
        }
        await Promise.all(reads)
        for (const { storage, value } of slots) expect(await device.read(storage)).toEqual(filled(value))
        await device.close()
        expect(gpu.held()).toEqual({})
      }),
      { numRuns: runs(30) },
    )
  })
})
