// Where a GPU suffers in silence the simulation tells: accesses outside allocations, use after free, poison, leaks; and any
// call can be made to fail.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { CudaError } from '../../src/cuda/ffi/status.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import { range } from '../../src/tensor/shape.ts'
import { type Simulation, buildMilliseconds, simulation } from '../sim/library.ts'
import { type PlainDevice, plainDevice, statusOf } from '../sim/plain-device.ts'

let sim: Simulation
let device: PlainDevice
beforeAll(async () => {
  sim = await simulation()
}, buildMilliseconds)
beforeEach(() => {
  sim.reset()
  sim.seed(0)
  sim.alignRight(0)
  device = plainDevice(sim)
})

/** Stores one float at an element of its operand. */
const poke = `PB_KERNEL(poke, 1, 1) {
  if (pb_thread() == 0) ((float *)a.p[0])[a.n[0]] = 1;
}
`
function pokeAt(address: DevicePointer, element: number): number {
  device.launch(device.load(poke, 'poke'), { blocks: 1 }, [address], [element])
  return statusOf(() => device.driver.synchronizeStream(device.stream))
}

describe('a kernel that leaves its memory', () => {
  it.each([
    ['before the first element', 0, -1, 'poke (block 0, thread 0) touched 0x', '4 bytes in front of device allocation'],
    [
      'behind the last page',
      0,
      1024,
      'poke (block 0, thread 0) touched 0x',
      '0 bytes past the end of device allocation',
    ],
    [
      'behind the last element, against the page',
      16,
      1001,
      'touched',
      'past the end of device allocation 1 of 4000 bytes',
    ],
  ])('%s faults with its name and the place', (_name, alignment, element, who, where) => {
    sim.alignRight(alignment)
    expect(pokeAt(device.driver.allocate(alignment === 0 ? 4096 : 4000), element)).toBe(700)
    const { violations, sticky } = sim.report()
    expect(violations).toEqual([expect.stringContaining(who)])
    expect(violations).toEqual([expect.stringContaining(where)])
    expect(sticky).toBe(700)
  })

  it.each([
    ['past the end of', 0, 1000],
    ['in front of', 16, -1],
  ])('but not the page is told when it has run: %s it', (where, alignment, element) => {
    sim.alignRight(alignment)
    expect(pokeAt(device.driver.allocate(4000), element)).toBe(0)
    expect(sim.report().violations).toEqual([`poke: something wrote ${where} device allocation 1 of 4000 bytes`])
  })

  it('at an address that its access is not aligned to', () => {
    const text = `PB_KERNEL(wide, 1, 1) { uint32_t w[4]; pb_read_16((char *)a.p[0] + a.n[0], w); pb_write_16(a.p[0], w); }`
    const address = device.driver.allocate(64)
    device.launch(device.load(text, 'wide'), { blocks: 1 }, [address], [8])
    expect(statusOf(() => device.driver.synchronizeStream(device.stream))).toBe(716)
    expect(sim.report().violations).toEqual([expect.stringContaining('aligned')])
  })

  it('ends the context: every later call answers the same, and giving it back ends that', () => {
    expect(pokeAt(device.driver.allocate(4096), 1024)).toBe(700)
    const { driver } = device
    expect(statusOf(() => driver.allocate(4))).toBe(700)
    expect(statusOf(() => driver.createEvent(0))).toBe(700)
    driver.releasePrimaryContext(driver.device(0))
    driver.setCurrentContext(driver.retainPrimaryContext(driver.device(0)))
    expect(statusOf(() => driver.allocate(4))).toBe(0)
  })
})

describe('memory', () => {
  it('is poison at birth, and a use after free faults, in kernels and in copies that run late', () => {
    const { driver, stream } = device
    const address = driver.allocate(64)
    expect([...device.download(address, 16)].every(Number.isNaN)).toBe(true)
    const host = device.pinned(64)
    driver.copyToHost(host.address, address, 64, stream)
    driver.free(address)
    expect(statusOf(() => driver.synchronizeStream(stream))).toBe(700)
    expect(sim.report().violations).toEqual([
      expect.stringMatching(
        /^copy of 64 bytes to the host touched 0x\w+, byte 0 of freed device allocation 1 of 64 bytes/,
      ),
    ])
  })

  it('pinned memory that is freed under a copy faults', () => {
    const { driver, stream } = device
    const [address, host] = [driver.allocate(64), device.pinned(64)]
    driver.copyToDevice(address, host.address, 64, stream)
    driver.freeHost(host.address)
    expect(statusOf(() => driver.synchronizeStream(stream))).toBe(700)
    expect(sim.report().violations).toEqual([expect.stringContaining('freed pinned host allocation')])
  })

  it('a copy onto itself and a kernel of an unloaded module are violations', () => {
    const { driver, stream } = device
    const address = driver.allocate(64)
    driver.copyOnDevice((address + 4n) as typeof address, address, 32, stream)
    const module = device.loadModule(poke)
    device.launch(driver.kernel(module, 'poke'), { blocks: 1 }, [address], [0])
    driver.unloadModule(module)
    driver.synchronizeStream(stream)
    expect(sim.report().violations).toEqual([
      'cuMemcpyDtoDAsync_v2: the 32 bytes copied overlap their copy',
      'poke runs after its module was unloaded',
    ])
  })

  it('what is left when the context ends is told, and what is live before', () => {
    const { driver, stream } = device
    driver.allocate(100)
    device.pinned(10)
    driver.createEvent(0)
    device.loadModule(poke)
    const { memory, live } = sim.report()
    expect(memory.toSorted()).toEqual(['device allocation 1 of 100 bytes', 'pinned host allocation 2 of 10 bytes'])
    expect(live).toEqual({ event: 1, module: 1, stream: 1 })
    driver.synchronizeStream(stream)
    driver.releasePrimaryContext(driver.device(0))
    expect(sim.report()).toMatchObject({ memory: [], live: {}, used: 0, peak: 100 })
    expect(sim.report().violations.toSorted()).toEqual([
      'the context ended with 1 live event',
      'the context ended with 1 live module',
      'the context ended with 1 live stream',
      'the context ended with a live device allocation 1 of 100 bytes',
      'the context ended with a live pinned host allocation 2 of 10 bytes',
    ])
  })
})

describe('failures on request', () => {
  /** A small program of everything; each call of it is one that can fail. */
  function program(): void {
    const { driver, nvrtc, stream } = device
    const made = nvrtc.createProgram(poke, 'poke.cu')
    nvrtc.destroyProgram(made)
    const event = driver.createEvent(0)
    const address = driver.allocate(16)
    driver.fill32(address, 1, 4, stream)
    driver.recordEvent(event, stream)
    driver.synchronizeEvent(event)
    driver.free(address)
    driver.destroyEvent(event)
  }

  it('the n-th call answers the error of its kind, once, and what it destroys is destroyed', () => {
    const names = ['nvrtcCreateProgram', 'nvrtcDestroyProgram', 'cuEventCreate', 'cuMemAlloc_v2', 'cuMemsetD32Async']
    const statuses = [1, 11, 2, 2, 999]
    range(9).forEach((i) => {
      sim.failAt(i + 1)
      let failed: unknown
      try {
        program()
      } catch (error) {
        failed = error
      }
      expect(failed).toBeInstanceOf(CudaError)
      expect((failed as CudaError).call).toBe(sim.report().failed)
      if (i < names.length) expect(failed).toMatchObject({ call: names[i], status: statuses[i] })
    })
    const { live, memory } = sim.report()
    // What was made before the failing call is the test's own leak: from the 4th call on the event, from the 5th the memory.
    expect(live).toEqual({ event: 5, stream: 1 })
    expect(memory.length).toBe(3)
  })

  it('are taken back', () => {
    sim.failAt(3)
    sim.failAt(0)
    program()
    expect(sim.report()).toMatchObject({ failed: '', violations: [], memory: [] })
  })
})

it('the process of its own, told by its environment, writes a report when it ends', { timeout: 60_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'pullback-sim-report-'))
  const path = join(folder, 'report.json')
  const library = `${sim.environment['PULLBACK_CUDA_PATH']}/libcuda.so.1`
  const program = `
    const koffi = require('koffi')
    const library = koffi.load(${JSON.stringify(library)})
    library.func('int cuInit(unsigned int flags)')(0)
    const status = library.func('int cuDeviceGetCount(void *out)')(new Int32Array(1))
    process.exit(status === 999 ? 0 : 1)`
  execFileSync(process.execPath, ['-e', program], {
    env: { ...process.env, PULLBACK_SIM_REPORT: path, PULLBACK_SIM_FAIL: '2' },
  })
  expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ calls: 2, failed: 'cuDeviceGetCount', violations: [] })
  rmSync(folder, { recursive: true })
})
