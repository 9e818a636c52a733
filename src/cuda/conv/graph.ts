// Operation graphs as data, a convolution and what can be fused with it, and their descriptors. Which engine runs a graph
// is engines.ts's part.
import { InternalError } from '../../tensor/errors.ts'
import { type Shape, at, stridesOf } from '../../tensor/shape.ts'
import type { Descriptor } from '../ffi/cudnn.ts'
import { convolutionModes, pointwiseModes, statisticsModes } from '../ffi/cudnn-constants.ts'
import {
  type Attributes,
  type DescriptorScope,
  choice,
  dataType,
  descriptors,
  float,
  integers,
  yes,
} from './descriptors.ts'
import type { Epilogue, EpilogueStep, EpilogueValue } from './epilogue.ts'
import type { ConvDType, ConvProblem, Direction } from './problem.ts'
import type { CudnnSession } from './session.ts'

/**
 * What is computed with a convolution in one pass; operands beyond the convolution's two come after them, results beyond
 * its own after it. Vectors are f32 [channels].
 */
export type Fusion =
  | 'none'
  /** conv2d: (x, filter, bias) -> y + bias */
  | 'bias'
  /** conv2d: (x, filter, bias) -> max(y + bias, 0) */
  | 'bias-relu'
  /** conv2d or conv2dInputGrad: (a, b, addend) -> result + addend, which has the result's type */
  | 'add'
  /** conv2d: (x, filter) -> y, and per channel the sum of y and of its squares */
  | 'statistics'
  /** conv2d or conv2dInputGrad: (a, b, the chain's operands) -> what the chain gives, which has the result's type */
  | Epilogue

/** A tensor of a graph, NHWC; virtual ones exist only inside the engine. */
export interface GraphTensor {
  /** Names it in the graph: operands are 1, 2, ... in the order in which the step names them. */
  readonly uid: number
  readonly dtype: ConvDType
  readonly shape: Shape
  readonly virtual: boolean
}

/** One operation of a graph. */
export type GraphOperation =
  | {
      readonly kind: 'convolution'
      readonly problem: ConvProblem
      readonly operands: readonly [GraphTensor, GraphTensor]
      readonly result: GraphTensor
    }
  | {
      readonly kind: 'pointwise'
      readonly mode: keyof typeof pointwiseModes
      readonly operands: readonly [GraphTensor, GraphTensor?]
      readonly result: GraphTensor
    }
  | {
      readonly kind: 'statistics'
      readonly operand: GraphTensor
      readonly sum: GraphTensor
      readonly squares: GraphTensor
    }

/** Operations, and the tensors in memory that they read and then write, in the order of the step's operands. */
export interface ConvGraph {
  readonly operations: readonly GraphOperation[]
  readonly operands: readonly GraphTensor[]
}

/** The directions that each fusion can follow. */
const followed: Readonly<Record<Extract<Fusion, string>, readonly Direction[]>> = {
  none: ['conv2d', 'conv2dInputGrad', 'conv2dFilterGrad'],
  bias: ['conv2d'],
  'bias-relu': ['conv2d'],
  add: ['conv2d', 'conv2dInputGrad'],
  statistics: ['conv2d'],
}

/** The graph of a convolution with what is fused to it. Throws an internal error where that cannot follow its direction. */
export function convGraph(problem: ConvProblem, fusion: Fusion = 'none'): ConvGraph {
  const { dtype, direction } = problem
  if (!(typeof fusion === 'string' ? followed[fusion] : followed.add).includes(direction))
    throw new InternalError(`a ${direction} was to be fused with ${typeof fusion === 'string' ? fusion : 'a chain'}`)
  const [first, second, result] = operandShapes(problem)
  const channels = [1, 1, 1, at(result, 3)]
  const tensors: GraphTensor[] = []
  const tensor = (shape: Shape, of: ConvDType = dtype, virtual = false): GraphTensor => {
    const made = { uid: tensors.length + 1, dtype: of, shape, virtual }
    tensors.push(made)
    return made
  }
  const inside = (): GraphTensor => tensor(result, 'f32', true)
  const convolve = (to: GraphTensor): GraphOperation => ({ kind: 'convolution', problem, operands, result: to })
  const operands = [tensor(first), tensor(second)] as const
  const operations = ((): readonly GraphOperation[] => {
    if (typeof fusion !== 'string') {
      const given = fusion.operands.map((operand) => tensor(operand.shape, operand.dtype))
      const [stored, raw] = [tensor(result), inside()]
      return [convolve(raw), ...chain(fusion.steps, { given, raw, stored, inside })]
    }
    switch (fusion) {
      case 'none':
        return [convolve(tensor(result))]
      case 'bias':
      case 'add': {
        const [addend, sum, raw] = [
          fusion === 'bias' ? tensor(channels, 'f32') : tensor(result),
          tensor(result),
          inside(),
        ]
        return [convolve(raw), pointwise('ADD', [raw, addend], sum)]
      }
      case 'bias-relu': {
        const [bias, y, raw, sum] = [tensor(channels, 'f32'), tensor(result), inside(), inside()]
        return [convolve(raw), pointwise('ADD', [raw, bias], sum), pointwise('RELU_FWD', [sum], y)]
      }
      case 'statistics': {
        const [y, sum, squares] = [tensor(result), tensor(channels, 'f32'), tensor(channels, 'f32')]
        return [convolve(y), { kind: 'statistics', operand: y, sum, squares }]
      }
      default:
        return fusion satisfies never
    }
  })()
  return { operations, operands: tensors.filter(({ virtual }) => !virtual) }
}

/** The operations of a chain; the last one's value is stored, the others are made by `inside`. */
function chain(
  steps: readonly EpilogueStep[],
  tensors: {
    readonly given: readonly GraphTensor[]
    readonly raw: GraphTensor
    readonly stored: GraphTensor
    readonly inside: () => GraphTensor
  },
): readonly GraphOperation[] {
  const { given, raw, stored, inside } = tensors
  const made = steps.map((_, index) => (index === steps.length - 1 ? stored : inside()))
  const find = (value: EpilogueValue): GraphTensor =>
    value.kind === 'result' ? raw : at(value.kind === 'step' ? made : given, value.index)
  return steps.map(({ mode, values: [first, second] }, index) =>
    pointwise(mode, second === undefined ? [find(first)] : [find(first), find(second)], at(made, index)),
  )
}

/** The descriptor of a graph, finalized. */
export function buildGraph(scope: DescriptorScope, session: CudnnSession, graph: ConvGraph): Descriptor {
  const made = new Map<GraphTensor, Descriptor>()
  const use = (tensor: GraphTensor) => {
    const descriptor = made.get(tensor) ?? buildTensor(scope, tensor)
    made.set(tensor, descriptor)
    return descriptors(descriptor)
  }
  const operations = graph.operations.map((operation) => {
    switch (operation.kind) {
      case 'convolution':
        return buildConvolution(scope, operation, use)
      case 'pointwise':
        return buildPointwise(scope, operation, use)
      case 'statistics':
        return scope.make('OPERATION_GEN_STATS', 'statistics', {
          OPERATION_GENSTATS_MODE: choice('GENSTATS_MODE', statisticsModes.SUM_SQSUM),
          OPERATION_GENSTATS_MATH_PREC: dataType('f32'),
          OPERATION_GENSTATS_XDESC: use(operation.operand),
          OPERATION_GENSTATS_SUMDESC: use(operation.sum),
          OPERATION_GENSTATS_SQSUMDESC: use(operation.squares),
        })
      default:
        return operation satisfies never
    }
  })
  return scope.make('OPERATIONGRAPH', 'operation graph', {
    ...session.attributes.graph,
    OPERATIONGRAPH_OPS: descriptors(...operations),
  })
}

type Use = (tensor: GraphTensor) => ReturnType<typeof descriptors>

/** The shapes of the two operands and the result of a direction. */
function operandShapes({ direction, input, filter, output }: ConvProblem): readonly [Shape, Shape, Shape] {
  switch (direction) {
    case 'conv2d':
      return [input, filter, output]
    case 'conv2dInputGrad':
      return [output, filter, input]
    case 'conv2dFilterGrad':
      return [input, output, filter]
    default:
      return direction satisfies never
  }
}

function pointwise(
  mode: keyof typeof pointwiseModes,
  operands: readonly [GraphTensor, GraphTensor?],
  result: GraphTensor,
): GraphOperation {
  return { kind: 'pointwise', mode, operands, result }
}

/** cuDNN names axes NCHW and takes the layout from the strides. */
function buildTensor(scope: DescriptorScope, { uid, dtype, shape, virtual }: GraphTensor): Descriptor {
  const strides = stridesOf(shape)
  const order = [0, 3, 1, 2]
  return scope.make('TENSOR', `tensor ${uid} [${shape.join(',')}]`, {
    TENSOR_DATA_TYPE: dataType(dtype),
    TENSOR_DIMENSIONS: integers(order.map((axis) => at(shape, axis))),
    TENSOR_STRIDES: integers(order.map((axis) => at(strides, axis))),
    TENSOR_UNIQUE_ID: integers([uid]),
    TENSOR_BYTE_ALIGNMENT: integers([16]),
    ...(virtual ? { TENSOR_IS_VIRTUAL: yes } : {}),
  })
}

function buildConvolution(
  scope: DescriptorScope,
  { problem, operands, result }: GraphOperation & { readonly kind: 'convolution' },
  use: Use,
): Descriptor {
  const { stride, padding, dilation, direction } = problem
  const walk = scope.make('CONVOLUTION', 'convolution', {
    CONVOLUTION_COMP_TYPE: dataType('f32'),
    CONVOLUTION_CONV_MODE: choice('CONVOLUTION_MODE', convolutionModes.CROSS_CORRELATION),
    CONVOLUTION_SPATIAL_DIMS: integers([2]),
    CONVOLUTION_DILATIONS: integers(dilation),
    CONVOLUTION_FILTER_STRIDES: integers(stride),
    CONVOLUTION_PRE_PADDINGS: integers(padding.map(([before]) => before)),
    CONVOLUTION_POST_PADDINGS: integers(padding.map(([, after]) => after)),
  })
  const [a, b, c] = [use(operands[0]), use(operands[1]), use(result)]
  switch (direction) {
    case 'conv2d':
      return scope.make('OPERATION_CONVOLUTION_FORWARD', direction, {
        OPERATION_CONVOLUTION_FORWARD_CONV_DESC: descriptors(walk),
        OPERATION_CONVOLUTION_FORWARD_X: a,
        OPERATION_CONVOLUTION_FORWARD_W: b,
        OPERATION_CONVOLUTION_FORWARD_Y: c,
        OPERATION_CONVOLUTION_FORWARD_ALPHA: float(1),
        OPERATION_CONVOLUTION_FORWARD_BETA: float(0),
      })
    case 'conv2dInputGrad':
      return scope.make('OPERATION_CONVOLUTION_BACKWARD_DATA', direction, {
        OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC: descriptors(walk),
        OPERATION_CONVOLUTION_BWD_DATA_DY: a,
        OPERATION_CONVOLUTION_BWD_DATA_W: b,
        OPERATION_CONVOLUTION_BWD_DATA_DX: c,
        OPERATION_CONVOLUTION_BWD_DATA_ALPHA: float(1),
        OPERATION_CONVOLUTION_BWD_DATA_BETA: float(0),
      })
    case 'conv2dFilterGrad':
      return scope.make('OPERATION_CONVOLUTION_BACKWARD_FILTER', direction, {
        OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC: descriptors(walk),
        OPERATION_CONVOLUTION_BWD_FILTER_X: a,
        OPERATION_CONVOLUTION_BWD_FILTER_DY: b,
        OPERATION_CONVOLUTION_BWD_FILTER_DW: c,
        OPERATION_CONVOLUTION_BWD_FILTER_ALPHA: float(1),
        OPERATION_CONVOLUTION_BWD_FILTER_BETA: float(0),
      })
    default:
      return direction satisfies never
  }
}

function buildPointwise(
  scope: DescriptorScope,
  { mode, operands: [first, second], result }: GraphOperation & { readonly kind: 'pointwise' },
  use: Use,
): Descriptor {
  const operator = scope.make('POINTWISE', mode, {
    POINTWISE_MODE: choice('POINTWISE_MODE', pointwiseModes[mode]),
    POINTWISE_MATH_PREC: dataType('f32'),
  })
  const attributes: Attributes =
    mode === 'RELU_BWD' && second !== undefined
      ? {
          OPERATION_POINTWISE_PW_DESCRIPTOR: descriptors(operator),
          OPERATION_POINTWISE_DYDESC: use(first),
          OPERATION_POINTWISE_XDESC: use(second),
          OPERATION_POINTWISE_DXDESC: use(result),
        }
      : {
          OPERATION_POINTWISE_PW_DESCRIPTOR: descriptors(operator),
          OPERATION_POINTWISE_XDESC: use(first),
          ...(second === undefined ? {} : { OPERATION_POINTWISE_BDESC: use(second) }),
          OPERATION_POINTWISE_YDESC: use(result),
        }
  return scope.make('OPERATION_POINTWISE', mode, attributes)
}
