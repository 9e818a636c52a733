// Prints fused kernels in a dialect. Degenerate kernels are settled here, so that a dialect only sees loops that run.
import { at, range } from '../../tensor/shape.ts'
import {
  type Access,
  type Kernel,
  type KernelReduction,
  epilogueAlone,
  inputCount,
  withoutEpilogue,
} from '../kernel.ts'
import type { Dialect } from './dialect.ts'
import type { PrintedKernel, PrintedLaunch, PrintedPointer } from './launch.ts'
import { arrange } from './nest.ts'

export { cDialect } from './c.ts'
export { cudaDialect } from './cuda.ts'
export { blockThreads } from './cuda-map.ts'
export type { Dialect } from './dialect.ts'
export type { PlainPointer, PrintedKernel, PrintedLaunch, PrintedPointer, PrintedSource } from './launch.ts'

/**
 * A kernel as launches of functions in the dialect's language.
 *
 * The text depends on the kernel's structure (axes and roles, nodes, dtypes, which strides are 0 or 1, whether rows are so
 * short that several are joined); extents, strides, offsets and constants are arguments of the launches.
 */
export function printKernel<P extends PrintedPointer>(kernel: Kernel, dialect: Dialect<P>): PrintedKernel<P> {
  const end = epilogueAlone(kernel)
  if (end === undefined || (dialect.printsEpilogues && reduces(kernel))) return printLoops(kernel, dialect)
  const { inputs } = kernel
  const results = inputCount(kernel)
  const main = printLoops(withoutEpilogue(kernel), dialect)
  const last = printLoops(end.kernel, dialect)
  const moved = renumber(main.launches, (index) => (index < inputs.length ? index : results + index - inputs.length))
  const count = end.operands.length
  const behind = renumber(last.launches, (index) => (index < count ? at(end.operands, index) : results + index - count))
  return { launches: [...moved, ...behind], scratchBytes: main.scratchBytes }
}

/** The launches with the operands that `operand` names. */
function renumber<P extends PrintedPointer>(
  launches: readonly PrintedLaunch<P>[],
  operand: (index: number) => number,
): PrintedLaunch<P>[] {
  const move = (pointer: P): P => (pointer.kind === 'operand' ? { ...pointer, index: operand(pointer.index) } : pointer)
  return launches.map((launch) => ({ ...launch, pointers: launch.pointers.map(move) }))
}

function printLoops<P extends PrintedPointer>(kernel: Kernel, dialect: Dialect<P>): PrintedKernel<P> {
  if (kernel.axes.some(({ extent, role }) => role === 'map' && extent === 0)) return { launches: [], scratchBytes: 0 }
  if (kernel.axes.some(({ extent }) => extent === 0)) return printLoops(ofNothing(kernel), dialect)
  const settled = reduces(kernel) ? kernel : withoutReductions(kernel)
  return dialect.print(settled, arrange(settled, dialect.joinsRows))
}

/** Whether there is more than one element for each result, and at least one result. */
function reduces({ axes }: Kernel): boolean {
  return axes.every(({ extent }) => extent > 0) && axes.some(({ extent, role }) => role === 'reduce' && extent > 1)
}

/** Reducing single elements is storing them. */
function withoutReductions(kernel: Kernel): Kernel {
  return { ...kernel, stores: [...kernel.stores, ...kernel.reductions], reductions: [] }
}

/** Reducing no elements gives the identity everywhere; nothing is read or stored. */
function ofNothing(kernel: Kernel): Kernel {
  const kept = range(kernel.axes.length).filter((axis) => kernel.axes[axis]?.role === 'map')
  const pick = <T>(list: readonly T[]): T[] => list.filter((_item, axis) => kept.includes(axis))
  const keep = <T extends Access>(access: T): T => ({ ...access, strides: pick(access.strides) })
  return {
    axes: pick(kernel.axes),
    inputs: kernel.inputs.map(keep),
    nodes: kernel.reductions.map((reduction) => ({
      op: 'constant',
      dtype: reduction.dtype,
      value: identity(reduction),
    })),
    stores: kernel.reductions.map((reduction, node) => ({ ...keep(reduction), node })),
    reductions: [],
  }
}

function identity({ op }: KernelReduction): number {
  if (op === 'sum') return 0
  return op === 'max' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY
}
