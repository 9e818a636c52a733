// The order of a CUDA kernel's pointers: what it reads, stores and reduces, the partial results and the counter of blocks
// that share sums, and what the epilogue reads and stores.
import { range } from '../../tensor/shape.ts'
import { type EpilogueInput, type Kernel, inputCount } from '../kernel.ts'
import type { PrintedLaunch, PrintedPointer } from './launch.ts'
import type { Partials } from './partials.ts'

/** Where each kind of pointer begins in the argument. */
export interface PointerOrder {
  readonly stores: number
  readonly reductions: number
  readonly partials: number
  readonly counter: number
  readonly operands: number
  readonly lastStores: number
}

/** The order for a kernel, `shared` if it has partial results. */
export function pointerOrder(kernel: Kernel, shared: boolean): PointerOrder {
  const stores = kernel.inputs.length
  const reductions = stores + kernel.stores.length
  const partials = reductions + kernel.reductions.length
  const counter = partials + (shared ? kernel.reductions.length : 0)
  const operands = counter + (shared ? 1 : 0)
  return { stores, reductions, partials, counter, operands, lastStores: operands + operandsOf(kernel).length }
}

/** What the pointers of a launch lead to. */
export function cudaPointers(kernel: Kernel, partials: Partials | undefined): PrintedLaunch['pointers'] {
  const inputs = inputCount(kernel)
  const operand = (index: number): PrintedPointer => ({ kind: 'operand', index })
  const output = ({ output }: { readonly output: number }): PrintedPointer => operand(inputs + output)
  const scratch = partials?.offsets.map((offset): PrintedPointer => ({ kind: 'scratch', offset })) ?? []
  return [
    ...range(kernel.inputs.length).map(operand),
    ...[...kernel.stores, ...kernel.reductions].map(output),
    ...(partials === undefined ? [] : [...scratch, { kind: 'counters', offset: 0 } as const]),
    ...operandsOf(kernel).map((_input, i) => operand(kernel.inputs.length + i)),
    ...(kernel.epilogue?.stores ?? []).map(output),
  ]
}

/** Which of the operands each of the epilogue's inputs is; undefined for results. */
export function operandPositions(kernel: Kernel): readonly (number | undefined)[] {
  let next = 0
  return (kernel.epilogue?.inputs ?? []).map(({ reduction }) => (reduction === undefined ? next++ : undefined))
}

function operandsOf({ epilogue }: Kernel): readonly EpilogueInput[] {
  return epilogue?.inputs.filter(({ reduction }) => reduction === undefined) ?? []
}
