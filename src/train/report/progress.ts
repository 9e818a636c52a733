// Shows how far a run is: one line that renews itself on a terminal, plain lines in a pipe.
// What the line says is format.ts's business; records for programs are dllogger.ts's.

import { fitLine, progressParts } from './format.ts'
import type { Progress } from './format.ts'

/** The part of a stream (process.stderr, say) that is needed. */
export interface ProgressStream {
  readonly isTTY?: boolean
  readonly columns?: number
  /** Writes text to the terminal or pipe. */
  write(text: string): unknown
}

/** How often a pipe hears of progress. */
export interface ProgressOptions {
  /** In a pipe a line is written every so many steps, and for the last one (--print-freq). */
  readonly every: number
  /** Milliseconds; for tests. */
  readonly now?: () => number
}

/** Shows how a run is going. */
export interface ProgressReporter {
  /** Shows the state; on a terminal at most ten times a second, the last step always. */
  update(progress: Progress): void
  /** Shows text in place of the progress line, until the next of either; a pipe hears nothing of it. */
  note(text: string): void
  /** Writes a line that stays, above the progress line. */
  message(text: string): void
  /** Takes the progress line away; the terminal is as it was. The reporter can be used again. */
  finish(): void
}

const drawMilliseconds = 100
/** Back to the first column, and clear to the end of the line. */
const clear = '\r\u001b[K'

/** A reporter for a stream: a renewed line on a terminal, lines in a pipe. */
export function progressReporter(stream: ProgressStream, options: ProgressOptions): ProgressReporter {
  return stream.isTTY === true ? terminalReporter(stream, options) : lineReporter(stream, options)
}

function terminalReporter(
  stream: ProgressStream,
  { now = () => performance.now() }: ProgressOptions,
): ProgressReporter {
  let line = ''
  let drawnAt = -Infinity
  const erase = (): void => {
    if (line !== '') stream.write(clear)
  }
  const show = (parts: readonly string[], last: boolean): void => {
    if (now() - drawnAt < drawMilliseconds && !last) return
    drawnAt = now()
    // One column is left free: a full one would make some terminals wrap.
    line = fitLine(parts, (stream.columns ?? 80) - 1)
    stream.write(clear + line)
  }
  return {
    update: (progress) => show(progressParts(progress), progress.step === progress.steps),
    note: (text) => show([text], false),
    message(text) {
      erase()
      stream.write(`${text}\n${line}`)
    },
    finish() {
      erase()
      line = ''
      drawnAt = -Infinity
    },
  }
}

function lineReporter(stream: ProgressStream, { every }: ProgressOptions): ProgressReporter {
  return {
    update(progress) {
      const due = every > 0 && progress.step % every === 0
      if (due || progress.step === progress.steps) stream.write(`${progressParts(progress).join('  ')}\n`)
    },
    note: () => undefined,
    message(text) {
      stream.write(`${text}\n`)
    },
    // Nothing to restore: a pipe keeps its lines.
    finish: () => undefined,
  }
}
