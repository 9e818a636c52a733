// Which part lowers which step: fused kernels go through the printer, products and convolutions to the tuner, the rest to
// kernels of our own.
import type { LibraryEquation, Step } from '../compile/index.ts'
import { blockThreads, cudaDialect, printKernel } from '../compile/print/index.ts'
import { PullbackError } from '../tensor/errors.ts'
import { sizeOf } from '../tensor/shape.ts'
import type { Contractions } from './contractions.ts'
import { lowerOwn } from './kernels/index.ts'
import type { Lowered } from './work.ts'

/** The works of a step. */
export function lowerStep(step: Step, contractions: Pick<Contractions, 'lower'>): Lowered {
  if (step.kind === 'library') return lowerLibrary(step.equation, contractions)
  const { launches, scratchBytes, counterBytes = 0 } = printKernel(step.kernel, cudaDialect)
  const works = launches.map(({ source, parts, pointers, numbers }) => {
    return { kind: 'kernel', source, blocks: parts, threads: blockThreads, sharedBytes: 0, pointers, numbers } as const
  })
  return { works, scratchBytes, counterBytes }
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
