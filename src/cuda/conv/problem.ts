// A convolution as cuDNN is asked for it: direction, extents and precision, read off a library equation. Which graph is
// built for it is graph.ts's part.
import type { LibraryEquation } from '../../compile/index.ts'
import type { DType } from '../../tensor/dtype.ts'
import { InternalError } from '../../tensor/errors.ts'
import type { ConvParams } from '../../tensor/primitives.ts'
import type { EquationOf, TensorType } from '../../tensor/program.ts'
import { type Shape, at, sizeOf } from '../../tensor/shape.ts'

/** What is computed: the output, or the gradient of the input or of the filter. */
export type Direction = 'conv2d' | 'conv2dInputGrad' | 'conv2dFilterGrad'

/** The element types of cuDNN's convolutions; all of them are summed in f32. */
export type ConvDType = 'f16' | 'bf16' | 'f32'

/** How f32 operands are multiplied: rounded to TF32's 10 bits on Tensor Cores, or as they are. It does not touch f16 and bf16. */
export type ConvPrecision = 'tf32' | 'ieee'

/** One convolution; the three shapes are of the forward pass, whatever the direction. */
export interface ConvProblem extends ConvParams {
  readonly direction: Direction
  readonly dtype: ConvDType
  readonly precision: ConvPrecision
  /** [batch, height, width, channels] */
  readonly input: Shape
  /** [out, height, width, channels / groups] */
  readonly filter: Shape
  /** [batch, height, width, out] */
  readonly output: Shape
}

/** A convolution among the library equations. */
export type ConvEquation = { [P in Direction]: EquationOf<P> }[Direction]

/** Whether an equation is a convolution. */
export function isConvolution(equation: LibraryEquation): equation is ConvEquation {
  return ['conv2d', 'conv2dInputGrad', 'conv2dFilterGrad'].includes(equation.primitive)
}

/** Whether cuDNN is asked for it at all: f16, bf16 and f32, and no tensor empty. Plain kernels do the rest. */
export function supportedByCudnn(equation: ConvEquation): boolean {
  const empty = Object.values(shapesOf(equation)).some((shape) => sizeOf(shape) === 0)
  return isConvDType(at(equation.inputs, 0).type.dtype) && !empty
}

/** The convolution that an equation asks for. Throws an internal error unless `supportedByCudnn`. */
export function convProblem(equation: ConvEquation, precision: ConvPrecision): ConvProblem {
  const { dtype } = at(equation.inputs, 0).type
  if (!isConvDType(dtype) || !supportedByCudnn(equation))
    throw new InternalError(`cuDNN was asked for a ${equation.primitive} of ${dtype}`)
  const { stride, padding, dilation, groups } = equation.params
  return {
    direction: equation.primitive,
    dtype,
    precision: dtype === 'f32' ? precision : 'tf32',
    ...shapesOf(equation),
    stride,
    padding,
    dilation,
    groups,
  }
}

/**
 * A problem as one line, the same for equal problems: a key, and its name in tables and errors.
 * `conv2d f16 256x56x56x128 * 128x3x3x4 -> 256x56x56x128 groups 32 padding 1`
 */
export function showProblem(problem: ConvProblem): string {
  const { direction, dtype, precision, input, filter, output, stride, padding, dilation, groups } = problem
  const extents = `${input.join('x')} * ${filter.join('x')} -> ${output.join('x')}`
  const named = (name: string, value: string, usual: string): string => (value === usual ? '' : ` ${name} ${value}`)
  return [
    `${direction} ${dtype}${dtype === 'f32' ? ` ${precision}` : ''} ${extents}`,
    named('groups', String(groups), '1'),
    named('stride', briefly(stride, ','), '1'),
    named(
      'padding',
      briefly(
        padding.map((pair) => briefly(pair, ',')),
        ';',
      ),
      '0',
    ),
    named('dilation', briefly(dilation, ','), '1'),
  ].join('')
}

/** The values once if they are equal, else both. */
function briefly(values: readonly (number | string)[], separator: string): string {
  return new Set(values).size === 1 ? String(at(values, 0)) : values.join(separator)
}

function isConvDType(dtype: DType): dtype is ConvDType {
  return dtype === 'f16' || dtype === 'bf16' || dtype === 'f32'
}

/** The shapes of the forward pass, from an equation of any direction. */
function shapesOf(equation: ConvEquation): Pick<ConvProblem, 'input' | 'filter' | 'output'> {
  const types: readonly TensorType[] = [...equation.inputs, ...equation.outputs].map(({ type }) => type)
  const [first, second, result] = [at(types, 0).shape, at(types, 1).shape, at(types, 2).shape]
  switch (equation.primitive) {
    case 'conv2d':
      return { input: first, filter: second, output: result }
    case 'conv2dInputGrad':
      return { input: result, filter: second, output: first }
    case 'conv2dFilterGrad':
      return { input: first, filter: result, output: second }
    default:
      return equation satisfies never
  }
}
