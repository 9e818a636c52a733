// What a block does for its rows of a chain: the records between rows-plan.ts, which makes them, rows-layout.ts, which gives
// values their places, and rows.ts, which prints them.
import type { Kernel } from '../../compile/index.ts'
import type { DType } from '../../tensor/dtype.ts'
import type { RowAccesses } from './rows-access.ts'

/** A value of the chain: [rows, columns], dense and row-major where it is in device memory. */
export interface RowValue {
  readonly dtype: DType
  readonly columns: number
  /** The operand of the whole that it is. */
  readonly operand: number | undefined
  /** Whether a product reads whole chunks of it. */
  readonly multiplied: boolean
  /** Bytes in shared memory: where it begins, and from row to row. Undefined where no step reads it there. */
  readonly place: SharedPlace | undefined
}

/** Where a value lies in shared memory, in bytes. */
export interface SharedPlace {
  readonly offset: number
  readonly pitch: number
}

/** What a map reads: a value of the chain, or an operand of the whole by its own strides. */
export type MapInput =
  | { readonly kind: 'value'; readonly value: number }
  | { readonly kind: 'operand'; readonly operand: number }

/** One step of a block; all threads are done with one before the next begins. Numbers of values are their places in the list. */
export type RowStep =
  /** Brings an operand's rows to shared memory. */
  | { readonly kind: 'stage'; readonly value: number }
  /** Copies rows in shared memory to the operand that they are. */
  | { readonly kind: 'keep'; readonly value: number }
  | DotStep
  | MapStep

/** A product of a value with a matrix, whose depth `shares` warps share, `size` chunks each. */
export interface DotStep {
  readonly kind: 'dot'
  readonly from: number
  readonly to: number
  /** The operand that the matrix is: stored [n, k] if deep, else [k, n]. */
  readonly matrix: number
  readonly deep: boolean
  readonly n: number
  readonly k: number
  readonly shares: number
  readonly size: number
  /** Where in shared memory the warps' sums meet; 0 where no warps share. */
  readonly partial: number
}

/** A pointwise kernel. */
export interface MapStep {
  readonly kind: 'map'
  readonly kernel: Kernel
  readonly accesses: RowAccesses
  readonly inputs: readonly MapInput[]
  /** The values it stores. */
  readonly outputs: readonly number[]
}

/** What a block does, and the shared memory it needs. */
export interface RowsPlan {
  readonly rows: number
  readonly values: readonly RowValue[]
  readonly steps: readonly RowStep[]
  readonly sharedBytes: number
}
