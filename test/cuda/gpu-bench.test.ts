// The whole of bench:gpu at a tiny size on the simulated GPU, beside a process that speaks PyTorch's part: what is measured is
// recorded, what fails is a fact of its contender, and nobody is left behind. No time is looked at.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Competition } from '../../bench/gpu/compete.ts'
import { putRow, readResults, recordOf, table } from '../../bench/gpu/record.ts'
import { rooflineSeconds } from '../../bench/gpu/roofline.ts'
import { workloadOf } from '../../bench/gpu/rows.ts'
import { quartiles } from '../../bench/gpu/statistics.ts'
import type { LibraryEquation, Plan } from '../../src/compile/index.ts'
import { trafficOf } from '../../src/cuda/traffic.ts'
import { type TensorType, variable } from '../../src/tensor/program.ts'
import { at } from '../../src/tensor/shape.ts'
import { type Simulation, buildMilliseconds, simulation } from '../sim/library.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const fakeTorch = fileURLToPath(new URL('fake-torch.mjs', import.meta.url))
let sim: Simulation
let folder = ''
beforeAll(async () => {
  sim = await simulation()
  folder = mkdtempSync(join(tmpdir(), 'pullback-gpu-bench-'))
}, buildMilliseconds)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const tiny = ['--model', 'tiny', '--size', '32', '--warmup', '2', '--blocks', '2', '--steps', '2']

function start(args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'bench/gpu/main.ts', ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...sim.environment, PULLBACK_TUNE: 'heuristics', PULLBACK_TORCH: fakeTorch, ...environment },
  })
  const said = { out: '', error: '' }
  child.stdout.on('data', (text: Buffer) => (said.out += text.toString()))
  child.stderr.on('data', (text: Buffer) => (said.error += text.toString()))
  return { child, said, ended: once(child, 'close') }
}

function results(name: string) {
  const [file] = readdirSync(join(folder, name))
  const found = readResults(join(folder, name, file ?? ''))
  if (found === undefined) throw new Error('no results')
  return found
}

describe('bench:gpu on the simulated GPU', { timeout: 240_000 }, () => {
  it('records a row with all contenders, the dearest steps and the first step, and prints a table', async () => {
    const { said, ended } = start(['--rows', 'training-f16-2', ...tiny, '--results', join(folder, 'all')])
    const [status] = (await ended) as [number]
    expect(said.error).not.toMatch(/Error/)
    expect(status).toBe(0)
    expect(said.out).toMatch(/training-f16-2\s+pullback .*\n\s+eager .*times as fast\n\s+compile .*times as fast\n$/)
    const { gpu, rows } = results('all')
    expect(gpu).toBe('Simulated H200')
    const [row] = rows
    expect(row).toMatchObject({ row: 'training-f16-2', batch: 2, complete: true, interleaved: true })
    expect(row?.contenders.map(({ name, wall_ms, error }) => [name, wall_ms?.count, error])).toEqual(
      ['pullback', 'eager', 'compile'].map((name) => [name, 2, undefined]),
    )
    const ours = row?.contenders[0]
    expect(ours?.events_ms?.median).toBeGreaterThan(0)
    expect(ours?.value).toBeGreaterThan(0)
    expect(ours?.facts['launches']).toBeGreaterThan(50)
    expect(ours?.facts['peak_bytes']).toBeGreaterThan(100_000)
    expect(row?.profile).toMatchObject({ runs: 7, warm_first_step_s: expect.any(Number) as number })
    const dearest = row?.profile?.['dearest'] as { ms: number; bytes: number; by: string }[]
    expect(dearest.length).toBe(10)
    expect(dearest.every(({ ms, bytes, by }) => ms > 0 && bytes > 0 && by !== '')).toBe(true)
    expect(said.error).toMatch(
      /profile of trainStep: 7 runs, [\d.]+ ms a run .* of the host; launched one by one, no graph/,
    )
  })

  it('goes on without a contender that crashes, with one after the other where memory is short', async () => {
    const row = ['--rows', 'inference-f16-2', ...tiny]
    const note = join(folder, 'crowded')
    const runs = [
      start([...row, '--results', join(folder, 'crash')], { FAKE_TORCH: 'crash' }),
      start([...row, '--results', join(folder, 'short')], { FAKE_TORCH: 'crowded', FAKE_TORCH_NOTE: note }),
    ]
    await Promise.all(runs.map(({ ended }) => ended))
    const [crash, short] = ['crash', 'short'].map((name) => results(name).rows[0])
    expect(crash?.contenders.map(({ error }) => error !== undefined)).toEqual([false, false, true])
    expect(crash?.contenders[2]?.error).toMatch(/^compile ended: exit status 7/)
    expect(Object.keys(crash?.ratios ?? {})).toEqual(['eager'])
    expect(short).toMatchObject({ interleaved: false, complete: true })
    expect(short?.contenders.map(({ wall_ms }) => wall_ms?.count)).toEqual([2, 2, 2])
  })

  it('leaves no process behind when it is interrupted', async () => {
    const note = join(folder, 'hanging')
    const { child, ended } = start(['--rows', 'inference-f16-2', ...tiny, '--results', join(folder, 'stopped')], {
      FAKE_TORCH: 'hang',
      FAKE_TORCH_NOTE: note,
    })
    while (!existsSync(note) && child.exitCode === null) await sleep(50)
    await sleep(50)
    child.kill('SIGINT')
    expect(((await ended) as [number])[0]).toBe(130)
    const hanging = Number(readFileSync(note, 'utf8'))
    for (let tries = 0; tries < 100 && alive(hanging); tries++) await sleep(50) // it is nobody's child until it is reaped
    expect(alive(hanging)).toBe(false)
  })

  it.each([
    [['--rows', 'training-f64-2'], "expected a row that --list shows, got 'training-f64-2'"],
    [['--steps', '0'], "expected --steps as a whole number from 1, got '0'"],
    [['--fast'], "Unknown option '--fast'"],
  ])('refuses %j with a sentence', async (args, sentence) => {
    const { said, ended } = start(args)
    expect(await ended).toEqual([2, null])
    expect(said.error).toContain(sentence)
  })
})

function alive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

describe('a row', () => {
  it('has a workload by name', () => {
    expect(workloadOf('training-tf32-128', 224, 'tiny')).toEqual({
      mode: 'training',
      precision: 'tf32',
      batch: 128,
      size: 224,
      model: 'tiny',
    })
    expect(['training-f16-0', 'training-f16', 'evaluation-f16-2'].map((row) => workloadOf(row, 1, 'tiny'))).toEqual([
      undefined,
      undefined,
      undefined,
    ])
  })

  it('is put in the place of the same row, and behind others', () => {
    const workload = workloadOf('inference-f16-8', 224, 'tiny')
    if (workload === undefined) throw new Error('no workload')
    const times = [1, 2, 3]
    const block = { events_ms: times, wall_ms: times, host_ms: times, value: 0 }
    const outcome = (name: string, blocks: Competition['outcomes'][number]['blocks']) => ({
      ...{ name, blocks, prepared: undefined, finished: undefined },
      error: blocks.length === 0 ? 'it fell over\nand more' : undefined,
    })
    const outcomes = [outcome('pullback', [block]), outcome('eager', [])]
    const record = recordOf('inference-f16-8', workload, { outcomes, interleaved: false }, 'now')
    expect(record.contenders[0]).toMatchObject({
      images_per_s: 4000,
      wall_ms: { lower: 2, median: 2, upper: 2, count: 1 },
    })
    const path = join(folder, 'put', 'x.json')
    const head = { date: 'today', gpu: 'none', machine: {} }
    putRow(path, head, { ...record, row: 'other' })
    putRow(path, head, record)
    putRow(path, head, { ...record, complete: true })
    expect(readResults(path)?.rows.map(({ row, complete }) => [row, complete])).toEqual([
      ['other', false],
      ['inference-f16-8', true],
    ])
    expect(table([record])).toMatch(/one after the other.*4000\.0 +2\.00 \(2\.00 to 2\.00\)[^]*eager: it fell over$/)
  })
})

it('quartiles are those of the sorted numbers', () => {
  expect(quartiles([4, 1, 3, 2, 5])).toEqual({ lower: 2, median: 3, upper: 4, count: 5 })
  expect(quartiles([2, 1])).toEqual({ lower: 1.25, median: 1.5, upper: 1.75, count: 2 })
  expect(quartiles([]).median).toBeNaN()
})

describe('the traffic of a plan', () => {
  const type = (...shape: number[]): TensorType => ({ shape, dtype: 'f16' })
  const [x, filter, y] = [type(2, 8, 8, 4), type(16, 1, 1, 4), type(2, 8, 8, 16)]
  const equation = {
    primitive: 'conv2d',
    inputs: [variable(x), variable(filter)],
    params: {
      stride: [1, 1],
      padding: [
        [0, 0],
        [0, 0],
      ],
      dilation: [1, 1],
      groups: 1,
    },
    outputs: [variable(y)],
  } as unknown as LibraryEquation
  const step = {
    kind: 'library',
    equation,
    inputs: [0, 1],
    outputs: [2],
    after: [],
    bytes: 8000,
    flops: 4000,
    label: '',
  } as const
  const plan: Plan = { buffers: [], steps: [step, step], arenaBytes: 0, inputs: [], outputs: [] }

  it('counts a workspace as written and read, and as a conversion where it holds the smaller image', () => {
    const image = 2 * 8 * 8 * 4 * 2
    const ways = (bytes: number, id: string) => [
      { id, scratchBytes: bytes },
      { id: undefined, scratchBytes: 0 },
    ]
    const total = { kernels: 0, libraries: 16_000 }
    expect(trafficOf(plan, ways(image, 'cudnn:1'))).toEqual({ ...total, workspaces: 0, conversions: 2 * image })
    expect(trafficOf(plan, ways(image - 1, 'cudnn:1'))).toEqual({ ...total, workspaces: 2 * image - 2, conversions: 0 })
    expect(trafficOf(plan, ways(image, 'own:grouped'))).toEqual({ ...total, workspaces: 2 * image, conversions: 0 })
  })

  it('has a roofline on a GPU whose rates are known: bytes or products, whichever takes longer', () => {
    expect(rooflineSeconds(plan, 'NVIDIA H200', 'f16')).toBeCloseTo((2 * 8000) / 4.3e12, 20)
    const heavy = { ...plan, steps: [{ ...at(plan.steps, 0), flops: 790e12 }] }
    expect(rooflineSeconds(heavy, 'NVIDIA H200', 'f16')).toBeCloseTo(1, 12)
    expect(rooflineSeconds(heavy, 'NVIDIA H200', 'tf32')).toBeCloseTo(2, 12)
    expect(rooflineSeconds(plan, 'NVIDIA B200', 'f16')).toBeUndefined()
  })
})
