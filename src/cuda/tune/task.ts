// One question to the tuner, and the operands that candidates are tried with: memory on the device, filled with random
// numbers, because a GPU multiplies zeros faster than numbers.
import type { TensorType } from '../../tensor/program.ts'
import { bytesOf, isFloat, type FloatDType } from '../../tensor/dtype.ts'
import { encode } from '../../tensor/half.ts'
import { randomBits } from '../../tensor/philox.ts'
import { at, range, sizeOf } from '../../tensor/shape.ts'
import { type DevicePointer, offset } from '../ffi/values.ts'
import { isOutOfMemory } from '../runtime/failure.ts'
import { type Cleanup, allOrNothing } from '../runtime/index.ts'
import type { Candidate } from '../work.ts'
import type { Bench } from './bench.ts'

export { isOutOfMemory } from '../runtime/failure.ts'

/** A problem that can be solved in several ways. */
export interface TuningTask {
  /** The problem as text, equal for equal problems; the key of the tuning cache. */
  readonly key: string
  /** The operands of every candidate: inputs, then outputs. */
  readonly inputs: readonly TensorType[]
  readonly outputs: readonly TensorType[]
  /** How many products are summed into one element of an output, at most. */
  readonly depth: number
  /** Whether candidates may round f32 operands to TF32. */
  readonly precision: 'tf32' | 'ieee'
  /** Whether a candidate must give the same bits in each run; true by default. */
  readonly deterministic?: boolean
  /**
   * The ways to solve it, the likeliest first; each belongs to whoever took it. What a list that is made as it is read
   * throws ends it.
   *
   * @param hurried Asks for ways that cost next to nothing to make before all others, such as kernels that need not be
   * compiled: one of them is taken, and nobody times it.
   */
  candidates(hurried?: boolean): Iterable<Candidate>
  /** The candidate of an id and its recipe, without heuristics; undefined where it cannot be made any more. */
  restore(id: string, recipe: string | undefined): Candidate | undefined
  /** A plain, exact way, which the chosen one is compared with where that is asked for. */
  reference?(): Candidate
  /** How far two values of an output may be apart; what `depth` explains by default. */
  readonly tolerance?: (output: number) => (a: number, b: number) => number
  /**
   * What makes a candidate unfit, in words, tried on operands that bring it out; asked before one is taken, unless the
   * tuning cache says that it has passed on this GPU with these libraries.
   */
  readonly acceptance?: (bench: Bench, candidate: Candidate) => string | undefined
}

/** What a task computes with. */
export type TaskTypes = Pick<TuningTask, 'inputs' | 'outputs'>

/** The addresses of a task's inputs, then of its outputs. */
export type Operands = readonly DevicePointer[]

/** Bytes of a tensor. */
export function tensorBytes({ shape, dtype }: TensorType): number {
  return sizeOf(shape) * bytesOf(dtype)
}

/** Bytes of one set of a task's operands, with what rounding to 256 adds. */
export function operandBytes({ inputs, outputs }: TaskTypes): number {
  return [...inputs, ...outputs].reduce((sum, type) => sum + Math.ceil(tensorBytes(type) / 256) * 256, 0)
}

/**
 * Uses `count` sets of operands, or as many as there is memory for, at least one. They are freed afterwards.
 *
 * @throws PullbackError 'out-of-memory' where not even one set can be had.
 */
export function withOperands<T>(
  bench: Bench,
  task: TaskTypes,
  count: number,
  use: (sets: readonly Operands[]) => T,
): T {
  return cleanedUp((cleanup) => {
    const sets = [allocateSet(bench, task, cleanup)]
    for (const _ of range(count - 1)) {
      const another = oneMore(bench, task, cleanup)
      if (another !== undefined) sets.push(another)
    }
    return use(sets)
  })
}

/** What `use` gives, with all that it noted given back, also where it throws. */
export function cleanedUp<T>(use: (cleanup: Cleanup) => T): T {
  const { value, cleanup } = allOrNothing(use)
  cleanup.release()
  return value
}

function allocateSet(bench: Bench, task: TaskTypes, cleanup: Cleanup): Operands {
  const set = [...task.inputs, ...task.outputs].map((type) =>
    cleanup.own(bench.allocate(Math.max(256, tensorBytes(type))), (address) => bench.free(address)),
  )
  for (const [operand, type] of task.inputs.entries()) fillRandom(bench, at(set, operand), type, operand)
  return set
}

/** Another set; undefined where the memory does not suffice. */
function oneMore(bench: Bench, task: TaskTypes, cleanup: Cleanup): Operands | undefined {
  if (operandBytes(task) > bench.available()) return undefined
  try {
    const { value, cleanup: noted } = allOrNothing((inner) => allocateSet(bench, task, inner))
    cleanup.later(() => noted.release())
    return value
  } catch (error) {
    if (!isOutOfMemory(error)) throw error
    return undefined
  }
}

/** How many random elements are made on the host; a prime, so that no stride repeats them in step. */
const tileElements = 65_521

/** What random numbers are: in [shift - 1, shift + 1), times a scale. */
export interface Spread {
  readonly shift?: number
  readonly scale?: number
}

/** Random numbers, in [-1, 1) unless said, repeated until the tensor is full; zeros where the type is not a floating one. */
export function fillRandom(
  bench: Bench,
  address: DevicePointer,
  type: TensorType,
  seed: number,
  { shift = 0, scale = 1 }: Spread = {},
): void {
  const bytes = tensorBytes(type)
  if (bytes === 0) return
  if (!isFloat(type.dtype)) {
    bench.fill(address, 0, bytes)
    return
  }
  const tile = randomTile(type.dtype, Math.min(tileElements, sizeOf(type.shape)), seed, { shift, scale })
  bench.write(address, tile)
  for (let filled = tile.length; filled < bytes; filled *= 2)
    bench.copy(offset(address, filled), address, Math.min(filled, bytes - filled))
}

/** Tiles by dtype, seed and spread: each takes 20 ms to make, and a model's convolutions want hundreds. */
const tiles = new Map<string, Uint8Array>()

function randomTile(dtype: FloatDType, count: number, seed: number, spread: Required<Spread>): Uint8Array {
  const key = `${dtype} ${seed} ${spread.shift} ${spread.scale}`
  const tile = tiles.get(key) ?? wholeTile(dtype, seed, spread)
  tiles.set(key, tile)
  return tile.subarray(0, count * bytesOf(dtype))
}

function wholeTile(dtype: FloatDType, seed: number, { shift, scale }: Required<Spread>): Uint8Array {
  const words = randomBits([seed, 0x7475_6e65], 0, 0, 32, tileElements)
  const stored = encode(
    dtype,
    Float64Array.from(words, (word) => scale * (word / 2 ** 31 + shift)),
  )
  return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength)
}
