// The kernels that the tests of printed CUDA take from plans: every kernel of the small model's training step, in all three
// precisions, and their distinct sources.
import type { Kernel, Plan } from '../../src/compile/index.ts'
import { type PrintedSource, cudaDialect, printKernel } from '../../src/compile/print/index.ts'
import { resnet } from '../../src/nn/index.ts'
import { trainingPlan } from '../support/training-plan.ts'

/** The training plan of a small SE-ResNeXt with one block in each of its stages. */
export function smallPlan(compute: 'f16' | 'bf16' | 'f32', stages = 2, { batch, size } = { batch: 2, size: 64 }): Plan {
  const model = resnet({
    layers: Array.from({ length: stages }, () => 1),
    widths: 64,
    expansion: 2,
    cardinality: 32,
    squeeze: { ratio: 16 },
    classes: 10,
  })
  return trainingPlan(model, batch, size, compute)
}

/** The kernels of a plan, in order. */
export function kernelsOf(plan: Plan): Kernel[] {
  return plan.steps.flatMap((step) => (step.kind === 'kernel' ? [step.kernel] : []))
}

/** The sources of kernels, each once, in order. */
export function sourcesOf(kernels: readonly Kernel[]): PrintedSource[] {
  const sources = new Map<string, PrintedSource>()
  for (const kernel of kernels)
    for (const { source } of printKernel(kernel, cudaDialect).launches) sources.set(source.name, source)
  return [...sources.values()]
}
