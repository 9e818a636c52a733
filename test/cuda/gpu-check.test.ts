// `npm run gpu:check` on the simulated GPU, in a reduced size: each part passes, and fails where something is wrong, a wrong
// kernel or a wrong result being planted. On a real GPU it runs for the first time where nobody can watch.
import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { CudaDevice } from '../../src/cuda/device.ts'
import type { Findings } from '../../src/cuda/doctor.ts'
import { CudaError } from '../../src/cuda/ffi/status.ts'
import { cudaPrelude } from '../../src/cuda/prelude.ts'
import { warpPrelude } from '../../src/cuda/prelude-warps.ts'
import { gpuCheck } from '../gpu/check.ts'
import { type Gpu, type Part, gpuOf, passes } from '../gpu/part.ts'
import { type PartName, partNames, parts } from '../gpu/parts.ts'
import { preludeOf } from '../gpu/prelude.ts'
import { preludeSweeps } from '../gpu/prelude-sweeps.ts'
import { outcomeLines, table, verdict, worstFirst } from '../gpu/report.ts'
import { type Outcome, noted, nothingOf, runApart, runHere } from '../gpu/run.ts'
import { sanitizerAt } from '../gpu/sanitizer.ts'
import { driverSteps } from '../gpu/smoke-driver.ts'
import { type SmokeStep, smokeOf } from '../gpu/smoke.ts'
import { type Simulation, buildMilliseconds, simulation } from '../sim/library.ts'

let sim: Simulation
let folder = ''
beforeAll(async () => {
  sim = await simulation()
  folder = mkdtempSync(join(tmpdir(), 'pullback-gpu-check-'))
}, buildMilliseconds)
afterAll(() => rmSync(folder, { recursive: true, force: true }))
beforeEach(() => {
  sim.reset()
  sim.seed(0)
})

/** The simulated GPU; `spoil` is done to each device that a part opens, by its number. */
function simulatedGpu(spoil: (device: CudaDevice, opened: number) => void = () => undefined): Gpu {
  const gpu = gpuOf({ size: 'small', seed: 1 }, sim)
  let opened = 0
  return {
    ...gpu,
    open: ({ environment, ...options } = {}) => {
      const device = gpu.open({ ...options, environment: { PULLBACK_CACHE: folder, ...environment } })
      spoil(device, opened++)
      return device
    },
  }
}

/** A kernel that is not what was printed. */
function plant(device: CudaDevice, from: string, to: string): void {
  const { cubins } = device.runtime.modules
  const get = cubins.get.bind(cubins)
  cubins.get = (sources, progress) =>
    get(
      sources.map((source) => ({ ...source, text: source.text.replaceAll(from, to) })),
      progress,
    )
}

/** Every result with its first element wrong. */
function misread(device: CudaDevice): void {
  const read = device.read.bind(device)
  device.read = async (storage) => {
    const elements = await read(storage)
    new Uint8Array(elements.buffer)[elements.BYTES_PER_ELEMENT - 1] = 0x41
    return elements
  }
}

async function outcomeOf(name: PartName, gpu: Gpu, part: Part = parts[name]): Promise<Outcome> {
  const outcome = await runHere(name, part, gpu)
  console.log([`${name}: ${outcome.comparisons.length} comparisons`, ...outcomeLines(outcome).slice(-4)].join('\n'))
  const { violations, memory } = sim.report()
  expect({ violations, memory }).toEqual({ violations: [], memory: [] })
  return outcome
}

const failing = ({ comparisons }: Outcome): string[] =>
  comparisons.filter((one) => !passes(one)).map(({ name }) => name)

describe('a part of the check on the simulated GPU', { timeout: 300_000 }, () => {
  it('smoke: passes, and finds arguments that are not those of the second launch of a graph', async () => {
    const good = await outcomeOf('smoke', simulatedGpu())
    expect(good.errors).toEqual([])
    expect(verdict(good)).toBe('passed')
    const bad = await outcomeOf(
      'smoke',
      simulatedGpu((device) => plant(device, 'sum += (uint32_t)a.n[i];', 'sum += (uint32_t)a.n[i % 7];')),
      smokeOf(driverSteps),
    )
    expect(failing(bad)).toEqual(['a launch with 31 KB of arguments', 'replay 1 of a graph', 'replay 2 of a graph'])
  })

  it('smoke: goes on in another process behind what leaves the GPU unusable, and only then', async () => {
    const tried: string[] = []
    const step = (name: string, error?: Error): SmokeStep => ({
      ...{ name, small: true },
      run: () => {
        tried.push(name)
        if (error !== undefined) throw error
      },
    })
    const fault = new CudaError('driver', 'cuStreamSynchronize', 700, { name: 'ILLEGAL_ADDRESS', text: '' })
    const part = smokeOf([step('a'), step('b', new Error('no')), step('c', fault), step('d')])
    const gpu = simulatedGpu()
    const first = await outcomeOf('smoke', gpu, part)
    expect(first.begun).toMatchObject({ step: 'c', lost: true })
    await outcomeOf('smoke', { ...gpu, after: 'c' }, part)
    expect(tried).toEqual(['a', 'b', 'c', 'd'])
    const closed = await outcomeOf('smoke', gpu, smokeOf([step('x', new Error('no device')), step('y')]))
    expect([tried.at(-1), closed.notes]).toEqual(['x', ['no device could be opened: nothing else was tried']])
  })

  it('prelude: passes, and finds a second body that rounds ties wrongly', async () => {
    const good = await outcomeOf('prelude', simulatedGpu())
    expect(good.errors).toEqual([])
    expect(verdict(good)).toBe('passed')
    expect(good.comparisons.length).toBeGreaterThan(25)
    const wrong = (cudaPrelude + warpPrelude).replace('magnitude + 0xfffu +', 'magnitude + 0x1000u +')
    const [sweep] = preludeSweeps(wrong)
    if (sweep === undefined) throw new Error('no sweep')
    const bad = await outcomeOf('prelude', simulatedGpu(), preludeOf([sweep]))
    expect(failing(bad)).toEqual(['f32 to f16, patterns that differ'])
  })

  it('prelude: finds shuffles, fragments, copies and products that are not what they promise', async () => {
    const bad = await outcomeOf(
      'prelude',
      simulatedGpu((device) => {
        plant(device, 'pb_lane() ^ mask', 'pb_lane() ^ mask ^ 1')
        plant(device, 'rows[8 * m + lane / 4]', 'rows[8 * m + lane / 8]')
        plant(
          device,
          'if (wanted) pb_sim_async_copy(to, from, 16, inside ? 16 : 0)',
          'pb_sim_async_copy(to, from, 16, 16)',
        )
        plant(device, '(b[i] >> 16 * k)', '(b[i] >> 16 * (1 - k))')
      }),
      preludeOf([]),
    )
    expect(failing(bad).map((name) => name.split(/[ ,]/)[0])).toEqual(
      expect.arrayContaining(['shuffles', 'fragments', 'asynchronous', 'mma']),
    )
  })

  it('primitives: passes, and finds a kernel that adds where it should multiply', async () => {
    const good = await outcomeOf('primitives', simulatedGpu())
    expect(good.errors).toEqual([])
    expect(verdict(good)).toBe('passed')
    const bad = await outcomeOf(
      'primitives',
      simulatedGpu((device) => plant(device, 'pbv_mul_f', 'pbv_add_f')),
    )
    expect(failing(bad)).toContain('mul in f16, elements with other bits')
  })

  it('laws: passes, and finds results that are wrong', async () => {
    const good = await outcomeOf('laws', simulatedGpu())
    expect(good.errors).toEqual([])
    expect(verdict(good)).toBe('passed')
    expect(good.comparisons).toHaveLength(12)
    const bad = await outcomeOf('laws', simulatedGpu(misread))
    expect(failing(bad).length).toBeGreaterThan(8)
  })

  it('model: passes, and finds logits that are wrong', async () => {
    expect(verdict(await outcomeOf('model', simulatedGpu()))).toBe('passed')
    expect(verdict(await outcomeOf('model', simulatedGpu(misread)))).toBe('failed')
  })

  it('bits: finds that the third run is another one, and that the second is not', async () => {
    const outcome = await outcomeOf(
      'bits',
      simulatedGpu((device, opened) => {
        if (opened === 2) misread(device)
      }),
    )
    expect(outcome.errors).toEqual([])
    expect(outcome.comparisons.map(passes)).toEqual([true, false])
  })

  it('memory: finds tensors that are never given back', async () => {
    const leaking = (device: CudaDevice): void => {
      const upload = device.upload.bind(device)
      device.upload = (data, type) => {
        upload(data, type)
        return upload(data, type)
      }
    }
    const outcome = await outcomeOf('memory', simulatedGpu(leaking))
    expect(outcome.errors).toEqual([])
    expect(failing(outcome)).toContain('bytes in use, growth over 4 steps')
    const others = outcome.comparisons.filter(({ name }) => /graphs|kernels/.test(name))
    expect(others.map(passes)).toEqual([true, true])
  })
})

describe('the sanitizer', { timeout: 120_000 }, () => {
  /** A program in compute-sanitizer's place; `"$@"` are its arguments. */
  const fake = (name: string, script: string): string => {
    const path = join(folder, name)
    writeFileSync(path, `#!/bin/sh\n${script}\n`)
    chmodSync(path, 0o755)
    return path
  }
  const told = (path: string | undefined): Promise<Outcome> => outcomeOf('sanitizer', simulatedGpu(), sanitizerAt(path))

  it('is skipped with a sentence where there is none', async () => {
    const outcome = await told(undefined)
    expect(verdict(outcome)).toBe('skipped')
    expect(outcome.skipped).toMatch(/^there is no compute-sanitizer in PATH/)
  })

  it('passes what it does not complain about, and fails what it does', async () => {
    const clean = fake('clean', 'echo a step was trained; echo "========= ERROR SUMMARY: 0 errors"')
    expect(verdict(await told(clean))).toBe('passed')
    const complaint =
      'echo "========= Invalid __global__ read of size 2 bytes"; echo "========= ERROR SUMMARY: 3 errors"'
    const strict = fake('strict', `echo a step was trained; ${complaint}; exit 86`)
    const { comparisons } = await told(strict)
    expect(comparisons.map(({ worst }) => worst)).toEqual([3, 3])
    expect(comparisons[0]?.where).toContain('Invalid __global__ read')
  })

  it('is a failure where the step did not run', async () => {
    expect((await told(fake('silent', 'exit 0'))).errors).toEqual([
      expect.stringContaining('no step was trained'),
      expect.stringContaining('no step was trained'),
    ])
    expect((await told(fake('broken', 'echo no such option; exit 1'))).errors[0]).toContain('no such option')
  })

  it('runs a step that trains', async () => {
    const before = { ...process.env }
    Object.assign(process.env, sim.environment, { PULLBACK_CACHE: folder })
    try {
      const script = 'if [ "$2" = racecheck ]; then echo a step was trained; exit 0; fi; shift 10; exec "$@"'
      expect((await told(fake('running', script))).errors).toEqual([])
    } finally {
      process.env = before
    }
  })
})

describe('the check', { timeout: 120_000 }, () => {
  async function checked(
    argv: readonly string[],
    find: () => Findings,
  ): Promise<{ code: number; out: string; error: string }> {
    const said = { out: '', error: '' }
    const code = await gpuCheck(argv, {
      find,
      print: (text) => void (said.out += text),
      complain: (text) => void (said.error += text),
    })
    return { code, ...said }
  }
  const nothing = (): Findings => {
    throw new Error('nobody is to look for a GPU')
  }

  it.each([
    [['--only', 'prelude,colours'], /^gpu:check: expected parts among smoke, .*, got 'colours'\. Try --help\.\n$/],
    [['--seed', '-1'], /^gpu:check: Option '--seed' argument is ambiguous\. Try --help\.\n$/],
    [['--seed=x'], /^gpu:check: expected --seed to be an integer from 0 to 2147483647, got 'x'\. Try --help\.\n$/],
    [['--fast'], /^gpu:check: Unknown option '--fast'\. Try --help\.\n$/],
    [['prelude'], /^gpu:check: Unexpected argument 'prelude'.*\. Try --help\.\n$/],
  ])('answers %j with one sentence', async (argv, sentence) => {
    const { code, error } = await checked(argv, nothing)
    expect(code).toBe(2)
    expect(error).toMatch(sentence)
  })

  it('says what it consists of', async () => {
    const { code, out } = await checked(['--help'], nothing)
    expect(code).toBe(0)
    for (const name of partNames) expect(out).toContain(`  ${name} `)
  })

  it('says what the doctor says where there is no GPU', async () => {
    const problems = [{ code: 'call', sentence: 'There is no GPU. Buy one.' }] as const
    const { code, out, error } = await checked([], () => ({
      discovery: { problems: [] } as never,
      versions: {},
      problems,
    }))
    expect({ code, out, error }).toEqual({ code: 1, out: '', error: 'gpu:check: There is no GPU. Buy one.\n' })
  })

  it('runs parts in processes of their own, prints a table and keeps what they found', async () => {
    const before = { ...process.env }
    Object.assign(process.env, sim.environment, { PULLBACK_CACHE: folder, PATH: '/usr/bin:/bin' })
    const results = join(folder, 'results')
    try {
      const { cudaProbe } = await import('../../src/cuda/index.ts')
      const { code, out } = await checked(['--small', '--only', 'memory', '--out', results], () => cudaProbe())
      expect(out).toContain('0 (none allowed) recorded graphs, growth over 4 steps')
      expect(out).toMatch(/\nmemory +passed +[\d.]+ s {2}6 comparisons, 0 failed\nrecorded in /)
      expect(code).toBe(0)
    } finally {
      process.env = before
    }
    const [file = ''] = readdirSync(results)
    expect(file).toMatch(/^check-simulated-h200-\d{4}-\d\d-\d\d-memory\.json$/)
    const kept = JSON.parse(readFileSync(join(results, file), 'utf8')) as Record<string, unknown>
    expect(kept).toMatchObject({
      gpu: 'Simulated H200',
      found: expect.arrayContaining([expect.stringMatching(/^cuDNN: /)]) as unknown,
      parts: [{ part: 'memory', verdict: 'passed', errors: [] }],
    })
  })

  it('goes on behind a step that ends its process or hangs, and names it', async () => {
    const program = join(folder, 'steps.mjs')
    const text = `
      const after = process.argv[process.argv.indexOf('--after') + 1]
      const begin = (step) => process.send({ kind: 'begun', step, what: 'trying' })
      const compared = (name) => process.send({ kind: 'compared', comparison: { name, cases: 1, worst: 0, tolerance: 0 } })
      if (!process.argv.includes('--after')) { begin('a'); compared('a'); begin('b'); process.kill(process.pid, 'SIGSEGV') }
      if (after === 'b') { begin('c'); setInterval(() => undefined, 1000) }
      if (after === 'c') { begin('d'); process.send({ kind: 'lost' }); process.disconnect() }
      if (after === 'd') { begin('e'); compared('e'); process.disconnect() }`
    writeFileSync(program, text)
    const options = { program, seconds: 60, stepSeconds: 4, size: 'small', seed: 1 } as const
    const outcome = await runApart('smoke', options)
    expect(outcome.comparisons.map(({ name }) => name)).toEqual(['a', 'e'])
    expect(outcome.errors).toEqual([
      'b, trying: its process ended with SIGSEGV',
      'c, trying: cut after 4 seconds; what it had compared by then stands',
    ])
  })

  it('cuts a part whose time is up, and says so', async () => {
    const outcome = await runApart('laws', { seconds: 0.2, size: 'small', seed: 1 })
    expect(outcome.errors).toEqual(['cut after 0 seconds; what it had compared by then stands'])
    expect(verdict(outcome)).toBe('failed')
  })
})

describe('what is told', () => {
  const compared = (name: string, worst: number, tolerance: number) =>
    ({ kind: 'compared', comparison: { name, cases: 1, worst, tolerance } }) as const

  it('is sorted by the share of the tolerance, and fails for what is no number', () => {
    const list = [compared('a', 0, 0), compared('b', 0.5, 1), compared('c', 2e-5, 1e-4), compared('d', 1, 0)]
    const outcome = list.reduce(noted, nothingOf('laws'))
    expect(worstFirst(outcome.comparisons).map(({ name }) => name)).toEqual(['d', 'b', 'c', 'a'])
    expect(verdict(outcome)).toBe('failed')
    expect(passes({ name: 'e', cases: 1, worst: Number.NaN, tolerance: 1 })).toBe(false)
    expect(table([outcome])[0]).toMatch(/^laws +failed +0\.0 s {2}4 comparisons, 1 failed$/)
  })

  it('is a failure where nothing was compared and nobody says why', () => {
    expect(verdict(nothingOf('laws'))).toBe('failed')
    expect(verdict(noted(nothingOf('laws'), { kind: 'skipped', sentence: 'no' }))).toBe('skipped')
  })
})
