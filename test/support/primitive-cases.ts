// For every primitive a generator of applications on which its derivative can be checked: one total table.
import fc from 'fast-check'
import { checkpoint } from '../../src/autograd/checkpoint.ts'
import { bind, bindOne } from '../../src/tensor/dispatch.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { PointwisePrimitive, PrimitiveName } from '../../src/tensor/primitives.ts'
import { range, zip } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import {
  type Build,
  broadcasts,
  concatenations,
  convolutions,
  dots,
  fullShapes,
  pads,
  pools,
  reshapes,
  shapes,
  slices,
  someAxes,
  transposes,
} from './geometries.ts'
import { type Points, anywhere, awayFromZero, distinct, positive } from './points.ts'

/** An application: a function of f64 operands near which it has no kink. */
export interface Case {
  readonly f: (...operands: Tensor[]) => Tensor[]
  /** Made when asked for: a device must have been chosen by then. */
  readonly operands: () => Tensor[]
  readonly show: string
}

/** How a primitive's derivative is checked: by differences, or as zero everywhere. */
export interface Law {
  readonly derivative: 'differences' | 'zero'
  readonly cases: fc.Arbitrary<Case>
}

/** The primitive on operands of the given shapes. */
function applied<P extends PrimitiveName>(
  primitive: P,
  builds: fc.Arbitrary<Build<P>>,
  points: fc.Arbitrary<Points>,
): fc.Arbitrary<Case> {
  return fc.tuple(builds, points).map(([{ params, shapes: list }, draw]) => ({
    f: (...operands) => [...bind(primitive, operands, params)],
    operands: () => list.map(draw),
    show: `${primitive}${JSON.stringify(params)} ${list.map((s) => `[${s.join()}]`).join(' ')}`,
  }))
}

const differences = (cases: fc.Arbitrary<Case>): Law => ({ derivative: 'differences', cases })
const flat = (cases: fc.Arbitrary<Case>): Law => ({ derivative: 'zero', cases })

/** The pointwise primitives without parameters. */
type Plain = Exclude<PointwisePrimitive, 'cast' | 'compare'>

/** A pointwise primitive without parameters. */
function pointwise(primitive: Plain, arity: number, points: fc.Arbitrary<Points>): fc.Arbitrary<Case> {
  const builds = shapes.map((shape) => ({ params: {}, shapes: range(arity).map(() => shape) }))
  return applied(primitive, builds, points)
}

/** Follows a function that gives bools or integers by a cast, so that there is a result to differentiate. */
function asNumbers(cases: fc.Arbitrary<Case>): fc.Arbitrary<Case> {
  return cases.map((one) => ({ ...one, f: (...xs) => one.f(...xs).map((y) => ops.cast(y, 'f64')) }))
}

/** Makes bools of the operands first. */
function ofBools(cases: fc.Arbitrary<Case>): fc.Arbitrary<Case> {
  return asNumbers(cases.map((one) => ({ ...one, f: (...xs) => one.f(...xs.map((x) => ops.greater(x, 0))) })))
}

/** A function of one operand that is no plain application. */
function written(show: string, f: (x: Tensor) => Tensor, points = anywhere): fc.Arbitrary<Case> {
  return fc.tuple(fullShapes, points).map(([shape, draw]) => ({
    f: (x) => [f(x)],
    operands: () => [draw(shape)],
    show: `${show} [${shape.join()}]`,
  }))
}

const twoSigned = fc.tuple(shapes, distinct).map(
  ([shape, draw]): Case => ({
    f: (a, b) => [bindOne('max', [a, b] as Tensor[], {}), bindOne('min', [a, b] as Tensor[], {})],
    operands: () => {
      const both = draw([2, ...shape])
      const half = (i: number): Tensor => ops.reshape(ops.slice(both, [i], [i + 1]), shape)
      return [half(0), half(1)]
    },
    show: `max and min [${shape.join()}]`,
  }),
)

/** Indices, some of them outside: they are clamped. */
const indexed = fc
  .record({
    shape: fullShapes,
    axis: fc.nat(2),
    taken: fc.array(fc.integer({ min: -1, max: 4 }), { minLength: 1, maxLength: 4 }),
    draw: anywhere,
  })
  .map(({ shape, axis, taken, draw }) => {
    const along = axis % shape.length
    const indices = (): Tensor => ops.tensor(taken, { dtype: 'i32' })
    return {
      along,
      shape,
      indices,
      draw,
      taken,
      updates: shape.map((extent, i) => (i === along ? taken.length : extent)),
    }
  })

const nested = written(
  'call',
  checkpoint((x: Tensor) => ops.mul(ops.sin(x), x)),
)

/** How each primitive's derivative is checked. */
export const laws: { readonly [P in PrimitiveName]: Law } = {
  neg: differences(pointwise('neg', 1, anywhere)),
  exp: differences(pointwise('exp', 1, anywhere)),
  log: differences(pointwise('log', 1, positive)),
  sqrt: differences(pointwise('sqrt', 1, positive)),
  rsqrt: differences(pointwise('rsqrt', 1, positive)),
  sin: differences(pointwise('sin', 1, anywhere)),
  cos: differences(pointwise('cos', 1, anywhere)),
  tanh: differences(pointwise('tanh', 1, anywhere)),
  sigmoid: differences(pointwise('sigmoid', 1, anywhere)),
  erf: differences(pointwise('erf', 1, anywhere)),
  abs: differences(pointwise('abs', 1, awayFromZero)),
  sign: flat(pointwise('sign', 1, awayFromZero)),
  floor: flat(pointwise('floor', 1, anywhere)),
  isFinite: flat(asNumbers(pointwise('isFinite', 1, anywhere))),
  not: flat(ofBools(pointwise('not', 1, anywhere))),
  cast: differences(
    written(
      'there and back',
      (x) => ops.cast(ops.add(ops.cast(ops.greater(x, 0), 'f64'), ops.mul(x, x)), 'f64'),
      awayFromZero,
    ),
  ),
  stopGradient: flat(pointwise('stopGradient', 1, anywhere)),
  add: differences(pointwise('add', 2, anywhere)),
  sub: differences(pointwise('sub', 2, anywhere)),
  mul: differences(pointwise('mul', 2, anywhere)),
  div: differences(pointwise('div', 2, awayFromZero)),
  pow: differences(pointwise('pow', 2, positive)),
  max: differences(twoSigned),
  min: differences(twoSigned),
  and: flat(ofBools(pointwise('and', 2, anywhere))),
  or: flat(ofBools(pointwise('or', 2, anywhere))),
  compare: flat(
    asNumbers(
      applied(
        'compare',
        shapes.map((s) => ({ params: { comparison: 'lt' as const }, shapes: [s, s] })),
        anywhere,
      ),
    ),
  ),
  select: differences(
    fc.tuple(shapes, awayFromZero).map(
      ([s, draw]): Case => ({
        f: (c, a, b) => [bindOne('select', [ops.greater(c, 0), a, b], {})],
        operands: () => [draw(s), draw(s), draw(s)],
        show: `select [${s.join()}]`,
      }),
    ),
  ),
  iota: differences(written('x * iota', (x) => ops.mul(x, ops.iota(x.shape, 0, 'f64')))),
  randomBits: differences(
    written('x * bits', (x) => {
      const params = { shape: x.shape, bits: 3, stream: 0 }
      return ops.mul(x, ops.cast(bindOne('randomBits', [ops.arange(2), ops.zeros([], 'i32')], params), 'f64'))
    }),
  ),
  broadcast: differences(applied('broadcast', broadcasts, anywhere)),
  reshape: differences(applied('reshape', reshapes, anywhere)),
  transpose: differences(applied('transpose', transposes, anywhere)),
  slice: differences(applied('slice', slices, anywhere)),
  pad: differences(applied('pad', pads, anywhere)),
  concatenate: differences(applied('concatenate', concatenations, anywhere)),
  reduceSum: differences(applied('reduceSum', someAxes, anywhere)),
  reduceMax: differences(applied('reduceMax', someAxes, distinct)),
  reduceMin: differences(applied('reduceMin', someAxes, distinct)),
  argMax: flat(
    asNumbers(
      applied(
        'argMax',
        fullShapes.map((s) => ({ params: { axis: s.length - 1 }, shapes: [s] })),
        distinct,
      ),
    ),
  ),
  moments: differences(applied('moments', someAxes, anywhere)),
  dot: differences(applied('dot', dots, anywhere)),
  conv2d: differences(
    applied(
      'conv2d',
      convolutions.map(({ params, x, filter }) => ({ params, shapes: [x, filter] })),
      anywhere,
    ),
  ),
  conv2dInputGrad: differences(
    applied(
      'conv2dInputGrad',
      convolutions.map(({ params, x, filter, y }) => ({ params: { ...params, inputShape: x }, shapes: [y, filter] })),
      anywhere,
    ),
  ),
  conv2dFilterGrad: differences(
    applied(
      'conv2dFilterGrad',
      convolutions.map(({ params, x, filter, y }) => ({ params: { ...params, filterShape: filter }, shapes: [x, y] })),
      anywhere,
    ),
  ),
  maxPool2d: differences(
    applied(
      'maxPool2d',
      pools.map(({ params, x }) => ({ params, shapes: [x] })),
      distinct,
    ),
  ),
  maxPool2dGrad: differences(
    applied(
      'maxPool2dGrad',
      pools.map(({ params, x, y }) => ({ params, shapes: [x, y] })),
      distinct,
    ),
  ),
  maxPool2dPick: differences(
    applied(
      'maxPool2dPick',
      pools.map(({ params, x }) => ({ params, shapes: [x, x] })),
      distinct,
    ),
  ),
  avgPool2d: differences(
    applied(
      'avgPool2d',
      pools.map(({ params, x }) => ({ params, shapes: [x] })),
      anywhere,
    ),
  ),
  avgPool2dGrad: differences(
    applied(
      'avgPool2dGrad',
      pools.map(({ params, x, y }) => ({ params: { ...params, inputShape: x }, shapes: [y] })),
      anywhere,
    ),
  ),
  gather: differences(
    indexed.map(
      ({ along, shape, indices, draw, taken }): Case => ({
        f: (x) => [bindOne('gather', [x, indices()], { axis: along })],
        operands: () => [draw(shape)],
        show: `gather [${taken.join()}] on axis ${along} of [${shape.join()}]`,
      }),
    ),
  ),
  scatterAdd: differences(
    indexed.map(
      ({ along, shape, indices, draw, taken, updates }): Case => ({
        f: (x) => [bindOne('scatterAdd', [x, indices()], { axis: along, shape })],
        operands: () => [draw(updates)],
        show: `scatterAdd [${taken.join()}] on axis ${along} of [${shape.join()}]`,
      }),
    ),
  ),
  allReduce: differences(
    applied(
      'allReduce',
      shapes.map((s) => ({ params: { op: 'mean' as const, group: 1 }, shapes: [s] })),
      anywhere,
    ),
  ),
  call: differences(nested),
}

/** Pairs of primitives and laws, for `test.each`. */
export const lawList = zip(Object.keys(laws) as PrimitiveName[], Object.values(laws))
