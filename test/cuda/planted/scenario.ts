// What a scenario is: a small program for one part of the device, run under several settings, whose results are known. It
// is loaded with the sources it is run on, so a file of scenarios imports them as every test does.
import { traceFlat } from '../../../src/autograd/trace.ts'
import type { CudaOptions } from '../../../src/cuda/index.ts'
import type { CompileOptions, Device, Executable, Storage } from '../../../src/tensor/device.ts'
import type { DType } from '../../../src/tensor/dtype.ts'
import { decode, encode } from '../../../src/tensor/half.ts'
import type { TensorType } from '../../../src/tensor/program.ts'
import { type Shape, range, sizeOf } from '../../../src/tensor/shape.ts'
import type { Tensor } from '../../../src/tensor/tensor.ts'

/** Elements by name. */
export type Results = Readonly<Record<string, ArrayLike<number>>>

/** How the simulation and the device are set for one run. */
export interface Setting {
  /** Orders of streams, blocks, warps and threads. */
  readonly seed: number
  readonly environment?: Readonly<Record<string, string>>
  /** Allocations end at a page that faults, so aligned; they begin behind one unless said otherwise. */
  readonly alignRight?: number
  /** Bytes of device memory; 1 GiB unless said otherwise. */
  readonly memory?: number
  /** The call of the driver or of a library that fails, counted from 1; none unless said otherwise. */
  readonly failAt?: number
}

/** Where a scenario runs. */
export interface Place extends Required<Pick<CudaOptions, 'native' | 'machine'>> {
  /** A device, which is closed after the run; the reference where expected results are made. */
  open(options?: Pick<CudaOptions, 'precision'>): Device
  /** An empty folder. */
  readonly folder: string
}

/** A program and how it is run. */
export interface Scenario {
  /** What is allowed of norm(found - expected) / norm(expected) of each result; 0: not a bit. */
  readonly tolerance: number
  /** The results must have the same bits under all of them. */
  readonly settings: readonly Setting[]
  run(place: Place): Promise<Results> | Results
  /** What it should give; what it gives on the reference device unless said otherwise. */
  expected?(): Results
}

/** Recorded runs in natural order, in two others, launch by launch, and with memory apart that ends at a page that faults. */
export const usual: readonly Setting[] = [
  { seed: 0 },
  { seed: 1 },
  { seed: 2, environment: { PULLBACK_GRAPHS: '0' } },
  { seed: 3, environment: { PULLBACK_CUDA_MEMORY: 'separate' }, alignRight: 16 },
]

type Flat = (inputs: readonly Tensor[]) => readonly Tensor[]

/** A function made ready for a device, without fusing unless said otherwise. */
export function compile(
  device: Device,
  f: Flat,
  types: readonly TensorType[],
  options: Partial<CompileOptions> = {},
): Executable {
  const { program } = traceFlat(f, types, 'planted', { keepCalls: false })
  return device.compile(program, { optimize: 'none', donate: [], label: 'planted', ...options })
}

/** f32 unless said otherwise. */
export function typed(shape: Shape, dtype: DType = 'f32'): TensorType {
  return { shape, dtype }
}

/** Small integers that do not repeat soon, from -`most` to `most`; the same for the same seed. */
export function integers(count: number, seed: number, most = 3): number[] {
  return range(count).map(
    (i) => (((Math.imul(i + 1, 2654435761) ^ Math.imul(seed + 1, 40503)) >>> 9) % (2 * most + 1)) - most,
  )
}

/** A tensor of such integers. */
export function filled(device: Device, type: TensorType, seed: number, most?: number): Storage {
  return device.upload(encode(type.dtype, integers(sizeOf(type.shape), seed, most)), type)
}

/** A tensor's elements as numbers. */
export async function elements(device: Device, storage: Storage): Promise<ArrayLike<number>> {
  return decode(storage.type.dtype, await device.read(storage))
}

/** What a function gives for such integers in its inputs, run so often, by name: `0` is the first result. */
export async function results(
  device: Device,
  f: Flat,
  types: readonly TensorType[],
  options: Partial<CompileOptions> & { readonly runs?: number; readonly most?: number } = {},
): Promise<Results> {
  const { runs = 1, most, ...compiling } = options
  const executable = compile(device, f, types, compiling)
  const inputs = types.map((type, index) => filled(device, type, index, most))
  const all = range(runs).map(() => executable.run(inputs))
  const last = all.at(-1) ?? []
  const named = await Promise.all(last.map(async (storage, i) => [String(i), await elements(device, storage)] as const))
  for (const storage of [...inputs, ...all.flat()]) device.release(storage)
  executable.release()
  return Object.fromEntries(named)
}
