// npm run bench: every row in a process of its own, side by side with what else is installed, recorded in bench/results.
// PyTorch is used if PULLBACK_TORCH (default python3) can import it; jax-js and tfjs if bench/others is installed.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { cases } from './others/cases.mjs'

const here = fileURLToPath(new URL('.', import.meta.url))
const python = process.env['PULLBACK_TORCH'] ?? 'python3'

/** One measurement as a row printed it. */
export type Row = Readonly<Record<string, string | number | boolean | null>>

const groups = {
  model: () => modelRows([4]),
  growth: () => modelRows([1, 16]),
  ops: () => [...own('ops.ts'), ...blas(), ...others()],
  compile: () => own('compile.ts'),
  eager: () => own('eager.ts'),
  host: () => own('host.ts'),
} as const satisfies Readonly<Record<string, () => readonly Row[]>>

type Group = keyof typeof groups

function main(): void {
  const { values } = parseArgs({ options: { only: { type: 'string', multiple: true } } })
  const chosen = (values.only ?? Object.keys(groups)) as Group[]
  const unknown = chosen.find((name) => !(name in groups))
  if (unknown !== undefined) {
    process.stderr.write(`bench: expected --only ${Object.keys(groups).join(' | ')}, got '${unknown}'\n`)
    process.exit(2)
  }
  const date = new Date().toISOString().slice(0, 10)
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
  }
  const file = `${here}results/cpu-${date}${values.only === undefined ? '' : `-${chosen.join('-')}`}.json`
  mkdirSync(`${here}results`, { recursive: true })
  const rows: Row[] = []
  for (const name of chosen) {
    for (const row of groups[name]()) rows.push({ group: name, ...row })
    writeFileSync(file, `${JSON.stringify({ date, machine, rows }, null, 1)}\n`) // at once: a cut-off loses one group
  }
  process.stdout.write(`recorded in ${file}\n`)
}

/** The model beside PyTorch: ours and theirs in turn. */
function modelRows(batches: readonly number[]): Row[] {
  return batches.flatMap((batch) =>
    ['inference', 'training'].flatMap((mode) => [
      ...own('model.ts', '--mode', mode, '--batch', String(batch)),
      ...torch('--mode', mode, '--batch', String(batch)),
    ]),
  )
}

function own(file: string, ...args: readonly string[]): Row[] {
  return run(process.execPath, ['--import', 'tsx', `${here}rows/${file}`, ...args])
}

function torch(...args: readonly string[]): Row[] {
  const probe = spawnSync(python, ['-c', 'import torch'], { stdio: 'ignore' })
  if (probe.status !== 0) return absent(`PyTorch (${python} cannot import torch; set PULLBACK_TORCH)`)
  return run(python, [`${here}torch/model.py`, ...args])
}

/** A CBLAS beside our micro-kernel: the same products, and the 1x1 convolutions as the products they are. */
function blas(): Row[] {
  const probe = spawnSync(python, ['-c', 'import numpy'], { stdio: 'ignore' })
  if (probe.status !== 0) return absent(`a CBLAS (${python} cannot import numpy; set PULLBACK_TORCH)`)
  const products = (cases as readonly Shapes[]).flatMap(
    ({ name, m, k, n, batch = 0, size = 0, channels, out, window }) =>
      window === undefined || window === 1 ? [{ name, m: m ?? batch * size ** 2, k: k ?? channels, n: n ?? out }] : [],
  )
  return run(python, [`${here}others/blas.py`, JSON.stringify(products)])
}

interface Shapes
  extends Readonly<Record<'m' | 'k' | 'n' | 'batch' | 'size' | 'channels' | 'out' | 'window', number | undefined>> {
  readonly name: string
}

function others(): Row[] {
  if (!existsSync(`${here}others/node_modules`)) return absent('jax-js and tfjs (npm ci --prefix bench/others)')
  return run(process.execPath, [`${here}others/run.mjs`])
}

function absent(what: string): Row[] {
  process.stdout.write(`not here: ${what}\n`)
  return []
}

/** Runs a command that prints a JSON object a line; shows and collects them. A failed row is shown and left out. */
function run(command: string, args: readonly string[]): Row[] {
  const load = Number(loadavg()[0]?.toFixed(1))
  const child = spawnSync(command, args, { encoding: 'utf8', timeout: 600_000, stdio: ['ignore', 'pipe', 'inherit'] })
  if (child.status !== 0) process.stdout.write(`failed: ${args.join(' ')}\n`)
  const lines = child.stdout.split('\n').filter((line) => line.startsWith('{'))
  process.stdout.write(lines.map((line) => `${line}\n`).join(''))
  return lines.map((line) => ({ load, ...(JSON.parse(line) as Row) }))
}

main()
