// The operations that random programs are made of: each takes values with a bound on their size and gives another.
import { type DType, isFloat } from '../../src/tensor/dtype.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import * as random from '../../src/tensor/random.ts'
import { at, broadcastShapes, range, sizeOf } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

/** A tensor and a bound on the absolute values of its elements. */
export interface Value {
  readonly x: Tensor
  readonly bound: number
}

/** The choices a step makes. */
export interface Pick {
  /** Any value made so far. */
  value(): Value
  /** A floating one. */
  float(): Value
  choose(count: number): number
  readonly dtypes: readonly DType[]
}

type Step = (pick: Pick) => Value

/** f(x), whose values are at most `bound`. */
function map(f: (x: Tensor, pick: Pick) => Tensor, bound: (before: number) => number): Step {
  return (pick) => {
    const { x, bound: before } = pick.float()
    return { x: f(x, pick), bound: bound(before) }
  }
}

/** f(a, b) of two floats of one dtype that broadcast. */
function pair(f: (a: Tensor, b: Tensor) => Tensor, bound: (a: number, b: number) => number): Step {
  return (pick) => {
    const a = pick.float()
    const b = fit(a.x, pick.float())
    return { x: f(a.x, b.x), bound: bound(a.bound, b.bound) }
  }
}

/** b in a's dtype, and in a shape that broadcasts with a's: as it is, or its mean. */
function fit(a: Tensor, b: Value): Value {
  const same = ops.cast(b.x, a.dtype)
  try {
    const shape = broadcastShapes('fit', a.shape, same.shape)
    if (sizeOf(shape) <= 256) return { x: same, bound: b.bound }
  } catch {
    // the mean fits everything
  }
  return { x: ops.mean(same), bound: b.bound }
}

/** The operand as `count` numbers in the given shape: cut off or filled up with zeros. */
function shaped(x: Tensor, shape: readonly number[]): Tensor {
  const count = sizeOf(shape)
  const flat = ops.ravel(x)
  const cut = flat.size > count ? ops.slice(flat, [0], [count]) : flat
  return ops.reshape(cut.size < count ? ops.pad(cut, [[0, count - cut.size]]) : cut, shape)
}

/** An axis of x, which gets one if it is a scalar. */
function withAxis(x: Tensor, pick: Pick): [Tensor, number] {
  const y = x.shape.length === 0 ? ops.reshape(x, [1]) : x
  return [y, pick.choose(y.shape.length)]
}

/** Some of x's axes. */
function someAxes(x: Tensor, pick: Pick): number[] {
  const mask = pick.choose(1 << x.shape.length)
  return range(x.shape.length).filter((axis) => (mask >> axis) % 2 === 0)
}

const keep = (before: number): number => before
const one = (): number => 1
const smallIndices = (count: number): Tensor => ops.cast(ops.floor(ops.mul(ops.arange(count, 'f32'), 0.7)), 'i32')

const smooth = {
  neg: map((x) => ops.neg(x), keep),
  exp: map(
    (x) => ops.exp(ops.mul(x, 0.125)),
    (b) => Math.exp(b / 8),
  ),
  log: map(
    (x) => ops.log(ops.add(ops.mul(x, x), 0.5)),
    (b) => Math.max(1, Math.log(b * b + 1)),
  ),
  sqrt: map(
    (x) => ops.sqrt(ops.add(ops.mul(x, x), 0.25)),
    (b) => b + 1,
  ),
  rsqrt: map(
    (x) => ops.rsqrt(ops.add(ops.mul(x, x), 0.5)),
    () => 2,
  ),
  sin: map((x) => ops.sin(x), one),
  cos: map((x) => ops.cos(x), one),
  tanh: map((x) => ops.tanh(x), one),
  sigmoid: map((x) => ops.sigmoid(x), one),
  erf: map((x) => ops.erf(x), one),
  square: map(
    (x) => ops.square(x),
    (b) => b * b,
  ),
  affine: map(
    (x) => ops.add(ops.mul(x, 0.75), 0.5),
    (b) => b + 1,
  ),
  add: pair(
    (a, b) => ops.add(a, b),
    (a, b) => a + b,
  ),
  sub: pair(
    (a, b) => ops.sub(a, b),
    (a, b) => a + b,
  ),
  mul: pair(
    (a, b) => ops.mul(a, b),
    (a, b) => a * b,
  ),
  div: pair(
    (a, b) => ops.div(a, ops.add(ops.mul(b, b), 0.5)),
    (a) => 2 * a,
  ),
  pow: pair(
    (a, b) => ops.pow(ops.add(ops.mul(a, a), 0.5), ops.tanh(b)),
    (a) => Math.max(2, a * a + 1),
  ),
  reshape: map((x, pick) => ops.reshape(x, pick.choose(2) === 0 ? [-1] : [1, ...[...x.shape].reverse()]), keep),
  transpose: map((x) => ops.transpose(x), keep),
  broadcast: map((x, pick) => ops.broadcastTo(x, [1 + pick.choose(3), ...x.shape]), keep),
  stretch: map((x, pick) => {
    const y = ops.expandDims(x, -1)
    return ops.broadcastTo(y, [...x.shape, 1 + pick.choose(3)])
  }, keep),
  slice: map((x, pick) => {
    const [y, axis] = withAxis(x, pick)
    const [from, step] = [pick.choose(2) % at(y.shape, axis), 1 + pick.choose(2)]
    const places = (value: number): number[] => y.shape.map((_, i) => (i === axis ? value : 0))
    return ops.slice(
      y,
      places(from),
      y.shape,
      y.shape.map((_, i) => (i === axis ? step : 1)),
    )
  }, keep),
  pad: map(
    (x, pick) =>
      ops.pad(
        x,
        x.shape.map(() => [pick.choose(2), pick.choose(2)] as const),
      ),
    keep,
  ),
  concatenate: map((x, pick) => {
    const [y, axis] = withAxis(x, pick)
    return ops.concatenate([y, ops.mul(y, 0.5), y], axis)
  }, keep),
  sum: map(
    (x, pick) => ops.mul(ops.sum(x, { axes: someAxes(x, pick), keepDims: pick.choose(2) === 0 }), 1 / 16),
    (b) => 16 * b,
  ),
  mean: map((x, pick) => ops.mean(x, { axes: someAxes(x, pick) }), keep),
  moments: (pick: Pick) => {
    const { x, bound } = pick.float()
    const { mean, variance } = ops.moments(x, { axes: someAxes(x, pick) })
    return { x: ops.cast(ops.add(mean, variance), x.dtype), bound: bound + bound * bound }
  },
  logSumExp: map(
    (x, pick) => ops.logSumExp(x, { axes: someAxes(x, pick) }),
    (b) => b + 6,
  ),
  softmax: map((x, pick) => ops.softmax(...withAxis(x, pick)), one),
  matmul: pair(
    (a, b) => ops.mul(ops.matmul(shaped(a, [3, 4]), shaped(b, [4, 5])), 0.25),
    (a, b) => a * b,
  ),
  batched: pair(
    (a, b) => ops.mul(ops.matmul(shaped(a, [2, 2, 3]), shaped(b, [2, 3, 2])), 0.5),
    (a, b) => 2 * a * b,
  ),
  conv: (pick: Pick) => convolution(pick),
  avgPool: map(
    (x, pick) => ops.avgPool2d(shaped(x, [1, 5, 4, 2]), 2, { stride: 1 + pick.choose(2), padding: pick.choose(2) }),
    keep,
  ),
  take: map((x, pick) => {
    const [y, axis] = withAxis(x, pick)
    return ops.take(y, smallIndices(3), axis)
  }, keep),
  scatter: map(
    (x) => ops.scatterAdd(shaped(x, [4, 2]), smallIndices(4), [3, 2]),
    (b) => 4 * b,
  ),
  random: map((x) => ops.mul(x, ops.cast(random.uniform(ops.arange(2), x.shape), x.dtype)), keep),
} satisfies Record<string, Step>

function convolution(pick: Pick): Value {
  const [image, filter] = [pick.float(), pick.float()]
  const groups = 1 + pick.choose(2)
  const x = shaped(image.x, [1, 5, 4, 2])
  const w = shaped(ops.cast(filter.x, image.x.dtype), [2, 3, 2, 2 / groups])
  const geometry = { stride: 1 + pick.choose(2), padding: 1 + pick.choose(2), dilation: 1 + pick.choose(2), groups }
  return { x: ops.conv2d(x, w, geometry), bound: 12 * image.bound * filter.bound }
}

/** Continuous, with kinks. */
const kinked = {
  abs: map((x) => ops.abs(x), keep),
  relu: map((x) => ops.maximum(x, 0), keep),
  maximum: pair((a, b) => ops.maximum(a, b), Math.max),
  minimum: pair((a, b) => ops.minimum(a, b), Math.max),
  max: map((x, pick) => ops.max(x, { axes: someAxes(x, pick) }), keep),
  min: map((x, pick) => ops.min(x, { axes: someAxes(x, pick) }), keep),
  maxPool: map(
    (x, pick) => ops.maxPool2d(shaped(x, [1, 5, 4, 2]), 2, { stride: 1 + pick.choose(2), padding: pick.choose(2) }),
    keep,
  ),
  cast: (pick: Pick) => {
    const { x, bound } = pick.float()
    const floats = pick.dtypes.filter(isFloat)
    return { x: ops.cast(x, floats[pick.choose(Math.max(1, floats.length))] ?? 'f32'), bound }
  },
} satisfies Record<string, Step>

/** A small change of an operand may change the result by much, or not as the derivative says. */
const jumping = {
  stopGradient: map(
    (x) => ops.add(x, ops.stopGradient(ops.sin(x))),
    (b) => b + 1,
  ),
  sign: map((x) => ops.sign(x), one),
  floor: map(
    (x) => ops.floor(ops.mul(x, 2)),
    (b) => 2 * b + 1,
  ),
  where: pair((a, b) => ops.where(ops.greater(a, b), a, ops.neg(b)), Math.max),
  compare: pair((a, b) => ops.logicalOr(ops.less(a, b), ops.logicalNot(ops.lessEqual(a, b))), one),
  both: pair((a, b) => ops.logicalAnd(ops.isFinite(a), ops.greaterEqual(a, b)), one),
  argMax: (pick: Pick) => {
    const [y, axis] = withAxis(pick.float().x, pick)
    return { x: ops.argMax(y, axis), bound: 256 }
  },
  oneHot: map((x) => ops.oneHot(ops.cast(ops.clip(x, 0, 2), 'i32'), 3, x.dtype), one),
  integers: (pick: Pick) => {
    const { x } = pick.float()
    const n = ops.cast(ops.clip(x, -4, 4), 'i32')
    return { x: ops.sub(ops.mul(n, 3), ops.div(n, 2)), bound: 16 }
  },
} satisfies Record<string, Step>

export type StepName = keyof typeof smooth | keyof typeof kinked | keyof typeof jumping

export const steps: Readonly<Record<StepName, Step>> = { ...smooth, ...kinked, ...jumping }

/** Which operations a program may have: those without kinks, those without jumps, or all. */
export type StepKind = 'smooth' | 'continuous' | 'any'

/** The names of the steps of a kind. */
export const stepNames: Readonly<Record<StepKind, readonly StepName[]>> = {
  smooth: Object.keys(smooth) as StepName[],
  continuous: Object.keys({ ...smooth, ...kinked }) as StepName[],
  any: Object.keys(steps) as StepName[],
}
