// Runs a scenario on the simulation with some sources and says what is wrong: results, bits, violations, faults, leaks,
// errors. The sources come as an instance, the expected results from the sources as they are.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type * as Cuda from '../../../src/cuda/index.ts'
import type { Device } from '../../../src/tensor/device.ts'
import type * as Reference from '../../../src/tensor/reference/device.ts'
import type { Simulation } from '../../sim/library.ts'
import type { Place, Results, Setting } from './scenario.ts'
import type * as Scenarios from './scenarios.ts'
import type { ScenarioName } from './scenarios.ts'

/** Loads modules by path. */
export type Load = (path: string) => unknown

/** What may be wrong. */
export type ComplaintKind =
  /** Results that are not those of the reference. */
  | 'values'
  /** Other bits than under the first setting. */
  | 'bits'
  /** Something that a GPU would suffer in silence. */
  | 'violation'
  /** A crash of what ran on the GPU. */
  | 'fault'
  /** Memory or objects that nobody gave back. */
  | 'leak'
  /** An error thrown. */
  | 'error'

/** One thing that is wrong. */
export interface Complaint {
  readonly kind: ComplaintKind
  readonly text: string
}

const gibibyte = 2 ** 30

function scenarioOf(load: Load, name: ScenarioName) {
  return (load('test/cuda/planted/scenarios.ts') as typeof Scenarios).scenarioNamed(name)
}

/** What a scenario should give. */
export async function expectedOf(load: Load, name: ScenarioName, sim: Simulation): Promise<Results> {
  const scenario = scenarioOf(load, name)
  if (scenario.expected !== undefined) return scenario.expected()
  const { referenceDevice } = load('src/tensor/reference/device.ts') as typeof Reference
  return inFolder((folder) => scenario.run({ ...sim, folder, open: () => referenceDevice() }))
}

/** What is wrong, setting by setting, until `enough`; nothing for sources without a bug. */
export async function complaints(
  load: Load,
  name: ScenarioName,
  sim: Simulation,
  expected: Results,
  enough: (complaint: Complaint) => boolean = () => false,
): Promise<readonly Complaint[]> {
  const { settings, tolerance } = scenarioOf(load, name)
  const found: Complaint[] = []
  let first: Results | undefined
  for (const setting of settings) {
    const { results, wrong } = await runOnce(load, name, sim, setting)
    const how = JSON.stringify(setting)
    for (const { kind, text } of wrong) found.push({ kind, text: `${how}: ${text}` })
    if (results !== undefined) {
      const off = difference(results, expected, tolerance)
      if (off !== undefined) found.push({ kind: 'values', text: `${how}: ${off}` })
      first ??= results
      const other = difference(results, first, 0)
      if (other !== undefined) found.push({ kind: 'bits', text: `${how}: ${other}` })
    }
    if (found.some(enough)) break
  }
  return found
}

async function runOnce(
  load: Load,
  name: ScenarioName,
  sim: Simulation,
  { seed, environment = {}, alignRight = 0, memory = gibibyte, failAt = 0 }: Setting,
): Promise<{ readonly results: Results | undefined; readonly wrong: readonly Complaint[] }> {
  sim.reset()
  sim.seed(seed)
  sim.alignRight(alignRight)
  sim.memory(memory)
  roundToTf32(sim)
  sim.failAt(failAt)
  const { native, machine } = sim
  const devices: Device[] = []
  const errors: unknown[] = []
  const results = await inFolder(async (folder) => {
    const settings = { PULLBACK_CACHE: folder, PULLBACK_TUNE: 'heuristics', ...environment }
    const open: Place['open'] = (options) => {
      const device = (load('src/cuda/index.ts') as typeof Cuda).cudaDevice({
        ...{ native, machine, environment: settings },
        ...options,
      })
      devices.push(device)
      return device
    }
    try {
      return await scenarioOf(load, name).run({ native, machine, folder, open })
    } catch (error) {
      errors.push(error)
      return undefined
    } finally {
      for (const device of devices)
        await device.close().catch((error: unknown) => (failAt > 0 ? undefined : errors.push(error)))
    }
  })
  const told = complaintsOf(sim.report())
  sim.reset()
  return { results, wrong: [...told, ...errors.map((error) => ({ kind: 'error', text: String(error) }) as const)] }
}

/** What the simulation tells behind a run. */
function complaintsOf({ violations, memory, live, retained }: ReturnType<Simulation['report']>): Complaint[] {
  const left = [...memory, ...Object.entries(live).map(([kind, count]) => `${count} x ${kind}`)]
  if (retained > 0) left.push(`the context, retained ${retained} times`)
  return [
    ...violations.map((text): Complaint => ({ kind: kindOf(text), text })),
    ...(left.length === 0 ? [] : [{ kind: 'leak', text: left.join(', ') } as const]),
  ]
}

/** What the simulation's words are about. */
function kindOf(violation: string): ComplaintKind {
  if (/^the context ended with .* live /.test(violation)) return 'leak'
  return /touched|stopped itself|not reached by all/.test(violation) ? 'fault' : 'violation'
}

/** Has products on Tensor Cores round their f32 operands, as a GPU's do. */
function roundToTf32({ native, environment }: Simulation): void {
  const library = native.load(join(environment['PULLBACK_CUDA_PATH'] ?? '', 'libcudnn.so.9'))
  library.func('sim_library_option', 'int64_t', ['int', 'int64_t'])(0, 1)
}

async function inFolder<T>(use: (folder: string) => Promise<T> | T): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'pullback-planted-'))
  try {
    return await use(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** In which result two runs differ by more than the tolerance; undefined in none. */
function difference(found: Results, expected: Results, tolerance: number): string | undefined {
  const names = [Object.keys(found), Object.keys(expected)].map((list) => list.join(', '))
  if (names[0] !== names[1]) return `results ${names.join(' instead of ')}`
  for (const [name, values] of Object.entries(expected)) {
    const mine = Array.from(found[name] ?? [])
    const apart = tolerance === 0 ? unequal(mine, values) : tooFar(mine, values, tolerance)
    if (apart !== undefined) return `result '${name}' ${apart}`
  }
  return undefined
}

function unequal(found: readonly number[], expected: ArrayLike<number>): string | undefined {
  if (found.length !== expected.length) return `has ${found.length} elements instead of ${expected.length}`
  const index = found.findIndex((value, i) => !Object.is(value + 0, (expected[i] ?? Number.NaN) + 0))
  return index < 0 ? undefined : `has ${String(found[index])} at ${index} instead of ${String(expected[index])}`
}

function tooFar(found: readonly number[], expected: ArrayLike<number>, tolerance: number): string | undefined {
  const wanted = Array.from(expected)
  const error = Math.hypot(...wanted.map((value, i) => (found[i] ?? Number.NaN) - value))
  const relative = error / (Math.hypot(...wanted) || 1)
  return relative <= tolerance ? undefined : `is off by ${relative.toExponential(1)}`
}
