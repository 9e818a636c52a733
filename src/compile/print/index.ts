// Prints fused kernels in a dialect. Degenerate kernels are settled here, so that a dialect only sees loops that run.
import { range } from '../../tensor/shape.ts'
import type { Access, Kernel, KernelReduction } from '../kernel.ts'
import type { Dialect } from './dialect.ts'
import type { PrintedKernel } from './launch.ts'
import { arrange } from './nest.ts'

export { cDialect } from './c.ts'
export { cudaDialect } from './cuda.ts'
export { blockThreads } from './cuda-map.ts'
export type { Dialect } from './dialect.ts'
export type { PrintedKernel, PrintedLaunch, PrintedPointer, PrintedSource } from './launch.ts'

/**
 * A kernel as launches of functions in the dialect's language.
 *
 * The text depends on the kernel's structure (axes and roles, nodes, dtypes, which strides are 0 or 1, whether rows are so
 * short that several are joined); extents, strides, offsets and constants are arguments of the launches.
 */
export function printKernel(kernel: Kernel, dialect: Dialect): PrintedKernel {
  if (kernel.axes.some(({ extent, role }) => role === 'map' && extent === 0)) return { launches: [], scratchBytes: 0 }
  if (kernel.axes.some(({ extent }) => extent === 0)) return printKernel(ofNothing(kernel), dialect)
  const reduces = kernel.axes.some(({ extent, role }) => role === 'reduce' && extent > 1)
  const settled = reduces ? kernel : withoutReductions(kernel)
  return dialect.print(settled, arrange(settled, dialect.joinsRows))
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
