// Products and pointwise steps in which each row of a result is made of the same row of what came before: all of them can be
// one kernel that keeps a few rows at hand. What there is to compute; finding it is fusions/'s part, printing it kernels/'s.
import type { TensorType } from '../tensor/program.ts'
import type { DotEquation } from './matmul/index.ts'
import type { Wire, WiredKernel } from './wires.ts'

/** One step of a chain; operands are its inputs, then its outputs. */
export type RowPart =
  /** [rows, k] times a matrix that is the same for all rows; A is not transposed, there is no batch. */
  | { readonly kind: 'dot'; readonly equation: DotEquation; readonly wires: readonly Wire[] }
  /** A kernel over [rows, n] without reductions: each operand is [rows, n], one value a column, or one value. */
  | ({ readonly kind: 'map' } & WiredKernel)

/** Steps over the same rows, in order. Plain data: equal chains are equal problems. */
export interface RowChain {
  readonly kind: 'rows'
  readonly rows: number
  readonly parts: readonly RowPart[]
  readonly inputs: readonly TensorType[]
  readonly outputs: readonly TensorType[]
  /** What only the chain knows. */
  readonly inside: readonly TensorType[]
}
