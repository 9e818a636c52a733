// Interpreters that rewrite primitives for the one below them (autocast). Traces are opened below the rewriter in
// force, so that recorded programs already hold what it writes; recorded programs are evaluated without it.
import { type Interpreter, currentInterpreter, withInterpreter } from '../tensor/dispatch.ts'

/** An interpreter that hands every primitive, perhaps changed, to the interpreter below. */
export interface Rewriter extends Interpreter {
  /** What it does, as part of the key of compiled programs. */
  readonly key: string
  /** Where the rewritten primitives go; undefined is eager execution. */
  readonly below: Interpreter | undefined
  /** The same rewriting above another interpreter. */
  above(base: Interpreter | undefined): Rewriter
}

function isRewriter(interpreter: Interpreter | undefined): interpreter is Rewriter {
  return interpreter !== undefined && 'above' in interpreter
}

/** The rewriter in force, if any. */
export function currentRewriter(): Rewriter | undefined {
  const current = currentInterpreter()
  return isRewriter(current) ? current : undefined
}

/** The interpreter in force without rewriting: a trace, or undefined for eager execution. */
export function baseInterpreter(): Interpreter | undefined {
  const current = currentInterpreter()
  return isRewriter(current) ? current.below : current
}

/** Runs `body` without rewriting: programs are typed as they were recorded. */
export function withoutRewriting<T>(body: () => T): T {
  return withInterpreter(baseInterpreter(), body)
}

/** The rewriting in force, to be put in force again later, above whatever interpreter is then in force. */
export function captureRewriting(): <T>(body: () => T) => T {
  const rewriter = currentRewriter()
  if (rewriter === undefined) return (body) => body()
  return (body) => withInterpreter(rewriter.above(baseInterpreter()), body)
}
