// What the first step of SE-ResNeXt101-32x4d's mixed-precision training waits for on a machine where nothing is cached, as far
// as the real libraries tell without a GPU: kernels compiled on all cores, and cuDNN's plans for the candidates that would be
// timed. Seconds are printed and not judged.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { PrintedSource } from '../../src/compile/print/index.ts'
import { proposalLimits } from '../../src/cuda/contractions.ts'
import {
  type ConvFusion,
  type ConvProblem,
  NoPlanError,
  convCandidates,
  convFromRecipe,
  convKey,
  convProblem,
  isConvolution,
} from '../../src/cuda/conv/index.ts'
import { fuseSteps } from '../../src/cuda/fusions/arrange.ts'
import type { Fusion } from '../../src/cuda/fusions/fusion.ts'
import { groupedCandidate } from '../../src/cuda/kernels/grouped.ts'
import { lowerStep } from '../../src/cuda/library.ts'
import { lowerPlan } from '../../src/cuda/lower.ts'
import { Cubins } from '../../src/cuda/runtime/cubins.ts'
import type { Candidate, Lowered } from '../../src/cuda/work.ts'
import { absent } from '../cuda/wheels.ts'
import { findLibraries, h200Session, provideDriver, unfused } from './libraries.ts'
import { type ModelPlans, libraryEquations, modelPlans } from './model-plans.ts'

const libraries = findLibraries()
const { nvrtc, cudnn } = libraries
const missing = nvrtc === undefined || cudnn === undefined
if (missing) absent('the first step is not tried, because there is no NVRTC or no cuDNN')

describe.skipIf(missing)('the first step', () => {
  let plan: ModelPlans['training']
  let folder = ''
  beforeAll(async () => {
    plan = (await modelPlans('f16')).training
    folder = mkdtempSync(join(tmpdir(), 'pullback-first-step-'))
    provideDriver()
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test('compiles its kernels together, and finds them the next time', () => {
    if (nvrtc === undefined) throw new Error('no NVRTC')
    const sources = kernelsOf(plan)
    const cubins = (): Cubins => new Cubins(nvrtc, folder, { architecture: 'sm_90', versions: [1] })
    const [first, second] = [cubins(), cubins()]
    const cold = seconds(() => first.get(sources))
    const warm = seconds(() => expect(second.get(sources)).toHaveLength(sources.length))
    console.log(`NVRTC: ${sources.length} kernels for sm_90, cold ${cold}, warm ${warm}`)
    expect([first.counts, second.counts]).toEqual([
      { found: 0, built: sources.length },
      { found: sources.length, built: 0 },
    ])
  })

  test('plans few candidates that compile a kernel', () => {
    const session = h200Session(libraries)
    const equations = libraryEquations(plan).filter(isConvolution)
    const problems = new Map(equations.map((equation) => convProblem(equation, 'tf32')).map((it) => [convKey(it), it]))
    const passedOver: string[] = []
    let planned = 0
    const options = {
      compiledEngines: proposalLimits.compiled,
      dropped: (id: string, why: string) => why.startsWith('would compile') && passedOver.push(id),
    }
    const time = seconds(() => {
      for (const problem of problems.values()) {
        let left: number = proposalLimits.all
        for (const candidate of convCandidates(session, problem, options)) {
          planned += 1
          candidate.release?.()
          if (--left === 0) break
        }
      }
    })
    session.release()
    console.log(
      `cuDNN: ${planned} candidates for ${problems.size} convolutions in ${time}, ${passedOver.length} that compile passed over`,
    )
    expect(planned).toBeGreaterThan(4 * problems.size)
  })

  test('has a plan that compiles nothing for each convolution, for when the time for tuning is over', () => {
    const session = h200Session(libraries)
    const equations = libraryEquations(plan).filter(isConvolution)
    const problems = new Map(equations.map((equation) => convProblem(equation, 'tf32')).map((it) => [convKey(it), it]))
    const without: string[] = []
    const time = seconds(() => {
      for (const [key, problem] of problems) {
        const [quick] = taken(convCandidates(session, problem, { compiledEngines: 0 }), 1)
        if (quick === undefined) without.push(key)
        quick?.release?.()
      }
    })
    session.release()
    console.log(`cuDNN: a plan that compiles nothing for ${problems.size - without.length} convolutions in ${time}`)
    expect(without).toEqual([])
  })

  test('makes plans again from what the tuning cache keeps, without compiling their kernels', () => {
    const session = h200Session(libraries)
    const fusions = fuseSteps(plan).steps.flatMap((step) =>
      step.kind === 'fused' && step.fusion.kind === 'contraction' ? question(step.fusion) : [],
    )
    const distinct = new Map(fusions.map((one) => [convKey(one.problem, one.fusion), one]))
    const [built, again]: [number[], number[]] = [[], []]
    const refused: string[] = []
    // every other one, and of those the first that compiles its kernel
    for (const [key, { problem, fusion }] of [...distinct].filter((_, index) => index % 2 === 0)) {
      const began = performance.now()
      const [first] = taken(convCandidates(session, problem, { fusion }), 1)
      if (first?.recipe === undefined || first.recipe.length < compiledBytes) continue
      built.push(performance.now() - began)
      first.release?.()
      const start = performance.now()
      const restored = convFromRecipe(session, problem, first.recipe, { fusion })
      again.push(performance.now() - start)
      if (restored === undefined) refused.push(key)
      restored?.release?.()
    }
    session.release()
    const mean = (list: readonly number[]): string =>
      (list.reduce((sum, ms) => sum + ms, 0) / Math.max(1, list.length)).toFixed(1)
    console.log(
      `cuDNN: ${built.length} plans with a kernel compiled for them, ${mean(built)} ms each, from their JSON ${mean(again)} ms each, ${Math.max(...again).toFixed(1)} at most`,
    )
    expect(built.length).toBeGreaterThan(2)
    expect(refused).toEqual([])
  })
})

/** A plan's JSON without a kernel in it has 2 KB, one with has 50 and more. */
const compiledBytes = 12_000

/** The first few of a list that is made as it is read; none where there are none. */
function taken(candidates: Generator<Candidate>, most: number): readonly Candidate[] {
  const found: Candidate[] = []
  try {
    for (const candidate of candidates) if (found.push(candidate) === most) break
  } catch (error) {
    if (!(error instanceof NoPlanError)) throw error
  }
  return found
}

/** The graph of a fused convolution. */
function question({ way, contraction: { equation } }: Fusion): { problem: ConvProblem; fusion: ConvFusion }[] {
  if (way.kind === 'product' || way.kind === 'masked' || equation.primitive === 'dot') return []
  return [{ problem: convProblem(equation, 'tf32'), fusion: way.kind === 'chain' ? way.epilogue : 'statistics' }]
}

/** Every kernel that the step runs, whichever candidate wins: those of our own candidates are among them. */
function kernelsOf(plan: ModelPlans['training']): readonly PrintedSource[] {
  const nothing: Lowered = { works: [], scratchBytes: 0 }
  const own = (equation: Parameters<typeof groupedCandidate>[0]): Candidate | Lowered =>
    groupedCandidate(equation) ?? nothing
  const { works } = lowerPlan(plan, { lower: (step) => lowerStep(step, { lower: own, lowerFused: unfused }) })
  const sources = works.flatMap((work) => (work.kind === 'kernel' ? [work.source] : []))
  return [...new Map(sources.map((source) => [source.name, source])).values()]
}

function seconds(action: () => void): string {
  const began = performance.now()
  action()
  return `${((performance.now() - began) / 1000).toFixed(2)} s`
}
