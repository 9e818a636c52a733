// A fusion as a question to the tuner: the ways in which libraries do it in one pass beside the best separate steps, which are
// always there, and what every way is checked against.
import { InternalError } from '../../tensor/errors.ts'
import { at } from '../../tensor/shape.ts'
import {
  type ConvEquation,
  type ConvFusion,
  type ConvOptions,
  type ConvPrecision,
  type CudnnSession,
  convCandidates,
  convFromRecipe,
  convKey,
  convProblem,
  isRefusal,
  NoPlanError,
} from '../conv/index.ts'
import { CudaError } from '../ffi/status.ts'
import { type Contraction, lowerPlainContraction } from '../kernels/index.ts'
import {
  type MatmulProblem,
  type MatmulSession,
  matmulCandidates,
  matmulFromRecipe,
  matmulKey,
  matmulProblem,
} from '../matmul/index.ts'
import type { TuningTask } from '../tune/index.ts'
import type { Candidate, Lowered } from '../work.ts'
import { type Part, compose, partsOf } from './compose.ts'
import { type Fusion, fusedDigest } from './fusion.ts'
import { nanAcceptance } from './nans.ts'
import { ownCandidates } from './own.ts'
import { paddedCandidates, paddedFromRecipe, paddings } from './padded.ts'
import { statisticsAcceptance } from './statistics.ts'
import { outputTolerances } from './tolerances.ts'

/** When fusions are taken: by timing; 'always' where there is a way at all, for tests; 'never'. */
export type FusionChoice = 'tuned' | 'always' | 'never'

/** What fusions are made with. */
export interface FusionMeans {
  readonly cudnn: CudnnSession
  readonly matmul: MatmulSession
  readonly precision: ConvPrecision
  readonly deterministic: boolean
  readonly choice: FusionChoice
  /** The most scratch memory of a library's candidate, in bytes. */
  readonly workspaceBytes: number
  /** Hears of what cuDNN fails to plan, where it does not refuse. */
  readonly failed?: NonNullable<ConvOptions['failed']>
  /** The tuner's choice for a contraction by itself. */
  lower(equation: Contraction): Lowered
}

/** cuDNN compiles a kernel for each fused proposal, which takes a second: its first ones are the likely ones. */
const mostProposals = 3

/** The name of the separate steps among the candidates; what they consist of is the tuner's choice for the contraction. */
export const separately = 'separate'

/** The tuner's task for a fusion; operands are the fusion's inputs, then its outputs. */
export function fusionTask(fusion: Fusion, means: FusionMeans): TuningTask {
  const { equation } = fusion.contraction
  const library = libraryOf(fusion, means)
  const separate = (): Candidate => separateSteps(fusion, separately, means.lower(equation))
  const beside = { id: separately, make: separate }
  return {
    key: fusionKey(fusion, means.precision),
    inputs: fusion.inputs,
    outputs: fusion.outputs,
    precision: means.precision,
    deterministic: means.deterministic,
    ...outputTolerances(fusion, means.precision),
    // in a hurry the separate steps: what is fused is compiled first, and slower where it does not suit
    candidates: (hurried = false) =>
      hurried && means.choice !== 'always' ? [separate()] : inOrder(fusion, means, library, separate),
    restore: (id, recipe) => {
      if (id === separately) return separate()
      const own = ownCandidates(fusion).find((candidate) => candidate.id === id)
      if (own !== undefined) return own
      return recipe === undefined ? undefined : library.restore(id, recipe)
    },
    reference: () => separateSteps(fusion, 'own:plain separately', lowerPlainContraction(equation)),
    ...(fusion.way.kind === 'statistics'
      ? { acceptance: statisticsAcceptance(fusion, beside, means.deterministic) }
      : {}),
    ...(cutsOff(fusion) ? { acceptance: nanAcceptance(fusion, [at(fusion.contraction.wires, 0).index], beside) } : {}),
  }
}

/**
 * Which way comes first is taken where nothing is timed. A fusion saves a pass over a full-size tensor; but cuDNN's engines for
 * fused grouped convolutions are its slow ones, and a product's epilogue saves no more than a launch: there the steps stay
 * separate.
 */
function* inOrder(
  fusion: Fusion,
  means: FusionMeans,
  library: Library,
  separate: () => Candidate,
): Generator<Candidate, void, undefined> {
  const own = ownCandidates(fusion)
  yield* own
  const fusedFirst = means.choice === 'always' || own.length > 0 || savesFullPass(fusion)
  if (!fusedFirst) yield separate()
  let found = own.length
  for (const candidate of proposed(library, means.failed)) {
    found += 1
    yield candidate
  }
  if (fusedFirst && (means.choice !== 'always' || found === 0)) yield separate()
}

/** Whether a library is to apply a ReLU. */
function cutsOff({ way }: Fusion): boolean {
  if (way.kind === 'chain') return way.epilogue.steps.some(({ mode }) => mode === 'RELU_FWD')
  return way.kind === 'product' && way.epilogue === 'bias-relu'
}

function savesFullPass({ contraction: { equation } }: Fusion): boolean {
  return equation.primitive !== 'dot' && equation.params.groups === 1
}

/** What a library can do of a fusion. */
interface Library {
  /** Lists of candidates, of each of which the first few are taken. */
  readonly lists: readonly (() => Iterable<Candidate>)[]
  restore(id: string, recipe: string): Candidate | undefined
}

/** The library's first ways; none where it has none, or fails in another way than for want of memory, which is told. */
function* proposed(library: Library, failed: FusionMeans['failed']): Generator<Candidate, void, undefined> {
  for (const list of library.lists) yield* first(list, failed)
}

function* first(list: () => Iterable<Candidate>, failed: FusionMeans['failed']): Generator<Candidate, void, undefined> {
  let left = mostProposals
  try {
    for (const candidate of list()) {
      yield candidate
      if (--left === 0) return
    }
  } catch (error) {
    if (error instanceof NoPlanError) return
    if (!(error instanceof CudaError) || error.library !== 'cuDNN' || error.code === 'out-of-memory') throw error
    if (!isRefusal(error)) failed?.('a fused graph', error)
  }
}

/** All steps one after the other, the contraction as it was lowered. */
function separateSteps(fusion: Fusion, id: string, contraction: Lowered): Candidate {
  const itself: Part = { lowered: contraction, wires: fusion.contraction.wires }
  return compose(id, [...partsOf(fusion.before), itself, ...partsOf(fusion.kernels)], fusion.inside)
}

function libraryOf(fusion: Fusion, means: FusionMeans): Library {
  const { equation } = fusion.contraction
  if (fusion.way.kind === 'product') return productLibrary(fusion, means)
  if (fusion.way.kind === 'masked') return { lists: [], restore: () => undefined } // cuDNN would add up with atomics
  if (equation.primitive === 'dot') throw new InternalError(`a product with ${fusion.way.kind}`)
  return convolutionLibrary(fusion, equation, means)
}

/** What is made of the sums. */
function lastPart({ last }: Extract<Fusion['way'], { kind: 'statistics' }>): readonly Part[] {
  return last === undefined ? [] : partsOf([last])
}

/** cuDNN, and our kernels for what it leaves. */
function convolutionLibrary(fusion: Fusion, equation: ConvEquation, means: FusionMeans): Library {
  const { cudnn, precision, deterministic, workspaceBytes, failed } = means
  const problem = convProblem(equation, precision)
  const told = failed === undefined ? {} : { failed }
  const options = { fusion: convFusion(fusion), deterministic, workspaceBytes, ...told }
  const parts = (lowered: Candidate): Candidate =>
    compose(lowered.id, [...partsOf(fusion.before), ...fusedParts(fusion, lowered)], fusion.inside, lowered.recipe)
  const list = (candidates: () => Iterable<Candidate>) =>
    function* (): Generator<Candidate> {
      for (const candidate of candidates()) yield parts(candidate)
    }
  return {
    lists: [
      list(() => convCandidates(cudnn, problem, options)),
      ...paddings(problem).map((channels) => list(() => paddedCandidates(cudnn, problem, options, channels))),
    ],
    restore: (id, recipe) => {
      const found =
        paddedFromRecipe(cudnn, problem, id, recipe, options) ?? convFromRecipe(cudnn, problem, recipe, options)
      return found === undefined ? undefined : parts(found)
    },
  }
}

function convFusion({ way }: Fusion): ConvFusion {
  if (way.kind === 'product' || way.kind === 'masked')
    throw new InternalError(`a convolution of cuDNN’s with ${way.kind}`)
  return way.kind === 'statistics' ? 'statistics' : way.epilogue
}

/** The fused convolution with its operands, and what is left to do. */
function fusedParts({ way, contraction: { wires } }: Fusion, lowered: Candidate): readonly Part[] {
  const [a, b, result] = [at(wires, 0), at(wires, 1), at(wires, 2)]
  switch (way.kind) {
    case 'statistics':
      return [{ lowered, wires: [a, b, result, way.sum, way.squares] }, ...lastPart(way)]
    case 'chain': {
      const rest = way.rest === undefined ? [] : partsOf([way.rest])
      return [{ lowered, wires: [a, b, ...way.operands, way.store] }, ...rest]
    }
    case 'product':
      return [{ lowered, wires: [a, b, way.bias, way.result] }]
    case 'masked':
      throw new InternalError('masked sums by a library')
    default:
      return way satisfies never
  }
}

/** cuBLASLt with its epilogue. */
function productLibrary(fusion: Fusion, { matmul, precision }: FusionMeans): Library {
  const problem = productProblem(fusion, precision)
  const parts = (lowered: Candidate): Candidate =>
    compose(lowered.id, fusedParts(fusion, lowered), fusion.inside, lowered.recipe)
  return {
    lists: [
      function* () {
        for (const candidate of matmulCandidates(matmul, problem)) yield parts(candidate)
      },
    ],
    restore: (_, recipe) => {
      const found = matmulFromRecipe(matmul, problem, recipe)
      return found === undefined ? undefined : parts(found)
    },
  }
}

function productProblem({ way, contraction: { equation } }: Fusion, precision: ConvPrecision): MatmulProblem {
  if (way.kind !== 'product' || equation.primitive !== 'dot')
    throw new InternalError('a product’s epilogue of another step')
  return { ...matmulProblem(equation, precision), epilogue: way.epilogue }
}

/** The fusion as one line, the same for equal ones: what is fused, and a digest of the kernels and of how all hang together. */
function fusionKey(fusion: Fusion, precision: ConvPrecision): string {
  return `${nameOf(fusion, precision)} and kernels ${fusedDigest(fusion)}`
}

function nameOf(fusion: Fusion, precision: ConvPrecision): string {
  const { equation } = fusion.contraction
  if (equation.primitive === 'dot') return matmulKey(productProblem(fusion, precision))
  return fusion.way.kind === 'masked'
    ? `${convKey(convProblem(equation, precision))} + masked sums`
    : convKey(convProblem(equation, precision), convFusion(fusion))
}
