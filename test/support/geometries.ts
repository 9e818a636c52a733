// Random parameters and operand shapes of the primitives that have parameters: axes, windows, dimension numbers.
import fc from 'fast-check'
import { abstractEvaluate } from '../../src/tensor/abstract.ts'
import type {
  ConvParams,
  DotParams,
  Pair,
  PoolParams,
  PrimitiveName,
  PrimitiveParams,
} from '../../src/tensor/primitives.ts'
import { type Shape, at, range } from '../../src/tensor/shape.ts'
import { uniforms } from './points.ts'

/** A primitive's parameters and the shapes of its operands. */
export interface Build<P extends PrimitiveName> {
  readonly params: PrimitiveParams[P]
  readonly shapes: readonly Shape[]
}

const extents = (rank: number): fc.Arbitrary<number[]> =>
  fc.array(fc.integer({ min: 1, max: 3 }), { minLength: rank, maxLength: rank })
/** Shapes of at most three axes. */
export const shapes = fc.integer({ min: 0, max: 3 }).chain(extents)
/** Those with at least one. */
export const fullShapes = fc.integer({ min: 1, max: 3 }).chain(extents)

export const someAxes = fullShapes.chain((shape) =>
  fc.subarray(range(shape.length)).map((axes) => ({ params: { axes }, shapes: [shape] })),
)
export const broadcasts = fullShapes.chain((shape) =>
  fc
    .subarray(range(shape.length))
    .map((axes): Build<'broadcast'> => ({ params: { shape, axes }, shapes: [axes.map((axis) => at(shape, axis))] })),
)
export const reshapes = fullShapes.map(
  (shape): Build<'reshape'> => ({ params: { shape: [1, ...[...shape].reverse()] }, shapes: [shape] }),
)
export const transposes = fullShapes.chain((shape) =>
  fc
    .shuffledSubarray(range(shape.length), { minLength: shape.length })
    .map((permutation): Build<'transpose'> => ({ params: { permutation }, shapes: [shape] })),
)
const triples = (n: number, max: number): fc.Arbitrary<[number[], number[], number[]]> => {
  const list = fc.array(fc.nat(max), { minLength: n, maxLength: n })
  return fc.tuple(list, list, list)
}
export const slices = fullShapes.chain((small) =>
  triples(small.length, 2).map(([before, after, step]): Build<'slice'> => {
    const stride = step.map((s) => s + 1)
    const shape = small.map((extent, i) => at(before, i) + (extent - 1) * at(stride, i) + 1 + at(after, i))
    return {
      params: {
        start: before,
        limit: small.map((extent, i) => at(before, i) + (extent - 1) * at(stride, i) + 1),
        stride,
      },
      shapes: [shape],
    }
  }),
)
export const pads = fullShapes.chain((shape) =>
  triples(shape.length, 2).map(
    ([low, high, interior]): Build<'pad'> => ({ params: { low, high, interior }, shapes: [shape] }),
  ),
)
export const concatenations = fullShapes.chain((shape) =>
  fc.tuple(fc.nat(shape.length - 1), fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 })).map(
    ([axis, parts]): Build<'concatenate'> => ({
      params: { axis },
      shapes: parts.map((n) => shape.map((extent, i) => (i === axis ? n : extent))),
    }),
  ),
)

/** Dimension numbers of every kind: some batch, contracted and free axes, shuffled on both sides. */
export const dots = fc
  .record({
    batch: fc.nat(2),
    contract: fc.nat(2),
    left: fc.nat(2),
    right: fc.nat(2),
    sizes: extents(8),
    order: fc.tuple(fc.nat(1 << 20), fc.nat(1 << 20)),
  })
  .map(({ batch, contract, left, right, sizes, order }): Build<'dot'> => {
    const paired = range(batch + contract)
    const axesOf = (free: readonly number[], seed: number): number[] => shuffle([...paired, ...free], seed)
    const a = axesOf(
      range(left).map((i) => 4 + i),
      order[0],
    )
    const b = axesOf(
      range(right).map((i) => 6 + i),
      order[1],
    )
    const find = (from: number, count: number): DotParams['batch'] => [
      range(count).map((i) => a.indexOf(from + i)),
      range(count).map((i) => b.indexOf(from + i)),
    ]
    return {
      params: { batch: find(0, batch), contract: find(batch, contract) },
      shapes: [a, b].map((axes) => axes.map((axis) => at(sizes, axis))),
    }
  })

function shuffle(list: readonly number[], seed: number): number[] {
  const keys = uniforms(seed, list.length, 0, 1)
  return range(list.length)
    .sort((i, j) => at(keys, i) - at(keys, j))
    .map((i) => at(list, i))
}

/** A convolution's parameters with the shapes of all three sides. */
export interface Convolution {
  readonly params: ConvParams
  readonly x: number[]
  readonly filter: number[]
  readonly y: number[]
}

const pairs = (min: number, max: number): fc.Arbitrary<Pair> =>
  fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }))
export const convolutions = fc
  .record({
    n: fc.integer({ min: 1, max: 2 }),
    size: pairs(2, 5),
    window: pairs(1, 3),
    stride: pairs(1, 2),
    padding: fc.tuple(pairs(0, 2), pairs(0, 2)),
    dilation: pairs(1, 2),
    groups: fc.integer({ min: 1, max: 2 }),
    channels: pairs(1, 2),
  })
  .filter(({ size, window, padding, dilation }) =>
    ([0, 1] as const).every((i) => size[i] + padding[i][0] + padding[i][1] >= (window[i] - 1) * dilation[i] + 1),
  )
  .map(({ n, size, window, stride, padding, dilation, groups, channels }): Convolution => {
    const params = { stride, padding, dilation, groups }
    const [x, filter] = [
      [n, ...size, channels[0] * groups],
      [channels[1] * groups, ...window, channels[0]],
    ]
    const [y] = abstractEvaluate(
      'conv2d',
      [x, filter].map((shape) => ({ shape, dtype: 'f64' })),
      params,
    )
    return { params, x, filter, y: [...(y?.shape ?? [])] }
  })

export const pools = fc
  .record({
    size: pairs(2, 5),
    window: pairs(1, 3),
    stride: pairs(1, 2),
    padding: fc.tuple(pairs(0, 1), pairs(0, 1)),
    channels: fc.integer({ min: 1, max: 2 }),
  })
  .filter(({ size, window, padding }) =>
    ([0, 1] as const).every((i) => size[i] >= window[i] && Math.max(...padding[i]) < window[i]),
  )
  .map(({ size, window, stride, padding, channels }) => {
    const params: PoolParams = { window, stride, padding }
    const x = [2, ...size, channels]
    const [y] = abstractEvaluate('avgPool2d', [{ shape: x, dtype: 'f64' }], params)
    return { params, x, y: [...(y?.shape ?? [])] }
  })
