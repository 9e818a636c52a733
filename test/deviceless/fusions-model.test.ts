// Every fusion of SE-ResNeXt101-32x4d's training step and inference, asked of the real cuDNN for an H200: each has a plan, but for
// statistics that cuDNN would add up in any order. Nothing is executed.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type ConvFusion,
  type ConvProblem,
  type CudnnSession,
  convCandidates,
  convProblem,
} from '../../src/cuda/conv/index.ts'
import { NoPlanError, convKey } from '../../src/cuda/conv/index.ts'
import { fuseSteps } from '../../src/cuda/fusions/arrange.ts'
import type { Fusion } from '../../src/cuda/fusions/fusion.ts'
import type { Precision } from '../../src/train/index.ts'
import { absent } from '../cuda/wheels.ts'
import { findLibraries, h200Session, provideDriver } from './libraries.ts'
import { modelPlans } from './model-plans.ts'

const libraries = findLibraries()
if (libraries.cudnn === undefined) absent('the model’s fusions are not planned by cuDNN, because there is none')

interface Asked {
  readonly problem: ConvProblem
  readonly fusion: ConvFusion
}

describe.skipIf(libraries.cudnn === undefined || !provideDriver()).each<Precision>(['f16', 'bf16', 'f32'])(
  'the model’s fusions in %s',
  (dtype) => {
    let session: CudnnSession
    beforeAll(() => {
      session = h200Session(libraries)
    })
    afterAll(() => session.release())

    test('have a plan each, or none that gives the same bits twice', async () => {
      const { training, inference } = await modelPlans(dtype)
      const asked = [training, inference].flatMap((plan) =>
        fuseSteps(plan).steps.flatMap((step) =>
          step.kind === 'fused' && step.fusion.kind === 'contraction' ? question(step.fusion) : [],
        ),
      )
      const distinct = new Map(asked.map((one) => [convKey(one.problem, one.fusion), one]))
      expect(distinct.size).toBeGreaterThan(30)
      const without: string[] = []
      const rows = [...distinct].map(([key, one]) => {
        const id = firstId(session, one)
        if (id === undefined) without.push(key)
        return `  ${key}: ${id ?? 'none'}`
      })
      console.log([`${dtype}: fusions and their first plan`, ...rows].join('\n'))
      // Engines whose kernels are ready have statistics of dense convolutions in f16 alone, of more than the image's 3 channels.
      const unsteady = (key: string): boolean =>
        key.endsWith('+ statistics') && (dtype !== 'f16' || key.includes('groups 32') || key.includes('224x3 '))
      expect([...distinct.keys()].filter(unsteady).length).toBeGreaterThan(0)
      expect(without).toEqual([...distinct.keys()].filter(unsteady))
    })
  },
)

/** The graph that is asked for, where it is a convolution's. */
function question({ way, contraction: { equation } }: Fusion): Asked[] {
  if (way.kind === 'product' || way.kind === 'masked' || equation.primitive === 'dot') return []
  return [{ problem: convProblem(equation, 'tf32'), fusion: way.kind === 'chain' ? way.epilogue : 'statistics' }]
}

function firstId(session: CudnnSession, { problem, fusion }: Asked): string | undefined {
  const candidates = convCandidates(session, problem, { fusion, workspaceBytes: 1.5 * 2 ** 30 })
  try {
    const { value, done } = candidates.next()
    if (done === true) return undefined
    value.release?.()
    return `${value.id}, ${(value.scratchBytes / 1e6).toFixed(1)} MB`
  } catch (error) {
    if (!(error instanceof NoPlanError)) throw error
    return undefined
  } finally {
    candidates.return()
  }
}
