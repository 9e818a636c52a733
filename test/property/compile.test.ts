// The law of the compiler: whatever the program, the dtypes and the level, a plan computes what the program means. Plans
// are run here by plain loops (test/support/plan-evaluator.ts); cpu-programs.test.ts runs them as native code.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { traceFlat } from '../../src/autograd/trace.ts'
import { vjp } from '../../src/autograd/vjp.ts'
import { type Plan, compileProgram, showPlan } from '../../src/compile/index.ts'
import type { OptimizeLevel } from '../../src/tensor/device.ts'
import { isFloat } from '../../src/tensor/dtype.ts'
import { roundTo } from '../../src/tensor/half.ts'
import { onesLike } from '../../src/tensor/ops/index.ts'
import { type Program, showProgram } from '../../src/tensor/program.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import { zip } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { evaluatePlan } from '../support/plan-evaluator.ts'
import { type RandomProgram, arbitraryProgram } from '../support/programs.ts'
import { runs } from '../runs.ts'

const levels: readonly OptimizeLevel[] = ['none', 'simplify', 'fuse']

describe('a plan computes what its program means', () => {
  it.each(levels)('for random f32 programs, to f32 rounding (%s)', (optimize) => {
    fc.assert(
      fc.property(arbitraryProgram({ kind: 'continuous' }), (random) => agree(random, traced(random), optimize, 2e-5)),
      { numRuns: runs(150) },
    )
  })

  it.each(levels)('for random programs of every dtype, to the rounding of 16 bits (%s)', (optimize) => {
    const programs = arbitraryProgram({ kind: 'continuous', dtypes: ['f32', 'f16', 'bf16', 'f64', 'i32'] })
    fc.assert(
      fc.property(programs, (random) => agree(random, traced(random), optimize, 4e-2)),
      { numRuns: runs(150) },
    )
  })

  it.each(levels)('for values and gradients together (%s)', (optimize) => {
    fc.assert(
      fc.property(arbitraryProgram({ kind: 'smooth', size: 6 }), (random) =>
        agree(random, tracedGradient(random), optimize, 1e-4),
      ),
      { numRuns: runs(100) },
    )
  })

  it('with inputs donated, and the others as they were', () => {
    const programs = fc.tuple(arbitraryProgram({ kind: 'continuous' }), fc.subarray([0, 1, 2]))
    fc.assert(
      fc.property(programs, ([random, donate]) => {
        agree(
          random,
          traced(random),
          'fuse',
          2e-5,
          donate.filter((index) => index < random.inputs.length),
        )
      }),
      { numRuns: runs(150) },
    )
  })
})

function traced(random: RandomProgram): Program {
  return traceFlat(random.f, random.inputs, 'random', { keepCalls: false }).program
}

/** The outputs, and the gradients of their sum by every floating input. */
function tracedGradient(random: RandomProgram): Program {
  const f = (inputs: readonly Tensor[]): readonly Tensor[] => {
    const [outputs, pullback] = vjp(
      (...tensors: Tensor[]) => random.f(tensors).filter((output) => isFloat(output.dtype)),
      ...inputs,
    )
    return [...outputs, ...pullback(outputs.map(onesLike))]
  }
  return traceFlat(f, random.inputs, 'random', { keepCalls: false }).program
}

function agree(
  random: RandomProgram,
  program: Program,
  optimize: OptimizeLevel,
  tolerance: number,
  donate: readonly number[] = [],
): void {
  const plan = compileProgram(program, { optimize, donate, verify: true })
  const inputs = zip(random.inputs, program.inputs).map(([input, { type }]) =>
    [...input.values].map((value) => roundTo(type.dtype, value)),
  )
  const actual = evaluatePlan(plan, inputs)
  const expected = interpret(
    program,
    zip(program.inputs, inputs).map(([{ type }, values]) => ({ type, data: Float64Array.from(values) })),
  )
  zip(actual, expected).forEach(([got, want], index) =>
    near(got, want.data, tolerance, () => describeFailure(index, program, plan)),
  )
}

function near(got: readonly number[], want: Float64Array, tolerance: number, describe: () => string): void {
  expect(got.length).toBe(want.length)
  want.forEach((value, i) => {
    const actual = got[i] ?? Number.NaN
    const same =
      Object.is(actual, value) ||
      actual === value ||
      Math.abs(actual - value) <= tolerance * Math.max(1, Math.abs(value))
    if (!same) throw new Error(`element ${i}: expected ${value}, got ${actual}\n${describe()}`)
  })
}

function describeFailure(output: number, program: Program, plan: Plan): string {
  return `output ${output} of\n${showProgram(program)}\n${showPlan(plan)}`
}
