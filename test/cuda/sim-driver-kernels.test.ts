// Kernels of the simulated device: what the cuda dialect prints gives equal bits in every order of blocks, warps and threads,
// threads meet where they must, and shared memory is what CUDA says it is.
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { at, range } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { DriverKernels } from '../sim/driver-kernels.ts'
import { type Simulation, buildMilliseconds, simulation } from '../sim/library.ts'
import { type PlainDevice, plainDevice, statusOf } from '../sim/plain-device.ts'
import { arbitrarySample, expectAgreement, reduceKernel } from './print-samples.ts'

let sim: Simulation
let device: PlainDevice
beforeAll(async () => {
  sim = await simulation()
}, buildMilliseconds)
beforeEach(() => {
  sim.reset()
  sim.seed(0)
  device = plainDevice(sim)
})

/** What the warp functions of a prelude declare: the header without its includes, which no kernel has. */
const header = readFileSync(new URL('../sim/native/hooks.h', import.meta.url), 'utf8')
const hooks = header.slice(header.indexOf('extern "C" {'))

interface Sample {
  readonly threads?: number
  readonly shared?: number
  readonly blocks?: number
}

/** Runs one kernel over floats and gives its result, or the status and what was told. */
function compute(text: string, { threads = 256, shared = 0, blocks = 1 }: Sample = {}) {
  const count = threads * blocks
  const kernel = device.load(`${hooks}${text}`, 'sample')
  const source = device.upload(Float32Array.from({ length: count }, (_, i) => i))
  const target = device.driver.allocate(4 * count)
  device.launch(kernel, { blocks, threads, shared }, [source, target], [count])
  const status = statusOf(() => device.driver.synchronizeStream(device.stream))
  return {
    status,
    values: status === 0 ? [...device.download(target, count)] : [],
    violations: sim.report().violations,
  }
}

describe('printed kernels', () => {
  it.each([
    ['maps', false],
    ['reductions', true],
  ])('random %s give the bits of plain loops in three orders', { timeout: 120_000 }, (_name, reduce) => {
    const samples = fc.array(arbitrarySample({ reduce }), { minLength: 8, maxLength: 8 })
    const property = fc.property(samples, (list) => {
      sim.reset()
      const plain = plainDevice(sim)
      const kernels = new DriverKernels(
        sim,
        plain,
        list.map(({ kernel }) => kernel),
      )
      for (const sample of list) expectAgreement(kernels, sample)
      expect(sim.report()).toMatchObject({ violations: [], memory: [] })
    })
    fc.assert(property, { numRuns: runs(1), endOnFailure: true })
  })

  it('large reductions in one and two launches, with every allocation against a page that faults', () => {
    const extents = [[6, 10, 50, 64], [120_000]] as const
    const roles = [['reduce', 'map', 'reduce', 'map'], ['reduce']] as const
    const kernels = range(2).map((i) => reduceKernel('f16', at(extents, i), at(roles, i)))
    const driverKernels = new DriverKernels(sim, device, kernels)
    const counts = [640, 1]
    sim.alignRight(16)
    kernels.forEach((kernel, i) => {
      const input = Uint16Array.from({ length: i === 0 ? 192_000 : 120_000 }, (_, j) => (j * 7919) % 20_000)
      const outputs = range(2).map(() => ({ dtype: 'f32', count: at(counts, i) }) as const)
      const [first, ...others] = [0, 4, 5].map((seed) => driverKernels.run(kernel, [input], outputs, seed))
      for (const other of others) expect(other).toEqual(first)
      expect(first?.flatMap((array) => [...array]).every(Number.isFinite)).toBe(true)
    })
    sim.alignRight(0)
    expect(sim.report().violations).toEqual([])
  })
})

describe('threads of a block', () => {
  it.each([0, 1, 2])('meet at barriers, and see what others wrote before (seed %i)', (seed) => {
    sim.seed(seed)
    const { values, violations } = compute(`PB_KERNEL(sample, 2, 1) {
      PB_SHARED float s[256];
      const uint32_t t = pb_thread();
      float x = ((const float *)a.p[0])[t];
      for (int round = 0; round < 10; ++round) {
        s[t] = x;
        pb_barrier();
        x = s[(t + 1) % 256];
        pb_barrier();
      }
      ((float *)a.p[1])[t] = x;
    }`)
    expect(values).toEqual(range(256).map((t) => (t + 10) % 256))
    expect(violations).toEqual([])
  })

  it('without the barrier the order of threads shows in the bits', () => {
    const text = `PB_KERNEL(sample, 2, 1) {
      PB_SHARED float s[256];
      s[pb_thread()] = ((const float *)a.p[0])[pb_thread()];
      ((float *)a.p[1])[pb_thread()] = ((volatile float *)s)[(pb_thread() + 1) % 256];
    }`
    const seen = [0, 1, 2].map((seed) => {
      sim.seed(seed)
      return JSON.stringify(compute(text).values)
    })
    expect(new Set(seen).size).toBe(3)
  })

  it.each([
    ['a barrier that half of them skip', 'if (pb_thread() < 128) pb_barrier();', /barrier in block 0 .* 128 wait/],
    ['a barrier behind the end of one', 'if (pb_thread() == 7) return; pb_barrier();', /255 wait .* 1 have ended/],
    [
      'a warp exchange that a lane skips',
      'uint32_t all[32]; if (pb_thread() != 5) pb_sim_warp_exchange(all, 4, all);',
      /warp exchange .* 31 for their warp/,
    ],
    [
      'a barrier in some lanes, an exchange in others',
      'if (pb_thread() % 2) pb_barrier(); else pb_sim_warp_gather(nullptr, 0);',
      /128 wait at a barrier, 128 for their warp/,
    ],
    [
      'different exchanges',
      'pb_sim_warp_gather(&a, pb_thread() % 2 ? 4 : 8);',
      /different exchanges, of 8 and of 4 bytes/,
    ],
  ])('%s is a violation, and the launch fails', (_name, body, told) => {
    const { status, violations } = compute(`PB_KERNEL(sample, 2, 1) { ${body} }`)
    expect(status).toBe(719)
    expect(violations).toEqual([expect.stringMatching(told)])
  })

  it.each([0, 1, 2])('warps exchange what their lanes hold, while others go their way (seed %i)', (seed) => {
    sim.seed(seed)
    const { values, violations } = compute(
      `PB_KERNEL(sample, 2, 1) {
        float x = ((const float *)a.p[0])[pb_thread()];
        for (uint32_t mask = 1; mask < 32 && pb_thread() / 32 != 1; mask *= 2)
          x += ((const float *)pb_sim_warp_gather(&x, 4))[pb_thread() % 32 ^ mask];
        ((float *)a.p[1])[pb_thread()] = x;
      }`,
      { threads: 96 },
    )
    const sums = [496, 496 + 32 * 32, 496 + 64 * 32]
    expect(values).toEqual(range(96).map((t) => (t >= 32 && t < 64 ? t : at(sums, Math.floor(t / 32)))))
    expect(violations).toEqual([])
  })
})

describe('shared memory', () => {
  it('is poison at the begin of each block, static and dynamic', () => {
    const { values } = compute(
      `PB_KERNEL(sample, 2, 1) {
        PB_SHARED float s[64];
        float *const d = (float *)pb_sim_dynamic_shared();
        const uint32_t t = pb_thread();
        ((float *)a.p[1])[pb_block() * 64 + t] = (s[t] != s[t]) + (d[t] != d[t]);
        s[t] = d[t] = 1;
        pb_barrier();
      }`,
      { threads: 64, blocks: 4, shared: 256 },
    )
    expect(values).toEqual(range(256).map(() => 2))
  })

  it('ends where the launch says', () => {
    const text = `PB_KERNEL(sample, 2, 1) {
      ((float *)pb_sim_dynamic_shared())[1024 + a.n[0] - 256] = 1;
    }`
    const { status, violations } = compute(text, { shared: 4096 })
    expect(status).toBe(700)
    expect(violations).toEqual([expect.stringMatching(/^sample \(block 0, thread 0\) touched 0x/)])
  })

  it('gets asynchronous copies no sooner than their group is waited for', () => {
    const text = (left: number): string => `PB_KERNEL(sample, 2, 1) {
      PB_SHARED float s[512];
      const uint32_t t = pb_thread();
      const float *const p = (const float *)a.p[0];
      pb_sim_async_copy(s + t, p + t, 4, 4);
      pb_sim_async_commit();
      pb_sim_async_copy(s + 256 + t, p + t, 4, 0);
      pb_sim_async_commit();
      pb_sim_async_wait(${left});
      ((float *)a.p[1])[t] = s[t] + s[256 + t];
    }`
    expect(compute(text(0)).values).toEqual(range(256))
    expect(compute(text(1)).values.every(Number.isNaN)).toBe(true)
  })
})

it('a text that does not compile shows at its launch where compiling is deferred', () => {
  const { status, violations } = compute('PB_KERNEL(sample, 2, 1) { nonsense; }')
  expect(status).toBe(719)
  expect(violations).toEqual([expect.stringMatching(/does not compile: [^]*nonsense/)])
})
