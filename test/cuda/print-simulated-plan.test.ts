// Every kernel of a small training step, printed as CUDA and run on the host, against plain loops; the inputs are random.
import { describe, expect, it } from 'vitest'
import type { Kernel, KernelStep, Plan, PlanBuffer } from '../../src/compile/index.ts'
import { epilogueAlone, inputCount, withoutEpilogue } from '../../src/compile/kernel.ts'
import type { DType } from '../../src/tensor/dtype.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import { at, range, sizeOf, zip } from '../../src/tensor/shape.ts'
import { SimKernels } from '../sim/kernels.ts'
import { runKernel } from '../support/plan-evaluator.ts'
import { smallPlan } from './print-plans.ts'

/** norm(a - b) / norm(b): a few roundings of the stored dtype, or of the f32 in which sums are kept. */
const tolerance: Readonly<Record<DType, number>> = {
  f32: 1e-6,
  f64: 1e-6,
  f16: 2 ** -12,
  bf16: 2 ** -9,
  i32: 0,
  u8: 0,
  bool: 0,
}

describe.each(['f16', 'bf16', 'f32'] as const)('the kernels of a small training step in %s', (compute) => {
  it('give what plain loops give, whatever the order of threads', { timeout: 120_000 }, () => {
    const plan = smallPlan(compute, 1, { batch: 2, size: 32 })
    const steps = plan.steps.filter((step) => step.kind === 'kernel')
    const sim = new SimKernels(steps.map(({ kernel }) => kernel))
    const errors = steps.flatMap((step) => errorsOf(sim, plan, step))
    sim.close()
    errors.sort((a, b) => b.share - a.share)
    const [worst] = errors
    console.log(
      `${compute}: ${errors.length} results of ${steps.length} kernels, worst ${worst?.label} at ${worst?.share}`,
    )
    expect(errors.filter(({ share }) => !(share <= 1))).toEqual([])
  })
})

interface ResultError {
  readonly label: string
  /** The error in units of its tolerance. */
  readonly share: number
}

function errorsOf(sim: SimKernels, plan: Plan, step: KernelStep): ResultError[] {
  const buffers = (list: readonly number[]): PlanBuffer[] => list.map((index) => at(plan.buffers, index))
  const arrays = buffers(step.inputs).map(({ type }, i) => randomValues(type.dtype, sizeOf(type.shape), i))
  const results = buffers(step.outputs).map(({ type }) => ({ dtype: type.dtype, count: sizeOf(type.shape) }))
  const expected = results.map(({ count }) => new Array<number>(count).fill(0))
  const inputs = zip(buffers(step.inputs), arrays).map(([{ type }, values]) => encode(type.dtype, values))
  runKernel(withoutEpilogue(step.kernel), arrays, expected)
  const [first = [], second = []] = [0, 9].map((seed) => sim.run(step.kernel, inputs, results, seed))
  expect(second, step.label).toEqual(first)
  runLast(
    step.kernel,
    arrays,
    zip(results, first).map(([{ dtype }, array]) => decode(dtype, array)),
    expected,
  )
  return results.map(({ dtype, count }, i) => {
    const got = decode(dtype, at(first, i))
    const meant = at(expected, i)
    const norm = (value: (j: number) => number): number =>
      Math.sqrt(range(count).reduce((sum, j) => sum + value(j) ** 2, 0))
    const [error, size] = [norm((j) => at(meant, j) - (got[j] ?? Number.NaN)), norm((j) => at(meant, j))]
    const share = error === 0 ? 0 : error / Math.max(size, Number.MIN_VALUE) / tolerance[dtype]
    return { label: `${step.label}:${dtype}[${count}]`, share }
  })
}

/** The epilogue on the results that the kernel gave: differences of sums may be much less exact than they. */
function runLast(
  kernel: Kernel,
  inputs: readonly number[][],
  got: readonly ArrayLike<number>[],
  out: number[][],
): void {
  const end = epilogueAlone(kernel)
  if (end === undefined) return
  const count = inputCount(kernel)
  const operands = end.operands.map((operand) =>
    operand < count ? at(inputs, operand) : Array.from(at(got, operand - count)),
  )
  runKernel(end.kernel, operands, out)
}

/** Numbers between 0.5 and 1.5; 0 and 1 for integers. */
function randomValues(dtype: DType, count: number, salt: number): number[] {
  return range(count).map((i) => {
    const draw = (((i + 1) * 2654435761 + salt * 40503) % 65537) / 65537
    return dtype === 'i32' || dtype === 'u8' || dtype === 'bool' ? Math.floor(draw * 2) : roundTo(dtype, draw + 0.5)
  })
}
