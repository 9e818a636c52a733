// What arrange.ts makes one step of a plan: steps by their positions, and what they are as one once it is known which of their
// values others need. Who finds such groups says what they are.
import type { KernelStep, LibraryStep } from '../../compile/index.ts'
import type { TensorType } from '../../tensor/program.ts'
import { at } from '../../tensor/shape.ts'
import type { Wire } from '../wires.ts'
import type { Fused, FusedStep } from './fusion.ts'
import type { Uses } from './uses.ts'

/** A step without what its place says. */
export type Unplaced = Omit<KernelStep, 'after'> | Omit<LibraryStep, 'after'>

/** Likewise one that stands for several. */
export type CudaUnplaced = Unplaced | Omit<FusedStep, 'after'>

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
  /** Steps that are left of them, and stand somewhere behind. */
  readonly behind: readonly Unplaced[]
  /** Buffers that are outputs even if nobody else needs them. */
  readonly known: readonly number[]
  readonly label: string
  /** Whether they are done where the first or where the last of them was; the first unless said. */
  readonly stands?: 'first' | 'last'
  /** What they are as one. */
  readonly fused: (values: Values) => Fused
}

/** A group as one step; its operands are the buffers that others know. */
export function asOne(
  { plan, readers, outputs: wanted }: Uses,
  { members, steps, behind, known, label, fused }: Group,
): Omit<FusedStep, 'after'> {
  const made = new Set(steps.flatMap(({ outputs }) => outputs))
  const inputs = [...new Set(steps.flatMap((step) => step.inputs.filter((buffer) => !made.has(buffer))))]
  const later = [...known, ...behind.flatMap((step) => step.inputs)]
  const isNeeded = (buffer: number): boolean =>
    wanted.has(buffer) || later.includes(buffer) || at(readers, buffer).some((reader) => !members.includes(reader))
  const outputs = [...made].filter(isNeeded)
  const inside = [...made].filter((buffer) => !isNeeded(buffer))
  const wire = (buffer: number): Wire =>
    inside.includes(buffer)
      ? { kind: 'inside', index: inside.indexOf(buffer) }
      : { kind: 'operand', index: [...inputs, ...outputs].indexOf(buffer) }
  const typesOf = (buffers: readonly number[]) => buffers.map((buffer) => at(plan.buffers, buffer).type)
  const fusion = fused({ inputs: typesOf(inputs), outputs: typesOf(outputs), inside: typesOf(inside), wire })
  const sum = (of: 'bytes' | 'flops'): number => steps.reduce((total, step) => total + step[of], 0)
  return { kind: 'fused', fusion, inputs, outputs, bytes: sum('bytes'), flops: sum('flops'), label }
}
