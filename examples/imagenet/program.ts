// What the programs here share: the device, the model by name, how an error ends a program, and stopping on signals.
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PullbackError, closeDevices, defaultDevice, device, logs, setDefaultDevice, tree } from 'pullback'
import type { Device, nn, train } from 'pullback'

/** A family of models to choose from by name. */
export type Architectures = Readonly<Record<string, (options?: nn.ArchitectureOptions) => nn.ResNet>>

/** The names of --device. */
export const deviceNames = ['auto', 'cpu', 'reference', 'cuda'] as const

/** Makes a device the default one; `auto` leaves the choice to the library. */
export function chooseDevice(name: (typeof deviceNames)[number]): Device {
  if (name === 'auto') return defaultDevice()
  const chosen = device(name)
  setDefaultDevice(chosen)
  return chosen
}

/** The architecture options that a squeeze width read from weights stands for. */
export function squeezeOption(found: train.SqueezeWidth | undefined): nn.ArchitectureOptions {
  switch (found?.kind) {
    case undefined:
    case 'none':
      return {}
    case 'fixed':
      return { squeeze: { width: found.width } }
    case 'ratio':
      return { squeeze: { ratio: found.ratio } }
    default:
      return found satisfies never
  }
}

/** The number of parameters of a model. */
export function parameterCount(model: nn.ResNet, imageSize: number): number {
  const { params } = model.describe([1, imageSize, imageSize, 3])
  const leaves = tree.leavesOf(params)
  return leaves.reduce((sum, { shape }) => sum + shape.reduce((product, extent) => product * extent, 1), 0)
}

/** A run's header: aligned lines of a word and what it is. */
export function header(lines: Readonly<Record<string, string>>): string {
  const width = Math.max(...Object.keys(lines).map((name) => name.length))
  return Object.entries(lines)
    .map(([name, text]) => `${name.padEnd(width)}  ${text}\n`)
    .join('')
}

/** Whether the module at `url` is the program that was started. */
export const isProgram = (url: string): boolean =>
  process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(url)

/** Runs a program, closes its devices and sets the exit code: what it returns, or 1 after one sentence about what went wrong. */
export async function main(program: () => Promise<number>): Promise<void> {
  try {
    const code = await program()
    await closeDevices()
    process.exitCode = code
  } catch (error) {
    await closeDevices().catch(() => undefined) // the first error says what happened
    const known = error instanceof PullbackError && error.code !== 'internal'
    process.stderr.write(`${known && !logs('debug') ? error.message : showFully(error)}\n`)
    process.exitCode = 1
  }
}

function showFully(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause === undefined ? '' : `\ncaused by ${showFully(error.cause)}`
  return `${error.stack ?? error.message}${cause}`
}

/** Signals that ask a run to stop. */
export interface StopRequest extends Disposable {
  /** Aborted by the first of them. */
  readonly signal: AbortSignal
  /** 130 after SIGINT, 143 after SIGTERM. */
  readonly exitCode: number
}

const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const

/** The first SIGINT or SIGTERM lets the step in progress end, a second one ends the process. Dispose it to let go. */
export function stopOnSignals(onStop: (name: string) => void): StopRequest {
  const controller = new AbortController()
  let exitCode = 0
  const names = ['SIGINT', 'SIGTERM'] as const
  const stop = (name: (typeof names)[number]): void => {
    if (exitCode !== 0) process.exit(exitCodes[name])
    exitCode = exitCodes[name]
    onStop(name)
    controller.abort()
  }
  for (const name of names) process.on(name, stop)
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode
    },
    [Symbol.dispose]: () => {
      for (const name of names) process.off(name, stop)
    },
  }
}
