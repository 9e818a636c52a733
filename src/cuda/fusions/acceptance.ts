// Questions that a fused way must pass before it is taken: each compares it with the separate steps on the same operands.
import { type Bench, type TuningTask, isOutOfMemory } from '../tune/index.ts'
import type { Candidate } from '../work.ts'

/** What separate steps a candidate is compared with; the one of that id is passed without a question. */
export interface Separate {
  readonly id: string
  readonly make: () => Candidate
}

/** The question `ask` to every candidate but the separate steps; `trial` names it where there is no memory for it. */
export function besideSeparate(
  { id, make }: Separate,
  trial: string,
  ask: (bench: Bench, candidate: Candidate, expected: Candidate) => string | undefined,
): NonNullable<TuningTask['acceptance']> {
  return (bench, candidate) => {
    if (candidate.id === id) return undefined
    const expected = make()
    try {
      return ask(bench, candidate, expected)
    } catch (error) {
      if (isOutOfMemory(error)) return `there is no memory to try ${trial}`
      throw error
    } finally {
      expected.release?.()
    }
  }
}
