// The CUDA device's face, for src/index.ts: a device on one GPU, and what can be said of CUDA on this machine.
import { CudaDevice, type DeviceSettings } from './device.ts'
import { type Machine, discover } from './discovery.ts'
import { thisMachine } from './discovery-machine.ts'
import { type Probe, probe } from './discovery-probe.ts'
import { doctorLines, libraryDetails } from './doctor.ts'
import { type Native, koffiNative } from './ffi/loader.ts'
import { type ContractionOptions, type Contractions, openContractions } from './contractions.ts'
import { lowerStep } from './library.ts'
import { type Runtime, attempt, openRuntime } from './runtime/index.ts'
import type { Device, Preparation } from '../tensor/device.ts'
import { ValueError } from '../tensor/errors.ts'

export { doctorLines }

/** How a CUDA device is made. */
export interface CudaOptions {
  /** The GPU, as the driver numbers those that CUDA_VISIBLE_DEVICES shows; 0 by default. */
  readonly ordinal?: number
  readonly environment?: NodeJS.ProcessEnv
  /** Whether f32 products may use TF32; 'tf32' by default. */
  readonly precision?: ContractionOptions['precision']
  /** Whether the same input must give the same bits in each run; true by default. */
  readonly deterministic?: boolean
  /** Whether the steps of programs are timed, and told on stderr at the end; PULLBACK_PROFILE=1 unless said otherwise. */
  readonly profile?: boolean
  /** Whether contractions are fused with the kernels behind them: where that is faster, wherever it can be, or never. */
  readonly fusions?: ContractionOptions['fusions']
  /** Loads the libraries; koffi by default. */
  readonly native?: Native
  /** Where to look for them; this machine by default. */
  readonly machine?: Machine
}

/**
 * A new device on an NVIDIA GPU.
 *
 * Environment: PULLBACK_CUDA_PATH (where the libraries are), PULLBACK_CACHE (compiled kernels and what was tuned),
 * PULLBACK_CACHE_LIMIT (how many bytes they may take), PULLBACK_GRAPHS=0 (launch each step by itself instead of replaying a
 * recorded graph), PULLBACK_PROFILE=1 (the time of each step on stderr at the end; nothing is recorded then, and each run
 * waits for the one before), PULLBACK_TUNE=heuristics (take the libraries' first proposals instead of timing them),
 * PULLBACK_TUNE_SECONDS (how long timing may take), PULLBACK_VERIFY=1 (check what the compiler makes, and compare each chosen way with a plain one; no other value does),
 * PULLBACK_FUSIONS=never (each step of the plan by itself) or always, PULLBACK_CUDA_MEMORY=separate (each temporary its own allocation, filled with NaN before each run: for finding faults).
 *
 * @throws PullbackError 'device' with the first thing that is wrong, in one sentence; ValueError for a bad variable.
 */
export function cudaDevice(options: CudaOptions = {}): Device {
  const { environment = process.env, ordinal = 0, precision = 'tf32', deterministic = true } = options
  const fusions = options.fusions ?? choice(environment, 'PULLBACK_FUSIONS', ['tuned', 'always', 'never'])
  const graphs = choice(environment, 'PULLBACK_GRAPHS', ['1', '0']) === '1'
  const separate = choice(environment, 'PULLBACK_CUDA_MEMORY', ['planned', 'separate']) === 'separate'
  const { found, native } = look(options)
  const made: { device?: CudaDevice } = {}
  const owners = (): string => made.device?.owners() ?? ''
  const runtime = openRuntime(found, native, { ordinal, environment, separate, owners })
  try {
    const progress = (state: Preparation): void => made.device?.tell(state)
    const asked: ContractionOptions = { precision, deterministic, graphs, fusions, environment, progress }
    const contractions = openContractions(runtime, asked)
    const settings: DeviceSettings = {
      lowering: { prepare: (steps) => contractions.prepare(steps), lower: (step) => lowerStep(step, contractions) },
      graphs,
      separate,
      tuner: contractions.tuner,
      details: () => ({ ...libraryDetails(found), ...describeUse(runtime, contractions, asked) }),
      profile: options.profile ?? environment['PULLBACK_PROFILE'] === '1',
      fusions: fusions !== 'never',
      verify: environment['PULLBACK_VERIFY'] === '1',
    }
    made.device = new CudaDevice(runtime, settings)
    return made.device
  } catch (error) {
    attempt(() => runtime.close())
    throw error
  }
}

/** How programs are computed, by name: what the device's details say beside the libraries. */
function describeUse(
  { cubins, modules }: Runtime,
  { tuner, cache }: Contractions,
  { precision, deterministic, graphs }: ContractionOptions,
): Readonly<Record<string, string>> {
  const f32 = precision === 'tf32' ? 'f32 rounded to TF32' : 'f32 as IEEE says'
  return {
    products: `f16, bf16 and ${f32}, summed in f32${deterministic ? ', the same bits in each run' : ''}`,
    programs: graphs ? 'recorded as graphs and replayed' : 'launched step by step',
    kernels: `${modules.count} loaded, ${cubins.toString()}`,
    tuning: `${tuner.toString()}${cache === undefined ? '' : `; ${cache.size} problems known in ${cache.file}`}`,
  }
}

/** What is to be known of CUDA on this machine; it can be used if there are no problems. Throws nothing. */
export function cudaProbe(options: Pick<CudaOptions, 'environment' | 'native' | 'machine'> = {}): Probe {
  return look(options).found
}

/** Whether there is a driver's library to load: no other library is looked for, and python3 is not asked. Throws nothing. */
export function hasDriver(machine: Machine = thisMachine()): boolean {
  return discover({ ...machine, sitePackages: () => [] }).driver !== undefined
}

function look({ environment, native, machine }: Pick<CudaOptions, 'environment' | 'native' | 'machine'>) {
  const loader = native ?? koffiNative()
  return { found: probe(machine ?? thisMachine(environment), loader), native: loader }
}

/** One of the values that a variable may have, the first where it is not set. */
function choice<const T extends string>(environment: NodeJS.ProcessEnv, name: string, values: readonly [T, ...T[]]): T {
  const text = environment[name] ?? ''
  if (text === '') return values[0]
  const found = values.find((value) => value === text)
  if (found !== undefined) return found
  throw new ValueError(`[cuda] expected ${name} to be ${values.join(' or ')}, got '${text}'.`)
}
