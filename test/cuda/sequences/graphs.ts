// The well-formed sequences: every convolution of SE-ResNeXt101-32x4d in its three directions and dtypes, and the fusions a
// bottleneck block could use, each from tensors to a plan for an H200.
import { readFileSync } from 'node:fs'
import {
  type DataType,
  type Direction,
  type Tensor,
  convolution,
  convolve,
  device,
  heuristics,
  operationGraph,
  pointwise,
  reduction,
  statistics,
  tensor,
} from './parts.ts'
import type { Sequence, Step } from './sequence.ts'

/** The properties of an H200, as cuDNN takes them. */
export const h200 = readFileSync(new URL('../../golden/h200-device-properties.json', import.meta.url), 'utf8').trim()

/** One convolution of the model, square in all extents. */
export interface ModelConvolution {
  readonly channels: number
  readonly outputs: number
  readonly kernel: 1 | 3 | 7
  readonly groups: 1 | 32
  readonly stride: 1 | 2
  /** Extent of the input. */
  readonly size: number
}

const stem: ModelConvolution = { channels: 3, outputs: 64, kernel: 7, groups: 1, stride: 2, size: 224 }

/** The distinct convolutions of a stage: its first block, which changes extents and channels, and the others. */
function stage(before: number, width: number, size: number, stride: 1 | 2): readonly ModelConvolution[] {
  const [outputs, inner] = [2 * width, size / stride]
  const plain = { groups: 1, stride: 1, kernel: 1 } as const
  const first: readonly ModelConvolution[] = [
    { ...plain, channels: before, outputs: width, size },
    { channels: width, outputs: width, kernel: 3, groups: 32, stride, size },
    { ...plain, channels: width, outputs, size: inner },
    { channels: before, outputs, kernel: 1, groups: 1, stride, size },
    { ...plain, channels: outputs, outputs: width, size: inner },
  ]
  return stride === 1
    ? first
    : [...first, { channels: width, outputs: width, kernel: 3, groups: 32, stride: 1, size: inner }]
}

/** Every distinct convolution of SE-ResNeXt101-32x4d at 224, and the stem over padded channels. */
export const modelConvolutions: readonly ModelConvolution[] = [
  stem,
  { ...stem, channels: 4 },
  { ...stem, channels: 8 },
  ...stage(64, 128, 56, 1),
  ...stage(256, 256, 56, 2),
  ...stage(512, 512, 28, 2),
  ...stage(1024, 1024, 14, 2),
]

const batch = 256
const directionNames = { FORWARD: 'forward', BWD_DATA: 'data gradient', BWD_FILTER: 'filter gradient' } as const

function convolutionSequence(type: DataType, direction: Direction, conv: ModelConvolution): Sequence {
  const { channels, outputs, kernel, groups, stride, size } = conv
  const [padding, after] = [(kernel - 1) / 2, size / stride]
  return {
    name: `${type} ${directionNames[direction]} ${kernel}x${kernel} ${channels}->${outputs} groups ${groups} stride ${stride} at ${size}`,
    steps: [
      ...tensor('x', { dims: [batch, channels, size, size], type, uid: 1 }),
      ...tensor('w', { dims: [outputs, channels / groups, kernel, kernel], type, uid: 2 }),
      ...tensor('y', { dims: [batch, outputs, after, after], type, uid: 3 }),
      ...convolution('convolution', { stride, padding }),
      ...convolve('operation', direction, 'convolution', ['x', 'w', 'y']),
      ...planned(['operation']),
    ],
  }
}

/** From operations to a plan; 3 is mode A. */
export function planned(operations: readonly string[], mode = 3): readonly Step[] {
  return [
    ...operationGraph('graph', operations),
    ...device('device', h200),
    ...heuristics('heuristics', 'graph', 'device', mode),
    ['count', 'heuristics', 'ENGINEHEUR_RESULTS', 'BACKEND_DESCRIPTOR'],
    ['plan', 'heuristics', 'device'],
  ]
}

/** Every convolution of the model, three directions, three dtypes. */
export const convolutionGraphs: readonly Sequence[] = (['HALF', 'BFLOAT16', 'FLOAT'] as const).flatMap((type) =>
  (['FORWARD', 'BWD_DATA', 'BWD_FILTER'] as const).flatMap((direction) =>
    modelConvolutions.map((conv) => convolutionSequence(type, direction, conv)),
  ),
)

/** Extents of a 1x1 convolution with something fused to it. */
export interface FusedExtents {
  readonly batch: number
  readonly channels: number
  readonly outputs: number
  readonly size: number
}

/** Those of the table. */
const usual: FusedExtents = { batch: 8, channels: 64, outputs: 128, size: 14 }

/** What is fused around the convolution `conv` of x, w and y. */
export interface Fusion {
  readonly name: string
  readonly direction: Direction
  readonly operations: readonly string[]
  /** What the tensors x and y of the convolution are, beyond their shapes. */
  readonly x?: Pick<Tensor, 'virtual' | 'type'>
  readonly y?: Pick<Tensor, 'virtual' | 'type'>
  readonly parts: readonly (readonly Step[])[]
}

const virtual = { virtual: true, type: 'FLOAT' } as const
const f32 = { type: 'FLOAT' } as const

/** What a bottleneck block could fuse, around a 1x1 convolution of these extents. */
export function fusionsOf({ batch: n, channels: c, outputs: k, size }: FusedExtents): readonly Fusion[] {
  const [input, output] = [
    [n, c, size, size],
    [n, k, size, size],
  ]
  const [perInput, perOutput] = [
    [1, c, 1, 1],
    [1, k, 1, 1],
  ]
  return [
    {
      name: 'bias, ReLU',
      direction: 'FORWARD',
      operations: ['conv', 'add', 'relu'],
      y: virtual,
      parts: [
        tensor('b', { dims: perOutput, uid: 4, ...f32 }),
        tensor('sum', { dims: output, uid: 5, ...virtual }),
        tensor('z', { dims: output, uid: 6 }),
        pointwise('add', 'ADD', ['y', 'b'], 'sum'),
        pointwise('relu', 'RELU_FWD', ['sum'], 'z'),
      ],
    },
    {
      name: 'residual',
      direction: 'FORWARD',
      operations: ['conv', 'add'],
      y: virtual,
      parts: [
        tensor('b', { dims: output, uid: 4 }),
        tensor('z', { dims: output, uid: 5 }),
        pointwise('add', 'ADD', ['y', 'b'], 'z'),
      ],
    },
    {
      name: 'statistics',
      direction: 'FORWARD',
      operations: ['conv', 'statistics'],
      parts: [
        tensor('s', { dims: perOutput, uid: 4, ...f32 }),
        tensor('q', { dims: perOutput, uid: 5, ...f32 }),
        statistics('statistics', 'y', 's', 'q'),
      ],
    },
    {
      name: 'sum per image',
      direction: 'FORWARD',
      operations: ['conv', 'sum'],
      parts: [tensor('s', { dims: [n, k, 1, 1], uid: 4, ...f32 }), reduction('sum', 'ADD', 'y', 's')],
    },
    {
      name: 'after scale, bias, ReLU',
      direction: 'FORWARD',
      operations: ['scale', 'add', 'relu', 'conv'],
      x: { virtual: true },
      parts: [
        tensor('raw', { dims: input, uid: 4 }),
        tensor('a', { dims: perInput, uid: 5, ...f32 }),
        tensor('b', { dims: perInput, uid: 6, ...f32 }),
        tensor('scaled', { dims: input, uid: 7, ...virtual }),
        tensor('moved', { dims: input, uid: 8, ...virtual }),
        pointwise('scale', 'MUL', ['raw', 'a'], 'scaled'),
        pointwise('add', 'ADD', ['scaled', 'b'], 'moved'),
        pointwise('relu', 'RELU_FWD', ['moved'], 'x'),
      ],
    },
    {
      name: 'batch norm, gate, residual, ReLU',
      direction: 'FORWARD',
      operations: ['conv', 'centre', 'scale', 'shift', 'gate', 'add', 'relu'],
      y: virtual,
      parts: [
        ...['mean', 'factor', 'bias'].map((name, i) => tensor(name, { dims: perOutput, uid: 4 + i, ...f32 })),
        tensor('gates', { dims: [n, k, 1, 1], uid: 7 }),
        tensor('r', { dims: output, uid: 8 }),
        tensor('z', { dims: output, uid: 9 }),
        ...['centred', 'scaled', 'shifted', 'gated', 'sum'].map((name, i) =>
          tensor(name, { dims: output, uid: 10 + i, ...virtual }),
        ),
        pointwise('centre', 'SUB', ['y', 'mean'], 'centred'),
        pointwise('scale', 'MUL', ['centred', 'factor'], 'scaled'),
        pointwise('shift', 'ADD', ['scaled', 'bias'], 'shifted'),
        pointwise('gate', 'MUL', ['shifted', 'gates'], 'gated'),
        pointwise('add', 'ADD', ['gated', 'r'], 'sum'),
        pointwise('relu', 'RELU_FWD', ['sum'], 'z'),
      ],
    },
    {
      name: 'added gradient, ReLU backward',
      direction: 'BWD_DATA',
      operations: ['conv', 'add', 'relu'],
      x: virtual,
      parts: [
        tensor('other', { dims: input, uid: 4 }),
        tensor('o', { dims: input, uid: 5 }),
        tensor('z', { dims: input, uid: 6 }),
        tensor('sum', { dims: input, uid: 7, ...virtual }),
        pointwise('add', 'ADD', ['other', 'x'], 'sum'),
        pointwise('relu', 'RELU_BWD', ['sum', 'o'], 'z'),
      ],
    },
    {
      name: 'ReLU backward',
      direction: 'BWD_DATA',
      operations: ['conv', 'relu'],
      x: virtual,
      parts: [
        tensor('o', { dims: input, uid: 4 }),
        tensor('z', { dims: input, uid: 5 }),
        pointwise('relu', 'RELU_BWD', ['x', 'o'], 'z'),
      ],
    },
    {
      name: 'added gradient',
      direction: 'BWD_DATA',
      operations: ['conv', 'add'],
      x: virtual,
      parts: [
        tensor('o', { dims: input, uid: 4 }),
        tensor('z', { dims: input, uid: 5 }),
        pointwise('add', 'ADD', ['x', 'o'], 'z'),
      ],
    },
    {
      name: 'ReLU backward, sum per channel',
      direction: 'BWD_DATA',
      operations: ['conv', 'relu', 'sum'],
      x: virtual,
      parts: [
        tensor('o', { dims: input, uid: 4 }),
        tensor('z', { dims: input, uid: 5 }),
        tensor('s', { dims: perInput, uid: 6, ...f32 }),
        pointwise('relu', 'RELU_BWD', ['x', 'o'], 'z'),
        reduction('sum', 'ADD', 'z', 's'),
      ],
    },
  ]
}

/** A fusion's steps up to its operations, each tensor of 16 bits. */
export function fusedSteps(
  { direction, x = {}, y = {}, parts }: Omit<Fusion, 'name' | 'operations'>,
  { batch: n, channels: c, outputs: k, size }: FusedExtents = usual,
): readonly Step[] {
  const [input, output] = [
    [n, c, size, size],
    [n, k, size, size],
  ]
  return [
    ...tensor('x', { dims: input, uid: 1, ...x }),
    ...tensor('w', { dims: [k, c, 1, 1], uid: 2 }),
    ...tensor('y', { dims: output, uid: 3, ...y }),
    ...convolution('convolution'),
    ...convolve('conv', direction, 'convolution', ['x', 'w', 'y']),
    ...parts.flat(),
  ]
}

/** The fusions around a 1x1 convolution of f16, by heuristics and by fallback. */
export const fusedGraphs: readonly Sequence[] = [3, 2].flatMap((mode) =>
  fusionsOf(usual).map((fusion) => ({
    name: `${fusion.direction} with ${fusion.name}, mode ${mode}`,
    steps: [...fusedSteps(fusion), ...planned(fusion.operations, mode)],
  })),
)
