// Where the time of a program went, as text that both devices share: the dearest steps with their share, bandwidth and
// arithmetic rate. Measuring is the devices' part.
import { showParams } from '../tensor/program.ts'
import { at, range } from '../tensor/shape.ts'
import type { Step } from './plan.ts'
import { showKernel } from './show.ts'

const shownSteps = 40

/** Bytes moved and arithmetic operations. */
export type Work = Pick<Step, 'bytes' | 'flops'>

/** What was measured of a program's runs. */
export interface ProfileFigures<S> {
  /** For each step of the plan what it took in all runs together. */
  readonly nanoseconds: Float64Array
  readonly runs: number
  /** A step as text. */
  readonly describe: (step: S) => string
  /** More for the line of the program. */
  readonly head?: string
  /** More for the line of a step. */
  readonly note?: (step: number) => string
  /** Steps that were measured together with this one, and whose bytes and operations count for it. */
  readonly joined?: (step: number) => readonly number[]
}

/** The dearest steps with their milliseconds a run, bandwidth and arithmetic rate; '' if nothing ran. */
export function showProfile<S extends Work>(
  plan: { readonly steps: readonly S[] },
  label: string,
  figures: ProfileFigures<S>,
): string {
  const { nanoseconds, runs, describe, head = '', note = () => '', joined = () => [] } = figures
  if (runs === 0) return ''
  const total = nanoseconds.reduce((sum, value) => sum + value, 0)
  const dearest = range(plan.steps.length).sort((a, b) => at(nanoseconds, b) - at(nanoseconds, a))
  const lines = dearest.slice(0, shownSteps).map((index) => {
    const companions = joined(index)
    const { bytes, flops } = workOf(plan, [index, ...companions])
    const each = at(nanoseconds, index) / runs
    const share = ((100 * at(nanoseconds, index)) / Math.max(1, total)).toFixed(1)
    const rates = `${(bytes / each).toFixed(1)} GB/s ${(flops / each).toFixed(1)} GFLOP/s`
    const others = companions.length === 0 ? '' : ` and ${companions.length} like it`
    return `${(each / 1e6).toFixed(3).padStart(10)} ms ${share.padStart(5)} %  ${rates.padStart(26)}  #${index} ${describe(at(plan.steps, index))}${others}${note(index)}`
  })
  const first = `profile of ${label}: ${runs} runs, ${(total / runs / 1e6).toFixed(3)} ms a run in ${plan.steps.length} steps${head}`
  return `${[first, ...lines].join('\n')}\n`
}

/** Bytes and operations of some steps of a plan together. */
export function workOf(plan: { readonly steps: readonly Work[] }, steps: readonly number[]): Work {
  const total = (key: 'bytes' | 'flops'): number => steps.reduce((sum, step) => sum + at(plan.steps, step)[key], 0)
  return { bytes: total('bytes'), flops: total('flops') }
}

/** A step in one line: a kernel's loops and what it stores, or a library call with its shapes. */
export function describeStep(step: Step): string {
  if (step.kind === 'kernel') return showKernel(step.kernel).slice(0, 160)
  const { primitive, inputs, outputs } = step.equation
  const shapes = [...inputs, ...outputs].map(({ type }) => type.shape.join('x')).join(' ')
  return `${primitive}${showParams(step.equation)} ${shapes}`
}
