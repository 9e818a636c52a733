// What the first step of SE-ResNeXt101-32x4d's mixed-precision training waits for on a machine where nothing is cached, as far
// as the real libraries tell without a GPU: kernels compiled on all cores, and cuDNN's plans for the candidates that would be
// timed. Seconds are printed and not judged.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { PrintedSource } from '../../src/compile/print/index.ts'
import { proposalLimits } from '../../src/cuda/contractions.ts'
import { convCandidates, convKey, convProblem, isConvolution } from '../../src/cuda/conv/index.ts'
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
})

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
