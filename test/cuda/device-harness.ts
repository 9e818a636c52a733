// The little program that the tests of the CUDA device run: long enough to be recorded, small integers throughout.
import { traceFlat } from '../../src/autograd/trace.ts'
import type { CompileOptions, Device, Executable, Storage } from '../../src/tensor/device.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { at } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

/** Elements of every tensor here; they are all equal. */
export const n = 3
export const vector: TensorType = { shape: [n], dtype: 'f32' }

export type Flat = (inputs: readonly Tensor[]) => readonly Tensor[]

/** The new state and a loss that depends on everything; one launch for each equation. */
export const step: Flat = ([state, batch]) => {
  let x = ops.minimum(ops.maximum(ops.sub(batch!, state!), -999), 999)
  for (let i = 0; i < 5; i++) x = ops.add(x, 1)
  return [x, ops.sum(ops.mul(x, batch!))]
}

/** What `step` gives: the elements of the new state, and the loss. */
export function stepped(state: number, batch: number): { state: number; loss: number } {
  const next = Math.min(Math.max(batch - state, -999), 999) + 5
  return { state: next, loss: next * batch * n }
}

/** Compiles without fusing. */
export function compile(
  device: Device,
  f: Flat,
  types: readonly TensorType[],
  options: Partial<CompileOptions> = {},
): Executable {
  const { program } = traceFlat(f, types, 'test', { keepCalls: false })
  return device.compile(program, { optimize: 'none', donate: [], label: 'train', ...options })
}

export const filled = (value: number): Float32Array => new Float32Array(n).fill(value)

export function upload(device: Device, value: number): Storage {
  return device.upload(filled(value), vector)
}

export async function first(device: Device, storage: Storage): Promise<number> {
  return at(await device.read(storage), 0)
}
