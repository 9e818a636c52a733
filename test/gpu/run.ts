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
  | { readonly kind: 'begun'; readonly step: string; readonly what: string }
  | { readonly kind: 'lost' }
  | { readonly kind: 'ended'; readonly why: string }

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
  /** What was begun last, and whether the GPU was given up there. */
  readonly begun?: { readonly step: string; readonly what: string; readonly lost: boolean }
}

/** How a part's process is started. */
export interface RunOptions extends Pick<Gpu, 'size' | 'seed'> {
  /** Seconds left; the part is cut there or at its own limit. */
  readonly seconds: number
  /** Seconds for each of its steps, where it goes on behind one that ends its process. */
  readonly stepSeconds?: number | undefined
  /** What runs the part; this program unless said otherwise. */
  readonly program?: string
  /** Told of each message, with the outcome so far. */
  readonly told?: (message: Message, outcome: Outcome) => void
}

/** The program, whose `--part` is a part's process. */
const ownProgram = fileURLToPath(new URL('main.ts', import.meta.url))
/** Seconds in which a process must have begun its first step. */
const startSeconds = 40
const root = fileURLToPath(new URL('../..', import.meta.url))

/** A part's process: what it tells goes to whoever started it. */
export function messenger(send: (message: Message) => void): Tell {
  return {
    compared: (comparison) => send({ kind: 'compared', comparison: finite(comparison) }),
    note: (sentence) => send({ kind: 'note', sentence }),
    skipped: (sentence) => send({ kind: 'skipped', sentence }),
    threw: (name, error) => send({ kind: 'threw', name, error: shown(error) }),
    begun: (step, what) => send({ kind: 'begun', step, what }),
    lost: () => send({ kind: 'lost' }),
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
    case 'ended':
      return { ...outcome, errors: [...outcome.errors, message.why] }
    case 'begun':
      return { ...outcome, begun: { step: message.step, what: message.what, lost: false } }
    case 'lost':
      return outcome.begun === undefined ? outcome : { ...outcome, begun: { ...outcome.begun, lost: true } }
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

/**
 * Runs a part in a process of its own until it ends or its time is up, and one with steps in another process behind a step
 * that ended the one before; never rejects.
 */
export async function runApart(name: PartName, options: RunOptions): Promise<Outcome> {
  const began = performance.now()
  const left = (): number => options.seconds - (performance.now() - began) / 1000
  let outcome = nothingOf(name)
  for (let after: string | undefined; ; after = outcome.begun?.step) {
    const { begun: _, ...before } = outcome
    const { why, ...next } = await runProcess(name, { ...options, seconds: left() }, before, after)
    outcome = next
    const { begun } = outcome
    const behind = begun === undefined || options.stepSeconds === undefined ? '' : `${begun.step}, ${begun.what}: `
    if (why !== undefined) outcome = noted(outcome, { kind: 'ended', why: `${behind}${why}` })
    const more = options.stepSeconds !== undefined && begun !== undefined && (begun.lost || why !== undefined)
    if (!more || left() < 1) return { ...outcome, seconds: (performance.now() - began) / 1000 }
  }
}

/** One process of a part, which begins behind a step; what it came to is added to what is known. */
function runProcess(
  name: PartName,
  { seconds, stepSeconds, size, seed, program = ownProgram, told }: RunOptions,
  before: Outcome,
  after: string | undefined,
): Promise<Outcome & { readonly why?: string }> {
  let outcome = before
  const began = performance.now()
  const took = (): number => before.seconds + (performance.now() - began) / 1000
  const resumed = after === undefined ? [] : ['--after', after]
  const parameters = ['--part', name, '--seed', String(seed), ...resumed, ...(size === 'small' ? ['--small'] : [])]
  const child = fork(program, parameters, { cwd: root, execArgv: ['--import', 'tsx'], stdio: 'inherit' })
  const stop = (): void => void child.kill('SIGKILL')
  process.once('exit', stop)
  let cut: number | undefined
  const cutAfter = (limit: number): NodeJS.Timeout =>
    setTimeout(() => {
      cut = limit
      child.kill('SIGTERM') // so that it can end what it started
      setTimeout(stop, 2000).unref()
    }, limit * 1000)
  const timer = cutAfter(seconds)
  let stepTimer = stepSeconds === undefined ? undefined : cutAfter(startSeconds)
  return new Promise((resolve) => {
    const end = (why: string | undefined): void => {
      clearTimeout(timer)
      clearTimeout(stepTimer)
      process.off('exit', stop)
      resolve({ ...outcome, seconds: took(), ...(why === undefined ? {} : { why }) })
    }
    child.on('message', (message) => {
      const { kind } = message as Message
      if (stepSeconds !== undefined && kind === 'begun') {
        clearTimeout(stepTimer)
        stepTimer = cutAfter(stepSeconds)
      }
      outcome = { ...noted(outcome, message as Message), seconds: took() }
      told?.(message as Message, outcome)
    })
    child.once('error', (error) => end(`its process did not start: ${error.message}`))
    child.once('close', (code, signal) => {
      if (cut !== undefined) end(`cut after ${cut.toFixed(0)} seconds; what it had compared by then stands`)
      else if (code === 0) end(undefined)
      else end(`its process ended with ${signal ?? `exit code ${code ?? 'unknown'}`}`)
    })
  })
}
