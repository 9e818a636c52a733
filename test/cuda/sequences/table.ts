// The table: all sequences, and the form in which their statuses are kept.
import { readFileSync } from 'node:fs'
import type { Cudnn } from '../../../src/cuda/ffi/cudnn.ts'
import { convolutionGraphs, fusedGraphs } from './graphs.ts'
import { malformedOperations } from './malformed-operations.ts'
import { malformedPlans } from './malformed-plans.ts'
import { malformedTensors } from './malformed-tensors.ts'
import { type Malformed, type Sequence, type Step, play } from './sequence.ts'

/** Sequences with a mistake. */
export const malformed: readonly Malformed[] = [...malformedTensors, ...malformedOperations, ...malformedPlans]

/** Sequences in order. */
export const wellFormed: readonly Sequence[] = [...convolutionGraphs, ...fusedGraphs]

/** Statuses other than 0 by the steps that gave them. */
export type Answers = Readonly<Record<string, number>>

/** What a library answered, by the names of a table. */
export interface Recorded<T> {
  /** Of the library that answered. */
  readonly version: number
  readonly answers: Readonly<Record<string, T>>
}

/** Reads what record.ts wrote. */
export function recorded<T>(file: 'cudnn-statuses.json' | 'cublaslt-statuses.json'): Recorded<T> {
  return JSON.parse(readFileSync(new URL(`../../golden/${file}`, import.meta.url), 'utf8')) as Recorded<T>
}

/** Plays a sequence and keeps what was not answered with 0. */
export function answers(cudnn: Cudnn, sequence: Sequence): Answers {
  const statuses = play(cudnn, sequence)
  return Object.fromEntries(
    statuses.flatMap((status, index) => (status === 0 ? [] : [[label(sequence.steps[index], index), status]])),
  )
}

function label(step: Step | undefined, index: number): string {
  if (step === undefined) throw new Error('more statuses than steps')
  const [call, name] = step
  return `${index} ${call} ${name}${call === 'set' || call === 'get' || call === 'count' ? ` ${step[2]}` : ''}`
}
