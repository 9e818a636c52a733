// npm run bench:gpu: the model on the first GPU beside PyTorch, eager and compiled. Each row is recorded in bench/results as
// soon as it is measured; PyTorch is used if PULLBACK_TORCH (default python3) has it and it sees the GPU.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { cpus, loadavg, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { cudaProbe } from '../../src/cuda/index.ts'
import { type Schedule, compete } from './compete.ts'
import { type Command, killAll } from './contender.ts'
import type { Facts } from './protocol.ts'
import { type ResultFile, type RowRecord, putRow, recordOf, table } from './record.ts'
import { type Workload, defaultRows, flagsOf, moreRows, workloadOf } from './rows.ts'

const here = fileURLToPath(new URL('.', import.meta.url))
const python = process.env['PULLBACK_TORCH'] ?? 'python3'
/** Everything is tuned before it is timed: the usual seconds are for first steps that must not take long. */
const tuneSeconds = '150'
const usage = `usage: npm run bench:gpu -- [--rows NAME,NAME] [--list] [--limit SECONDS] [--warm]
  --rows    what is run, by name: ${defaultRows.join(' and ')} unless said otherwise
  --list    shows the rows
  --limit   seconds that a row may take: 450 unless said otherwise
  --total   seconds after which no row is begun that might not end in time: 3600 unless said otherwise
  --warm    with the compiled kernels and tuned choices that are kept, not with an empty cache
  PULLBACK_TUNE_SECONDS is ${tuneSeconds} unless it is set.
  --warmup, --blocks, --steps, --size, --model tiny, --results DIRECTORY   for trying the benchmark itself`

async function main(): Promise<void> {
  const { values } = flags()
  if (values.list) {
    const more = moreRows.map((row) => `${row}  by --rows`)
    process.stdout.write(
      `${[...defaultRows, ...more, 'training|inference-f16|bf16|tf32-BATCH  by --rows'].join('\n')}\n`,
    )
    return
  }
  const model = values.model === 'tiny' ? 'tiny' : 'se-resnext101-32x4d'
  const names = values.rows === undefined ? defaultRows : values.rows.split(',')
  const rows = names.map((name) => [name, workloadOf(name, whole('size', values.size), model)] as const)
  const wrong = rows.find(([, workload]) => workload === undefined)
  if (wrong !== undefined) refuse(`expected a row that --list shows, got '${wrong[0]}'`)
  const schedule = {
    warmup: whole('warmup', values.warmup),
    blocks: whole('blocks', values.blocks),
    steps: whole('steps', values.steps),
    limit: whole('limit', values.limit),
  }
  const gpu = gpuName()
  const torch = findTorch()
  const date = new Date().toISOString().slice(0, 10)
  const head = { date, gpu, machine: machineFacts(torch) }
  const path = join(
    values.results,
    `${gpu
      .toLowerCase()
      .replace(/^nvidia /, '')
      .replaceAll(/[^a-z0-9]+/g, '-')}-${date}.json`,
  )
  const measured: RowRecord[] = []
  const began = performance.now()
  for (const [name, workload] of rows)
    if (measured.length > 0 && (performance.now() - began) / 1000 > whole('total', values.total) - schedule.limit)
      process.stderr.write(`${name}: not begun, for lack of time; --rows ${name} measures it, --total gives more\n`)
    else if (workload !== undefined)
      measured.push(await runRow(name, workload, { schedule, head, path, torch, warm: values.warm }))
  process.stdout.write(`\n${gpu}, recorded in ${path}\n${table(measured)}\n`)
  if (measured.some(({ contenders }) => contenders[0]?.images_per_s === undefined)) process.exitCode = 1
}

interface RowOptions {
  readonly schedule: Schedule
  readonly head: Omit<ResultFile, 'rows'>
  readonly path: string
  readonly torch: Facts | undefined
  readonly warm: boolean
}

/** Measures one row, records it, and then what our steps take by themselves. */
async function runRow(name: string, workload: Workload, options: RowOptions): Promise<RowRecord> {
  const { schedule, head, path, torch, warm } = options
  process.stderr.write(`${name}: at most ${schedule.limit} s\n`)
  const cold = mkdtempSync(join(tmpdir(), 'pullback-bench-'))
  const start = performance.now()
  try {
    const environment = {
      PULLBACK_TUNE_SECONDS: tuneSeconds,
      ...process.env,
      ...(warm ? {} : { PULLBACK_CACHE: cold }),
    }
    const theirs = torch === undefined ? [] : (['eager', 'compile'] as const).map((how) => torchCommand(how, workload))
    const competition = await compete([ourCommand(workload, environment), ...theirs], schedule)
    const record = recordOf(name, workload, competition, new Date().toISOString())
    putRow(path, head, record)
    const left = Math.max(30, schedule.limit - (performance.now() - start) / 1000)
    const profile = await profiled(workload, environment, left)
    const complete = { ...record, complete: true, profile }
    putRow(path, head, complete)
    return complete
  } finally {
    rmSync(cold, { recursive: true, force: true })
  }
}

/** Our steps launched one by one and timed: a process of its own, whose first step finds warm caches. */
async function profiled(workload: Workload, environment: NodeJS.ProcessEnv, limit: number): Promise<Facts> {
  const { name, ...command } = ourCommand(workload, environment, '--profile')
  const schedule = { warmup: 2, blocks: 1, steps: 5, limit }
  const { outcomes } = await compete([{ ...command, name: `${name} profile` }], schedule)
  const [outcome] = outcomes
  const { first_step_s: firstStep, open_s: open } = outcome?.prepared ?? {}
  const { dearest, profiled_ms: total, profiled_runs: runs } = outcome?.finished ?? {}
  return { warm_first_step_s: firstStep, warm_open_s: open, runs, total_ms: total, dearest, error: outcome?.error }
}

function ourCommand(workload: Workload, environment: NodeJS.ProcessEnv, ...more: readonly string[]): Command {
  const args = ['--import', 'tsx', join(here, 'ours.ts'), ...flagsOf(workload), ...more]
  return { name: 'pullback', program: process.execPath, args, environment }
}

function torchCommand(how: 'eager' | 'compile', workload: Workload): Command {
  return { name: how, program: python, args: [torchScript(), '--how', how, ...flagsOf(workload)] }
}

function torchScript(): string {
  return join(here, '../torch/gpu.py')
}

/** What PyTorch says of itself; undefined, and why is printed, where it cannot compete. */
function findTorch(): Facts | undefined {
  const { status, stdout } = spawnSync(python, [torchScript(), '--probe'], { encoding: 'utf8', timeout: 180_000 })
  const [line] = status === 0 ? stdout.split('\n').filter((text) => text.startsWith('{')) : []
  const facts = line === undefined ? undefined : (JSON.parse(line) as Facts)
  if (typeof facts?.['gpu'] === 'string') return facts
  const why = facts === undefined ? `${python} has none that can be imported` : 'it sees no GPU'
  process.stderr.write(`PyTorch does not compete: ${why} (PULLBACK_TORCH names another python).\n`)
  return undefined
}

/** The first GPU's name; ends the program with one sentence where CUDA cannot be used. */
function gpuName(): string {
  const { problems, libraries } = cudaProbe()
  const [problem] = problems
  if (problem !== undefined || libraries.driver === undefined) {
    process.stderr.write(`bench:gpu: ${problem?.sentence ?? 'there is no driver.'}\n`)
    process.exit(1)
  }
  const { driver } = libraries
  driver.init()
  return driver.deviceName(driver.device(0))
}

function machineFacts(torch: Facts | undefined): Facts {
  const [cpu] = cpus()
  const memory = Math.round(totalmem() / 2 ** 30)
  const [load] = loadavg()
  return { cpu: cpu?.model ?? 'unknown', cores: cpus().length, memoryGiB: memory, node: process.version, load, torch }
}

function flags() {
  try {
    return parseArgs({
      options: {
        rows: { type: 'string' },
        list: { type: 'boolean', default: false },
        warm: { type: 'boolean', default: false },
        limit: { type: 'string', default: '450' },
        total: { type: 'string', default: '3600' },
        warmup: { type: 'string', default: '20' },
        blocks: { type: 'string', default: '5' },
        steps: { type: 'string', default: '10' },
        size: { type: 'string', default: '224' },
        model: { type: 'string', default: 'se-resnext101-32x4d' },
        results: { type: 'string', default: join(here, '../results') },
      },
    })
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
}

function whole(name: string, text: string): number {
  return /^[1-9]\d{0,5}$/.test(text)
    ? Number(text)
    : refuse(`expected --${name} as a whole number from 1, got '${text}'`)
}

function refuse(sentence: string): never {
  process.stderr.write(`bench:gpu: ${sentence}\n${usage}\n`)
  process.exit(2)
}

for (const [signal, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const)
  process.once(signal, () => {
    killAll()
    process.exit(status)
  })
process.once('exit', killAll)
await main()
