// Malformed sequences of descriptors that stand alone: tensors, convolutions, modes. Each is a mistake somebody could make.
import { beforeFinalize, changed, retyped, without } from './edits.ts'
import { convolution, descriptor, tensor } from './parts.ts'
import type { Malformed, Step } from './sequence.ts'

const dims = [8, 64, 14, 14]
const x = tensor('x', { dims, uid: 1 })

const tensors: readonly Malformed[] = [
  { name: 'tensor without dimensions', steps: without(x, 'x', 'TENSOR_DIMENSIONS') },
  { name: 'tensor without strides', steps: without(x, 'x', 'TENSOR_STRIDES') },
  { name: 'tensor without an alignment', steps: without(x, 'x', 'TENSOR_BYTE_ALIGNMENT') },
  { name: 'dimensions as INT32', steps: retyped(x, 'x', 'TENSOR_DIMENSIONS', 'INT32') },
  { name: 'dimensions as DOUBLE', steps: retyped(x, 'x', 'TENSOR_DIMENSIONS', 'DOUBLE') },
  { name: 'data type as INT32', steps: retyped(x, 'x', 'TENSOR_DATA_TYPE', 'INT32') },
  { name: 'identifier as INT32', steps: retyped(x, 'x', 'TENSOR_UNIQUE_ID', 'INT32') },
  { name: 'alignment as INT32', steps: retyped(x, 'x', 'TENSOR_BYTE_ALIGNMENT', 'INT32') },
  { name: 'two data types', steps: changed(x, 'x', 'TENSOR_DATA_TYPE', [2, 2]) },
  { name: 'two identifiers', steps: changed(x, 'x', 'TENSOR_UNIQUE_ID', [1, 2]) },
  { name: 'two alignments', steps: changed(x, 'x', 'TENSOR_BYTE_ALIGNMENT', [16, 16]) },
  { name: 'alignment 0', steps: changed(x, 'x', 'TENSOR_BYTE_ALIGNMENT', [0]) },
  { name: 'alignment below the element', steps: changed(x, 'x', 'TENSOR_BYTE_ALIGNMENT', [1]) },
  { name: 'alignment that is no multiple', steps: changed(x, 'x', 'TENSOR_BYTE_ALIGNMENT', [17]) },
  { name: 'negative alignment', steps: changed(x, 'x', 'TENSOR_BYTE_ALIGNMENT', [-16]) },
  { name: 'fewer dimensions than strides', steps: changed(x, 'x', 'TENSOR_DIMENSIONS', [8, 64, 14]) },
  { name: 'fewer strides than dimensions', steps: changed(x, 'x', 'TENSOR_STRIDES', [12544, 1, 896]) },
  { name: 'a negative dimension', steps: changed(x, 'x', 'TENSOR_DIMENSIONS', [8, -1, 14, 14]) },
  { name: 'a negative stride', steps: changed(x, 'x', 'TENSOR_STRIDES', [12544, 1, 896, -64]) },
  {
    name: 'nine dimensions',
    steps: changed(
      changed(x, 'x', 'TENSOR_DIMENSIONS', [8, 64, 14, 1, 1, 1, 1, 1, 1]),
      'x',
      'TENSOR_STRIDES',
      [896, 1, 64, 1, 1, 1, 1, 1, 1],
    ),
  },
  { name: 'a type of four packed bytes', steps: changed(x, 'x', 'TENSOR_DATA_TYPE', [5]) },
  {
    name: 'virtual as INT32',
    steps: beforeFinalize(x, 'x', ['set', 'x', 'TENSOR_IS_VIRTUAL', 'INT32', [1]]),
  },
  { name: 'virtual twice', steps: beforeFinalize(x, 'x', ['set', 'x', 'TENSOR_IS_VIRTUAL', 'BOOLEAN', [1, 1]]) },
  {
    name: 'four dimensions by value',
    steps: beforeFinalize(x, 'x', ['set', 'x', 'TENSOR_IS_BY_VALUE', 'BOOLEAN', [1]]),
  },
  {
    name: "another descriptor's attribute on a tensor",
    steps: beforeFinalize(x, 'x', ['set', 'x', 'CONVOLUTION_DILATIONS', 'INT64', [1, 1]]),
  },
  { name: 'set after finalize', steps: [...x, ['set', 'x', 'TENSOR_UNIQUE_ID', 'INT64', [4]]] },
  { name: 'finalized twice', steps: [...x, ['finalize', 'x']] },
  { name: 'read before finalize', steps: beforeFinalize(x, 'x', ['get', 'x', 'TENSOR_DIMENSIONS', 'INT64', 4]) },
  { name: 'counted before finalize', steps: beforeFinalize(x, 'x', ['count', 'x', 'TENSOR_DIMENSIONS', 'INT64']) },
  { name: 'read under another type', steps: [...x, ['get', 'x', 'TENSOR_DIMENSIONS', 'INT32', 4]] },
  { name: 'an identifier read into two', steps: [...x, ['get', 'x', 'TENSOR_UNIQUE_ID', 'INT64', 2]] },
  { name: 'an alignment read', steps: [...x, ['get', 'x', 'TENSOR_BYTE_ALIGNMENT', 'INT64', 1]] },
  {
    name: "another descriptor's attribute read from a tensor",
    steps: [...x, ['get', 'x', 'CONVOLUTION_DILATIONS', 'INT64', 2]],
  },
]

const c = convolution('c', { padding: 1 })

const convolutions: readonly Malformed[] = [
  { name: 'convolution without spatial dimensions', steps: without(c, 'c', 'CONVOLUTION_SPATIAL_DIMS') },
  { name: 'convolution without strides', steps: without(c, 'c', 'CONVOLUTION_FILTER_STRIDES') },
  { name: 'convolution without dilations', steps: without(c, 'c', 'CONVOLUTION_DILATIONS') },
  { name: 'no spatial dimensions', steps: changed(c, 'c', 'CONVOLUTION_SPATIAL_DIMS', [0]) },
  { name: 'three spatial dimensions, two strides', steps: changed(c, 'c', 'CONVOLUTION_SPATIAL_DIMS', [3]) },
  { name: 'spatial dimensions as DOUBLE', steps: retyped(c, 'c', 'CONVOLUTION_SPATIAL_DIMS', 'DOUBLE') },
  { name: 'spatial dimensions twice', steps: changed(c, 'c', 'CONVOLUTION_SPATIAL_DIMS', [2, 2]) },
  { name: 'stride 0', steps: changed(c, 'c', 'CONVOLUTION_FILTER_STRIDES', [0, 1]) },
  { name: 'negative stride', steps: changed(c, 'c', 'CONVOLUTION_FILTER_STRIDES', [1, -1]) },
  { name: 'three strides', steps: changed(c, 'c', 'CONVOLUTION_FILTER_STRIDES', [1, 1, 1]) },
  { name: 'strides as INT32', steps: retyped(c, 'c', 'CONVOLUTION_FILTER_STRIDES', 'INT32') },
  { name: 'dilation 0', steps: changed(c, 'c', 'CONVOLUTION_DILATIONS', [0, 0]) },
  { name: 'one dilation', steps: changed(c, 'c', 'CONVOLUTION_DILATIONS', [1]) },
  { name: 'negative padding before', steps: changed(c, 'c', 'CONVOLUTION_PRE_PADDINGS', [-1, 1]) },
  { name: 'negative padding after', steps: changed(c, 'c', 'CONVOLUTION_POST_PADDINGS', [1, -1]) },
  { name: 'one padding', steps: changed(c, 'c', 'CONVOLUTION_PRE_PADDINGS', [1]) },
  { name: 'paddings as DOUBLE', steps: retyped(c, 'c', 'CONVOLUTION_POST_PADDINGS', 'DOUBLE') },
  { name: 'compute type as INT32', steps: retyped(c, 'c', 'CONVOLUTION_COMP_TYPE', 'INT32') },
  { name: 'two compute types', steps: changed(c, 'c', 'CONVOLUTION_COMP_TYPE', [0, 0]) },
  { name: 'convolution mode as INT32', steps: retyped(c, 'c', 'CONVOLUTION_CONV_MODE', 'INT32') },
  { name: 'convolution set after finalize', steps: [...c, ['set', 'c', 'CONVOLUTION_COMP_TYPE', 'DATA_TYPE', [2]]] },
  {
    name: 'convolution read before finalize',
    steps: beforeFinalize(c, 'c', ['get', 'c', 'CONVOLUTION_DILATIONS', 'INT64', 2]),
  },
  {
    name: "a tensor's identifier on a convolution",
    steps: beforeFinalize(c, 'c', ['set', 'c', 'TENSOR_UNIQUE_ID', 'INT64', [1]]),
  },
]

const pointwiseMode: readonly Step[] = descriptor('p', 'POINTWISE', [
  ['set', 'p', 'POINTWISE_MODE', 'POINTWISE_MODE', [100]],
  ['set', 'p', 'POINTWISE_MATH_PREC', 'DATA_TYPE', [0]],
  ['set', 'p', 'POINTWISE_RELU_LOWER_CLIP', 'DOUBLE', [0]],
])
const reductionMode: readonly Step[] = descriptor('r', 'REDUCTION', [
  ['set', 'r', 'REDUCTION_OPERATOR', 'REDUCTION_OPERATOR_TYPE', [0]],
  ['set', 'r', 'REDUCTION_COMP_TYPE', 'DATA_TYPE', [0]],
])

const modes: readonly Malformed[] = [
  { name: 'pointwise mode as INT32', steps: retyped(pointwiseMode, 'p', 'POINTWISE_MODE', 'INT32') },
  { name: 'two pointwise modes', steps: changed(pointwiseMode, 'p', 'POINTWISE_MODE', [0, 100]) },
  { name: 'pointwise precision as INT32', steps: retyped(pointwiseMode, 'p', 'POINTWISE_MATH_PREC', 'INT32') },
  { name: 'two lower clips', steps: changed(pointwiseMode, 'p', 'POINTWISE_RELU_LOWER_CLIP', [0, 0]) },
  { name: 'lower clip as INT64', steps: retyped(pointwiseMode, 'p', 'POINTWISE_RELU_LOWER_CLIP', 'INT64') },
  { name: 'pointwise mode read', steps: [...pointwiseMode, ['get', 'p', 'POINTWISE_MODE', 'POINTWISE_MODE', 1]] },
  { name: 'reduction operator as INT32', steps: retyped(reductionMode, 'r', 'REDUCTION_OPERATOR', 'INT32') },
  { name: 'two reduction operators', steps: changed(reductionMode, 'r', 'REDUCTION_OPERATOR', [0, 0]) },
  {
    name: 'reduction operator read as INT32',
    steps: [...reductionMode, ['get', 'r', 'REDUCTION_OPERATOR', 'INT32', 1]],
  },
]

/** Malformed tensors, convolutions and modes. */
export const malformedTensors: readonly Malformed[] = [...tensors, ...convolutions, ...modes]
