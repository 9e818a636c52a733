// One contender of a row: a process, in a group of its own so that it ends with all that it started, which answers requests.
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Answer, Facts, Request } from './protocol.ts'

/** How a contender is started. */
export interface Command {
  readonly name: string
  readonly program: string
  readonly args: readonly string[]
  readonly environment?: NodeJS.ProcessEnv
}

/** A failure of a contender; the others go on. */
export class ContenderError extends Error {
  constructor(
    message: string,
    readonly kind: 'out-of-memory' | 'error',
  ) {
    super(message)
    this.name = 'ContenderError'
  }
}

const running = new Set<Contender>()

/** Ends all contenders at once: for a signal. */
export function killAll(): void {
  for (const contender of running) contender.kill()
}

/** A running contender. */
export class Contender {
  readonly name: string
  readonly #child: ChildProcess
  readonly #ended: Promise<void>
  /** The last lines of what it wrote to stderr. */
  #said: readonly string[] = []
  #hear: ((line: string) => void) | undefined
  #gone: string | undefined
  #fail: ((reason: string) => void) | undefined

  constructor(command: Command) {
    const { name, program, args, environment = process.env } = command
    this.name = name
    this.#child = spawn(program, args, { detached: true, env: environment, stdio: ['pipe', 'pipe', 'pipe'] })
    running.add(this)
    const { stdin, stdout, stderr } = this.#child
    stdin?.on('error', () => undefined) // it is gone, which 'close' tells
    if (stdout !== null) createInterface({ input: stdout }).on('line', (line) => this.#heard(line))
    if (stderr !== null) createInterface({ input: stderr }).on('line', (line) => this.#noted(line))
    this.#ended = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        this.#end(error.message)
        resolve()
      })
      this.#child.once('close', (code, signal) => {
        this.#end(signal ?? `exit status ${code}`)
        resolve()
      })
    })
  }

  /**
   * Sends a request and waits for its answer.
   *
   * @throws ContenderError with what it answered, that it ended, or that the time was up; then it is killed.
   */
  async ask(request: Request, seconds: number): Promise<Facts> {
    const answer = await this.#answer(request, seconds)
    if (answer.ok) return answer
    throw new ContenderError(`${this.name}: ${answer.error}`, answer.kind)
  }

  /** Ends it and everything it started. */
  kill(): void {
    running.delete(this)
    const { pid } = this.#child
    if (pid === undefined) return
    try {
      process.kill(-pid, 'SIGKILL')
    } catch {
      // its group is gone
    }
  }

  /** Ends it, and waits until it has ended. */
  async killed(): Promise<void> {
    this.kill()
    await this.#ended
  }

  /** Waits until it has ended by itself, for some seconds, and then ends it. */
  async close(): Promise<void> {
    this.#child.stdin?.end()
    const timer = setTimeout(() => this.kill(), 20_000)
    await this.#ended
    clearTimeout(timer)
    this.kill() // and what it left behind
  }

  #answer(request: Request, seconds: number): Promise<Answer<Facts>> {
    return new Promise((resolve, reject) => {
      const failed = (reason: string): void => {
        const told = this.#said.slice(-12).join('\n')
        settle(() => reject(new ContenderError(`${this.name} ${reason}${told === '' ? '' : `\n${told}`}`, 'error')))
      }
      const timer = setTimeout(() => {
        this.kill()
        failed(`took more than ${seconds.toFixed(0)} s to ${request.do}`)
      }, seconds * 1000)
      const settle = (done: () => void): void => {
        clearTimeout(timer)
        this.#hear = undefined
        this.#fail = undefined
        done()
      }
      if (this.#gone !== undefined) {
        failed(`ended: ${this.#gone}`)
        return
      }
      this.#fail = failed
      this.#hear = (line) => settle(() => resolve(parsed(line)))
      this.#child.stdin?.write(`${JSON.stringify(request)}\n`)
    })
  }

  #heard(line: string): void {
    if (line.startsWith('{"ok"')) this.#hear?.(line)
    else this.#noted(line)
  }

  #noted(line: string): void {
    this.#said = [...this.#said.slice(-40), line]
    process.stderr.write(`  ${this.name}: ${line}\n`)
  }

  #end(how: string): void {
    running.delete(this)
    this.#gone = how
    this.#fail?.(`ended: ${how}`)
  }
}

/** Python writes numbers that JSON does not have. */
function parsed(line: string): Answer<Facts> {
  const known = line.replaceAll(/: (?:NaN|-?Infinity)(?=[,}])/g, ': null')
  try {
    return JSON.parse(known) as Answer<Facts>
  } catch (error) {
    return { ok: false, kind: 'error', error: `an answer that is no JSON (${String(error)}): ${line.slice(0, 200)}` }
  }
}
