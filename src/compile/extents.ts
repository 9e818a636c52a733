// The extents of library steps, read off their equations: what every device's kernels and library calls begin with.
import { type DType, type FloatDType, isFloat } from '../tensor/dtype.ts'
import { InternalError } from '../tensor/errors.ts'
import type { Padding, Pair } from '../tensor/primitives.ts'
import type { TensorType } from '../tensor/program.ts'
import { type Shape, at, range, sizeOf } from '../tensor/shape.ts'
import type { LibraryEquation, LibraryPrimitive } from './plan.ts'

/** C[b, m, n] = sum over k of A[b, m, k] B[b, k, n]; A is stored [b, k, m] and B [b, n, k] where transposed. */
export interface DotExtents {
  readonly dtype: FloatDType
  readonly batch: number
  readonly m: number
  readonly n: number
  readonly k: number
  readonly transposeA: boolean
  readonly transposeB: boolean
}

/**
 * One convolution; the same record describes the forward pass and both gradients. NHWC images, filters
 * [out, kernelHeight, kernelWidth, channels / groups].
 */
export interface ConvExtents {
  readonly dtype: FloatDType
  readonly batch: number
  readonly height: number
  readonly width: number
  readonly channels: number
  readonly outHeight: number
  readonly outWidth: number
  readonly outChannels: number
  readonly kernelHeight: number
  readonly kernelWidth: number
  readonly stride: Pair
  readonly padding: Padding
  readonly dilation: Pair
  readonly groups: number
}

/** A pooling's geometry; its input is [batch, height, width, channels]. */
export interface PoolExtents {
  readonly dtype: FloatDType
  readonly batch: number
  readonly height: number
  readonly width: number
  readonly channels: number
  readonly outHeight: number
  readonly outWidth: number
  readonly window: Pair
  readonly stride: Pair
  readonly padding: Padding
}

/** x seen as [before, extent, after], indexed along the middle by `count` indices. */
export interface IndexedExtents {
  readonly dtype: DType
  readonly before: number
  readonly extent: number
  readonly count: number
  readonly after: number
}

type Named<P extends LibraryPrimitive> = Extract<LibraryEquation, { readonly primitive: P }>

/** The convolution and its two gradients. */
export type ConvEquation = Named<'conv2d' | 'conv2dInputGrad' | 'conv2dFilterGrad'>

/** The poolings and their gradients. */
export type PoolEquation = Named<'maxPool2d' | 'maxPool2dGrad' | 'maxPool2dPick' | 'avgPool2d' | 'avgPool2dGrad'>

/** The extents of a plan's dot, whose operands have batch axes, then (free, contracted) or (contracted, free). */
export function dotExtents({ inputs, params: { batch, contract } }: Named<'dot'>): DotExtents {
  const [a, b] = [at(inputs, 0).type, at(inputs, 1).type]
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

/** The extents of a convolution or of one of its gradients. */
export function convExtents(equation: ConvEquation): ConvExtents {
  const first = at(equation.inputs, 0).type
  const [second, result] = [at(equation.inputs, 1).type.shape, at(equation.outputs, 0).type.shape]
  const [input, filter, output] = {
    conv2d: [first.shape, second, result] as const,
    conv2dInputGrad: [result, second, first.shape] as const,
    conv2dFilterGrad: [first.shape, result, second] as const,
  }[equation.primitive]
  const { stride, padding, dilation, groups } = equation.params
  return {
    dtype: floating(first),
    ...{ batch: at(input, 0), height: at(input, 1), width: at(input, 2), channels: at(input, 3) },
    ...{ outHeight: at(output, 1), outWidth: at(output, 2), outChannels: at(output, 3) },
    ...{ kernelHeight: at(filter, 1), kernelWidth: at(filter, 2) },
    ...{ stride, padding, dilation, groups },
  }
}

/** The extents of a pooling or of one of its gradients. */
export function poolExtents(equation: PoolEquation): PoolExtents {
  const first = at(equation.inputs, 0).type
  const result = at(equation.outputs, 0).type.shape
  const [input, output] = {
    maxPool2d: () => [first.shape, result] as const,
    avgPool2d: () => [first.shape, result] as const,
    maxPool2dPick: () => [first.shape, result] as const,
    maxPool2dGrad: () => [first.shape, at(equation.inputs, 1).type.shape] as const,
    avgPool2dGrad: () => [result, first.shape] as const,
  }[equation.primitive]()
  const { window, stride, padding } = equation.params
  return {
    dtype: floating(first),
    ...{ batch: at(input, 0), height: at(input, 1), width: at(input, 2), channels: at(input, 3) },
    ...{ outHeight: at(output, 1), outWidth: at(output, 2) },
    ...{ window, stride, padding },
  }
}

/** How many products a convolution sums into one element of its result. */
export function convDepth(equation: ConvEquation): number {
  const { batch, channels, outChannels, outHeight, outWidth, kernelHeight, kernelWidth, groups } = convExtents(equation)
  switch (equation.primitive) {
    case 'conv2d':
      return (kernelHeight * kernelWidth * channels) / groups
    case 'conv2dInputGrad':
      return (kernelHeight * kernelWidth * outChannels) / groups
    case 'conv2dFilterGrad':
      return batch * outHeight * outWidth
    default:
      return equation satisfies never
  }
}

/** The extents of taking or adding by index; the count of argMax, which has no indices, is 1. */
export function indexedExtents(equation: Named<'gather' | 'scatterAdd' | 'argMax'>): IndexedExtents {
  const { shape, dtype } = at(equation.inputs, 0).type
  const whole = equation.primitive === 'scatterAdd' ? equation.params.shape : shape
  const { axis } = equation.params
  return {
    dtype,
    ...{ before: sizeOf(whole.slice(0, axis)), extent: at(whole, axis), after: sizeOf(whole.slice(axis + 1)) },
    count: equation.primitive === 'argMax' ? 1 : sizeOf(at(equation.inputs, 1).type.shape),
  }
}

function floating({ dtype }: TensorType): FloatDType {
  if (!isFloat(dtype)) throw new InternalError(`a contraction or pooling of ${dtype}`)
  return dtype
}
