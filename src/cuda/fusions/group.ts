// What arrange.ts makes one step of a plan: steps by their positions, and what they are as one once it is known which of their
// values others need. Who finds such groups says what they are.
import type { KernelStep, LibraryStep } from '../../compile/index.ts'
import type { TensorType } from '../../tensor/program.ts'
import type { Wire } from '../wires.ts'
import type { Fused } from './fusion.ts'

/** A step without what its place says. */
export type Unplaced = Omit<KernelStep, 'after'> | Omit<LibraryStep, 'after'>

/** The values of a group: what it reads, what it makes for others, and what nobody else knows. */
export interface Values {
  readonly inputs: readonly TensorType[]
  readonly outputs: readonly TensorType[]
  readonly inside: readonly TensorType[]
  /** Where a buffer of the plan is. */
  readonly wire: (buffer: number) => Wire
}

/** Steps of a plan that could be one. */
export interface Group {
  /** Their positions in the plan; no other is in two groups. */
  readonly members: readonly number[]
  /** What they do, in the order in which it is done. */
  readonly steps: readonly Unplaced[]
  /** Steps that are left of them, and stand right behind. */
  readonly behind: readonly Unplaced[]
  /** Buffers that are outputs even if nobody else needs them. */
  readonly known: readonly number[]
  readonly label: string
  /** What they are as one. */
  readonly fused: (values: Values) => Fused
}
