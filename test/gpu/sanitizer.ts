// The part `sanitizer`: a short training step under NVIDIA's compute-sanitizer, where it is installed: accesses outside of
// memory, and threads of a block that race for shared memory.
import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Part, type Tell, attempt } from './part.ts'

/** What it looks for, and the variables that make it see most: each step launched, each temporary its own allocation. */
const tools = {
  memcheck: { PULLBACK_GRAPHS: '0', PULLBACK_CUDA_MEMORY: 'separate' },
  racecheck: { PULLBACK_GRAPHS: '0' },
} as const

type Tool = keyof typeof tools

/** What compute-sanitizer is to exit with where it finds something; the step itself never does. */
const foundSomething = 86
/** Seconds for each tool. */
const patience = 40

const step = fileURLToPath(new URL('sanitized-step.ts', import.meta.url))
const root = fileURLToPath(new URL('../..', import.meta.url))

/** Where compute-sanitizer is; undefined where it is not installed. */
export function findSanitizer(environment: NodeJS.ProcessEnv): string | undefined {
  const toolkits = ['CUDA_HOME', 'CUDA_PATH'].flatMap((name) => environment[name] ?? []).concat('/usr/local/cuda')
  const folders = [
    ...(environment['PATH'] ?? '').split(delimiter),
    ...toolkits.flatMap((toolkit) => [join(toolkit, 'bin'), join(toolkit, 'compute-sanitizer')]),
  ]
  return folders
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, 'compute-sanitizer'))
    .find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

interface Ended {
  readonly code: number | null
  readonly cut: boolean
  readonly output: string
}

/** Runs a program to its end, or for so many seconds; its whole group is ended then. */
function run(command: string, parameters: readonly string[], environment: NodeJS.ProcessEnv): Promise<Ended> {
  const child = spawn(command, parameters, {
    cwd: root,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  let output = ''
  let cut = false
  const collect = (chunk: Buffer): void => void (output += chunk.toString('utf8'))
  child.stdout.on('data', collect)
  child.stderr.on('data', collect)
  const stop = (): void => {
    if (child.pid === undefined || child.exitCode !== null) return
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // it has just ended
    }
  }
  process.once('exit', stop)
  const timer = setTimeout(() => {
    cut = true
    stop()
  }, patience * 1000)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      clearTimeout(timer)
      process.off('exit', stop)
      resolve({ code, cut, output })
    })
  })
}

async function compare(tell: Tell, sanitizer: string, tool: Tool): Promise<void> {
  const options = [
    '--tool',
    tool,
    '--report-api-errors',
    'no',
    '--error-exitcode',
    String(foundSomething),
    '--target-processes',
    'application-only', // it begins with node itself, which starts python3 and others
    '--show-backtrace',
    'no', // calls run on a stack of koffi's, which nobody can walk
  ]
  const program = [process.execPath, '--import', 'tsx', step]
  const settings = { PULLBACK_TUNE: 'heuristics', PULLBACK_VERIFY: '', ...process.env, ...tools[tool] }
  const { code, cut, output } = await run(sanitizer, [...options, ...program], settings)
  const said = output.split('\n').filter((line) => line.startsWith('========='))
  if (cut) {
    tell.skipped(`${tool} was cut after ${patience} seconds; it had said: ${said.slice(-3).join(' ') || 'nothing'}`)
    return
  }
  if (code !== 0 && code !== foundSomething)
    throw new Error(`exit code ${code ?? 'unknown'}: ${output.split('\n').slice(-12).join('\n')}`)
  if (!output.includes('a step was trained')) throw new Error(`no step was trained: ${output.slice(-2000)}`)
  const summary = said.findLast((line) => /SUMMARY/.test(line)) ?? ''
  const errors = code === 0 ? 0 : Math.max(1, Number(/(\d+) (?:errors?|hazards?)/.exec(summary)?.[1] ?? 1))
  tell.compared({
    ...{ name: `complaints of ${tool}`, cases: 1, worst: errors, tolerance: 0 },
    where: errors === 0 ? summary : said.slice(0, 12).join('\n'),
  })
}

/** The part with a sanitizer at a given place, or none. */
export function sanitizerAt(path: string | undefined): Part {
  return {
    says: 'a training step under compute-sanitizer: memcheck and racecheck',
    seconds: 2 * patience + 5,
    run: async (_gpu, tell) => {
      if (path === undefined)
        tell.skipped(
          'there is no compute-sanitizer in PATH, CUDA_HOME or /usr/local/cuda; it comes with the CUDA toolkit',
        )
      else for (const tool of Object.keys(tools) as Tool[]) await attempt(tell, tool, () => compare(tell, path, tool))
    },
  }
}

export const sanitizer: Part = sanitizerAt(findSanitizer(process.env))
