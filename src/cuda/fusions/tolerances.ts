// How far two ways to compute a fusion may be apart, output by output, for operands uniform in [-1, 1).
import { convDepth, dotExtents } from '../../compile/index.ts'
import { isFloat, isHalf } from '../../tensor/dtype.ts'
import { at, sizeOf } from '../../tensor/shape.ts'
import type { ConvPrecision } from '../conv/index.ts'
import { type TuningTask, roundings, tolerance } from '../tune/index.ts'
import type { Wire } from '../wires.ts'
import type { Fusion } from './fusion.ts'

/**
 * The depth of a fusion's task, and what its outputs may differ by.
 *
 * An element of the result has a deviation of `sqrt(K) / 3`. Two ways differ by what two contractions may, and by the
 * roundings to 16 bits that one of them leaves out, each at most `2 sqrt(K)` times the rounding: `e`. What a chain makes of
 * elements with operands below 1 differs by as much. A sum over R elements differs by `4 sqrt(R) e` where these are
 * independent, squares by `2 sqrt(K)` times that, or, with operands rounded to TF32, in proportion to the sum; and by what
 * adding up in f32 loses, `R 2^-24` of an element at most.
 */
export function outputTolerances(
  fusion: Fusion,
  precision: ConvPrecision,
): Required<Pick<TuningTask, 'depth' | 'tolerance'>> {
  const { contraction, inputs, outputs, way } = fusion
  const { dtype, shape } = at(contraction.equation.outputs, 0).type
  const { equation } = contraction
  const depth = equation.primitive === 'dot' ? dotExtents(equation).k : convDepth(equation)
  const size = Math.sqrt(depth)
  const task = { inputs, depth, precision }
  const element = tolerance(task, dtype)(0, 0) + (isHalf(dtype) ? 8 * size * roundings[dtype] : 0)
  const result = at(contraction.wires, contraction.wires.length - 1)
  const is = (wire: Wire, output: number): boolean => wire.kind === 'operand' && wire.index === inputs.length + output
  const narrowed = dtype === 'f32' && precision === 'tf32' ? 2 ** -9 : 2 ** -20
  return {
    depth,
    tolerance: (output) => {
      const type = at(outputs, output)
      const own = type.dtype
      if (!isFloat(own) || is(result, output)) return tolerance(task, own)
      // What an epilogue makes of sums: the same expressions in both ways, and their operands are what is compared closely.
      if (way.kind === 'statistics' && !is(way.sum, output) && !is(way.squares, output))
        return (a, b) => 2 ** -6 * (1 + Math.abs(a) + Math.abs(b))
      // Here they are differences of products, times powers of a random variance: no bound holds.
      if (way.kind === 'masked' && !is(way.sum, output) && !is(way.products, output))
        return () => Number.POSITIVE_INFINITY
      const rounded = (a: number, b: number): number => 2 * roundings[own] * (Math.abs(a) + Math.abs(b))
      const terms = sizeOf(shape) / Math.max(1, sizeOf(type.shape))
      if (terms <= 1) return (a, b) => rounded(a, b) + element
      const factor = way.kind === 'statistics' && is(way.squares, output) ? 2 * size : 1
      const summed = factor * (4 * Math.sqrt(terms) * element + terms * 2 ** -24 * size)
      return (a, b) => rounded(a, b) + summed + narrowed * (Math.abs(a) + Math.abs(b))
    },
  }
}
