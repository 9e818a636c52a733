// Runs a part in a process of its own, which hears of each comparison at once and ends the process when its time is up: a
// kernel that hangs or a fault on the GPU costs one part.
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Comparison, Gpu, Part, Tell } from './part.ts'
import type { PartName } from './parts.ts'

/** What a part's process sends, one message for each thing that it tells. */
export type Message =
  | { readonly kind: 'compared'; readonly comparison: Comparison }
  | { readonly kind: 'note' | 'skipped'; readonly sentence: string }
  | { readonly kind: 'threw'; readonly name: string; readonly error: string }

/** All that a part came to, so far or in the end. */
export interface Outcome {
  readonly part: PartName
  readonly comparisons: readonly Comparison[]
  readonly notes: readonly string[]
  /** Why there was nothing to compare; undefined where there was. */
  readonly skipped?: string
  /** What threw, and how the process ended where it did not end well. */
  readonly errors: readonly string[]
  readonly seconds: number
}

/** How a part's process is started. */
export interface RunOptions extends Pick<Gpu, 'size' | 'seed'> {
  /** Seconds left; the part is cut there or at its own limit. */
  readonly seconds: number
  /** Told of each message, with the outcome so far. */
  readonly told?: (message: Message, outcome: Outcome) => void
}

/** The program, whose `--part` is a part's process. */
const program = fileURLToPath(new URL('main.ts', import.meta.url))
const root = fileURLToPath(new URL('../..', import.meta.url))

/** A part's process: what it tells goes to whoever started it. */
export function messenger(send: (message: Message) => void): Tell {
  return {
    compared: (comparison) => send({ kind: 'compared', comparison: finite(comparison) }),
    note: (sentence) => send({ kind: 'note', sentence }),
    skipped: (sentence) => send({ kind: 'skipped', sentence }),
    threw: (name, error) => send({ kind: 'threw', name, error: shown(error) }),
  }
}

/** JSON has no NaN and no infinity: an error that is none of its numbers is the largest there is. */
function finite(comparison: Comparison): Comparison {
  return Number.isFinite(comparison.worst) ? comparison : { ...comparison, worst: Number.MAX_VALUE }
}

/** The first lines of an error, with what caused it. */
function shown(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const [first = ''] = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line))
  const said = error.message.split('\n').slice(0, 20).join('\n')
  return error.cause === undefined ? `${said}${first}` : `${said}${first} (${shown(error.cause)})`
}

/** The outcome with a message added. */
export function noted(outcome: Outcome, message: Message): Outcome {
  switch (message.kind) {
    case 'compared':
      return { ...outcome, comparisons: [...outcome.comparisons, message.comparison] }
    case 'note':
      return { ...outcome, notes: [...outcome.notes, message.sentence] }
    case 'skipped':
      return { ...outcome, skipped: message.sentence }
    case 'threw':
      return { ...outcome, errors: [...outcome.errors, `${message.name}: ${message.error}`] }
    default:
      return message satisfies never
  }
}

/** Nothing told yet. */
export function nothingOf(part: PartName): Outcome {
  return { part, comparisons: [], notes: [], errors: [], seconds: 0 }
}

/** Runs a part in this process; never rejects. */
export async function runHere(name: PartName, part: Part, gpu: Gpu, told?: RunOptions['told']): Promise<Outcome> {
  const began = performance.now()
  let outcome = nothingOf(name)
  const tell = messenger((message) => {
    outcome = noted(outcome, message)
    told?.(message, outcome)
  })
  try {
    await part.run(gpu, tell)
  } catch (error) {
    tell.threw(name, error)
  }
  return { ...outcome, seconds: (performance.now() - began) / 1000 }
}

/** Runs a part in a process of its own until it ends or its time is up; never rejects. */
export function runApart(name: PartName, { seconds, size, seed, told }: RunOptions): Promise<Outcome> {
  const began = performance.now()
  let outcome = nothingOf(name)
  const took = (): number => (performance.now() - began) / 1000
  const parameters = ['--part', name, '--seed', String(seed), ...(size === 'small' ? ['--small'] : [])]
  const child = fork(program, parameters, { cwd: root, execArgv: ['--import', 'tsx'], stdio: 'inherit' })
  const stop = (): void => void child.kill('SIGKILL')
  const cutOff = (): void => {
    child.kill('SIGTERM') // so that it can end what it started
    setTimeout(stop, 2000).unref()
  }
  process.once('exit', stop)
  let cut = false
  const timer = setTimeout(() => {
    cut = true
    cutOff()
  }, seconds * 1000)
  return new Promise((resolve) => {
    const end = (why: string | undefined): void => {
      clearTimeout(timer)
      process.off('exit', stop)
      const errors = why === undefined ? outcome.errors : [...outcome.errors, why]
      resolve({ ...outcome, errors, seconds: took() })
    }
    child.on('message', (message) => {
      outcome = { ...noted(outcome, message as Message), seconds: took() }
      told?.(message as Message, outcome)
    })
    child.once('error', (error) => end(`its process did not start: ${error.message}`))
    child.once('close', (code, signal) => {
      if (cut) end(`cut after ${seconds.toFixed(0)} seconds; what it had compared by then stands`)
      else if (code === 0) end(undefined)
      else end(`its process ended with ${signal ?? `exit code ${code ?? 'unknown'}`}`)
    })
  })
}
