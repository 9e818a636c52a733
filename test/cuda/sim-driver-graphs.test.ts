// Captures of the simulated driver: what they record, what they forbid and with which status, and graphs that are replayed.
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { range } from '../../src/tensor/shape.ts'
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

const step = `PB_KERNEL(step, 1, 2) {
  float *const p = (float *)a.p[0];
  if (pb_thread() == 0 && pb_block() == 0) p[0] = p[0] * a.n[0] + a.n[1];
}
`

describe('a graph', () => {
  it.each([0, 1, 2])('records instead of doing, and does it once in each launch (seed %i)', (seed) => {
    sim.seed(seed)
    const { driver, stream } = device
    const kernel = device.load(step, 'step')
    const value = device.upload(Float32Array.of(1))
    driver.beginCapture(stream)
    expect(driver.captureStatus(stream)).toBe('active')
    device.launch(kernel, { blocks: 1 }, [value], [2, 0])
    device.launch(kernel, { blocks: 1 }, [value], [1, 3])
    const graph = driver.endCapture(stream)
    expect(driver.captureStatus(stream)).toBe('none')
    expect(driver.graphNodeCount(graph)).toBe(2)
    expect([...device.download(value, 1)]).toEqual([1])
    const executable = driver.instantiateGraph(graph)
    driver.uploadGraph(executable, stream)
    for (const _ of range(3)) driver.launchGraph(executable, stream)
    expect([...device.download(value, 1)]).toEqual([29])
    driver.destroyGraph(graph)
    driver.launchGraph(executable, stream)
    driver.destroyGraphExecutable(executable)
    expect([...device.download(value, 1)]).toEqual([61])
    expect(sim.report().violations).toEqual([])
  })

  it('forks to other streams and joins them; branches run in any order', () => {
    const { driver, stream } = device
    const other = driver.createStream(0)
    const [forked, joined] = [driver.createEvent(2), driver.createEvent(2)]
    const kernel = device.load(step, 'step')
    const [left, right] = [device.upload(Float32Array.of(1)), device.upload(Float32Array.of(2))]
    const host = device.pinned(8)
    driver.beginCapture(stream)
    driver.recordEvent(forked, stream)
    driver.streamWaits(other, forked)
    device.launch(kernel, { blocks: 1 }, [left], [1, 10])
    device.launch(kernel, { blocks: 1 }, [right], [1, 20], other)
    driver.recordEvent(joined, other)
    driver.streamWaits(stream, joined)
    driver.copyToHost(host.address, left, 4, stream)
    driver.copyToHost((host.address + 4n) as typeof host.address, right, 4, stream)
    const executable = driver.instantiateGraph(driver.endCapture(stream))
    for (const seed of range(6)) {
      sim.seed(seed)
      driver.launchGraph(executable, stream)
      driver.synchronizeStream(stream)
      expect([...host.floats]).toEqual([11 + 10 * seed, 22 + 20 * seed])
    }
    expect(driver.captureStatus(other)).toBe('none')
  })

  it('launched on two streams runs one after the other', () => {
    const { driver, stream } = device
    const other = driver.createStream(0)
    const kernel = device.load(step, 'step')
    const value = device.upload(Float32Array.of(1))
    driver.beginCapture(stream)
    device.launch(kernel, { blocks: 1 }, [value], [2, 1])
    const executable = driver.instantiateGraph(driver.endCapture(stream))
    const host = device.pinned(4)
    driver.launchGraph(executable, stream)
    driver.launchGraph(executable, other)
    driver.copyToHost(host.address, value, 4, other)
    driver.synchronizeStream(other)
    expect([...host.floats]).toEqual([7])
    expect(sim.report().pending).toBe(0)
  })

  it('keeps addresses, not contents: pinned memory is read in each launch', () => {
    const { driver, stream } = device
    const [address, host] = [driver.allocate(4), device.pinned(4)]
    driver.beginCapture(stream)
    driver.copyToDevice(address, host.address, 4, stream)
    const executable = driver.instantiateGraph(driver.endCapture(stream))
    for (const value of [3, 4]) {
      host.floats[0] = value
      driver.launchGraph(executable, stream)
      expect([...device.download(address, 1)]).toEqual([value])
    }
  })
})

describe('while a stream is captured', () => {
  const forbidden: Record<string, (it: PlainDevice) => unknown> = {
    'allocating device memory': ({ driver }) => driver.allocate(4),
    'allocating host memory': ({ driver }) => driver.allocateHost(4, 0),
    'waiting for the stream': ({ driver, stream }) => driver.synchronizeStream(stream),
    'waiting for another stream': ({ driver }) => driver.synchronizeStream(driver.createStream(0)),
    'waiting for the context': ({ driver }) => driver.synchronizeContext(),
    'asking the stream': ({ driver, stream }) => driver.streamDone(stream),
    'asking an event': ({ driver }) => driver.eventDone(driver.createEvent(0)),
    'launching a graph': ({ driver, stream }) => driver.launchGraph(1n as never, stream),
    'destroying the stream': ({ driver, stream }) => driver.destroyStream(stream),
    'copying from memory that is not pinned': ({ driver, stream }) => {
      const memory = sim.native.allocate(4)
      driver.copyToDevice(spare, memory as never, 4, stream)
    },
  }
  let spare: ReturnType<PlainDevice['driver']['allocate']>

  it.each(Object.keys(forbidden))('%s is answered with 900 and spoils the capture', (name) => {
    const { driver, stream } = device
    spare = driver.allocate(4)
    driver.beginCapture(stream)
    expect(statusOf(() => forbidden[name]?.(device))).toBe(900)
    expect(driver.captureStatus(stream)).toBe('invalidated')
    expect(statusOf(() => driver.fill32(spare, 1, 1, stream))).toBe(901)
    expect(statusOf(() => driver.endCapture(stream))).toBe(901)
    expect(driver.captureStatus(stream)).toBe('none')
    expect(statusOf(() => driver.fill32(spare, 1, 1, stream))).toBe(0)
    expect(sim.report().refusals.length).toBe(1)
  })

  it('code and memory are neither loaded nor given back', () => {
    const { driver, stream } = device
    const [image, module, memory] = [device.image(step), device.loadModule(step), driver.allocate(4)]
    for (const call of [() => driver.loadModule(image), () => driver.unloadModule(module), () => driver.free(memory)]) {
      driver.beginCapture(stream)
      expect(statusOf(call)).toBe(900)
      expect(statusOf(() => driver.endCapture(stream))).toBe(901)
    }
    driver.free(memory)
    driver.unloadModule(module)
  })

  it('a captured event is for the capture alone, until it is recorded outside', () => {
    const { driver, stream } = device
    const [event, other] = [driver.createEvent(0), driver.createStream(0)]
    driver.beginCapture(stream)
    driver.recordEvent(event, stream)
    const graph = driver.endCapture(stream)
    expect(driver.graphNodeCount(graph)).toBe(0)
    expect(statusOf(() => driver.eventDone(event))).toBe(907)
    expect(statusOf(() => driver.synchronizeEvent(event))).toBe(907)
    expect(statusOf(() => driver.streamWaits(other, event))).toBe(907)
    driver.recordEvent(event, stream)
    driver.streamWaits(other, event)
    driver.synchronizeEvent(event)
    driver.beginCapture(stream)
    driver.recordEvent(event, stream)
    expect(statusOf(() => driver.eventDone(event))).toBe(907)
    expect(statusOf(() => driver.endCapture(stream))).toBe(901)
  })

  it('dependencies neither come in from outside, nor leave open ends, nor join two captures', () => {
    const { driver, stream } = device
    const [event, other] = [driver.createEvent(0), driver.createStream(0)]
    driver.recordEvent(event, other)
    driver.beginCapture(stream)
    expect(statusOf(() => driver.streamWaits(stream, event))).toBe(905)
    expect(statusOf(() => driver.endCapture(stream))).toBe(901)

    driver.beginCapture(stream)
    driver.recordEvent(event, stream)
    driver.streamWaits(other, event)
    expect(statusOf(() => driver.endCapture(other))).toBe(903)
    expect(statusOf(() => driver.endCapture(stream))).toBe(901)

    const target = driver.allocate(4)
    driver.beginCapture(stream)
    driver.recordEvent(event, stream)
    driver.streamWaits(other, event)
    driver.fill32(target, 1, 1, other)
    expect(statusOf(() => driver.endCapture(stream))).toBe(904)
    expect(driver.captureStatus(other)).toBe('none')

    driver.beginCapture(stream)
    driver.beginCapture(other)
    driver.recordEvent(event, stream)
    expect(statusOf(() => driver.streamWaits(other, event))).toBe(902)
    expect(statusOf(() => driver.endCapture(stream))).toBe(901)
    expect(statusOf(() => driver.endCapture(other))).toBe(901)
  })

  it('it is not begun again, and what is not begun is not ended', () => {
    const { driver, stream } = device
    expect(statusOf(() => driver.endCapture(stream))).toBe(401)
    driver.beginCapture(stream)
    expect(statusOf(() => driver.beginCapture(stream))).toBe(401)
    expect(driver.graphNodeCount(driver.endCapture(stream))).toBe(0)
  })
})
