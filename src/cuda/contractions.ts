// Products and convolutions: which candidates compete for each of them, and the tuner that chooses. What the candidates do
// is conv/'s, matmul/'s and kernels/'s part; how they are timed is tune/'s.
import { join } from 'node:path'
import { cacheFolder } from '../compile/cache-folder.ts'
import { type ConvEquation, convDepth } from '../compile/index.ts'
import type { Preparation } from '../tensor/device.ts'
import type { DType } from '../tensor/dtype.ts'
import { PullbackError } from '../tensor/errors.ts'
import { type LogLevel, logLine } from '../tensor/log.ts'
import { at } from '../tensor/shape.ts'
import {
  type ConvOptions,
  type CudnnSession,
  NoPlanError,
  convCandidates,
  convFromRecipe,
  convKey,
  convProblem,
  deviceSession,
  supportedByCudnn,
} from './conv/index.ts'
import type { CudaStep, Fused } from './fusions/fusion.ts'
import { rowTask } from './fusions/row-tasks.ts'
import { productTask } from './fusions/product-tasks.ts'
import { type FusionChoice, fusionTask } from './fusions/tasks.ts'
import { paddedCandidates, paddedFromRecipe, paddings } from './fusions/padded.ts'
import { groupedCandidate } from './kernels/grouped.ts'
import { type Contraction, lowerPlainContraction, plainCandidate } from './kernels/index.ts'
import { rowsCandidate } from './kernels/rows.ts'
import { matmulProblem, matmulTask, supportedByCublasLt } from './matmul/index.ts'
import { preparationOf } from './preparation.ts'
import type { Runtime, Session } from './runtime/index.ts'
import { Tuner, TuningCache, type TuningTask, runtimeBench, tuningIdentity, tuningOptions } from './tune/index.ts'
import { tellOnce } from './told.ts'
import type { Candidate, Lowered } from './work.ts'

/** How contractions are to be computed. */
export interface ContractionOptions {
  /** Whether f32 operands may be rounded to TF32 for the Tensor Cores. */
  readonly precision: 'tf32' | 'ieee'
  /** Whether the same input must give the same bits in each run. */
  readonly deterministic: boolean
  /** Whether programs are run as graphs, and candidates timed as such. */
  readonly graphs: boolean
  /** Whether contractions are fused with what follows them where that is faster. */
  readonly fusions: FusionChoice
  readonly environment: NodeJS.ProcessEnv
  /** Told after each problem that is settled, and of kernels that are compiled for it. */
  readonly progress?: (state: Preparation) => void
}

/** The contractions of one device. */
export interface Contractions {
  readonly tuner: Tuner
  /** What was tuned before; undefined where nothing is kept. */
  readonly cache: TuningCache | undefined
  /**
   * Hears of a plan's steps before they are lowered: says how many different problems are to come, and compiles our own
   * candidates for them and the kernels of separate steps all together, since tuning meets them one by one.
   */
  prepare(steps: readonly CudaStep[]): void
  /** The works of a product or convolution; each caller releases what it got. */
  lower(equation: Contraction): Lowered
  /** The works of several steps as one, likewise. */
  lowerFused(fused: Fused): Lowered
}

/**
 * How many of cuDNN's proposals are timed for one convolution: the first few are the likely ones. Of those that compile their
 * kernel while they are planned one is enough: that takes a second, other plans a fifth of a millisecond.
 */
export const proposalLimits = { all: 8, compiled: 1 } as const
/** Those over padded channels. */
const mostPadded = 4

/** Raised when a kernel of ours changes enough that what won against it must be timed again. */
const revision = '2'

/** The contractions on a runtime's context. */
export function openContractions(runtime: Runtime, options: ContractionOptions): Contractions {
  const { session } = runtime
  const bench = runtimeBench(runtime, options.graphs)
  const note = (sentence: string, level: LogLevel = 'warn'): void => logLine(level, () => `pullback: ${sentence}`)
  const asked = tuningOptions(options.environment)
  const cache = asked.mode === 'time' ? openCache(session, options, note) : undefined
  const tell = (phase: string) => (done: number, total: number) => options.progress?.({ phase, done, total })
  const { precision, deterministic, fusions } = options
  const tuner = new Tuner({ ...asked, bench, cache, note, progress: tell('tuning') })
  const failed = tellOnce(note)
  const lower = (equation: Contraction): Lowered => {
    const task = taskOf(equation, session, options, failed)
    return task === undefined ? lowerPlainContraction(equation) : tuner.choose(task)
  }
  const means = {
    cudnn: deviceSession(session.cudnn, session.dnn),
    matmul: session,
    ...{ precision, deterministic, choice: fusions, lower, failed },
  }
  const taskOfFused = (fused: Fused): TuningTask => {
    switch (fused.kind) {
      case 'contraction': {
        const { dtype } = at(fused.contraction.equation.outputs, 0).type
        return fusionTask(fused, { ...means, workspaceBytes: workspaceFor(dtype) })
      }
      case 'rows':
        return rowTask(fused, {
          ...means,
          lowerFusion: (one) => tuner.choose(taskOfFused(one)),
          ownRows: rowsCandidate,
        })
      case 'products':
        return productTask(fused, means)
      default:
        return fused satisfies never
    }
  }
  return {
    tuner,
    cache,
    prepare: (steps) => {
      const keyOf = (equation: Contraction) => taskOf(equation, session, options)?.key
      const { unsettled, sources } = preparationOf(steps, {
        tuner,
        keyOf,
        keyOfFused: (fused) => taskOfFused(fused).key,
      })
      tuner.announce(unsettled.length)
      // One that does not compile is met again, and dropped by name, when its turn comes.
      tuner.spend(() => unlessRefused(() => runtime.modules.load(sources, tell('compiling'))))
    },
    lower,
    lowerFused: (fused) => tuner.choose(taskOfFused(fused)),
  }
}

function unlessRefused(compile: () => void): void {
  try {
    compile()
  } catch (error) {
    if (!(error instanceof PullbackError) || error.code !== 'compiler') throw error
  }
}

/** The scratch memory that cuDNN may ask for: its engines for large f32 convolutions, as the first one, want more. */
function workspaceFor(dtype: DType): number {
  return dtype === 'f32' ? 1.5 * 2 ** 30 : 2 ** 30
}

/**
 * What is known is for those who let the same compete: what wins where sums may be in any order, or without the separate
 * steps, has not passed or not met what it would have to otherwise.
 */
function openCache(
  session: Session,
  { deterministic, fusions, environment }: ContractionOptions,
  note: (sentence: string) => void,
): TuningCache {
  const identity = {
    ...tuningIdentity(session, revision),
    ...(deterministic ? {} : { sums: 'in any order' }),
    ...(fusions === 'always' ? { fusions } : {}),
  }
  return new TuningCache(join(cacheFolder(environment), 'tuning'), identity, note)
}

/** The question to the tuner; undefined where only plain kernels of our own take the dtype or the extents. */
function taskOf(
  equation: Contraction,
  session: Session,
  options: ContractionOptions,
  failed?: ConvOptions['failed'],
): TuningTask | undefined {
  const plain = (): Candidate => plainCandidate(equation)
  if (equation.primitive !== 'dot')
    return supportedByCudnn(equation)
      ? convTask(equation, deviceSession(session.cudnn, session.dnn), options, plain, failed)
      : undefined
  const { dtype } = at(equation.outputs, 0).type
  if (dtype === 'i32' || dtype === 'u8' || dtype === 'bool') return undefined
  const problem = matmulProblem(equation, options.precision)
  return supportedByCublasLt(problem) ? matmulTask(session, problem, plain) : undefined
}

/** A convolution: our grouped kernels, cuDNN's first proposals, and plain kernels where there is nothing else. */
function convTask(
  equation: ConvEquation,
  session: CudnnSession,
  { precision, deterministic }: ContractionOptions,
  plain: () => Candidate,
  failed: ConvOptions['failed'],
): TuningTask {
  const problem = convProblem(equation, precision)
  const limits = {
    deterministic,
    workspaceBytes: workspaceFor(problem.dtype),
    compiledEngines: proposalLimits.compiled,
    ...(failed === undefined ? {} : { failed }),
  }
  const own = (): readonly Candidate[] => {
    const grouped = groupedCandidate(equation)
    return grouped === undefined ? [] : [grouped]
  }
  return {
    key: convKey(problem),
    inputs: equation.inputs.map(({ type }) => type),
    outputs: equation.outputs.map(({ type }) => type),
    depth: convDepth(equation),
    precision: problem.precision,
    deterministic,
    candidates: function* (hurried = false) {
      yield* own()
      let found = own().length
      // In a hurry those that compile nothing; those that do come behind, for convolutions that have no others.
      if (hurried) {
        const quick = () => convCandidates(session, problem, { ...limits, compiledEngines: 0 })
        yield* proposed(quick, 1)
      }
      for (const candidate of proposed(() => convCandidates(session, problem, limits), proposalLimits.all)) {
        found += 1
        yield candidate
      }
      for (const channels of paddings(problem))
        yield* proposed(() => paddedCandidates(session, problem, limits, channels), mostPadded)
      if (found === 0) yield plain()
    },
    restore: (id, recipe) =>
      recipe === undefined
        ? [...own(), plain()].find((candidate) => candidate.id === id)
        : (paddedFromRecipe(session, problem, id, recipe, limits) ?? convFromRecipe(session, problem, recipe, limits)),
    reference: plain,
  }
}

/** The first few of a library's candidates; none where it has no plan for the problem. */
function* proposed(candidates: () => Iterable<Candidate>, most: number): Generator<Candidate> {
  let left: number = most
  try {
    for (const candidate of candidates()) {
      yield candidate
      if (--left === 0) return
    }
  } catch (error) {
    if (!(error instanceof NoPlanError)) throw error
  }
}
