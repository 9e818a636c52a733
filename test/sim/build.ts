// Builds the simulated CUDA library once per content into the temporary folder: every C++ file under native/, the prelude of
// printed kernels compiled ahead, and the names under which programs look for CUDA's libraries. Safe among processes.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { cudnnParts } from '../../src/cuda/discovery.ts'
import { cudaPrelude } from '../../src/cuda/prelude.ts'

const sources = fileURLToPath(new URL('native/', import.meta.url))
const compiler = process.env['CXX'] ?? 'g++'
const common = ['-std=c++17', '-fPIC']
const flags = [...common, '-O1', '-fvisibility=hidden', '-Wall', '-Wextra']
/** The flags of builds.cpp for kernels whose products and sums are not contracted: what is compiled ahead is for them. */
const kernelFlags = [...common, '-O1', '-w', '-fno-strict-aliasing', '-ffp-contract=off']
const keptMilliseconds = 3 * 24 * 3600 * 1000
/** The libraries that compute much. */
const heavy = /^(cudnn|cublaslt)/

/** Every name under which the one library is looked for. */
const names = [
  'libcuda.so.1',
  'libnvrtc-builtins.so.13.0',
  'libnvrtc.so.13',
  'libcublasLt.so.13',
  ...cudnnParts.map((part) => `libcudnn_${part}.so.9`),
  'libcudnn.so.9',
]

/** A built simulation. */
export interface SimulationFiles {
  /** The library. */
  readonly library: string
  /** A folder of its names, for PULLBACK_CUDA_PATH. */
  readonly folder: string
}

/**
 * The simulation built from the sources as they are; a minute where it is not built yet. Where another process builds it,
 * waits for that.
 *
 * @throws Error with the compiler's words.
 */
export async function buildSimulation(): Promise<SimulationFiles> {
  const root = join(tmpdir(), `pullback-sim-${userInfo().uid}`)
  mkdirSync(root, { recursive: true, mode: 0o700 })
  const target = join(root, contentHash())
  const files = { library: join(target, 'libpullback-sim.so'), folder: join(target, 'cuda') }
  const lock = `${target}.lock`
  while (!existsSync(target)) {
    if (!takeLock(lock)) {
      await sleep(200)
      continue
    }
    try {
      prune(root)
      if (!existsSync(target)) await build(root, target)
    } finally {
      rmSync(lock, { recursive: true, force: true })
    }
  }
  const now = new Date()
  utimesSync(target, now, now)
  return files
}

/** Takes away what no test has used for days. */
function prune(root: string): void {
  for (const name of readdirSync(root).filter((known) => known !== 'kernels')) {
    const path = join(root, name)
    if (Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()) > keptMilliseconds)
      rmSync(path, { recursive: true, force: true })
  }
}

function contentHash(): string {
  const hash = createHash('sha256').update(JSON.stringify([compiler, flags, kernelFlags, names, cudaPrelude]))
  for (const name of readdirSync(sources).sort()) hash.update(name).update(readFileSync(join(sources, name)))
  return hash.digest('hex').slice(0, 24)
}

/** A lock is a folder with its owner's process number in it; that of a process that is gone is taken away. */
function takeLock(lock: string): boolean {
  try {
    mkdirSync(lock)
    writeFileSync(join(lock, 'owner'), String(process.pid))
    return true
  } catch {
    if (abandoned(lock)) rmSync(lock, { recursive: true, force: true })
    return false
  }
}

function abandoned(lock: string): boolean {
  try {
    process.kill(Number(readFileSync(join(lock, 'owner'), 'utf8') || process.pid), 0)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}

async function build(root: string, target: string): Promise<void> {
  const work = mkdtempSync(join(root, 'build-'))
  try {
    writeFileSync(join(work, 'prelude.h'), cudaPrelude)
    const header = join(work, 'world.h')
    const units = readdirSync(sources).filter((name) => name.endsWith('.cpp'))
    await all([
      [...kernelFlags, '-x', 'c++-header', join(work, 'prelude.h'), '-o', join(work, 'prelude.h.gch')],
      [...flags, '-x', 'c++-header', join(sources, 'world.h'), '-o', `${header}.gch`],
    ])
    await all(units.map((name) => unit(name, header, work)))
    const objects = units.map((name) => join(work, `${name}.o`))
    await all([['-shared', ...objects, '-ldl', '-lpthread', '-o', join(work, 'libpullback-sim.so')]])
    for (const file of [...objects, `${header}.gch`]) rmSync(file)
    mkdirSync(join(work, 'cuda'))
    for (const name of names) symlinkSync('../libpullback-sim.so', join(work, 'cuda', name))
    renameSync(work, target)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** The arguments that compile one file; the driver's own begin with the header they share, compiled ahead. */
function unit(name: string, header: string, work: string): readonly string[] {
  const first = heavy.test(name) ? ['-O2'] : ['-include', header]
  return [...flags, ...first, '-c', join(sources, name), '-o', join(work, `${name}.o`)]
}

/** Runs the compiler on each of these, two at a time. */
async function all(jobs: readonly (readonly string[])[]): Promise<void> {
  const next = jobs.values()
  await Promise.all([run(next), run(next)])
}

/** Takes compilations until there are none. */
async function run(jobs: Iterable<readonly string[]>): Promise<void> {
  for (const job of jobs) await promisify(execFile)(compiler, [...job])
}
