// How many launches the full model takes on a GPU at batch 256 where everything is fused that can be, counted from the plan and
// from our own kernels: nothing is run, and calls into libraries count as one.
import { beforeAll, describe, expect, test } from 'vitest'
import type { Plan } from '../../src/compile/index.ts'
import { fuseSteps } from '../../src/cuda/fusions/arrange.ts'
import type { Fused } from '../../src/cuda/fusions/fusion.ts'
import { ownCandidates } from '../../src/cuda/fusions/own.ts'
import { productsCandidate } from '../../src/cuda/fusions/product-tasks.ts'
import { separateParts } from '../../src/cuda/fusions/row-parts.ts'
import { rowsCandidate } from '../../src/cuda/kernels/rows.ts'
import { lowerStep } from '../../src/cuda/library.ts'
import { lowerPlan } from '../../src/cuda/lower.ts'
import type { Lowered } from '../../src/cuda/work.ts'
import { range } from '../../src/tensor/shape.ts'
import { type ModelPlans, modelPlans } from '../deviceless/model-plans.ts'

/** So many calls. */
function calls(count: number): Lowered {
  return {
    works: range(count).map(() => ({ kind: 'call', label: 'a library', enqueue: () => undefined })),
    scratchBytes: 0,
  }
}

/** The way that fuses, or the separate steps, as far as their launches go. */
function ways(fused: Fused, together: boolean): Lowered {
  if (fused.kind === 'rows') {
    const own = together ? rowsCandidate(fused) : undefined
    return own ?? calls(separateParts(fused).length)
  }
  if (fused.kind === 'products') return together ? productsCandidate(fused) : calls(fused.products.length)
  const { before, kernels, way } = fused
  if (!together) return calls(before.length + 1 + kernels.length)
  const [own] = ownCandidates(fused)
  if (own !== undefined) return own
  const left = way.kind === 'statistics' ? way.last : way.kind === 'chain' ? way.rest : undefined
  return calls(left === undefined ? 1 : 2)
}

/** The launches of a plan, and how many of them are of each kind of fused step. */
function launches(plan: Plan, together: boolean) {
  const fused = fuseSteps(plan)
  const lower = () => calls(1)
  const { works } = lowerPlan(fused, {
    lower: (step) => lowerStep(step, { lower, lowerFused: (one) => ways(one, together) }),
  })
  const kinds = fused.steps.flatMap((step) => (step.kind === 'fused' ? [step.fusion.kind] : []))
  return { launches: works.length, chains: kinds.filter((kind) => kind === 'rows').length, arena: fused.arenaBytes }
}

describe('the launches of SE-ResNeXt101-32x4d in f16 at batch 256', () => {
  let plans: ModelPlans
  beforeAll(async () => {
    plans = await modelPlans('f16')
  }, 240_000)

  test('are as few as counted here', () => {
    const { training, inference } = plans
    const [step, apart] = [launches(training, true), launches(training, false)]
    const [forward, forwardApart] = [launches(inference, true), launches(inference, false)]
    console.log(
      `launches: training ${step.launches} (${apart.launches} where nothing is fused), inference ${forward.launches} (${forwardApart.launches})`,
    )
    // A chain forward and one backward for each of 33 blocks.
    expect([step.chains, forward.chains]).toEqual([66, 33])
    expect([step.launches, apart.launches]).toEqual([879, 1116])
    expect([forward.launches, forwardApart.launches]).toEqual([204, 341])
    // What stands in front of the others is kept longer: of inference's weights all 16-bit copies at once, 98 MB.
    // Of training what the SE blocks' weight gradients are made of, until all are.
    expect(step.arena - training.arenaBytes).toBeLessThan(2e6)
    expect(forward.arena - inference.arenaBytes).toBeLessThan(100e6)
  }, 60_000)
})
