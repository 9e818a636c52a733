// The seam between what every C-family language prints alike (expressions, levels, the arrangement of loops) and what
// differs: the types of registers, memory access, and how loops are spread over threads and lanes.
import type { DType } from '../../tensor/dtype.ts'
import type { Kernel } from '../kernel.ts'
import type { RegisterClass } from './expression.ts'
import type { Nest } from './nest.ts'
import type { PrintedKernel, PrintedPointer } from './launch.ts'

/** A language that kernels are printed in. Its prelude defines the functions that expression.ts names. */
export interface Dialect<Pointer extends PrintedPointer = PrintedPointer> {
  readonly name: 'c' | 'cuda'
  /** The type of an element in memory. */
  readonly storage: Readonly<Record<DType, string>>
  /** The type of a register: several lanes in C, one number in CUDA C. */
  readonly registers: Readonly<Record<RegisterClass, string>>
  /** Whether the dialect wants short rows (pixels of three channels) joined, so that vectors are full. */
  readonly joinsRows: boolean
  /** Whether `print` takes kernels with an epilogue; otherwise it becomes a launch of its own. */
  readonly printsEpilogues: boolean
  /** Prints the loops of a kernel whose extents are all positive. */
  print(kernel: Kernel, nest: Nest): PrintedKernel<Pointer>
}
