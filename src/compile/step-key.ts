// What a step computes, as text: devices lower steps that differ only in their buffers once.
import type { Step } from './plan.ts'

/** Equal for two steps if and only if they are the same kernel, or the same equation of values of the same types. */
export function stepKey(step: Step): string {
  const [what, numbers] =
    step.kind === 'kernel'
      ? [step.kernel, step.kernel.nodes.flatMap((node) => (node.op === 'constant' ? [node.value] : []))]
      : [step.equation, step.equation.inputs.flatMap((input) => (input.kind === 'literal' ? [input.value] : []))]
  return `${JSON.stringify(what)} ${numbers.map(exactly).join()}`
}

/** JSON has no -0, NaN or infinities; constants have. */
function exactly(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value)
}
