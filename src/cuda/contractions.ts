// Products and convolutions: which candidates compete for each of them, and the tuner that chooses. What the candidates do
// is conv/'s, matmul/'s and kernels/'s part; how they are timed is tune/'s.
import { join } from 'node:path'
import { cacheFolder } from '../compile/cache-folder.ts'
import { type ConvEquation, convExtents } from '../compile/index.ts'
import { logLine } from '../tensor/log.ts'
import { at } from '../tensor/shape.ts'
import { type CudnnSession, convCandidates, convFromRecipe, convKey, convProblem, deviceSession } from './conv/index.ts'
import { NoPlanError, supportedByCudnn } from './conv/index.ts'
import { groupedCandidate } from './kernels/grouped.ts'
import { type Contraction, lowerPlainContraction, plainCandidate } from './kernels/index.ts'
import { type MatmulSession, matmulProblem, matmulTask, openMatmulSession, supportedByCublasLt } from './matmul/index.ts'
import { Cleanup, type Runtime, allOrNothing } from './runtime/index.ts'
import { Tuner, TuningCache, type TuningTask, tuningOptions } from './tune/index.ts'
import { tuningBench } from './tuning-bench.ts'
import type { Candidate, Lowered } from './work.ts'

/** How contractions are to be computed. */
export interface ContractionOptions {
  /** Whether f32 operands may be rounded to TF32 for the Tensor Cores. */
  readonly precision: 'tf32' | 'ieee'
  /** Whether the same input must give the same bits in each run. */
  readonly deterministic: boolean
  /** Whether programs are run as graphs, and candidates timed as such. */
  readonly graphs: boolean
  readonly environment: NodeJS.ProcessEnv
  /** Told after each problem that is settled. */
  readonly progress?: (done: number, total: number, key: string) => void
}

/** The contractions of one device. */
export interface Contractions {
  readonly tuner: Tuner
  /** The works of a product or convolution; each caller releases what it got. */
  lower(equation: Contraction): Lowered
  /** Gives back handles; what was lowered must have been released. */
  close(): void
}

/** cuDNN's proposals that are timed for one convolution; the first few are the likely ones. */
const mostProposals = 8

/** Opens the libraries on the runtime's context. All or nothing. */
export function openContractions(runtime: Runtime, options: ContractionOptions): Contractions {
  const { value, cleanup } = allOrNothing((noted) => {
    const { cudnn, cublasLt, driver } = runtime.session
    const conv = noted.own(deviceSession(cudnn), (session) => session.release())
    const matmul = noted.own(openMatmulSession(cublasLt, driver), (session) => session.close())
    const bench = noted.own(tuningBench(runtime, options.graphs), (made) => made.close())
    const note = (sentence: string): void => logLine('warn', () => `pullback: ${sentence}`)
    const asked = tuningOptions(options.environment)
    const cache = asked.mode === 'time' ? openCache(runtime, options, note) : undefined
    const { progress } = options
    const tuner = new Tuner({ ...asked, bench, cache, note, ...(progress === undefined ? {} : { progress }) })
    return { tuner, conv, matmul }
  })
  const { tuner, conv, matmul } = value
  const ending = new Cleanup()
  ending.later(() => cleanup.release())
  return {
    tuner,
    lower: (equation) => {
      const task = taskOf(equation, conv, matmul, options)
      return task === undefined ? lowerPlainContraction(equation) : tuner.choose(task)
    },
    close: () => ending.release(),
  }
}

function openCache(runtime: Runtime, { environment, deterministic }: ContractionOptions, note: (s: string) => void) {
  const { gpu, versions } = runtime.session
  const { driver, cublasLt, cudnn } = versions
  const identity = { gpu: gpu.name, driver, cublasLt, cudnn, deterministic }
  const texts = Object.entries(identity).map(([name, value]) => [name, String(value)] as const)
  return new TuningCache(join(cacheFolder(environment), 'tuning'), Object.fromEntries(texts), note)
}

/** The question to the tuner; undefined where only plain kernels of our own take the dtype or the extents. */
function taskOf(
  equation: Contraction,
  conv: CudnnSession,
  matmul: MatmulSession,
  options: ContractionOptions,
): TuningTask | undefined {
  const plain = (): Candidate => plainCandidate(equation)
  if (equation.primitive !== 'dot') return supportedByCudnn(equation) ? convTask(equation, conv, options, plain) : undefined
  const { dtype } = at(equation.outputs, 0).type
  if (dtype === 'i32' || dtype === 'u8' || dtype === 'bool') return undefined
  const problem = matmulProblem(equation, options.precision)
  return supportedByCublasLt(problem) ? matmulTask(matmul, problem, plain) : undefined
}

/** A convolution: our grouped kernels, cuDNN's first proposals, and plain kernels where there is nothing else. */
function convTask(
  equation: ConvEquation,
  session: CudnnSession,
  { precision, deterministic }: ContractionOptions,
  plain: () => Candidate,
): TuningTask {
  const problem = convProblem(equation, precision)
  const own = (): readonly Candidate[] => {
    const grouped = groupedCandidate(equation)
    return grouped === undefined ? [] : [grouped]
  }
  return {
    key: convKey(problem),
    inputs: equation.inputs.map(({ type }) => type),
    outputs: equation.outputs.map(({ type }) => type),
    depth: depthOf(equation),
    precision: problem.precision,
    candidates: () => {
      const candidates = [...own(), ...proposed(session, problem, deterministic)]
      return candidates.length === 0 ? [plain()] : candidates
    },
    restore: (id, recipe) =>
      recipe === undefined
        ? [...own(), plain()].find((candidate) => candidate.id === id)
        : convFromRecipe(session, problem, recipe, { deterministic }),
    reference: plain,
  }
}

/** cuDNN's first proposals; none where it has no plan for the problem. */
function proposed(
  session: CudnnSession,
  problem: ReturnType<typeof convProblem>,
  deterministic: boolean,
): readonly Candidate[] {
  const candidates: Candidate[] = []
  try {
    for (const candidate of convCandidates(session, problem, { deterministic }))
      if (candidates.push(candidate) === mostProposals) break
    return candidates
  } catch (error) {
    for (const candidate of candidates) candidate.release?.()
    if (error instanceof NoPlanError) return []
    throw error
  }
}

/** How many products are summed into one element of the result. */
function depthOf(equation: ConvEquation): number {
  const { batch, channels, outChannels, outHeight, outWidth, kernelHeight, kernelWidth, groups } = convExtents(equation)
  switch (equation.primitive) {
    case 'conv2d':
      return (kernelHeight * kernelWidth * channels) / groups
    case 'conv2dInputGrad':
      return (kernelHeight * kernelWidth * outChannels) / groups
    case 'conv2dFilterGrad':
      return batch * outHeight * outWidth
    default:
      return equation satisfies never
  }
}
