// What a step computes, as text: devices lower steps that differ only in their buffers once.
import type { Kernel } from './kernel.ts'
import type { LibraryEquation, Step } from './plan.ts'

/** Equal for two steps if and only if they are the same kernel, or the same equation of values of the same types. */
export function stepKey(step: Step): string {
  return step.kind === 'kernel' ? kernelKey(step.kernel) : equationKey(step.equation)
}

/** Equal for two kernels if and only if they are the same. */
export function kernelKey(kernel: Kernel): string {
  const nodes = [...kernel.nodes, ...(kernel.epilogue?.nodes ?? [])]
  const constants = nodes.flatMap((node) => (node.op === 'constant' ? [node.value] : []))
  return `${JSON.stringify(kernel)} ${constants.map(exactly).join()}`
}

/** Equal for two library equations if and only if they are the same, of values of the same types, whatever these are called. */
export function equationKey({ primitive, params, inputs, outputs }: LibraryEquation): string {
  const literals = inputs.flatMap((input) => (input.kind === 'literal' ? [input.value] : []))
  const [read, made] = [inputs, outputs].map((atoms) => atoms.map(({ kind, type }) => [kind, type]))
  return `${JSON.stringify([primitive, params, read, made])} ${literals.map(exactly).join()}`
}

/** JSON has no -0, NaN or infinities; constants have. */
function exactly(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value)
}
