// What a plan would take if the GPU did nothing but move its bytes, or multiply, at the rates that were measured on it.
import type { Plan } from '../../src/compile/index.ts'
import type { Workload } from './rows.ts'

/** Rates that an H200 is known to reach: reads and writes together, and dense products of 16-bit numbers. */
const h200 = { bytes: 4.3e12, products: 790e12 }
/** TF32 products run at half the rate of 16-bit ones. */
const tf32Share = 0.5

const contractions: readonly string[] = ['dot', 'conv2d', 'conv2dInputGrad', 'conv2dFilterGrad']

/** Seconds of a plan on the roofline, step by step; undefined for a GPU whose rates are not known. */
export function rooflineSeconds(plan: Plan, gpu: string, precision: Workload['precision']): number | undefined {
  if (!/\bH200\b/.test(gpu)) return undefined
  const products = h200.products * (precision === 'tf32' ? tf32Share : 1)
  return plan.steps.reduce((sum, step) => {
    const multiplies = step.kind === 'library' && contractions.includes(step.equation.primitive)
    return sum + Math.max(step.bytes / h200.bytes, multiplies ? step.flops / products : 0)
  }, 0)
}
