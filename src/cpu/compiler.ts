// Finds the system's C compiler and runs it on several translation units at a time. What is compiled, and where results
// are kept, is cache.ts's part.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'
import { PullbackError } from '../tensor/errors.ts'

/** A C compiler that answered. */
export interface Compiler {
  /** The program and arguments that come before ours (`CC="ccache gcc"` has two words). */
  readonly command: readonly string[]
  /** The first line of `--version`. */
  readonly version: string
  readonly flags: readonly string[]
  /** Changes whenever the same text may give other machine code: compiler, flags, processor. */
  readonly fingerprint: string
}

/** One text and what it becomes: a shared library, or a header that was parsed once for all who include it. */
export interface CompileJob {
  readonly text: string
  readonly output: string
  readonly kind: 'library' | 'header'
  /** A header that the text begins with. */
  readonly include?: string
}

const commonFlags = [
  '-std=gnu11',
  '-O3',
  '-ffp-contract=off',
  '-fno-math-errno',
  '-fno-trapping-math',
  '-fno-strict-aliasing',
  '-w',
  '-fPIC',
]

/** The compiler of the environment: CC if it is set, else the first of cc, gcc and clang; undefined where there is none. */
export function findCompiler(environment: NodeJS.ProcessEnv = process.env): Compiler | undefined {
  const chosen = environment['CC']?.trim()
  const candidates = chosen === undefined || chosen === '' ? ['cc', 'gcc', 'clang'] : [chosen]
  for (const candidate of candidates) {
    const command = candidate.split(/\s+/)
    const version = versionOf(command, environment)
    if (version === undefined) continue
    const flags = [...commonFlags, process.arch === 'x64' ? '-march=native' : '-mcpu=native']
    return { command, version, flags, fingerprint: digest([...command, version, ...flags, processor()].join('\n')) }
  }
  return undefined
}

/** The first 32 hexadecimal digits of the text's SHA-256. */
export function digest(text: string | Uint8Array): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}

/**
 * Compiles all jobs, in parallel, in the scratch folder `folder`.
 *
 * @throws PullbackError `compiler` with the first lines the compiler printed for the first job that failed.
 */
export function compileAll(compiler: Compiler, jobs: readonly CompileJob[], folder: string): void {
  const tasks = jobs.map((job, index) => {
    const source = join(folder, `${index}.c`)
    writeFileSync(source, job.text)
    const errors = join(folder, `${index}.err`)
    const words = [...compiler.command, ...compiler.flags, ...wordsOf(job, source)]
    return { source, output: job.output, errors, command: `${words.map(quote).join(' ')} 2>${quote(errors)} >&2` }
  })
  const commands = tasks.map(({ command }) => command)
  const { error } = spawnSync('sh', ['-c', shareOut(commands, availableParallelism())], { stdio: 'ignore' })
  if (error !== undefined) throw new PullbackError('compiler', `[compile] cannot run sh: ${error.message}`)
  const failed = tasks.find(({ output }) => !existsSync(output))
  if (failed !== undefined) throw failure(compiler, failed.source, failed.errors)
}

function wordsOf({ kind, output, include }: CompileJob, source: string): string[] {
  if (kind === 'header') return ['-x', 'c-header', '-o', output, source]
  const head = include === undefined ? [] : ['-include', include]
  return ['-shared', ...head, '-o', output, source, '-lm', '-lpthread', ...dynamicLoading]
}

const dynamicLoading = process.platform === 'linux' ? ['-ldl'] : []

/** One shell script that keeps `lanes` background lists of commands going, each list in turn. */
function shareOut(commands: readonly string[], lanes: number): string {
  const lists = Array.from({ length: Math.min(lanes, commands.length) }, (_, lane) =>
    commands.filter((_command, index) => index % lanes === lane),
  )
  return `${lists.map((list) => `{ ${list.join(' ; ')} ; } &`).join('\n')}\nwait`
}

function failure(compiler: Compiler, source: string, errors: string): PullbackError {
  const printed = existsSync(errors) ? readFileSync(errors, 'utf8') : ''
  const lines = printed.split('\n').filter((line) => line !== '')
  const telling = lines.filter((line) => line.includes('error'))
  const shown = (telling.length > 0 ? telling : lines).slice(0, 5).join('\n')
  return new PullbackError(
    'compiler',
    `[compile] ${compiler.command.join(' ')} failed on ${source}:\n${shown === '' ? '(it printed nothing)' : shown}\n` +
      'Set CC to another C compiler, or use the reference device.',
  )
}

function versionOf(command: readonly string[], environment: NodeJS.ProcessEnv): string | undefined {
  const [program, ...rest] = command
  if (program === undefined) return undefined
  const { status, stdout } = spawnSync(program, [...rest, '--version'], { encoding: 'utf8', env: environment })
  return status === 0 ? (stdout.split('\n')[0] ?? '') : undefined
}

/** The processor's name and features, since code for one need not run on another that shares the cache. */
function processor(): string {
  return `${process.arch} ${cpus()[0]?.model ?? ''} ${features().join(' ')}`
}

/** The processor's features as Linux names them; none elsewhere. */
function features(): string[] {
  if (process.platform !== 'linux') return []
  const line = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ''
  return line.trim().split(/\s+/)
}

/** The vector instructions that kernels are printed for, as far as this machine has them: `AVX2 FMA F16C`. */
export function vectorInstructions(): string {
  const present = new Set(features())
  const used = ['avx512f', 'avx2', 'fma', 'f16c', 'asimd'].filter((name) => present.has(name))
  return used.length === 0 ? 'vectors as the compiler has them' : used.join(' ').toUpperCase()
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`
}
