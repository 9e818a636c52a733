// Questions that a fused way must pass before it is taken: each compares it with the separate steps on the same operands.
import { PullbackError } from '../../tensor/errors.ts'
import { isSticky } from '../runtime/failure.ts'
import { type Bench, type TuningTask, isOutOfMemory } from '../tune/index.ts'
import type { Candidate } from '../work.ts'

/** What separate steps a candidate is compared with; the one of that id is passed without a question. */
export interface Separate {
  readonly id: string
  readonly make: () => Candidate
}

/** The separate steps failed, not what is compared with them. */
class SeparateFailure extends PullbackError {
  constructor(cause: unknown) {
    const said = cause instanceof Error ? cause.message : String(cause)
    super('device', `the separate steps that it is to be compared with failed: ${said}`, { cause })
    this.name = 'SeparateFailure'
  }
}

/**
 * The question `ask` to every candidate but the separate steps; `trial` names it where there is no memory for it. What
 * cannot be compared is not taken; where that is the separate steps' fault, the reason says so.
 */
export function besideSeparate(
  { id, make }: Separate,
  trial: string,
  ask: (bench: Bench, candidate: Candidate, expected: Candidate) => string | undefined,
): NonNullable<TuningTask['acceptance']> {
  return (bench, candidate) => {
    if (candidate.id === id) return undefined
    let expected: Candidate | undefined
    try {
      expected = blamed(make)
      return ask(telling(bench, expected), candidate, expected)
    } catch (error) {
      if (isOutOfMemory(error)) return `there is no memory to try ${trial}`
      if (error instanceof SeparateFailure) return error.message
      throw error
    } finally {
      expected?.release?.()
    }
  }
}

/** The bench, on which a failure of the separate steps is told apart. */
function telling(bench: Bench, separate: Candidate): Bench {
  return {
    ...bench,
    bind: (lowered, operands, scratch) => {
      if (lowered !== separate) return bench.bind(lowered, operands, scratch)
      const bound = blamed(() => bench.bind(lowered, operands, scratch))
      return { enqueue: () => blamed(() => bound.enqueue()), release: () => bound.release() }
    },
  }
}

/** A lack of memory is nobody's fault, and a GPU that is lost everybody's. */
function blamed<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (isSticky(error) || isOutOfMemory(error)) throw error
    throw new SeparateFailure(error)
  }
}
