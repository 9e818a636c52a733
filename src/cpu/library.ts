// Library steps as launches: hands the extents of an equation to the kernel families in kernels/.
import { type LibraryEquation, convExtents, dotExtents, indexedExtents, poolExtents } from '../compile/index.ts'
import { bytesOf, isFloat } from '../tensor/dtype.ts'
import { InternalError, PullbackError } from '../tensor/errors.ts'
import { at, sizeOf } from '../tensor/shape.ts'
import { lowerConv2d, lowerConv2dFilterGrad, lowerConv2dInputGrad } from './kernels/conv.ts'
import { lowerDot } from './kernels/dot.ts'
import { lowerArgMax, lowerCopy, lowerGather, lowerScatterAdd } from './kernels/indexing.ts'
import type { Lowered } from './kernels/launch.ts'
import { lowerAvgPoolGrad, lowerMaxPoolGrad, lowerMaxPoolPick, lowerPool } from './kernels/pooling.ts'

/** The launches of a library step; operands are the equation's inputs, then its output. */
export function lowerLibrary(equation: LibraryEquation): Lowered {
  const { type } = at(equation.inputs, 0)
  if (sizeOf(at(equation.outputs, 0).type.shape) === 0) return { launches: [], scratchBytes: 0 }
  switch (equation.primitive) {
    case 'dot':
      return lowerDot(dotExtents(equation))
    case 'conv2d':
      return lowerConv2d(convExtents(equation))
    case 'conv2dInputGrad':
      return lowerConv2dInputGrad(convExtents(equation))
    case 'conv2dFilterGrad':
      return lowerConv2dFilterGrad(convExtents(equation))
    case 'maxPool2d':
    case 'avgPool2d':
      return lowerPool(equation.primitive, poolExtents(equation))
    case 'maxPool2dGrad':
      return lowerMaxPoolGrad(poolExtents(equation))
    case 'maxPool2dPick':
      return lowerMaxPoolPick(poolExtents(equation))
    case 'avgPool2dGrad':
      return lowerAvgPoolGrad(poolExtents(equation))
    case 'gather':
      return lowerGather(indexedExtents(equation))
    case 'scatterAdd': {
      if (!isFloat(type.dtype)) throw new InternalError(`scatterAdd of ${type.dtype}`)
      return lowerScatterAdd({ ...indexedExtents(equation), dtype: type.dtype })
    }
    case 'argMax':
      return lowerArgMax(indexedExtents(equation))
    case 'allReduce':
      if (equation.params.group > 1)
        throw new PullbackError(
          'device',
          `[allReduce] expected a group of one process, got ${equation.params.group}. The CPU device knows no other processes.`,
        )
      return lowerCopy(sizeOf(type.shape) * bytesOf(type.dtype)) // of one process: sum and mean are the operand
    default:
      return equation satisfies never
  }
}
