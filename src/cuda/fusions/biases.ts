// Biases of products in the product's dtype: a library adds no other. The casts stand in front of the plan, where they are
// launched together with those of the weights.
import type { Kernel, KernelStep, Plan, PlanBuffer, Step } from '../../compile/index.ts'
import { type DType, bytesOf } from '../../tensor/dtype.ts'
import { at, sizeOf } from '../../tensor/shape.ts'
import { type BiasToCast, findBiases } from './recognize.ts'

/** The plan with those biases cast once in front that a product of 16 bits is to be fused with. Buffers are appended. */
export function castBiases(plan: Plan): Plan {
  const found = findBiases(plan)
  if (found.length === 0) return plan
  const casts: KernelStep[] = []
  const buffers: PlanBuffer[] = [...plan.buffers]
  const steps: Step[] = [...plan.steps]
  for (const bias of found) {
    const { type } = at(buffers, bias.buffer)
    const made = buffers.length
    const cast = { shape: type.shape, dtype: bias.dtype }
    const bytes = sizeOf(cast.shape) * bytesOf(cast.dtype)
    buffers.push({ type: cast, bytes, place: { kind: 'arena', offset: 0 } })
    casts.push(castStep(bias, made, sizeOf(type.shape)))
    const step = at(steps, bias.reader)
    if (step.kind === 'kernel') steps[bias.reader] = reading(step, bias, made)
  }
  const moved = steps.map((step) => ({ ...step, after: step.after.map((before) => before + casts.length) }))
  return { ...plan, buffers, steps: [...casts, ...moved] }
}

function castStep({ buffer, dtype }: BiasToCast, made: number, extent: number): KernelStep {
  const dense = { strides: [1], offset: 0 }
  const kernel: Kernel = {
    axes: [{ extent, role: 'map' }],
    inputs: [{ ...dense, dtype: 'f32' }],
    nodes: [
      { op: 'load', dtype: 'f32', input: 0 },
      { op: 'cast', dtype, args: [0] },
    ],
    stores: [{ ...dense, node: 1, dtype, output: 0 }],
    reductions: [],
  }
  const bytes = extent * (4 + bytesOf(dtype))
  return { kind: 'kernel', kernel, inputs: [buffer], outputs: [made], after: [], bytes, flops: extent, label: 'map' }
}

/** The step with its bias in the other dtype; casting it again changes nothing. */
function reading(step: KernelStep, { input, dtype }: BiasToCast, made: number): KernelStep {
  const { kernel } = step
  const as = <T extends { readonly dtype: DType }>(value: T): T => ({ ...value, dtype })
  return {
    ...step,
    inputs: step.inputs.map((buffer, index) => (index === input ? made : buffer)),
    kernel: {
      ...kernel,
      inputs: kernel.inputs.map((access, index) => (index === input ? as(access) : access)),
      nodes: kernel.nodes.map((node) => (node.op === 'load' && node.input === input ? as(node) : node)),
    },
  }
}
