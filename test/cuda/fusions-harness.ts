// A device on the simulated GPU whose fusions can be seen: what was chosen for each problem, and values beside the reference's.
import { traceFlat } from '../../src/autograd/trace.ts'
import { type Contractions, openContractions } from '../../src/cuda/contractions.ts'
import { CudaDevice } from '../../src/cuda/device.ts'
import { probe } from '../../src/cuda/discovery-probe.ts'
import type { FusionChoice } from '../../src/cuda/fusions/tasks.ts'
import { lowerStep } from '../../src/cuda/library.ts'
import { openRuntime } from '../../src/cuda/runtime/index.ts'
import type { Device } from '../../src/tensor/device.ts'
import type { DType } from '../../src/tensor/dtype.ts'
import { decode, encode } from '../../src/tensor/half.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { sizeOf, zip } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import type { Simulation } from '../sim/library.ts'

export type Flat = (inputs: readonly Tensor[]) => readonly Tensor[]

/** How a device goes about it. */
export interface Going {
  readonly fusions: FusionChoice
  readonly separate?: boolean
  readonly tune?: 'time' | 'heuristics'
  readonly precision?: 'tf32' | 'ieee'
}

/** A device and its contractions. */
export function fusingDevice(
  sim: Simulation,
  folder: string,
  going: Going,
): { device: Device; contractions: Contractions } {
  const { fusions, separate = false, tune = 'heuristics', precision = 'ieee' } = going
  const environment = { PULLBACK_CACHE: folder, PULLBACK_TUNE: tune, PULLBACK_VERIFY: '1' }
  const runtime = openRuntime(probe(sim.machine, sim.native), sim.native, {
    ...{ ordinal: 0, environment, separate },
    owners: () => '',
  })
  const contractions = openContractions(runtime, { precision, deterministic: true, graphs: true, fusions, environment })
  const device = new CudaDevice(runtime, {
    ...{ graphs: true, separate, fusions: fusions !== 'never' },
    lowering: { prepare: (steps) => contractions.prepare(steps), lower: (step) => lowerStep(step, contractions) },
  })
  return { device, contractions }
}

/** What a function gives on a device for random operands, run twice; the same bits both times. */
export async function values(device: Device, f: Flat, types: readonly TensorType[]): Promise<readonly Float64Array[]> {
  const { program } = traceFlat(f, types, 'test', { keepCalls: false })
  const executable = device.compile(program, { optimize: 'fuse', donate: [], label: 'test' })
  const inputs = types.map((type, index) => device.upload(encode(type.dtype, random(type, index)), type))
  const run = async (): Promise<readonly Float64Array[]> =>
    Promise.all(
      zip(executable.run(inputs), program.outputs).map(async ([output, { type }]) =>
        Float64Array.from(decode(type.dtype, await device.read(output))),
      ),
    )
  const [once, twice] = [await run(), await run()]
  for (const [a, b] of zip(once, twice))
    if (a.some((value, i) => !Object.is(value, b[i]))) throw new Error('other bits')
  executable.release()
  return once
}

/** The reference's values of the same function. */
export function expected(f: Flat, types: readonly TensorType[]): Promise<readonly Float64Array[]> {
  return values(referenceDevice(), f, types)
}

/** norm(a - b) / norm(b) of the worst output. */
export function worst(found: readonly Float64Array[], wanted: readonly Float64Array[]): number {
  const norm = (list: Float64Array): number => Math.hypot(...list)
  return Math.max(
    ...zip(found, wanted).map(([a, b]) => norm(a.map((value, i) => value - (b[i] ?? Number.NaN))) / (norm(b) || 1)),
  )
}

/** Half the distance of neighbours near 1. */
export const rounding: Readonly<Partial<Record<DType, number>>> = { f16: 2 ** -11, bf16: 2 ** -8, f32: 2 ** -24 }

function random({ shape }: TensorType, salt: number): Float64Array {
  return Float64Array.from(
    { length: sizeOf(shape) },
    (_, i) => (Math.imul(i + 1 + 977 * salt, 0x9e3779b1) >>> 0) / 2 ** 31 - 1,
  )
}
