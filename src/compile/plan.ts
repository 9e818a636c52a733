// The Plan: what a device executes. Steps in order, buffers with their places, and nothing about any device's launch
// geometry or scratch space.
import type { EquationOf, TensorType } from '../tensor/program.ts'
import type { Kernel } from './kernel.ts'

/** Primitives that stay steps of their own; every other one becomes part of a kernel or disappears. */
export const libraryPrimitives = [
  'dot',
  'conv2d',
  'conv2dInputGrad',
  'conv2dFilterGrad',
  'maxPool2d',
  'maxPool2dGrad',
  'maxPool2dPick',
  'avgPool2d',
  'avgPool2dGrad',
  'gather',
  'scatterAdd',
  'argMax',
  'allReduce',
] as const

export type LibraryPrimitive = (typeof libraryPrimitives)[number]

export type LibraryEquation = { [P in LibraryPrimitive]: EquationOf<P> }[LibraryPrimitive]

/** Where a buffer is at run time. */
export type Place =
  /** The caller's input `index`; written to only if it is donated. */
  | { readonly kind: 'input'; readonly index: number }
  /** A fresh storage returned as output `index`. */
  | { readonly kind: 'output'; readonly index: number }
  /** Bytes of the executable's arena. */
  | { readonly kind: 'arena'; readonly offset: number }

/** A dense row-major array that steps read and write. */
export interface PlanBuffer {
  readonly type: TensorType
  readonly bytes: number
  readonly place: Place
}

interface StepBase {
  /** Buffers read, in the order the kernel's inputs or the equation's operands name them. */
  readonly inputs: readonly number[]
  /** Buffers written. */
  readonly outputs: readonly number[]
  /** Steps that must have finished before (indices); always smaller than the step's own. */
  readonly after: readonly number[]
  /** Bytes read and written in device memory, and arithmetic operations, for printing and benchmarks. */
  readonly bytes: number
  readonly flops: number
  /** What the step computes, for printing: `conv2d layers.0.0.conv1`. */
  readonly label: string
}

export interface KernelStep extends StepBase {
  readonly kind: 'kernel'
  readonly kernel: Kernel
}

/** A contraction, pooling or indexed primitive: a library call or a hand-written kernel family of the device. */
export interface LibraryStep extends StepBase {
  readonly kind: 'library'
  /** Its `inputs` may hold literals: those are not in the step's input list but materialised as buffers before. */
  readonly equation: LibraryEquation
}

export type Step = KernelStep | LibraryStep

export interface Plan {
  readonly buffers: readonly PlanBuffer[]
  readonly steps: readonly Step[]
  readonly arenaBytes: number
  /** The buffer of each program input. */
  readonly inputs: readonly number[]
  /**
   * How each program output comes about: the buffer at the end, whose place is a fresh 'output', or a donated 'input'
   * that is handed over; never the arena.
   */
  readonly outputs: readonly number[]
}
