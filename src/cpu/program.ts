// A list of launches as the words that the native runtime reads: made once for each executable.
import { at } from '../tensor/shape.ts'
import type { Engine } from './engine.ts'
import type { Pointer } from './ffi/runtime.ts'
import type { KernelSource } from './kernels/launch.ts'

/** Where a pointer of a launch leads: into the arena, or to an input or output of the run and on from there. */
export type BoundPointer =
  | { readonly base: 'arena'; readonly offset: number }
  | { readonly base: number; readonly offset: number }

/** A launch whose operands and scratch have their places. */
export interface BoundLaunch {
  readonly source: KernelSource
  readonly parts: number
  readonly pointers: readonly BoundPointer[]
  readonly numbers: readonly number[]
  /** The step it belongs to, for profiles. */
  readonly step: number
}

/** Loads the launches' kernels and makes the native program; `io` is how many inputs and outputs a run passes. */
export function makeProgram(engine: Engine, launches: readonly BoundLaunch[], io: number, small: boolean): Pointer {
  engine.load(launches.map(({ source }) => source))
  const words: bigint[] = [BigInt(launches.length), BigInt(io), small ? 1n : 0n]
  for (const { source, parts, pointers, numbers } of launches) {
    words.push(engine.kernel(source.name), BigInt(parts), BigInt(pointers.length), BigInt(numbers.length))
    for (const { base, offset } of pointers) words.push(base === 'arena' ? -1n : BigInt(base), BigInt(offset))
    for (const number of numbers) words.push(BigInt(number))
  }
  return engine.calls.program(BigInt64Array.from(words))
}

/** Whether so little is to be done that handing it to another thread would cost more: every launch is one part. */
export function isSmall(launches: readonly BoundLaunch[], bytes: number, flops: number): boolean {
  return launches.every(({ parts }) => parts === 1) && launches.length <= 8 && bytes <= 1 << 16 && flops <= 1 << 17
}

/** Nanoseconds by step, from nanoseconds by launch. */
export function sumBySteps(launches: readonly BoundLaunch[], nanoseconds: Float64Array, steps: number): Float64Array {
  const sums = new Float64Array(steps)
  launches.forEach(({ step }, index) => (sums[step] = at(sums, step) + at(nanoseconds, index)))
  return sums
}
