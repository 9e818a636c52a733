// How the steps that stand for one hang together: which of their operands is which value of the whole.
import type { Kernel } from '../compile/index.ts'

/** Where a value is: an operand of the whole (its inputs, then its outputs), or memory that only the whole knows. */
export interface Wire {
  readonly kind: 'operand' | 'inside'
  readonly index: number
}

/** A kernel and its operands, inputs first. */
export interface WiredKernel {
  readonly kernel: Kernel
  readonly wires: readonly Wire[]
}
