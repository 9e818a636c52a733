// What a step costs, counted: bytes of operands and results, arithmetic operations. No timing anywhere.
import { bytesOf } from '../tensor/dtype.ts'
import type { TensorType } from '../tensor/program.ts'
import { at, sizeOf } from '../tensor/shape.ts'
import type { Access, Kernel } from './kernel.ts'
import type { LibraryEquation } from './plan.ts'

/** Bytes a kernel reads and writes, each element it touches counted once for each operand. */
export function kernelBytes(kernel: Kernel): number {
  const touched = (access: Access): number =>
    kernel.axes.reduce((product, axis, loop) => product * (at(access.strides, loop) === 0 ? 1 : axis.extent), 1)
  const { inputs = [], stores = [] } = kernel.epilogue ?? {}
  const operands = inputs.filter(({ reduction }) => reduction === undefined)
  return [...kernel.inputs, ...kernel.stores, ...kernel.reductions, ...operands, ...stores].reduce(
    (sum, operand) => sum + touched(operand) * bytesOf(operand.dtype),
    0,
  )
}

/** One operation for each node that is no load or constant, at each loop point; one more for each reduction. */
export function kernelFlops(kernel: Kernel): number {
  const points = (axes: Kernel['axes']): number => axes.reduce((product, axis) => product * axis.extent, 1)
  const operations = (nodes: Kernel['nodes']): number =>
    nodes.filter((node) => node.op !== 'load' && node.op !== 'constant').length
  const results = points(kernel.axes.filter(({ role }) => role === 'map'))
  const last = results * operations(kernel.epilogue?.nodes ?? [])
  return points(kernel.axes) * (operations(kernel.nodes) + kernel.reductions.length) + last
}

/** Bytes of the operands and results of a library call. */
export function libraryBytes(equation: LibraryEquation): number {
  const size = (type: TensorType): number => sizeOf(type.shape) * bytesOf(type.dtype)
  return [...equation.inputs, ...equation.outputs].reduce((sum, atom) => sum + size(atom.type), 0)
}

/** Multiplications and additions of a library call. */
export function libraryFlops(equation: LibraryEquation): number {
  const output = at(equation.outputs, 0).type.shape
  switch (equation.primitive) {
    case 'dot': {
      const left = at(equation.inputs, 0).type.shape
      return 2 * sizeOf(output) * sizeOf(equation.params.contract[0].map((axis) => at(left, axis)))
    }
    case 'conv2d':
      return 2 * sizeOf(output) * sizeOf(at(equation.inputs, 1).type.shape.slice(1))
    case 'conv2dInputGrad':
      return 2 * sizeOf(at(equation.inputs, 0).type.shape) * sizeOf(at(equation.inputs, 1).type.shape.slice(1))
    case 'conv2dFilterGrad':
      return 2 * sizeOf(at(equation.inputs, 1).type.shape) * sizeOf(equation.params.filterShape.slice(1))
    case 'maxPool2d':
    case 'maxPool2dGrad':
    case 'maxPool2dPick':
    case 'avgPool2d':
    case 'avgPool2dGrad': {
      return sizeOf(at(equation.inputs, 0).type.shape) * equation.params.window[0] * equation.params.window[1]
    }
    case 'gather':
    case 'scatterAdd':
    case 'argMax':
    case 'allReduce':
      return sizeOf(at(equation.inputs, 0).type.shape)
    default:
      return equation satisfies never
  }
}
