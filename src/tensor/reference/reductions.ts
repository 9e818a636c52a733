// What the reductions mean: sums in float64 (integers wrap), rounded once by the interpreter.
import { isFloat } from '../dtype.ts'
import { type Shape, at, range, sizeOf, stridesOf } from '../shape.ts'
import { wrap } from './pointwise.ts'
import { type ReferenceValue, type Rule, type Rules, accumulateAt, get, offsets } from './value.ts'

/** The rules of the reductions. */
export const reductionRules: Rules<'reduceSum' | 'reduceMax' | 'reduceMin' | 'argMax' | 'moments'> = {
  reduceSum: (inputs, { axes }) => {
    const { data, type } = at(inputs, 0)
    const { places, count } = groups(type.shape, axes)
    const out = new Float64Array(count)
    if (isFloat(type.dtype)) accumulateAt(out, places, data)
    else data.forEach((value, i) => (out[get(places, i)] = wrap(type.dtype, get(out, get(places, i)) + value)))
    return [out]
  },
  reduceMax: extreme(Number.NEGATIVE_INFINITY, Math.max),
  reduceMin: extreme(Number.POSITIVE_INFINITY, Math.min),
  argMax: (inputs, { axis }) => {
    const { data, type } = at(inputs, 0)
    const { places, count } = groups(type.shape, [axis])
    const stride = at(stridesOf(type.shape), axis)
    const best = new Float64Array(count).fill(Number.NaN)
    const where = new Float64Array(count).fill(-1)
    data.forEach((value, i) => {
      const place = get(places, i)
      if (get(where, place) >= 0 && !isLarger(value, get(best, place))) return
      best[place] = value
      where[place] = Math.floor(i / stride) % at(type.shape, axis)
    })
    return [where]
  },
  moments: (inputs, { axes }) => {
    const { data, type } = at(inputs, 0)
    const { places, count } = groups(type.shape, axes)
    const each = data.length / count
    const average = (values: Float64Array): Float64Array => {
      const sums = new Float64Array(count)
      accumulateAt(sums, places, values)
      return sums.map((sum) => sum / each)
    }
    const mean = average(data)
    const variance = average(data.map((value, i) => (value - get(mean, get(places, i))) ** 2))
    return [mean, variance]
  },
}

/** Whether `value` takes the place of `best` where the first of equals stays and NaN counts as the largest. */
export function isLarger(value: number, best: number): boolean {
  return value > best || (Number.isNaN(value) && !Number.isNaN(best))
}

/** The place in the result of every element of `shape` when `axes` disappear, and the size of the result. */
function groups(shape: Shape, axes: readonly number[]): { readonly places: Int32Array; readonly count: number } {
  const kept = range(shape.length).filter((axis) => !axes.includes(axis))
  const keptShape = kept.map((axis) => at(shape, axis))
  const strides = shape.map(() => 0)
  stridesOf(keptShape).forEach((stride, i) => (strides[at(kept, i)] = stride))
  return { places: offsets(shape, strides), count: sizeOf(keptShape) }
}

function extreme(start: number, choose: (a: number, b: number) => number) {
  return (inputs: readonly ReferenceValue[], { axes }: Parameters<Rule<'reduceMax'>>[1]): readonly Float64Array[] => {
    const { data, type } = at(inputs, 0)
    const { places, count } = groups(type.shape, axes)
    const out = new Float64Array(count).fill(start)
    data.forEach((value, i) => (out[get(places, i)] = choose(get(out, get(places, i)), value)))
    return [out]
  }
}
