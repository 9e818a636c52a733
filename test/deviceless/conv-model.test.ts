// Every convolution of SE-ResNeXt101-32x4d's training step and inference, asked of the real cuDNN for an H200: a plan must
// be left after the filter and within the workspace. Nothing is executed.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type ConvPrecision,
  type ConvProblem,
  type CudnnSession,
  convCandidates,
  convProblem,
  defaultWorkspaceBytes,
  isConvolution,
  showProblem,
} from '../../src/cuda/conv/index.ts'
import { at } from '../../src/tensor/shape.ts'
import type { Precision } from '../../src/train/index.ts'
import { absent } from '../cuda/wheels.ts'
import { findLibraries, h200Session } from './libraries.ts'
import { type ModelPlans, libraryEquations, modelPlans } from './model-plans.ts'

const libraries = findLibraries()
const missing = libraries.cudnn === undefined
if (missing) absent('the model is not planned by cuDNN, because there is none')

const cases: readonly (readonly [Precision, readonly ConvPrecision[]])[] = [
  ['f16', ['tf32']],
  ['bf16', ['tf32']],
  ['f32', ['tf32', 'ieee']],
]

describe.skipIf(missing).each(cases)('the model in %s', (dtype, precisions) => {
  let plans: ModelPlans
  let session: CudnnSession
  beforeAll(async () => {
    plans = await modelPlans(dtype)
    session = h200Session(libraries)
  })
  afterAll(() => session.release())

  test.each(precisions)('has a plan for each convolution (%s)', (precision) => {
    const problems = distinct([...convolutions(plans.training, precision), ...convolutions(plans.inference, precision)])
    expect(new Set(problems.map(({ direction }) => direction)).size).toBe(3)
    expect(problems.length).toBeGreaterThan(40)
    const rows = problems.map((problem) => row(session, problem))
    console.log([`${dtype} ${precision}: candidates, refused, first choice, workspace`, ...rows].join('\n'))
  })
})

function convolutions(plan: ModelPlans['training'], precision: ConvPrecision): ConvProblem[] {
  return libraryEquations(plan).flatMap((equation) =>
    isConvolution(equation) ? [convProblem(equation, precision)] : [],
  )
}

function distinct(problems: readonly ConvProblem[]): ConvProblem[] {
  return [...new Map(problems.map((problem) => [showProblem(problem), problem])).values()]
}

/** A line of the table. Throws where cuDNN has no plan. */
function row(session: CudnnSession, problem: ConvProblem): string {
  const reasons = new Map<string, number>()
  const dropped = (_: string, why: string): void => void reasons.set(why, (reasons.get(why) ?? 0) + 1)
  const candidates = [...convCandidates(session, problem, { dropped })]
  for (const { scratchBytes, release } of candidates) {
    expect(scratchBytes).toBeLessThanOrEqual(defaultWorkspaceBytes)
    release?.()
  }
  const { id, scratchBytes } = at(candidates, 0)
  const refused = [...reasons].map(([why, count]) => `${count} ${why}`).join(', ')
  return `  ${showProblem(problem)}: ${candidates.length}, ${refused === '' ? 'none' : refused}, ${id}, ${(scratchBytes / 1e6).toFixed(1)} MB`
}
