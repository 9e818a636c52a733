// The pieces that sequences are made of: a descriptor each, created, filled and finalized. Activations are NHWC and filters
// [out, in / groups, h, w] in the order of cuDNN's dimensions, with the channels densest.
import type { dataTypes, descriptorTypes, pointwiseModes } from '../../../src/cuda/ffi/cudnn-constants.ts'
import {
  convolutionModes,
  dataTypes as dataTypeNumbers,
  pointwiseModes as pointwiseNumbers,
  reductions,
} from '../../../src/cuda/ffi/cudnn-constants.ts'
import type { AttributeName } from '../../../src/cuda/ffi/cudnn.ts'
import type { Step } from './sequence.ts'

/** A cuDNN element type by its name in the header. */
export type DataType = keyof typeof dataTypes

/** Creates, sets and finalizes one descriptor. */
export function descriptor(name: string, type: keyof typeof descriptorTypes, sets: readonly Step[]): readonly Step[] {
  return [['create', name, type], ...sets, ['finalize', name]]
}

/** What a tensor descriptor says. */
export interface Tensor {
  readonly dims: readonly number[]
  readonly type?: DataType
  readonly uid: number
  readonly strides?: readonly number[]
  readonly alignment?: number
  readonly virtual?: boolean
}

/** Strides of dimensions [n, c, h, w] whose channels are densest. */
export function channelsLast([, c = 1, h = 1, w = 1]: readonly number[]): readonly number[] {
  return [c * h * w, 1, c * w, c]
}

export function tensor(name: string, { dims, type = 'HALF', uid, ...more }: Tensor): readonly Step[] {
  const { strides = channelsLast(dims), alignment = 16, virtual = false } = more
  return descriptor(name, 'TENSOR', [
    ['set', name, 'TENSOR_DATA_TYPE', 'DATA_TYPE', [dataTypeNumbers[type]]],
    ['set', name, 'TENSOR_DIMENSIONS', 'INT64', dims],
    ['set', name, 'TENSOR_STRIDES', 'INT64', strides],
    ['set', name, 'TENSOR_UNIQUE_ID', 'INT64', [uid]],
    ['set', name, 'TENSOR_BYTE_ALIGNMENT', 'INT64', [alignment]],
    ...(virtual ? ([['set', name, 'TENSOR_IS_VIRTUAL', 'BOOLEAN', [1]]] as const) : []),
  ])
}

/** What a convolution descriptor says; one number stands for both axes. */
export interface Geometry {
  readonly stride?: number
  readonly padding?: number
  readonly after?: number
  readonly dilation?: number
  readonly compute?: DataType
}

export function convolution(name: string, geometry: Geometry = {}): readonly Step[] {
  const { stride = 1, padding = 0, after = padding, dilation = 1, compute = 'FLOAT' } = geometry
  return descriptor(name, 'CONVOLUTION', [
    ['set', name, 'CONVOLUTION_COMP_TYPE', 'DATA_TYPE', [dataTypeNumbers[compute]]],
    ['set', name, 'CONVOLUTION_CONV_MODE', 'CONVOLUTION_MODE', [convolutionModes.CROSS_CORRELATION]],
    ['set', name, 'CONVOLUTION_SPATIAL_DIMS', 'INT64', [2]],
    ['set', name, 'CONVOLUTION_DILATIONS', 'INT64', [dilation, dilation]],
    ['set', name, 'CONVOLUTION_FILTER_STRIDES', 'INT64', [stride, stride]],
    ['set', name, 'CONVOLUTION_PRE_PADDINGS', 'INT64', [padding, padding]],
    ['set', name, 'CONVOLUTION_POST_PADDINGS', 'INT64', [after, after]],
  ])
}

/** The three directions of a convolution. */
export type Direction = 'FORWARD' | 'BWD_DATA' | 'BWD_FILTER'

export const directions: Readonly<
  Record<Direction, { readonly operation: keyof typeof descriptorTypes; readonly roles: readonly string[] }>
> = {
  FORWARD: { operation: 'OPERATION_CONVOLUTION_FORWARD', roles: ['X', 'W', 'Y'] },
  BWD_DATA: { operation: 'OPERATION_CONVOLUTION_BACKWARD_DATA', roles: ['DX', 'W', 'DY'] },
  BWD_FILTER: { operation: 'OPERATION_CONVOLUTION_BACKWARD_FILTER', roles: ['X', 'DW', 'DY'] },
}

/** An operation on the tensors of the input, the filter and the output, whichever of them is computed. */
export function convolve(
  name: string,
  direction: Direction,
  conv: string,
  tensors: readonly [x: string, w: string, y: string],
): readonly Step[] {
  const { operation, roles } = directions[direction]
  const attribute = (role: string) => `OPERATION_CONVOLUTION_${direction}_${role}` as AttributeName
  return descriptor(name, operation, [
    ['set', name, attribute('CONV_DESC'), 'BACKEND_DESCRIPTOR', [conv]],
    ...tensors.map((tensorName, index): Step => {
      return ['set', name, attribute(roles[index] ?? ''), 'BACKEND_DESCRIPTOR', [tensorName]]
    }),
    ['set', name, attribute('ALPHA'), 'FLOAT', [1]],
    ['set', name, attribute('BETA'), 'FLOAT', [0]],
  ])
}

/** A pointwise descriptor and its operation; a backward mode takes the cotangent first and gives DX. */
export function pointwise(
  name: string,
  mode: keyof typeof pointwiseModes,
  inputs: readonly string[],
  output: string,
): readonly Step[] {
  const roles = mode.endsWith('_BWD') ? ['DYDESC', 'XDESC'] : ['XDESC', 'BDESC', 'TDESC']
  const attribute = (role: string) => `OPERATION_POINTWISE_${role}` as AttributeName
  return [
    ...descriptor(`${name}.mode`, 'POINTWISE', [
      ['set', `${name}.mode`, 'POINTWISE_MODE', 'POINTWISE_MODE', [pointwiseNumbers[mode]]],
      ['set', `${name}.mode`, 'POINTWISE_MATH_PREC', 'DATA_TYPE', [dataTypeNumbers.FLOAT]],
    ]),
    ...descriptor(name, 'OPERATION_POINTWISE', [
      ['set', name, 'OPERATION_POINTWISE_PW_DESCRIPTOR', 'BACKEND_DESCRIPTOR', [`${name}.mode`]],
      ...inputs.map((input, index): Step => {
        return ['set', name, attribute(roles[index] ?? ''), 'BACKEND_DESCRIPTOR', [input]]
      }),
      ['set', name, attribute(mode.endsWith('_BWD') ? 'DXDESC' : 'YDESC'), 'BACKEND_DESCRIPTOR', [output]],
    ]),
  ]
}

export function reduction(name: string, mode: keyof typeof reductions, x: string, y: string): readonly Step[] {
  return [
    ...descriptor(`${name}.mode`, 'REDUCTION', [
      ['set', `${name}.mode`, 'REDUCTION_OPERATOR', 'REDUCTION_OPERATOR_TYPE', [reductions[mode]]],
      ['set', `${name}.mode`, 'REDUCTION_COMP_TYPE', 'DATA_TYPE', [dataTypeNumbers.FLOAT]],
    ]),
    ...descriptor(name, 'OPERATION_REDUCTION', [
      ['set', name, 'OPERATION_REDUCTION_XDESC', 'BACKEND_DESCRIPTOR', [x]],
      ['set', name, 'OPERATION_REDUCTION_YDESC', 'BACKEND_DESCRIPTOR', [y]],
      ['set', name, 'OPERATION_REDUCTION_DESC', 'BACKEND_DESCRIPTOR', [`${name}.mode`]],
    ]),
  ]
}

export function statistics(name: string, x: string, sum: string, squares: string): readonly Step[] {
  return descriptor(name, 'OPERATION_GEN_STATS', [
    ['set', name, 'OPERATION_GENSTATS_MODE', 'GENSTATS_MODE', [0]],
    ['set', name, 'OPERATION_GENSTATS_MATH_PREC', 'DATA_TYPE', [dataTypeNumbers.FLOAT]],
    ['set', name, 'OPERATION_GENSTATS_XDESC', 'BACKEND_DESCRIPTOR', [x]],
    ['set', name, 'OPERATION_GENSTATS_SUMDESC', 'BACKEND_DESCRIPTOR', [sum]],
    ['set', name, 'OPERATION_GENSTATS_SQSUMDESC', 'BACKEND_DESCRIPTOR', [squares]],
  ])
}

export function operationGraph(name: string, operations: readonly string[]): readonly Step[] {
  return descriptor(name, 'OPERATIONGRAPH', [['set', name, 'OPERATIONGRAPH_OPS', 'BACKEND_DESCRIPTOR', operations]])
}

/** A device's properties from their JSON. */
export function device(name: string, json: string): readonly Step[] {
  return descriptor(name, 'DEVICEPROP', [
    ['set', name, 'DEVICEPROP_JSON_REPRESENTATION', 'CHAR', [...new TextEncoder().encode(`${json}\0`)]],
  ])
}

export function heuristics(name: string, graph: string, deviceName: string, mode = 3): readonly Step[] {
  return descriptor(name, 'ENGINEHEUR', [
    ['set', name, 'ENGINEHEUR_OPERATION_GRAPH', 'BACKEND_DESCRIPTOR', [graph]],
    ['set', name, 'ENGINEHEUR_MODE', 'HEUR_MODE', [mode]],
    ['set', name, 'ENGINEHEUR_DEVICEPROP', 'BACKEND_DESCRIPTOR', [deviceName]],
  ])
}

/** An engine of a graph by its number. */
export function engine(name: string, graph: string, deviceName: string, index: number): readonly Step[] {
  return descriptor(name, 'ENGINE', [
    ['set', name, 'ENGINE_OPERATION_GRAPH', 'BACKEND_DESCRIPTOR', [graph]],
    ['set', name, 'ENGINE_GLOBAL_INDEX', 'INT64', [index]],
    ['set', name, 'ENGINE_DEVICEPROP', 'BACKEND_DESCRIPTOR', [deviceName]],
  ])
}

export function plan(name: string, configuration: string, deviceName: string): readonly Step[] {
  return descriptor(name, 'EXECUTION_PLAN', [
    ['set', name, 'EXECUTION_PLAN_ENGINE_CONFIG', 'BACKEND_DESCRIPTOR', [configuration]],
    ['set', name, 'EXECUTION_PLAN_DEVICEPROP', 'BACKEND_DESCRIPTOR', [deviceName]],
  ])
}

export function variantPack(name: string, ids: readonly number[], addresses: readonly number[]): readonly Step[] {
  return descriptor(name, 'VARIANT_PACK', [
    ['set', name, 'VARIANT_PACK_UNIQUE_IDS', 'INT64', ids],
    ['set', name, 'VARIANT_PACK_DATA_POINTERS', 'VOID_PTR', addresses],
    ['set', name, 'VARIANT_PACK_WORKSPACE', 'VOID_PTR', [65536]],
  ])
}
