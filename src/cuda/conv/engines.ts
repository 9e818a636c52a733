// Engine configurations: what cuDNN's heuristics propose for a graph, what each says of itself, and which of them are
// refused for it. Making plans of them is plans.ts's part.
import { at, range, zip } from '../../tensor/shape.ts'
import type { Cudnn, Descriptor } from '../ffi/cudnn.ts'
import { unsupported } from '../ffi/cudnn.ts'
import { behaviorNotes, heuristicModes, numericalNotes } from '../ffi/cudnn-constants.ts'
import { DescriptorScope, choice, descriptors } from './descriptors.ts'
import type { ConvProblem } from './problem.ts'
import type { CudnnSession } from './session.ts'

/** What an engine configuration says of itself. */
export interface EngineConfiguration {
  /** The engine's number among those of its graph. */
  readonly engine: number
  /** Its tuning knobs: [type, value], ascending by type. */
  readonly knobs: readonly (readonly [number, number])[]
  /** How it computes, by the names in the header: TENSOR_CORE, NONDETERMINISTIC. */
  readonly numericalNotes: readonly string[]
  /** How it behaves: RUNTIME_COMPILATION. */
  readonly behaviorNotes: readonly string[]
}

/** What a result must be, beyond being computed. */
export interface EngineRules {
  /** Whether the same operands must give the same bits. */
  readonly deterministic: boolean
  /** Whether the graph has sums over the convolution's result. */
  readonly sums?: boolean
}

/** More knobs than any engine has. */
const mostKnobs = 64
/** More notes than there are kinds. */
const mostNotes = 32

/** The configurations that heuristics propose for a graph, best first; none where cuDNN supports no engine for it. */
export function proposals(
  scope: DescriptorScope,
  session: CudnnSession,
  graph: Descriptor,
  mode: keyof typeof heuristicModes,
): readonly Descriptor[] {
  try {
    const heuristics = scope.make('ENGINEHEUR', `heuristics ${mode}`, {
      ENGINEHEUR_OPERATION_GRAPH: descriptors(graph),
      ENGINEHEUR_MODE: choice('HEUR_MODE', heuristicModes[mode]),
      ...session.attributes.heuristics,
    })
    const most = session.cudnn.attributeCount(heuristics, 'ENGINEHEUR_RESULTS', 'BACKEND_DESCRIPTOR')
    return filled(scope, heuristics, 'ENGINEHEUR_RESULTS', 'ENGINECFG', most)
  } catch (error) {
    if (unsupported(error)) return []
    throw error
  }
}

/** Reads a configuration. */
export function describe(cudnn: Cudnn, configuration: Descriptor): EngineConfiguration {
  const scope = new DescriptorScope(cudnn)
  try {
    const engine = at(filled(scope, configuration, 'ENGINECFG_ENGINE', 'ENGINE', 1), 0)
    const number = new BigInt64Array(1)
    cudnn.getAttribute(engine, 'ENGINE_GLOBAL_INDEX', 'INT64', number)
    const choices = filled(scope, configuration, 'ENGINECFG_KNOB_CHOICES', 'KNOB_CHOICE', mostKnobs)
    const notes = new Int32Array(mostNotes)
    const numerical = cudnn.getAttribute(engine, 'ENGINE_NUMERICAL_NOTE', 'NUMERICAL_NOTE', notes)
    const numericalNames = named(notes.subarray(0, numerical), numericalNotes)
    const behavior = cudnn.getAttribute(engine, 'ENGINE_BEHAVIOR_NOTE', 'BEHAVIOR_NOTE', notes)
    return {
      engine: Number(number[0]),
      knobs: choices.map((choice) => knob(cudnn, choice)).sort(([a], [b]) => a - b),
      numericalNotes: numericalNames,
      behaviorNotes: named(notes.subarray(0, behavior), behaviorNotes),
    }
  } finally {
    scope.release()
  }
}

/** The configuration as text, the same in every run: `engine 62 knobs 2=0 13=1`. */
export function showConfiguration({ engine, knobs }: EngineConfiguration): string {
  const choices = knobs.map(([type, value]) => ` ${type}=${value}`).join('')
  return `engine ${engine}${choices === '' ? '' : ` knobs${choices}`}`
}

/** The note that keeps a configuration from computing a problem; undefined where none does. */
export function refusal(
  configuration: EngineConfiguration,
  { dtype, precision }: Pick<ConvProblem, 'dtype' | 'precision'>,
  { deterministic, sums = false }: EngineRules,
): string | undefined {
  const refused: readonly (keyof typeof numericalNotes | keyof typeof behaviorNotes)[] = [
    'REDUCED_PRECISION_REDUCTION',
    'DOWN_CONVERT_INPUTS',
    ...(deterministic ? (['NONDETERMINISTIC'] as const) : []),
    ...(dtype === 'f32' && precision === 'ieee' ? (['TENSOR_CORE'] as const) : []),
    // Kernels that cuDNN compiles for a graph add such sums up with atomics, f32 by f32 in any order, and no note says so: so
    // the machine code of 9.24 has it, for sums per channel and per image.
    ...(deterministic && sums ? (['RUNTIME_COMPILATION'] as const) : []),
    // These want operands in an order of their own.
    'REQUIRES_FILTER_INT8x32_REORDER',
    'REQUIRES_BIAS_INT8x32_REORDER',
  ]
  const notes = [...configuration.numericalNotes, ...configuration.behaviorNotes]
  return refused.find((note) => notes.includes(note))
}

/** The descriptors that an attribute holds, read into fresh ones of which cuDNN fills as many as it has. */
function filled(
  scope: DescriptorScope,
  from: Descriptor,
  name: 'ENGINEHEUR_RESULTS' | 'ENGINECFG_ENGINE' | 'ENGINECFG_KNOB_CHOICES',
  type: 'ENGINECFG' | 'ENGINE' | 'KNOB_CHOICE',
  most: number,
): readonly Descriptor[] {
  if (most === 0) return []
  const fresh = range(most).map(() => scope.empty(type))
  const { type: of, values } = descriptors(...fresh)
  return fresh.slice(0, scope.cudnn.getAttribute(from, name, of, values))
}

function knob(cudnn: Cudnn, choice: Descriptor): readonly [number, number] {
  const [type, value] = [new Int32Array(1), new BigInt64Array(1)]
  cudnn.getAttribute(choice, 'KNOB_CHOICE_KNOB_TYPE', 'KNOB_TYPE', type)
  cudnn.getAttribute(choice, 'KNOB_CHOICE_KNOB_VALUE', 'INT64', value)
  return [at(type, 0), Number(value[0])]
}

/** The names of notes; newer ones than the table knows go by their number. */
function named(notes: Int32Array, table: Readonly<Record<string, number>>): readonly string[] {
  const names = new Map(zip(Object.values(table), Object.keys(table)))
  return [...notes].map((note) => names.get(note) ?? `note ${note}`)
}
