// Streams of the simulated driver run as late as is legal and in an order of the seed's, and host memory is read when a copy
// runs: so what src/cuda forgets to wait for shows as wrong bits.
import fc from 'fast-check'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { driverFlags } from '../../src/cuda/ffi/driver-constants.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { type Simulation, buildMilliseconds, simulation } from '../sim/library.ts'
import { type PlainDevice, plainDevice, statusOf } from '../sim/plain-device.ts'

let sim: Simulation
let device: PlainDevice
beforeAll(async () => {
  sim = await simulation('wait')
}, buildMilliseconds)
beforeEach(() => {
  sim.reset()
  sim.seed(0)
  device = plainDevice(sim)
})

describe('work runs when somebody waits', () => {
  it('and not before: results are poison until then', () => {
    const { driver, stream } = device
    const [source, target, host] = [driver.allocate(16), driver.allocate(16), device.pinned(16)]
    driver.fill32(source, 7, 4, stream)
    driver.copyOnDevice(target, source, 16, stream)
    driver.copyToHost(host.address, target, 16, stream)
    expect([...host.floats].every(Number.isNaN)).toBe(true)
    expect(sim.report().pending).toBe(3)
    driver.synchronizeStream(stream)
    expect([...new Uint32Array(host.bytes.buffer)]).toEqual([7, 7, 7, 7])
    expect(sim.report().pending).toBe(0)
  })

  it('a query runs a piece at a time', () => {
    const { driver, stream } = device
    const target = driver.allocate(4)
    const event = driver.createEvent(0)
    for (const value of [1, 2, 3]) driver.fill32(target, value, 1, stream)
    driver.recordEvent(event, stream)
    driver.fill32(target, 4, 1, stream)
    expect(range(4).map(() => driver.eventDone(event))).toEqual([false, false, false, true])
    expect(sim.report().pending).toBe(1)
    expect(driver.streamDone(stream)).toBe(true)
  })

  it.each([1, 2, 3])('with seed %i a query may say no a little longer, and ends in yes', (seed) => {
    sim.seed(seed)
    const { driver, stream } = device
    const event = driver.createEvent(0)
    const answers = range(20).map(() => {
      driver.fill8(driver.allocate(4), 1, 4, stream)
      driver.recordEvent(event, stream)
      let asked = 1
      while (!driver.eventDone(event)) asked += 1
      expect(driver.eventDone(event)).toBe(true)
      return asked
    })
    expect(Math.min(...answers)).toBe(2)
    expect(Math.max(...answers)).toBe(3)
  })

  it('a context waits for all streams, destroyed ones too', () => {
    const { driver, stream } = device
    const other = driver.createStream(0)
    const target = driver.allocate(8)
    driver.fill32(target, 1, 1, stream)
    driver.fill32((target + 4n) as typeof target, 2, 1, other)
    driver.destroyStream(other)
    expect(sim.report().pending).toBe(2)
    driver.synchronizeContext()
    expect(sim.report().pending).toBe(0)
    expect([...new Uint32Array(device.download(target, 2).buffer)]).toEqual([1, 2])
  })
})

describe('host memory', () => {
  it('that is pinned is read when the copy runs: staging that is used again too early gives the wrong bits', () => {
    const { driver, stream } = device
    const [first, second, staging] = [driver.allocate(4), driver.allocate(4), device.pinned(4)]
    staging.floats[0] = 1
    driver.copyToDevice(first, staging.address, 4, stream)
    staging.floats[0] = 2
    driver.copyToDevice(second, staging.address, 4, stream)
    expect([...device.download(first, 1), ...device.download(second, 1)]).toEqual([2, 2])
  })

  it('of any other kind is read at the call, and written before the call returns', () => {
    const { driver, stream } = device
    const address = driver.allocate(8)
    const memory = sim.native.allocate(8)
    const values = new Float32Array(sim.native.view(memory, 8))
    values.set([1, 2])
    driver.copyToDevice(address, memory as never, 8, stream)
    values.set([3, 4])
    driver.copyToHost(memory as never, address, 8, stream)
    expect([...values]).toEqual([1, 2])
    sim.native.release(memory)
  })
})

describe('events', () => {
  /** A writer on one stream, a reader on another; whether the reader waits for the writer. */
  function readAcross(ordered: boolean): number {
    const { driver, stream } = device
    const other = driver.createStream(0)
    const [address, host, event] = [driver.allocate(4), device.pinned(4), driver.createEvent(0)]
    driver.fill32(address, 5, 1, stream)
    driver.recordEvent(event, stream)
    if (ordered) driver.streamWaits(other, event)
    driver.copyToHost(host.address, address, 4, other)
    driver.synchronizeStream(other)
    return at([...new Uint32Array(host.bytes.buffer)], 0)
  }

  it('order streams, and nothing else does', () => {
    expect(readAcross(true)).toBe(5)
    expect(readAcross(false)).toBe(0xffff_ffff)
    const seen = range(30).map((seed) => {
      sim.seed(seed)
      expect(readAcross(true)).toBe(5)
      return readAcross(false)
    })
    expect(new Set(seen)).toEqual(new Set([5, 0xffff_ffff]))
    expect(sim.report().violations).toEqual([])
  })

  it('are waited for as they were recorded last before the wait', () => {
    const { driver, stream } = device
    const [other, event, address] = [driver.createStream(0), driver.createEvent(0), driver.allocate(4)]
    driver.fill32(address, 1, 1, stream)
    driver.recordEvent(event, stream)
    driver.streamWaits(other, event)
    driver.fill32(address, 2, 1, stream)
    driver.recordEvent(event, stream)
    driver.synchronizeStream(other)
    expect(sim.report().pending).toBe(2)
    driver.synchronizeEvent(event)
    expect(sim.report().pending).toBe(0)
  })

  it('that were never recorded are done, and a stream that waits for one is a violation', () => {
    const { driver, stream } = device
    const event = driver.createEvent(0)
    expect(driver.eventDone(event)).toBe(true)
    driver.synchronizeEvent(event)
    driver.streamWaits(stream, event)
    expect(sim.report().violations).toEqual([expect.stringContaining('never recorded')])
  })

  it('measure simulated time, the same on every run', () => {
    const { driver, stream } = device
    const [from, to] = [driver.createEvent(0), driver.createEvent(0)]
    const address = driver.allocate(4)
    const measure = (fills: number): number => {
      driver.recordEvent(from, stream)
      for (const _ of range(fills)) driver.fill32(address, 1, 1, stream)
      driver.recordEvent(to, stream)
      expect(statusOf(() => driver.elapsed(from, to))).toBe(600)
      driver.synchronizeStream(stream)
      return driver.elapsed(from, to)
    }
    expect(measure(1)).toBeCloseTo(0.002, 6)
    expect(measure(10)).toBeCloseTo(0.02, 6)
    const untimed = driver.createEvent(driverFlags.EVENT_DISABLE_TIMING)
    driver.recordEvent(untimed, stream)
    driver.synchronizeStream(stream)
    expect(statusOf(() => driver.elapsed(from, untimed))).toBe(400)
    expect(statusOf(() => driver.elapsed(from, driver.createEvent(0)))).toBe(400)
  })

  it('make any program of ordered writes and reads give the values of its order, for every seed', () => {
    const operation = fc.record({ stream: fc.nat(2), slot: fc.nat(3) })
    fc.assert(
      fc.property(fc.array(operation, { minLength: 1, maxLength: 30 }), fc.nat(1000), (operations, seed) => {
        sim.reset()
        sim.seed(seed)
        const { driver } = plainDevice(sim)
        const streams = range(3).map(() => driver.createStream(0))
        const memory = driver.allocate(16)
        const events = range(4).map(() => driver.createEvent(0))
        const model = [0, 0, 0, 0]
        for (const slot of range(4)) {
          driver.fill32((memory + BigInt(4 * slot)) as typeof memory, 0, 1, at(streams, 0))
          driver.recordEvent(at(events, slot), at(streams, 0))
        }
        operations.forEach(({ stream, slot }, i) => {
          const on = at(streams, stream)
          driver.streamWaits(on, at(events, slot))
          driver.fill32((memory + BigInt(4 * slot)) as typeof memory, i + 1, 1, on)
          driver.recordEvent(at(events, slot), on)
          model[slot] = i + 1
        })
        driver.synchronizeContext()
        const host = driver.allocateHost(16, 0)
        driver.copyToHost(host, memory, 16, at(streams, 0))
        driver.synchronizeStream(at(streams, 0))
        expect([...new Uint32Array(sim.native.view(host, 16))]).toEqual(model)
        expect(sim.report().violations).toEqual([])
      }),
      { numRuns: runs(40) },
    )
  })
})
