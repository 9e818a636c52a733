// The ways in which cuDNN can compute a convolution, as candidates for the tuner: proposed by its heuristics, filtered by
// what the engines say of themselves, planned one by one as they are asked for.
import { PullbackError } from '../../tensor/errors.ts'
import { showLibrary } from '../discovery-versions.ts'
import type { Descriptor } from '../ffi/cudnn.ts'
import { CudaError } from '../ffi/status.ts'
import type { Candidate } from '../work.ts'
import { DescriptorScope, releaseAll, sharedScope } from './descriptors.ts'
import { showEpilogue } from './epilogue.ts'
import { type EngineRules, describe, proposals, refusal, showConfiguration } from './engines.ts'
import { type ConvGraph, type Fusion, buildGraph, convGraph } from './graph.ts'
import { type ExecutionPlan, PlanRunner, planFromConfiguration, planFromJson } from './plans.ts'
import { type ConvProblem, showProblem } from './problem.ts'
import type { CudnnSession } from './session.ts'

/** What is asked of the candidates beyond the problem. */
export interface ConvOptions {
  /** What is computed in the same pass; nothing by default. */
  readonly fusion?: Fusion
  /** Whether the same operands must give the same bits; true by default. */
  readonly deterministic?: boolean
  /** The most scratch memory in bytes; 1 GiB by default. */
  readonly workspaceBytes?: number
  /** How many engines may compile their kernel when they are planned, which takes a second each; all by default. */
  readonly compiledEngines?: number
  /** Hears of each configuration that is passed over, by its id, and why. */
  readonly dropped?: (id: string, why: string) => void
  /** Hears of each of them that cuDNN failed to plan, where others are refused. */
  readonly failed?: (id: string, error: CudaError) => void
}

/** No configuration is left for a convolution. */
export class NoPlanError extends PullbackError {
  constructor(message: string) {
    super('device', message)
    this.name = 'NoPlanError'
  }
}

/** The scratch memory that candidates may ask for unless the options say otherwise. */
export const defaultWorkspaceBytes = 2 ** 30

/** The heuristics asked, in this order. Mode B is left out: cuDNN 9.24 answers it as mode A, to the last knob. */
const modes = ['A', 'FALLBACK'] as const

/**
 * The candidates for a convolution, best guess first, each finalized when it is asked for and owned by whoever asked.
 * Operands are the equation's inputs in order, then the fusion's, then the equation's output, then the fusion's.
 *
 * Throws NoPlanError after the last configuration if none could be used, CudaError where cuDNN fails rather than refuses.
 */
export function* convCandidates(
  session: CudnnSession,
  problem: ConvProblem,
  options: ConvOptions = {},
): Generator<Candidate, void, undefined> {
  const scope = new DescriptorScope(session.cudnn)
  const hold = sharedScope(scope)
  const leave = hold()
  try {
    const graph = convGraph(problem, options.fusion)
    const built = buildGraph(scope, session, graph)
    const search: Search = {
      session,
      problem,
      graph,
      options,
      hold,
      dropped: new Map(),
      seen: new Set(),
      compiled: new Set(),
    }
    let found = 0
    for (const mode of modes)
      for (const configuration of proposals(scope, session, built, mode)) {
        const made = candidate(search, configuration)
        if (made === undefined) continue
        found++
        yield made
      }
    if (found === 0) throw nothingLeft(search)
  } finally {
    leave()
  }
}

/**
 * Makes a candidate again from what it left in the tuning cache; undefined where this cuDNN, this GPU or these options
 * refuse it, so that the convolution is tuned again.
 */
export function convFromRecipe(
  session: CudnnSession,
  problem: ConvProblem,
  recipe: string,
  options: ConvOptions = {},
): Candidate | undefined {
  const request = { session, problem, options, graph: convGraph(problem, options.fusion) }
  const entry = readRecipe(recipe)
  if (entry?.graph !== keyOf(request)) return undefined
  const plan = unlessRefused(() => planFromJson(session, entry.plan), entry.id, options)
  if (typeof plan === 'string') return undefined
  if (refusal(plan.configuration, problem, rulesOf(options)) === undefined && fits(plan, options))
    return asCandidate(request, entry.id, plan)
  plan.release()
  return undefined
}

/** What the tuning cache keeps. A plan of another graph would read and write memory that is not its own. */
interface Recipe {
  readonly graph: string
  /** As it was first made: heuristics leave out knobs that the plan's JSON spells out. */
  readonly id: string
  readonly plan: string
}

interface Request {
  readonly session: CudnnSession
  readonly problem: ConvProblem
  readonly graph: ConvGraph
  readonly options: ConvOptions
}

interface Search extends Request {
  /** Keeps the graph and its configurations; a plan lets go of them when it is released. */
  readonly hold: () => () => void
  /** The engines that were passed over, by the reason. */
  readonly dropped: Map<string, Set<number>>
  readonly seen: Set<string>
  /** Those that compiled their kernel. */
  readonly compiled: Set<string>
}

/** The candidate of a configuration; undefined, and the reason noted, where it is refused or refuses. */
function candidate(search: Search, configuration: Descriptor): Candidate | undefined {
  const { session, problem, options, seen } = search
  const said = describe(session.cudnn, configuration)
  const id = `cudnn:${showConfiguration(said)}`
  if (seen.has(id)) return undefined
  seen.add(id)
  const compiles = said.behaviorNotes.includes('RUNTIME_COMPILATION')
  const late = compiles && search.compiled.size >= (options.compiledEngines ?? Number.POSITIVE_INFINITY)
  const why = refusal(said, problem, rulesOf(options)) ?? (late ? 'would compile its kernel, as others did' : undefined)
  if (compiles && why === undefined) search.compiled.add(id)
  const plan = why ?? unlessRefused(() => planFromConfiguration(session, configuration, said), id, options)
  if (typeof plan !== 'string' && fits(plan, options)) return asCandidate(search, id, plan, search.hold())
  const reason = typeof plan === 'string' ? plan : `${Math.ceil(plan.workspaceBytes / 1e6)} MB of workspace`
  if (typeof plan !== 'string') plan.release()
  search.dropped.set(reason, (search.dropped.get(reason) ?? new Set()).add(said.engine))
  options.dropped?.(id, reason)
  return undefined
}

function asCandidate(request: Request, id: string, plan: ExecutionPlan, letGo?: () => void): Candidate {
  const { session, problem, graph } = request
  const runner = new PlanRunner(session, plan, graph.operands.length)
  const { configuration, workspaceBytes } = plan
  return {
    id,
    recipe: JSON.stringify({ graph: keyOf(request), id, plan: plan.json } satisfies Recipe),
    scratchBytes: workspaceBytes,
    works: [
      {
        kind: 'call',
        label: `cudnn ${problem.direction} engine ${configuration.engine}`,
        enqueue: (stream, operands, scratch) => runner.enqueue(stream, operands, scratch),
      },
    ],
    release: () => releaseAll([() => runner.release(), () => plan.release(), () => letGo?.()]),
  }
}

/** Whether cuDNN says that it does not support something: the statuses from 3000 on are one family. */
export function isRefusal({ library, status }: CudaError): boolean {
  return library === 'cuDNN' && Math.floor(status / 1000) === 3
}

/** A plan, or why there is none: refusals are ordinary, failures are told. A lack of memory is neither. */
function unlessRefused(make: () => ExecutionPlan, id: string, options: ConvOptions): ExecutionPlan | string {
  try {
    return make()
  } catch (error) {
    if (error instanceof CudaError && error.library === 'cuDNN' && error.code !== 'out-of-memory') {
      if (!isRefusal(error)) options.failed?.(id, error)
      return `${error.statusName} at finalization`
    }
    throw error
  }
}

function rulesOf({ deterministic = true, fusion }: ConvOptions): EngineRules {
  return { deterministic, sums: fusion === 'statistics' }
}

function fits({ workspaceBytes }: ExecutionPlan, options: ConvOptions): boolean {
  return workspaceBytes <= (options.workspaceBytes ?? defaultWorkspaceBytes)
}

/** How many operands the candidates for a convolution have: inputs and outputs. */
export function convOperands(problem: ConvProblem, fusion: Fusion = 'none'): number {
  return convGraph(problem, fusion).operands.length
}

/** What is computed, as one line: the key under which the tuner keeps its choice. */
export function convKey(problem: ConvProblem, fusion: Fusion = 'none'): string {
  if (fusion === 'none') return showProblem(problem)
  return `${showProblem(problem)} + ${typeof fusion === 'string' ? fusion : showEpilogue(fusion)}`
}

function keyOf({ problem, options }: Pick<Request, 'problem' | 'options'>): string {
  return convKey(problem, options.fusion)
}

function readRecipe(text: string): Recipe | undefined {
  try {
    const { graph, id, plan } = JSON.parse(text) as Partial<Record<keyof Recipe, unknown>>
    if (typeof graph !== 'string' || typeof id !== 'string' || typeof plan !== 'string') return undefined
    return { graph, id, plan }
  } catch {
    return undefined
  }
}

function nothingLeft(search: Search): NoPlanError {
  const { session, options, dropped } = search
  const { workspaceBytes = defaultWorkspaceBytes } = options
  const tried = [...dropped].map(([why, engines]) => `${why}: ${[...engines].join(', ')}`).join('; ')
  return new NoPlanError(
    `[cuda] expected a cuDNN plan for ${keyOf(search)} with at most ${Math.ceil(workspaceBytes / 1e6)} MB of workspace, got none from cuDNN ${showLibrary(session.cudnn.version())} (${tried === '' ? 'it proposes no engine' : `engines refused for ${tried}`}). Use another dtype, precision or shape, allow more workspace, or install a newer cuDNN.`,
  )
}
