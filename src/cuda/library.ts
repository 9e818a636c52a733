// Which part lowers which step: fused kernels go through the printer, products and convolutions to the tuner, the rest to
// kernels of our own.
import type { LibraryEquation } from '../compile/index.ts'
import { PullbackError } from '../tensor/errors.ts'
import { sizeOf } from '../tensor/shape.ts'
import type { Contractions } from './contractions.ts'
import type { CudaStep } from './fusions/fusion.ts'
import { lowerOwn } from './kernels/index.ts'
import { lowerKernel } from './printed.ts'
import type { Lowered } from './work.ts'

/** The works of a step. */
export function lowerStep(step: CudaStep, contractions: Pick<Contractions, 'lower' | 'lowerFused'>): Lowered {
  switch (step.kind) {
    case 'kernel':
      return lowerKernel(step.kernel)
    case 'library':
      return lowerLibrary(step.equation, contractions)
    case 'fused':
      return contractions.lowerFused(step.fusion)
    default:
      return step satisfies never
  }
}

/** The works of a library step; operands are the equation's inputs, then its outputs. */
export function lowerLibrary(equation: LibraryEquation, contractions: Pick<Contractions, 'lower'>): Lowered {
  if (equation.outputs.every(({ type }) => sizeOf(type.shape) === 0)) return { works: [], scratchBytes: 0 }
  switch (equation.primitive) {
    case 'dot':
    case 'conv2d':
    case 'conv2dInputGrad':
    case 'conv2dFilterGrad':
      return contractions.lower(equation)
    case 'allReduce':
      if (equation.params.group > 1)
        throw new PullbackError(
          'device',
          `[allReduce] expected a group of one process, got ${equation.params.group}. The CUDA device knows no other processes.`,
        )
      return lowerOwn(equation)
    default:
      return lowerOwn(equation)
  }
}
