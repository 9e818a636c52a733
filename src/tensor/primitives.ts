// The list of primitives and the parameters of each: the vocabulary every rule table (abstract evaluation, vjp,
// reference, lowering) must cover completely. What they mean numerically is in reference/.
import type { DType } from './dtype.ts'
import type { Program } from './program.ts'
import type { Shape } from './shape.ts'

/** A pair for the two spatial axes, height first. */
export type Pair = readonly [number, number]

/** Padding of the two spatial axes: [[top, bottom], [left, right]]. */
export type Padding = readonly [Pair, Pair]

/** How a convolution walks over its NHWC input; filters are [out, h, w, in / groups]. */
export interface ConvParams {
  readonly stride: Pair
  readonly padding: Padding
  readonly dilation: Pair
  readonly groups: number
}

/** A pooling window over NHWC. */
export interface PoolParams {
  readonly window: Pair
  readonly stride: Pair
  readonly padding: Padding
}

/** Which axes of the two operands of `dot` are paired; the result is batch axes, then left free, then right free. */
export interface DotParams {
  readonly batch: readonly [readonly number[], readonly number[]]
  readonly contract: readonly [readonly number[], readonly number[]]
}

/** How `compare` compares. */
export type Comparison = 'eq' | 'ne' | 'lt' | 'le' | 'gt' | 'ge'

/** What a `call` stands for: a region that is computed again in the backward pass, or a function with its own vjp. */
export type CallRule =
  | { readonly kind: 'checkpoint' }
  | {
      readonly kind: 'customVjp'
      /** inputs -> [outputs..., residuals...] */
      readonly forward: FlatFunction
      /** [residuals..., cotangents...] -> one cotangent for each input */
      readonly backward: FlatFunction
    }

/** A function of flat lists of tensors; the element type is opaque here to keep this file below tensor.ts. */
export type FlatFunction = (values: readonly never[]) => readonly unknown[]

/** No parameters. */
export type None = Readonly<Record<string, never>>

/** The parameters of each primitive, by name. */
export interface PrimitiveParams {
  // pointwise, one operand
  neg: None
  exp: None
  log: None
  sqrt: None
  rsqrt: None
  sin: None
  cos: None
  tanh: None
  sigmoid: None
  erf: None
  abs: None
  sign: None
  floor: None
  isFinite: None // float -> bool
  not: None // bool -> bool
  cast: { readonly dtype: DType }
  stopGradient: None
  // pointwise, two operands of one shape and dtype
  add: None
  sub: None
  mul: None
  div: None
  pow: None
  max: None // NaN if either is NaN
  min: None
  and: None // bool
  or: None // bool
  compare: { readonly comparison: Comparison } // -> bool
  select: None // (bool, a, b), all of one shape
  // made from nothing
  iota: { readonly shape: Shape; readonly axis: number; readonly dtype: DType }
  /** (key i32[2], offset i32[]) -> i32: Philox4x32-10; the low `bits` (1..32) of each word, filled in row-major order. */
  randomBits: { readonly shape: Shape; readonly bits: number; readonly stream: number }
  // movement
  /** Places the operand's axes at `axes` (increasing) of `shape`; the operand's extents must equal the shape's there. */
  broadcast: { readonly shape: Shape; readonly axes: readonly number[] }
  reshape: { readonly shape: Shape }
  transpose: { readonly permutation: readonly number[] }
  slice: { readonly start: readonly number[]; readonly limit: readonly number[]; readonly stride: readonly number[] }
  /** Zeros before, after and between (`interior`) the elements of each axis. */
  pad: { readonly low: readonly number[]; readonly high: readonly number[]; readonly interior: readonly number[] }
  concatenate: { readonly axis: number }
  // reductions: the axes disappear; 16-bit sums are kept in f32 and rounded once
  reduceSum: { readonly axes: readonly number[] }
  reduceMax: { readonly axes: readonly number[] }
  reduceMin: { readonly axes: readonly number[] }
  argMax: { readonly axis: number } // -> i32, the first of equals
  /** Mean and biased variance over axes, in f32 (f64 for f64): two outputs. */
  moments: { readonly axes: readonly number[] }
  // contractions
  dot: DotParams
  conv2d: ConvParams // (x, filter)
  conv2dInputGrad: ConvParams & { readonly inputShape: Shape } // (cotangent, filter)
  conv2dFilterGrad: ConvParams & { readonly filterShape: Shape } // (x, cotangent)
  // pooling
  maxPool2d: PoolParams
  /** (x, cotangent): sends each cotangent to the first maximum of its window. */
  maxPool2dGrad: PoolParams
  /** (x, t): picks t at the first maximum of each window of x; the transpose of maxPool2dGrad. */
  maxPool2dPick: PoolParams
  avgPool2d: PoolParams // padding counts as zeros in the mean's divisor (count_include_pad)
  avgPool2dGrad: PoolParams & { readonly inputShape: Shape }
  // indices
  /** (x, indices i32): takes slices of x along `axis`; index axes replace it. Indices outside are clamped. */
  gather: { readonly axis: number }
  /** (updates, indices i32): the transpose of gather into zeros of `shape`. */
  scatterAdd: { readonly axis: number; readonly shape: Shape }
  // several devices
  /** Sum or mean over `group` processes, the same in each; of one it is the operand, and plans lose it. */
  allReduce: { readonly op: 'sum' | 'mean'; readonly group: number }
  // a program as one equation: only inside traces that are about to be differentiated
  call: { readonly program: Program; readonly rule: CallRule }
}

/** The name of a primitive. */
export type PrimitiveName = keyof PrimitiveParams

/** Primitives of one operand that keep its shape. */
export const unaryPrimitives = [
  'neg',
  'exp',
  'log',
  'sqrt',
  'rsqrt',
  'sin',
  'cos',
  'tanh',
  'sigmoid',
  'erf',
  'abs',
  'sign',
  'floor',
  'isFinite',
  'not',
  'cast',
  'stopGradient',
] as const satisfies readonly PrimitiveName[]

/** Primitives of two operands of one shape. */
export const binaryPrimitives = [
  'add',
  'sub',
  'mul',
  'div',
  'pow',
  'max',
  'min',
  'and',
  'or',
  'compare',
] as const satisfies readonly PrimitiveName[]

export type UnaryPrimitive = (typeof unaryPrimitives)[number]
export type BinaryPrimitive = (typeof binaryPrimitives)[number]

/** Primitives whose every output element depends on the elements at the same place of each operand. */
export type PointwisePrimitive = UnaryPrimitive | BinaryPrimitive | 'select'

const pointwise: ReadonlySet<PrimitiveName> = new Set<PrimitiveName>([
  ...unaryPrimitives,
  ...binaryPrimitives,
  'select',
])

/** Whether the primitive works element by element on operands of one shape. */
export function isPointwise(primitive: PrimitiveName): primitive is PointwisePrimitive {
  return pointwise.has(primitive)
}
