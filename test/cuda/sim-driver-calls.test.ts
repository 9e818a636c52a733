// The simulated driver refuses what the real one refuses, with the same status: order of initialization, handles, sizes,
// launches, images.
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { probe } from '../../src/cuda/discovery-probe.ts'
import { bindDriver } from '../../src/cuda/ffi/driver.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import { type Simulation, buildMilliseconds, simulation } from '../sim/library.ts'
import { type PlainDevice, plainDevice, statusOf } from '../sim/plain-device.ts'

const copy = `PB_KERNEL(copy, 2, 1) {
  const int64_t i = pb_block() * 256 + pb_thread();
  if (i < a.n[0]) ((float *)a.p[1])[i] = ((const float *)a.p[0])[i];
}
`
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
afterEach(() => {
  expect(sim.report().violations).toEqual([])
})

describe('what comes first', () => {
  it('no call works before cuInit, and none that needs a context without a current one', () => {
    sim.reset()
    const driver = bindDriver(sim.native, sim.native.load(`${sim.environment['PULLBACK_CUDA_PATH']}/libcuda.so.1`))
    expect(driver.version()).toBe(13_000)
    expect(statusOf(() => driver.deviceCount())).toBe(3)
    expect(statusOf(() => driver.allocate(4))).toBe(3)
    driver.init()
    expect(driver.deviceCount()).toBe(1)
    expect(statusOf(() => driver.allocate(4))).toBe(201)
    expect(statusOf(() => driver.device(1))).toBe(101)
    const context = driver.retainPrimaryContext(driver.device(0))
    expect(statusOf(() => driver.createStream(0))).toBe(201)
    driver.setCurrentContext(context)
    expect(statusOf(() => driver.createEvent(0))).toBe(0)
  })

  it('a context that was given back is none, and cannot be given back again', () => {
    const { driver, stream } = device
    const gpu = driver.device(0)
    const context = driver.retainPrimaryContext(gpu)
    driver.releasePrimaryContext(gpu)
    driver.synchronizeStream(stream)
    driver.destroyStream(stream)
    driver.releasePrimaryContext(gpu)
    expect(statusOf(() => driver.synchronizeStream(stream))).toBe(201)
    expect(statusOf(() => driver.setCurrentContext(context))).toBe(201)
    expect(statusOf(() => driver.releasePrimaryContext(gpu))).toBe(201)
  })

  it('discovery finds all four libraries with their versions, and an H200', () => {
    const { versions, problems } = probe(sim.machine, sim.native)
    expect(problems).toEqual([])
    expect(versions.driver?.version).toBe(13_000)
    expect(versions.nvrtc?.version).toBe(13_000)
    expect(Math.trunc((versions.cublasLt?.version ?? 0) / 100)).toBe(1301)
    expect(Math.trunc((versions.cudnn?.version ?? 0) / 100)).toBe(924)
    expect(versions.gpus).toEqual([{ name: 'Simulated H200', capability: 90 }])
    expect(device.driver.deviceAttribute(device.driver.device(0), 'MULTIPROCESSOR_COUNT')).toBe(132)
  })
})

describe('handles', () => {
  it('a destroyed handle is refused, and so is a number that never was one', () => {
    const { driver } = device
    const [stream, event] = [driver.createStream(0), driver.createEvent(0)]
    driver.destroyStream(stream)
    driver.destroyEvent(event)
    for (const unknown of [stream, 12_345n as typeof stream]) {
      expect(statusOf(() => driver.synchronizeStream(unknown))).toBe(400)
      expect(statusOf(() => driver.destroyStream(unknown))).toBe(400)
    }
    expect(statusOf(() => driver.eventDone(event))).toBe(400)
    expect(statusOf(() => driver.destroyEvent(event))).toBe(400)
    expect(statusOf(() => driver.recordEvent(driver.createEvent(0), stream))).toBe(400)
  })

  it('a module takes its kernels with it, and an unknown name is not found', () => {
    const { driver } = device
    const module = device.loadModule(copy)
    const kernel = driver.kernel(module, 'copy')
    expect(driver.kernel(module, 'copy')).toBe(kernel)
    expect(statusOf(() => driver.kernel(module, 'other'))).toBe(500)
    driver.unloadModule(module)
    expect(statusOf(() => driver.unloadModule(module))).toBe(400)
    expect(statusOf(() => driver.kernelAttribute(kernel, 'NUM_REGS'))).toBe(400)
    expect(statusOf(() => driver.kernel(module, 'copy'))).toBe(400)
  })

  it("a module's variables have an address and a size, as long as it is loaded", () => {
    const { driver, stream } = device
    const module = device.loadModule(`extern "C" { float table[4] = {1, 2, 3, 4}; }\n${copy}`)
    const { address, bytes } = driver.global(module, 'table')
    expect(bytes).toBe(16)
    expect([...device.download(address, 4)]).toEqual([1, 2, 3, 4])
    expect(statusOf(() => driver.global(module, 'chair'))).toBe(500)
    driver.unloadModule(module)
    expect(statusOf(() => driver.fill8(address, 0, 16, stream))).toBe(1)
  })

  it('graphs and their executables', () => {
    const { driver, stream } = device
    driver.beginCapture(stream)
    const graph = driver.endCapture(stream)
    const executable = driver.instantiateGraph(graph)
    driver.destroyGraph(graph)
    expect(statusOf(() => driver.instantiateGraph(graph))).toBe(1)
    expect(statusOf(() => driver.destroyGraph(graph))).toBe(1)
    driver.launchGraph(executable, stream)
    driver.destroyGraphExecutable(executable)
    expect(statusOf(() => driver.launchGraph(executable, stream))).toBe(1)
    expect(statusOf(() => driver.destroyGraphExecutable(executable))).toBe(1)
  })
})

describe('memory', () => {
  it('is freed once, by its first address, as what it was allocated as', () => {
    const { driver } = device
    const address = driver.allocate(100)
    const host = device.pinned(100).address
    expect(statusOf(() => driver.free((address + 1n) as typeof address))).toBe(1)
    expect(statusOf(() => driver.free(host as never))).toBe(1)
    expect(statusOf(() => driver.freeHost(address as never))).toBe(1)
    driver.free(address)
    driver.freeHost(host)
    expect(statusOf(() => driver.free(address))).toBe(1)
    expect(statusOf(() => driver.freeHost(host))).toBe(1)
  })

  it('of no bytes, or for a null pointer, is refused', () => {
    const out = new BigUint64Array(1)
    expect(device.raw('cuMemAlloc_v2', ['void *', 'size_t'])(out, 0)).toBe(1)
    expect(device.raw('cuMemAlloc_v2', ['void *', 'size_t'])(null, 4)).toBe(1)
    expect(device.raw('cuMemHostAlloc', ['void *', 'size_t', 'unsigned int'])(out, 0, 0)).toBe(1)
    expect(device.raw('cuStreamCreateWithPriority', ['void *', 'unsigned int', 'int'])(null, 1, 0)).toBe(1)
    expect(device.raw('cuEventCreate', ['void *', 'unsigned int'])(null, 0)).toBe(1)
    expect(device.raw('cuMemGetInfo_v2', ['void *', 'void *'])(null, out)).toBe(1)
  })

  it('runs out at the limit, which what is free shows', () => {
    const { driver } = device
    sim.memory(1_000_000)
    const address = driver.allocate(600_000)
    expect(driver.memoryInfo()).toEqual({ free: 400_000, total: 1_000_000 })
    expect(statusOf(() => driver.allocate(400_001))).toBe(2)
    driver.free(address)
    driver.free(driver.allocate(1_000_000))
    expect(sim.report().peak).toBe(1_000_000)
    sim.memory(2 ** 33)
  })

  it('copies and fills stay inside one allocation', () => {
    const { driver, stream } = device
    const [address, host] = [driver.allocate(64), device.pinned(64).address]
    const beyond = (address + 60n) as typeof address
    expect(statusOf(() => driver.copyToDevice(beyond, host, 8, stream))).toBe(1)
    expect(statusOf(() => driver.copyToHost(host, beyond, 8, stream))).toBe(1)
    expect(statusOf(() => driver.copyOnDevice(address, beyond, 8, stream))).toBe(1)
    expect(statusOf(() => driver.copyToDevice(host as never, host, 8, stream))).toBe(1)
    expect(statusOf(() => driver.copyToHost(address as never, address, 8, stream))).toBe(1)
    expect(statusOf(() => driver.fill8(beyond, 0, 5, stream))).toBe(1)
    expect(statusOf(() => driver.fill32(address, 0, 17, stream))).toBe(1)
    expect(statusOf(() => driver.fill32((address + 2n) as typeof address, 0, 1, stream))).toBe(1)
    expect(statusOf(() => driver.copyToDevice(beyond, host, 4, stream))).toBe(0)
    expect(statusOf(() => driver.fill32(beyond, 7, 1, stream))).toBe(0)
    driver.synchronizeStream(stream)
  })
})

describe('launches', () => {
  const shapes = [
    { why: 'no blocks', grid: [0, 1, 1], block: [256, 1, 1], shared: 0 },
    { why: 'no threads', grid: [1, 1, 1], block: [0, 1, 1], shared: 0 },
    { why: 'more threads than a block has', grid: [1, 1, 1], block: [1025, 1, 1], shared: 0 },
    { why: 'more threads than the kernel was compiled for', grid: [1, 1, 1], block: [257, 1, 1], shared: 0 },
    { why: 'a block too deep', grid: [1, 1, 1], block: [1, 1, 65], shared: 0 },
    { why: 'a grid too high', grid: [1, 65_536, 1], block: [1, 1, 1], shared: 0 },
    { why: 'more shared memory than without asking', grid: [1, 1, 1], block: [1, 1, 1], shared: 49_153 },
  ]
  it.each(shapes)('$why', ({ grid, block, shared }) => {
    const kernel = device.load(copy, 'copy')
    const u = 'unsigned int'
    const raw = device.raw('cuLaunchKernel', ['void *', u, u, u, u, u, u, u, 'void *', 'void *', 'void *'])
    const parameters = BigUint64Array.of(0n)
    expect(raw(kernel, ...grid, ...block, shared, device.stream, parameters, null)).toBe(1)
    expect(raw(kernel, 1, 1, 1, 1, 1, 1, 0, device.stream, null, null)).toBe(1)
    expect(raw(1n, 1, 1, 1, 1, 1, 1, 0, device.stream, parameters, null)).toBe(400)
    expect(raw(kernel, 1, 1, 1, 1, 1, 1, 0, 1n, parameters, null)).toBe(400)
    expect(raw(kernel, 1, 1, 1, 1, 1, 1, 0, device.stream, parameters, parameters)).toBe(1)
  })

  it('shared memory beyond 48 KB is asked for first, and ends at 227 KB with what the kernel has itself', () => {
    const { driver } = device
    const kernel = device.load(
      `PB_KERNEL(most, 1, 1) {
        PB_SHARED float own[256];
        own[pb_thread()] = 1;
        pb_barrier();
        ((float *)a.p[0])[pb_thread()] = own[pb_thread() ^ 1];
      }`,
      'most',
    )
    const target = driver.allocate(1024)
    const launch = (shared: number): number =>
      statusOf(() => device.launch(kernel, { blocks: 1, shared }, [target], [0]))
    expect(driver.kernelAttribute(kernel, 'SHARED_SIZE_BYTES')).toBe(1024)
    expect(launch(49_152)).toBe(1)
    expect(launch(48_128)).toBe(0)
    expect(statusOf(() => driver.setKernelAttribute(kernel, 'MAX_DYNAMIC_SHARED_SIZE_BYTES', 232_448))).toBe(1)
    driver.setKernelAttribute(kernel, 'MAX_DYNAMIC_SHARED_SIZE_BYTES', 231_424)
    expect(launch(231_424)).toBe(0)
    expect(launch(231_425)).toBe(1)
    expect(driver.occupancy(kernel, 256, 231_424)).toBe(1)
    expect(driver.occupancy(kernel, 256, 0)).toBe(8)
    driver.synchronizeStream(device.stream)
    expect(statusOf(() => driver.setKernelAttribute(kernel, 'NUM_REGS', 10))).toBe(1)
  })
})

describe('images', () => {
  it('are those of the simulated NVRTC, whole, for this architecture', () => {
    const { driver } = device
    const image = device.image(copy)
    expect(statusOf(() => driver.loadModule(image))).toBe(0)
    expect(statusOf(() => driver.loadModule(device.image(copy, 'sm_80')))).toBe(209)
    expect(statusOf(() => driver.loadModule(device.image(copy, 'sm_100')))).toBe(209)
    expect(statusOf(() => driver.loadModule(new Uint8Array(1000).fill(127)))).toBe(200)
    const broken = image.slice()
    broken[image.length - 5] = 0
    expect(statusOf(() => driver.loadModule(broken))).toBe(200)
  })

  it('come from NVRTC only for a real architecture and known options', () => {
    const { nvrtc } = device
    const program = nvrtc.createProgram(`${cudaPrelude}\n${copy}`, 'copy.cu')
    expect(statusOf(() => nvrtc.cubin(program))).toBe(4)
    for (const wrong of ['--gpu-architecture=sm_77', '--fmad=maybe', '--fast', '--std=c++03'])
      expect(statusOf(() => nvrtc.compileProgram(program, [wrong]))).toBe(5)
    expect(nvrtc.programLog(program)).toContain('--std=c++03')
    nvrtc.compileProgram(program, [...cudaOptions, '--gpu-architecture=compute_90'])
    expect(nvrtc.cubin(program).length).toBe(0)
    expect(nvrtc.ptx(program)).toContain('PB_KERNEL(copy, 2, 1)')
    nvrtc.destroyProgram(program)
    expect(statusOf(() => nvrtc.compileProgram(program, []))).toBe(4)
    expect(statusOf(() => nvrtc.destroyProgram(program))).toBe(4)
  })

  it('a wrong text is refused with status 6 and a log that names the line', () => {
    const { nvrtc } = device
    const program = nvrtc.createProgram(`${cudaPrelude}\nPB_KERNEL(bad, 1, 1) {\n  undeclared = 1;\n}\n`, 'bad.cu')
    expect(statusOf(() => nvrtc.compileProgram(program, [...cudaOptions, '--gpu-architecture=sm_90']))).toBe(6)
    expect(nvrtc.programLog(program)).toMatch(/bad\.cu.*\n?.*error.*undeclared/)
    expect(statusOf(() => nvrtc.cubin(program))).toBe(4)
    const header = nvrtc.createProgram(`${cudaPrelude}\n#include <math.h>\n${copy}`, 'header.cu')
    expect(statusOf(() => nvrtc.compileProgram(header, cudaOptions))).toBe(6)
    expect(nvrtc.programLog(header)).toContain('cannot open source file')
  })
})
