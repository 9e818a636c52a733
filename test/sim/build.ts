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
import { availableParallelism, tmpdir, userInfo } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { cudnnParts } from '../../src/cuda/discovery.ts'
import { cudaPrelude } from '../../src/cuda/prelude.ts'

const sources = fileURLToPath(new URL('native/', import.meta.url))
const compiler = process.env['CXX'] ?? 'g++'
const common = ['-std=c++17', '-fPIC']
const flags = [...common, '-fvisibility=hidden', '-Wall', '-Wextra']
/** The flags of builds.cpp for kernels whose products and sums are not contracted: what is compiled ahead is for them. */
const kernelFlags = [...common, '-O1', '-w', '-fno-strict-aliasing', '-ffp-contract=off']
const keptMilliseconds = 3 * 24 * 3600 * 1000
/** Folders beside the builds, whose entries live longer. */
const shared = ['kernels', 'objects']

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

/** Takes away what no test has used, or nobody has made, for days. */
function prune(folder: string): void {
  for (const name of readdirSync(folder).filter((known) => !shared.includes(known))) {
    const path = join(folder, name)
    if (age(path) > keptMilliseconds) rmSync(path, { recursive: true, force: true })
  }
}

/** Milliseconds since a file or folder changed; 0 where there is none. */
function age(path: string): number {
  const now = Date.now()
  return now - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? now)
}

function contentHash(): string {
  const files = readdirSync(sources).sort()
  const settings = JSON.stringify([compiler, unitFlags(''), kernelFlags, names, files, cudaPrelude])
  return digest([settings, ...files.map((name) => readFileSync(join(sources, name)))])
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
    const { code } = error as NodeJS.ErrnoException
    return code === 'ESRCH' || (code === 'ENOENT' && age(lock) > 60_000)
  }
}

async function build(root: string, target: string): Promise<void> {
  const work = mkdtempSync(join(root, 'build-'))
  try {
    writeFileSync(join(work, 'prelude.h'), cudaPrelude)
    const ahead = [...kernelFlags, '-x', 'c++-header', join(work, 'prelude.h'), '-o', join(work, 'prelude.h.gch')]
    const objects = objectsOf(root)
    const missing = objects.filter(({ path }) => !existsSync(path))
    const made = (path: string): string => join(work, basename(path))
    await all([ahead, ...missing.map(({ source, path }) => [...unitFlags(source), '-c', source, '-o', made(path)])])
    for (const { path } of missing) renameSync(made(path), path)
    // It handles signals and has threads: it stays loaded whoever closes it.
    const link = ['-shared', '-Wl,-z,nodelete', ...objects.map(({ path }) => path), '-ldl', '-lpthread']
    await all([[...link, '-o', join(work, 'libpullback-sim.so')]])
    mkdirSync(join(work, 'cuda'))
    for (const name of names) symlinkSync('../libpullback-sim.so', join(work, 'cuda', name))
    renameSync(work, target)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** Every C++ file with its object, which is kept for as long as the file, the headers and the flags stay the same. */
function objectsOf(root: string): readonly { readonly source: string; readonly path: string }[] {
  const folder = join(root, 'objects')
  mkdirSync(folder, { recursive: true })
  prune(folder)
  const files = readdirSync(sources).sort()
  const read = (name: string): Buffer => readFileSync(join(sources, name))
  const headers = files.filter((name) => name.endsWith('.h')).map(read)
  const units = files.filter((name) => name.endsWith('.cpp'))
  return units.map((name) => {
    const key = digest([JSON.stringify([compiler, unitFlags(name)]), ...headers, read(name)])
    return { source: join(sources, name), path: join(folder, `${name}.${key}.o`) }
  })
}

/** The libraries compute much. */
function unitFlags(source: string): readonly string[] {
  return [...flags, /(^|\/)(cudnn|cublaslt)[^/]*$/.test(source) ? '-O2' : '-O1']
}

function digest(parts: readonly (string | Buffer)[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(String(part.length)).update('\n').update(part)
  return hash.digest('hex').slice(0, 24)
}

/** Runs the compiler on each of these, as many at a time as there are cores. */
async function all(jobs: readonly (readonly string[])[]): Promise<void> {
  const next = jobs.values()
  await Promise.all(Array.from({ length: availableParallelism() }, () => run(next)))
}

/** Takes compilations until there are none. */
async function run(jobs: Iterable<readonly string[]>): Promise<void> {
  for (const job of jobs) await promisify(execFile)(compiler, [...job])
}
