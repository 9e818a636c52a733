// Library steps as launches: reads the extents off an equation and hands them to the kernel families in kernels/.
import { type FloatDType, bytesOf, isFloat } from '../tensor/dtype.ts'
import { InternalError, PullbackError } from '../tensor/errors.ts'
import type { ConvParams, DotParams, PoolParams } from '../tensor/primitives.ts'
import type { TensorType } from '../tensor/program.ts'
import { type Shape, at, range, sizeOf } from '../tensor/shape.ts'
import type { LibraryEquation } from '../compile/index.ts'
import { lowerConv2d, lowerConv2dFilterGrad, lowerConv2dInputGrad } from './kernels/conv.ts'
import { lowerDot } from './kernels/dot.ts'
import type { ConvExtents } from './kernels/geometry.ts'
import { lowerArgMax, lowerCopy, lowerGather, lowerScatterAdd } from './kernels/indexing.ts'
import type { Lowered } from './kernels/launch.ts'
import { type PoolExtents, lowerAvgPoolGrad, lowerMaxPoolGrad, lowerMaxPoolPick, lowerPool } from './kernels/pooling.ts'

/** The launches of a library step; operands are the equation's inputs, then its output. */
export function lowerLibrary(equation: LibraryEquation): Lowered {
  const types = equation.inputs.map(({ type }) => type)
  const [first, second] = [at(types, 0), types[1]]
  const output = at(equation.outputs, 0).type
  if (sizeOf(output.shape) === 0) return { launches: [], scratchBytes: 0 }
  switch (equation.primitive) {
    case 'dot':
      return lowerDot(dotExtents(first, other(second), equation.params))
    case 'conv2d':
      return lowerConv2d(convExtents(first.shape, other(second).shape, output.shape, first, equation.params))
    case 'conv2dInputGrad':
      return lowerConv2dInputGrad(convExtents(output.shape, other(second).shape, first.shape, first, equation.params))
    case 'conv2dFilterGrad':
      return lowerConv2dFilterGrad(convExtents(first.shape, output.shape, other(second).shape, first, equation.params))
    case 'maxPool2d':
    case 'avgPool2d':
      return lowerPool(equation.primitive, poolExtents(first.shape, output.shape, first, equation.params))
    case 'maxPool2dGrad':
      return lowerMaxPoolGrad(poolExtents(first.shape, other(second).shape, first, equation.params))
    case 'maxPool2dPick':
      return lowerMaxPoolPick(poolExtents(first.shape, output.shape, first, equation.params))
    case 'avgPool2dGrad':
      return lowerAvgPoolGrad(poolExtents(output.shape, first.shape, first, equation.params))
    case 'gather':
      return lowerGather({
        dtype: first.dtype,
        ...along(first.shape, equation.params.axis),
        count: sizeOf(other(second).shape),
      })
    case 'scatterAdd': {
      const { shape, axis } = equation.params
      return lowerScatterAdd({ dtype: floating(first), ...along(shape, axis), count: sizeOf(other(second).shape) })
    }
    case 'argMax':
      return lowerArgMax({ dtype: first.dtype, ...along(first.shape, equation.params.axis) })
    case 'allReduce':
      if (equation.params.group > 1)
        throw new PullbackError(
          'device',
          `[allReduce] expected a group of one process, got ${equation.params.group}. The CPU device knows no other processes.`,
        )
      return lowerCopy(sizeOf(first.shape) * bytesOf(first.dtype)) // of one process: sum and mean are the operand
    default:
      return equation satisfies never
  }
}

function other(type: TensorType | undefined): TensorType {
  if (type === undefined) throw new InternalError('a library step without its second operand')
  return type
}

function floating({ dtype }: TensorType): FloatDType {
  if (!isFloat(dtype)) throw new InternalError(`a library step of ${dtype}`)
  return dtype
}

/** The extents before, along and after an axis. */
function along(shape: Shape, axis: number): { before: number; extent: number; after: number } {
  return { before: sizeOf(shape.slice(0, axis)), extent: at(shape, axis), after: sizeOf(shape.slice(axis + 1)) }
}

/** Operands are canonical: batch axes, then (free, contracted) or (contracted, free). */
function dotExtents(a: TensorType, b: TensorType, { batch, contract }: DotParams) {
  const side = (shape: Shape, batched: readonly number[], contracted: readonly number[]) => {
    const free = range(shape.length).filter((axis) => !batched.includes(axis) && !contracted.includes(axis))
    const extent = (axes: readonly number[]): number => sizeOf(axes.map((axis) => at(shape, axis)))
    const contractFirst = (contracted[0] ?? shape.length) < (free[0] ?? -1)
    return { batch: extent(batched), free: extent(free), contract: extent(contracted), contractFirst }
  }
  const left = side(a.shape, batch[0], contract[0])
  const right = side(b.shape, batch[1], contract[1])
  return {
    dtype: floating(a),
    ...{ batch: left.batch, m: left.free, n: right.free, k: left.contract },
    transposeA: left.contractFirst,
    transposeB: !right.contractFirst && right.free > 1,
  }
}

function convExtents(input: Shape, filter: Shape, output: Shape, type: TensorType, params: ConvParams): ConvExtents {
  return {
    dtype: floating(type),
    ...{ batch: at(input, 0), height: at(input, 1), width: at(input, 2), channels: at(input, 3) },
    ...{ outHeight: at(output, 1), outWidth: at(output, 2), outChannels: at(output, 3) },
    ...{ kernelHeight: at(filter, 1), kernelWidth: at(filter, 2) },
    ...{ stride: params.stride, padding: params.padding, dilation: params.dilation, groups: params.groups },
  }
}

function poolExtents(input: Shape, output: Shape, type: TensorType, params: PoolParams): PoolExtents {
  return {
    dtype: floating(type),
    ...{ batch: at(input, 0), height: at(input, 1), width: at(input, 2), channels: at(input, 3) },
    ...{ outHeight: at(output, 1), outWidth: at(output, 2) },
    ...{ window: params.window, stride: params.stride, padding: params.padding },
  }
}
