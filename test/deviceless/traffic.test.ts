// What SE-ResNeXt101-32x4d's whole training step moves in an H200's memory at batch 256, by the plan and by the real cuDNN's
// first plans: workspaces and layout conversions included. Nothing is executed, and nothing timed.
import { beforeAll, describe, expect, test } from 'vitest'
import { type Plan, describeStep, workOf } from '../../src/compile/index.ts'
import {
  type CudnnSession,
  convCandidates,
  convProblem,
  isConvolution,
  showProblem,
} from '../../src/cuda/conv/index.ts'
import type { CudaStep } from '../../src/cuda/fusions/fusion.ts'
import { groupedCandidate } from '../../src/cuda/kernels/grouped.ts'
import type { Contraction } from '../../src/cuda/kernels/index.ts'
import { lowerStep } from '../../src/cuda/library.ts'
import { type Way, lowerPlan } from '../../src/cuda/lower.ts'
import { showTraffic, totalTraffic, trafficOf } from '../../src/cuda/traffic.ts'
import type { Lowered } from '../../src/cuda/work.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { absent } from '../cuda/wheels.ts'
import { findLibraries, h200Session, provideDriver, unfused } from './libraries.ts'
import { modelPlans } from './model-plans.ts'

const libraries = findLibraries()
const missing = libraries.cudnn === undefined
if (missing) absent('the traffic of the model is not counted, because there is no cuDNN')
else provideDriver()

const batch = 256
/** Megabytes an image that the ideal fused schedule moves: 177 forward and 412 backward. */
const ideal = 589

describe.skipIf(missing)('the training step at batch 256', () => {
  let plan: Plan
  beforeAll(async () => {
    plan = (await modelPlans('f16')).training
  })

  // Which of our own kernels and cuDNN's plans is fastest is for the card to say: both choices are counted.
  test.each([true, false])('moves what is counted here (our grouped kernels: %s)', (own) => {
    const session = h200Session(libraries)
    const chosen = new Map<string, Lowered>()
    try {
      const choose = (equation: Contraction): Lowered => firstChoice(session, equation, own, chosen)
      const lower = (step: CudaStep): Lowered => lowerStep(step, { lower: choose, lowerFused: unfused })
      const lowered = lowerPlan(plan, { lower })
      const traffic = trafficOf(plan, lowered.ways)
      const factor = totalTraffic(traffic) / 1e6 / batch / ideal
      const perImage = Object.entries(traffic).map(([part, bytes]) => `${part} ${(bytes / 1e6 / batch).toFixed(1)}`)
      console.log(
        [
          `f16 training step, batch ${batch}, ${own ? 'grouped kernels of our own' : 'cuDNN only'}: ${lowered.works.length} launches, ${showTraffic(traffic)}`,
          `  an image ${(totalTraffic(traffic) / 1e6 / batch).toFixed(1)} MB (${perImage.join(', ')}); the ideal ${ideal} MB; ${factor.toFixed(3)} times the ideal`,
          `  products by cuBLASLt are counted without workspace, since it proposes nothing without a device`,
          ...conversions(plan, lowered.ways),
        ].join('\n'),
      )
      expect(workOf(plan, range(plan.steps.length)).bytes).toBe(traffic.kernels + traffic.libraries)
      if (own) expect(factor).toBeLessThanOrEqual(1.25)
    } finally {
      for (const lowered of chosen.values()) lowered.release?.()
      session.release()
    }
  })
})

/** What stands first where nothing is timed; equal problems share it. */
function firstChoice(
  session: CudnnSession,
  equation: Contraction,
  own: boolean,
  chosen: Map<string, Lowered>,
): Lowered {
  if (!isConvolution(equation))
    return { works: [{ kind: 'call', label: 'product', enqueue: () => undefined }], scratchBytes: 0 }
  const problem = convProblem(equation, 'tf32')
  const key = showProblem(problem)
  const found = chosen.get(key) ?? (own ? groupedCandidate(equation) : undefined) ?? firstPlan(session, problem)
  chosen.set(key, found)
  return found
}

function firstPlan(session: CudnnSession, problem: ReturnType<typeof convProblem>): Lowered {
  const [found] = convCandidates(session, problem)
  if (found === undefined) throw new Error(`no plan for ${showProblem(problem)}`)
  return found
}

/** A line for each kind of step whose workspace holds a whole image, with how often it comes. */
function conversions(plan: Plan, ways: readonly Way[]): readonly string[] {
  const lines = new Map<string, number>()
  plan.steps.forEach((step, index) => {
    const way = at(ways, index)
    const { conversions: bytes } = trafficOf({ ...plan, steps: [step] }, [way])
    const line = `  converts: ${describeStep(step)} by ${way.id ?? ''}, workspace ${(way.scratchBytes / 1e6).toFixed(1)} MB`
    if (bytes > 0) lines.set(line, (lines.get(line) ?? 0) + 1)
  })
  return [...lines].map(([line, count]) => `${line}, ${count} times`)
}
