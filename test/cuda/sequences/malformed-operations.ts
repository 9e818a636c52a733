// Malformed sequences of operations: children that are missing or not finalized, extents that do not fit, graphs that are none.
import { changed, finalizedLate, retyped, unfinalized, without } from './edits.ts'
import { fusedSteps, planned } from './graphs.ts'
import {
  type Direction,
  type Geometry,
  type Tensor,
  convolution,
  convolve,
  operationGraph,
  pointwise,
  reduction,
  statistics,
  tensor,
} from './parts.ts'
import type { Malformed, Step } from './sequence.ts'

/** What differs from 64 channels to 64, 3x3, 14 by 14, padding 1. */
interface Changes {
  readonly x?: Partial<Tensor>
  readonly w?: Partial<Tensor>
  readonly y?: Partial<Tensor>
  readonly geometry?: Geometry
}

function operation(direction: Direction, { x = {}, w = {}, y = {}, geometry = {} }: Changes = {}): readonly Step[] {
  return [
    ...tensor('x', { dims: [8, 64, 14, 14], uid: 1, ...x }),
    ...tensor('w', { dims: [64, 64, 3, 3], uid: 2, ...w }),
    ...tensor('y', { dims: [8, 64, 14, 14], uid: 3, ...y }),
    ...convolution('c', { padding: 1, ...geometry }),
    ...convolve('op', direction, 'c', ['x', 'w', 'y']),
  ]
}

const mismatches: readonly (readonly [string, Changes])[] = [
  ['a batch that differs', { y: { dims: [4, 64, 14, 14] } }],
  ['output channels that differ', { y: { dims: [8, 32, 14, 14] } }],
  ['an output row too few', { y: { dims: [8, 64, 13, 14] } }],
  ['an output column too many', { y: { dims: [8, 64, 14, 15] } }],
  ['a stride the output does not have', { geometry: { stride: 2 } }],
  ['a padding the output does not have', { geometry: { padding: 2 } }],
  ['a dilation the output does not have', { geometry: { dilation: 2 } }],
  ['channels that the filter does not divide', { x: { dims: [8, 48, 14, 14] } }],
  ['a filter of more channels', { w: { dims: [64, 128, 3, 3] } }],
  ['groups that do not divide the outputs', { w: { dims: [48, 2, 3, 3] }, y: { dims: [8, 48, 14, 14] } }],
  ['an empty batch', { x: { dims: [0, 64, 14, 14] }, y: { dims: [0, 64, 14, 14] } }],
  ['an input of three dimensions', { x: { dims: [8, 64, 14], strides: [896, 1, 64] } }],
  [
    'a filter larger than its input',
    { x: { dims: [8, 64, 2, 2] }, w: { dims: [64, 64, 5, 5] }, y: { dims: [8, 64, 1, 1] }, geometry: { padding: 0 } },
  ],
  ['an input whose elements overlap', { x: { strides: [12544, 1, 896, 32] } }],
  ['an output whose elements overlap', { y: { strides: [12480, 1, 896, 64] } }],
  ['a filter with gaps', { w: { strides: [1152, 1, 384, 128] } }],
]

const forward = operation('FORWARD')

const convolutionOperations: readonly Malformed[] = [
  ...(['FORWARD', 'BWD_DATA', 'BWD_FILTER'] as const).flatMap((direction) =>
    mismatches.map(([name, changes]) => ({ name: `${direction}: ${name}`, steps: operation(direction, changes) })),
  ),
  ...(['CONV_DESC', 'X', 'W', 'Y'] as const).flatMap((role): readonly Malformed[] => {
    const attribute = `OPERATION_CONVOLUTION_FORWARD_${role}` as const
    return [
      { name: `convolution operation without ${role}`, steps: without(forward, 'op', attribute) },
      { name: `${role} as an address`, steps: retyped(forward, 'op', attribute, 'VOID_PTR') },
    ]
  }),
  { name: 'two convolutions', steps: changed(forward, 'op', 'OPERATION_CONVOLUTION_FORWARD_CONV_DESC', ['c', 'c']) },
  { name: 'two alphas', steps: changed(forward, 'op', 'OPERATION_CONVOLUTION_FORWARD_ALPHA', [1, 1]) },
  { name: 'input not finalized', steps: unfinalized(forward, 'x') },
  { name: 'convolution not finalized', steps: unfinalized(forward, 'c') },
  { name: 'input finalized after it was set', steps: finalizedLate(forward, 'x', 'op') },
  { name: 'operation finalized twice', steps: [...forward, ['finalize', 'op']] },
  {
    name: 'operation set after finalize',
    steps: [...forward, ['set', 'op', 'OPERATION_CONVOLUTION_FORWARD_X', 'BACKEND_DESCRIPTOR', ['x']]],
  },
  {
    name: 'data gradient without DX',
    steps: without(operation('BWD_DATA'), 'op', 'OPERATION_CONVOLUTION_BWD_DATA_DX'),
  },
  {
    name: 'filter gradient whose X is an address',
    steps: retyped(operation('BWD_FILTER'), 'op', 'OPERATION_CONVOLUTION_BWD_FILTER_X', 'VOID_PTR'),
  },
  {
    name: 'alpha of a data gradient as INT32',
    steps: retyped(operation('BWD_DATA'), 'op', 'OPERATION_CONVOLUTION_BWD_DATA_ALPHA', 'INT32'),
  },
  {
    name: 'alpha of a filter gradient as INT32',
    steps: retyped(operation('BWD_FILTER'), 'op', 'OPERATION_CONVOLUTION_BWD_FILTER_ALPHA', 'INT32'),
  },
]

const [image, channels] = [
  [8, 64, 14, 14],
  [1, 64, 1, 1],
]

/** An addition of a vector; `b` as it is given. */
function addition(b: Partial<Tensor> = {}, y: Partial<Tensor> = {}): readonly Step[] {
  return [
    ...tensor('x', { dims: image, uid: 1 }),
    ...tensor('b', { dims: channels, uid: 2, type: 'FLOAT', ...b }),
    ...tensor('y', { dims: image, uid: 3, ...y }),
    ...pointwise('p', 'ADD', ['x', 'b'], 'y'),
  ]
}

function sums(y: Partial<Tensor> = {}): readonly Step[] {
  return [
    ...tensor('x', { dims: image, uid: 1 }),
    ...tensor('y', { dims: channels, uid: 2, type: 'FLOAT', ...y }),
    ...reduction('r', 'ADD', 'x', 'y'),
  ]
}

function moments(sum: Partial<Tensor> = {}): readonly Step[] {
  return [
    ...tensor('x', { dims: image, uid: 1 }),
    ...tensor('s', { dims: channels, uid: 2, type: 'FLOAT', ...sum }),
    ...tensor('q', { dims: channels, uid: 3, type: 'FLOAT' }),
    ...statistics('g', 'x', 's', 'q'),
  ]
}

const noDescriptor = 'the real one adds where nobody said what to compute'
const unasked = 'the real one does not ask whether tensors are finalized'
const outside = 'the real one would read past the end of the smaller tensor'

const pointwiseOperations: readonly Malformed[] = [
  { name: 'pointwise without X', steps: without(addition(), 'p', 'OPERATION_POINTWISE_XDESC') },
  { name: 'pointwise without Y', steps: without(addition(), 'p', 'OPERATION_POINTWISE_YDESC') },
  { name: 'addition without B', steps: without(addition(), 'p', 'OPERATION_POINTWISE_BDESC') },
  { name: 'B of another rank', steps: addition({ dims: [64], strides: [1] }) },
  { name: 'B as a number', steps: retyped(addition(), 'p', 'OPERATION_POINTWISE_BDESC', 'INT64', [2]) },
  { name: 'two Bs', steps: changed(addition(), 'p', 'OPERATION_POINTWISE_BDESC', ['b', 'b']) },
  {
    name: 'ReLU backward without X',
    steps: [...addition().slice(0, -8), ...pointwise('r', 'RELU_BWD', ['x'], 'y')],
  },
  {
    name: 'selection without its condition',
    steps: [...addition(), ...pointwise('r', 'BINARY_SELECT', ['x', 'b'], 'y')],
  },
  { name: 'reduction without X', steps: without(sums(), 'r', 'OPERATION_REDUCTION_XDESC') },
  { name: 'reduction to another rank', steps: sums({ dims: [64], strides: [1] }) },
  { name: 'reduction to more than there is', steps: sums({ dims: [8, 128, 14, 14] }) },
  { name: 'reduction whose Y is a number', steps: retyped(sums(), 'r', 'OPERATION_REDUCTION_YDESC', 'INT64', [2]) },
  { name: 'statistics mode as INT32', steps: retyped(moments(), 'g', 'OPERATION_GENSTATS_MODE', 'INT32') },
  {
    name: 'pointwise without its descriptor',
    steps: without(addition(), 'p', 'OPERATION_POINTWISE_PW_DESCRIPTOR'),
    stricter: noDescriptor,
  },
  {
    name: 'pointwise descriptor not finalized',
    steps: unfinalized(addition(), 'p.mode'),
    stricter: noDescriptor,
  },
  { name: 'B not finalized', steps: unfinalized(addition(), 'b'), stricter: unasked },
  { name: 'B that does not broadcast', steps: addition({ dims: [1, 32, 1, 1] }), stricter: outside },
  { name: 'Y smaller than X', steps: addition({}, { dims: [8, 64, 1, 1] }), stricter: outside },
  {
    name: 'reduction without its descriptor',
    steps: without(sums(), 'r', 'OPERATION_REDUCTION_DESC'),
    stricter: noDescriptor,
  },
  { name: 'input of a reduction not finalized', steps: unfinalized(sums(), 'x'), stricter: unasked },
  {
    name: 'statistics without squares',
    steps: without(moments(), 'g', 'OPERATION_GENSTATS_SQSUMDESC'),
    stricter: 'the real one does not miss them',
  },
  {
    name: 'statistics of two tensors',
    steps: changed(moments(), 'g', 'OPERATION_GENSTATS_XDESC', ['x', 'x']),
    stricter: 'the real one refuses the two, and then does not miss one',
  },
  { name: 'statistics of other channels', steps: moments({ dims: [1, 32, 1, 1] }), stricter: outside },
]

const floating = { virtual: true, type: 'FLOAT' } as const
const output = [8, 128, 14, 14]

const bias = tensor('b', { dims: [1, 128, 1, 1], uid: 4, type: 'FLOAT' })
const result = tensor('z', { dims: output, uid: 5 })
const sum = pointwise('add', 'ADD', ['y', 'b'], 'z')
const biased = fusedSteps({ direction: 'FORWARD', y: floating, parts: [bias, result, sum] })
const plain = fusedSteps({ direction: 'FORWARD', parts: [] })

const graphs: readonly Malformed[] = [
  { name: 'graph without operations', steps: without([...plain, ...planned(['conv'])], 'graph', 'OPERATIONGRAPH_OPS') },
  {
    name: 'operations as numbers',
    steps: retyped([...plain, ...planned(['conv'])], 'graph', 'OPERATIONGRAPH_OPS', 'INT64', [1]),
  },
  { name: 'an operation twice', steps: [...plain, ...planned(['conv', 'conv'])] },
  { name: 'an operation not finalized', steps: unfinalized([...plain, ...planned(['conv'])], 'conv') },
  { name: 'an operation finalized late', steps: finalizedLate([...plain, ...planned(['conv'])], 'conv', 'graph') },
  {
    name: 'graph set after finalize',
    steps: [
      ...plain,
      ...operationGraph('graph', ['conv']),
      ['set', 'graph', 'OPERATIONGRAPH_OPS', 'BACKEND_DESCRIPTOR', ['conv']],
    ],
  },
  { name: 'graph finalized twice', steps: [...plain, ...operationGraph('graph', ['conv']), ['finalize', 'graph']] },
  {
    name: 'operations read from a graph',
    steps: [
      ...plain,
      ...operationGraph('graph', ['conv']),
      ['count', 'graph', 'OPERATIONGRAPH_OPS', 'BACKEND_DESCRIPTOR'],
    ],
  },
  {
    name: 'a tensor computed twice',
    steps: [...plain, ...convolve('again', 'FORWARD', 'convolution', ['x', 'w', 'y']), ...planned(['conv', 'again'])],
  },
  {
    name: 'a circle of operations',
    steps: [
      ...tensor('p', { dims: image, uid: 1, ...floating }),
      ...tensor('q', { dims: image, uid: 2, ...floating }),
      ...pointwise('to', 'RELU_FWD', ['p'], 'q'),
      ...pointwise('fro', 'RELU_FWD', ['q'], 'p'),
      ...planned(['to', 'fro']),
    ],
  },
  {
    name: 'two tensors of one identifier',
    steps: [...operation('FORWARD', { w: { uid: 1 } }), ...planned(['op'])],
    stricter: 'the real one plans it, and at execution one address stands for both',
  },
  {
    name: 'a virtual tensor nobody computes',
    steps: [...biased, ...planned(['add'])],
    stricter: 'the real one plans it, and reads nothing',
  },
  {
    name: 'a virtual tensor nobody reads',
    steps: [...biased, ...planned(['conv'])],
    stricter: 'the real one plans it, and computes nothing',
  },
  {
    name: 'an operand that is also the result',
    steps: changed([...operation('FORWARD'), ...planned(['op'])], 'op', 'OPERATION_CONVOLUTION_FORWARD_Y', ['x']),
    stricter: 'the real one plans it, and overwrites what it reads',
  },
]

const unsupportedChanges: readonly (readonly [string, Changes])[] = [
  ['result of another type', { y: { type: 'FLOAT' } }],
  ['filter of another type', { w: { type: 'BFLOAT16' } }],
  ['operands of integers', { x: { type: 'INT32', alignment: 4 }, w: { type: 'INT32' }, y: { type: 'INT32' } }],
  ['compute type that is too wide', { geometry: { compute: 'DOUBLE' } }],
  ['compute type BFLOAT16', { geometry: { compute: 'BFLOAT16' } }],
  ['f64 computed in f32', { x: { type: 'DOUBLE' }, w: { type: 'DOUBLE' }, y: { type: 'DOUBLE' } }],
  ['input broadcast over the batch', { x: { strides: [0, 1, 896, 64] } }],
  ['output broadcast over the batch', { y: { strides: [0, 1, 896, 64] } }],
]

/** Graphs that are in order and that no engine computes: heuristics succeed and have nothing to propose. */
const unsupported: readonly Malformed[] = unsupportedChanges.map(([name, changes]) => ({
  name: `no engine: ${name}`,
  steps: [...operation('FORWARD', changes), ...planned(['op'])],
}))

const unsupportedGraphs: readonly Malformed[] = [
  {
    name: 'no engine: two convolutions',
    steps: [
      ...plain,
      ...tensor('z', { dims: output, uid: 9 }),
      ...convolve('again', 'FORWARD', 'convolution', ['x', 'w', 'z']),
      ...planned(['conv', 'again']),
    ],
  },
  { name: 'no engine: statistics alone', steps: [...moments(), ...planned(['g'])] },
  {
    name: 'no engine: statistics in 16 bits',
    steps: [
      ...plain,
      ...tensor('s', { dims: [1, 128, 1, 1], uid: 8 }),
      ...tensor('q', { dims: [1, 128, 1, 1], uid: 9 }),
      ...statistics('g', 'y', 's', 'q'),
      ...planned(['conv', 'g']),
    ],
  },
  {
    name: 'no engine: a sum in 16 bits',
    steps: [
      ...plain,
      ...tensor('s', { dims: [8, 128, 1, 1], uid: 8 }),
      ...reduction('sum', 'ADD', 'y', 's'),
      ...planned(['conv', 'sum']),
    ],
  },
  {
    name: 'no engine: a sum over parts',
    steps: [
      ...plain,
      ...tensor('s', { dims: [8, 128, 7, 7], uid: 8, type: 'FLOAT' }),
      ...reduction('sum', 'ADD', 'y', 's'),
      ...planned(['conv', 'sum']),
    ],
  },
  {
    name: 'no engine: a filter gradient of 16 bits in f32, mode A',
    steps: [...operation('BWD_FILTER', { w: { type: 'FLOAT' } }), ...planned(['op'])],
  },
]

const misaligned: Malformed = {
  name: 'no engine: operands aligned to two bytes',
  steps: [...operation('FORWARD', { x: { alignment: 2 } }), ...planned(['op'])],
  stricter: 'nothing of ours is aligned so badly, and the real one finds engines only for some shapes',
}

/** Malformed operations and graphs, and graphs that nothing supports. */
export const malformedOperations: readonly Malformed[] = [
  ...convolutionOperations,
  ...pointwiseOperations,
  ...graphs,
  ...unsupported,
  ...unsupportedGraphs,
  misaligned,
]
