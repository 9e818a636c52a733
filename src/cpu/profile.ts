// Where the time of an executable went, as text.
import { type Plan, type Step, showKernel } from '../compile/index.ts'
import { showParams } from '../tensor/program.ts'
import { at, range } from '../tensor/shape.ts'

const shownSteps = 40

/** The dearest steps with their milliseconds a run, bandwidth and arithmetic rate; '' if nothing ran. */
export function showProfile(plan: Plan, label: string, nanoseconds: Float64Array, runs: number): string {
  if (runs === 0) return ''
  const total = nanoseconds.reduce((sum, value) => sum + value, 0)
  const dearest = range(plan.steps.length).sort((a, b) => at(nanoseconds, b) - at(nanoseconds, a))
  const lines = dearest.slice(0, shownSteps).map((index) => {
    const step = at(plan.steps, index)
    const each = at(nanoseconds, index) / runs
    const share = ((100 * at(nanoseconds, index)) / Math.max(1, total)).toFixed(1)
    const rates = `${(step.bytes / each).toFixed(1)} GB/s ${(step.flops / each).toFixed(1)} GFLOP/s`
    return `${(each / 1e6).toFixed(3).padStart(10)} ms ${share.padStart(5)} %  ${rates.padStart(26)}  #${index} ${describe(step)}`
  })
  const head = `profile of ${label}: ${runs} runs, ${(total / runs / 1e6).toFixed(3)} ms a run in ${plan.steps.length} steps`
  return `${[head, ...lines].join('\n')}\n`
}

function describe(step: Step): string {
  if (step.kind === 'kernel') return showKernel(step.kernel).slice(0, 160)
  const { primitive, inputs, outputs } = step.equation
  const shapes = [...inputs, ...outputs].map(({ type }) => type.shape.join('x')).join(' ')
  return `${primitive}${showParams(step.equation)} ${shapes}`
}
