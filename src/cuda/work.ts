// What a lowered step is on the GPU: launches of kernels and calls into libraries, in order on one stream, and the scratch
// memory they share. Compiling the sources, owning the memory and recording graphs is the executable's part.
import type { PrintedPointer, PrintedSource } from '../compile/print/index.ts'
import type { Stream } from './ffi/driver-queues.ts'
import type { DevicePointer } from './ffi/values.ts'

/** A kernel of ours, started once: its one argument is the pointers as 64-bit words and then the numbers, by value. */
export interface KernelLaunch {
  readonly kind: 'kernel'
  readonly source: PrintedSource
  /** Blocks of the one-dimensional grid, at least 1. */
  readonly blocks: number
  /** Threads of each block. */
  readonly threads: number
  /** Dynamic shared memory in bytes. */
  readonly sharedBytes: number
  readonly pointers: readonly PrintedPointer[]
  readonly numbers: readonly number[]
}

/** A call that puts work of a library's own on a stream; legal while the stream is captured. */
export interface LibraryCall {
  readonly kind: 'call'
  /** What is called, for plans and errors: `cudnn conv2d engine 48`. */
  readonly label: string
  /**
   * Enqueues it.
   *
   * @param operands Addresses of the step's inputs, then its outputs.
   * @param scratch The step's scratch memory, 256-byte aligned; undefined where `scratchBytes` is 0.
   */
  enqueue(stream: Stream, operands: readonly DevicePointer[], scratch: DevicePointer | undefined): void
}

/** One thing a stream is given. */
export type Work = KernelLaunch | LibraryCall

/** A lowered step, or one way to lower it among others. */
export interface Lowered {
  readonly works: readonly Work[]
  /** Used while the step runs, free for the next one. */
  readonly scratchBytes: number
  /** Bytes that are zero before each work and behind it: by them blocks count themselves; 0 unless said. */
  readonly counterBytes?: number
  /** Gives back what the calls hold (descriptors, plans). */
  release?(): void
}

/** One way to compute a step; the tuner takes the fastest. */
export interface Candidate extends Lowered {
  /** Names it among the candidates of its problem, stable across runs: `cudnn:engine 48 knobs ...`, `own:grouped-forward`. */
  readonly id: string
  /** What the tuning cache keeps to make it again without heuristics; undefined where the id is enough. */
  readonly recipe?: string
}
