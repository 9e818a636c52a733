// What the reference interpreter computes with: values as float64 whatever their dtype, the shape of a rule, and the one
// piece of index arithmetic that movement, reductions and contractions share.
import type { PrimitiveName, PrimitiveParams } from '../primitives.ts'
import type { TensorType } from '../program.ts'
import { type Shape, at } from '../shape.ts'

/** A tensor of the reference interpreter: every element, also an integer or bool, is a float64. */
export interface ReferenceValue {
  readonly type: TensorType
  readonly data: Float64Array
}

export interface InterpretOptions {
  /** Whether floating results are rounded to their dtype (the default); integers always keep their arithmetic. */
  readonly round?: boolean
}

/** The elements of each result of a primitive, before rounding; it may hand back an operand's array, never change one. */
export type Rule<P extends PrimitiveName> = (
  inputs: readonly ReferenceValue[],
  params: PrimitiveParams[P],
  outputs: readonly TensorType[],
  options: InterpretOptions,
) => readonly Float64Array[]

/** The rules of some primitives. */
export type Rules<P extends PrimitiveName> = { readonly [K in P]: Rule<K> }

/** The element at `index`, which the caller knows to be inside. */
export function get(data: Float64Array | Int32Array, index: number): number {
  return data[index] as number
}

/** Adds to the element at `index`. */
export function accumulate(data: Float64Array, index: number, value: number): void {
  data[index] = (data[index] as number) + value
}

// Inner loops stand here whole: they are called once a row, and spell out their accesses so that they run at full speed
// also where a test runner turns imports into property reads.

/** The inner product of `length` elements of a and b from the given places on. */
export function innerProduct(a: Float64Array, aAt: number, b: Float64Array, bAt: number, length: number): number {
  let sum = 0
  for (let i = 0; i < length; i++) sum += (a[aAt + i] as number) * (b[bAt + i] as number)
  return sum
}

/** Adds `factor` times `length` elements of x to as many of out. */
export function addScaled(
  out: Float64Array,
  outAt: number,
  factor: number,
  x: Float64Array,
  xAt: number,
  length: number,
): void {
  for (let i = 0; i < length; i++) out[outAt + i] = (out[outAt + i] as number) + factor * (x[xAt + i] as number)
}

/** Adds each element of `data` to its place in `out`. */
export function accumulateAt(out: Float64Array, places: Int32Array, data: Float64Array): void {
  for (let i = 0; i < data.length; i++) {
    const place = places[i] as number
    out[place] = (out[place] as number) + (data[i] as number)
  }
}

/** base + sum(index[axis] * strides[axis]) for every index of `shape`, in row-major order. */
export function offsets(shape: Shape, strides: readonly number[], base = 0): Int32Array {
  let list = Int32Array.of(base)
  shape.forEach((extent, axis) => {
    const stride = at(strides, axis)
    const longer = new Int32Array(list.length * extent)
    list.forEach((start, i) => {
      for (let j = 0; j < extent; j++) longer[i * extent + j] = start + j * stride
    })
    list = longer
  })
  return list
}

/** The elements of `data` at `places`. */
export function pickAt(data: Float64Array, places: Int32Array): Float64Array {
  const out = new Float64Array(places.length)
  for (let i = 0; i < out.length; i++) out[i] = data[places[i] as number] as number
  return out
}

/** Writes `data` to `places` of `out`. */
export function placeAt(out: Float64Array, places: Int32Array, data: Float64Array): void {
  for (let i = 0; i < data.length; i++) out[places[i] as number] = data[i] as number
}
