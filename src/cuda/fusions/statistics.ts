// Whether sums that come with a convolution are good enough for a batch norm: tried on channels whose mean is 30 times their
// deviation, where the variance is the small difference of large sums.
import { isFloat } from '../../tensor/dtype.ts'
import { InternalError } from '../../tensor/errors.ts'
import { encode } from '../../tensor/half.ts'
import type { TensorType } from '../../tensor/program.ts'
import { at, range, sizeOf, zip } from '../../tensor/shape.ts'
import type { DevicePointer } from '../ffi/values.ts'
import { type Bench, type TuningTask, fillRandom, results, roundings, valuesOf, withOperands } from '../tune/index.ts'
import type { Candidate } from '../work.ts'
import type { Wire } from '../wires.ts'
import { type Separate, besideSeparate } from './acceptance.ts'
import type { Fusion } from './fusion.ts'

/** What a mean may be off by, in deviations, and a variance, in proportion. */
const tolerated = { mean: 0.02, variance: 0.02 } as const

/** The question to a candidate; the same sums twice, where `deterministic`. The filter it is asked with is made once. */
export function statisticsAcceptance(
  fusion: Fusion,
  separate: Separate,
  deterministic = true,
): NonNullable<TuningTask['acceptance']> {
  let filter: Uint8Array | undefined
  return besideSeparate(separate, 'its sums', (bench, candidate, expected) => {
    filter ??= centred(at(fusion.inputs, at(fusion.contraction.wires, 1).index))
    return flaw(bench, fusion, filter, [candidate, expected], deterministic)
  })
}

/** What is wrong with a candidate's sums, in words. */
function flaw(
  bench: Bench,
  fusion: Fusion,
  weights: Uint8Array,
  [candidate, separate]: readonly [Candidate, Candidate],
  deterministic: boolean,
): string | undefined {
  const { way, contraction, inputs, outputs } = fusion
  if (way.kind !== 'statistics') throw new InternalError('statistics of another fusion')
  const { shape, dtype } = at(contraction.equation.outputs, 0).type
  const count = sizeOf(shape.slice(0, -1))
  return withOperands(bench, fusion, 1, (sets) => {
    const operands = at(sets, 0)
    const place = (wire: Wire): [DevicePointer, TensorType] => [at(operands, wire.index), at(inputs, wire.index)]
    const [x, filter] = [place(way.front?.source ?? at(contraction.wires, 0)), place(at(contraction.wires, 1))]
    fillRandom(bench, x[0], x[1], 0, { shift: shiftFor(filter[1]) })
    // What is in front leaves numbers above 0 as they are.
    way.front?.vectors.map(place).forEach(([address, { shape: vector }], index) => {
      bench.write(address, new Uint8Array(new Float32Array(sizeOf(vector)).fill(index === 1 ? 1 : 0).buffer))
    })
    bench.write(filter[0], weights)
    const sums = (of: Candidate): readonly [Uint8Array, Uint8Array] => {
      const made = results(bench, { inputs, outputs }, of, operands)
      return [at(made, way.sum.index - inputs.length), at(made, way.squares.index - inputs.length)]
    }
    const moments = ([sum, squares]: readonly [Uint8Array, Uint8Array]): readonly Moments[] =>
      momentsOf(valuesOf('f32', sum), valuesOf('f32', squares), count)
    const found = sums(candidate)
    if (deterministic && zip(found, sums(candidate)).some(([once, again]) => !Buffer.from(once).equals(again)))
      return 'it gives other sums the second time'
    for (const [channel, [mine, theirs]] of zip(moments(found), moments(sums(separate))).entries()) {
      const { mean, variance } = theirs
      // Few elements may all round to one number: then no more can be asked than their rounding tells.
      const least = variance + (mean * (isFloat(dtype) ? roundings[dtype] : 0)) ** 2
      const off = Math.abs(mine.mean - mean) / Math.sqrt(least)
      const wide = Math.abs(mine.variance - variance) / least
      if (!(off <= tolerated.mean && wide <= tolerated.variance))
        return `on channels with a mean of 30 deviations it gives channel ${channel} a variance of ${mine.variance}, and ${variance} is expected (means ${mine.mean} and ${mean})`
    }
    return undefined
  })
}

interface Moments {
  readonly mean: number
  readonly variance: number
}

function momentsOf(sums: ArrayLike<number>, squares: ArrayLike<number>, count: number): readonly Moments[] {
  return range(sums.length).map((channel) => {
    const mean = at(sums, channel) / count
    return { mean, variance: at(squares, channel) / count - mean ** 2 }
  })
}

/**
 * With C products of x in [shift - 1, shift + 1) and weights in [0, 1) the mean is `C shift / 2` and the deviation
 * `sqrt(C) / 3`: the shift that makes them 30 to 1.
 */
function shiftFor({ shape }: TensorType): number {
  return 20 / Math.sqrt(at(shape, 3))
}

/** A filter that is 0 but for its middle, so that the border's elements are like all others. */
function centred({ shape, dtype }: TensorType): Uint8Array {
  const [, height = 1, width = 1, channels = 1] = shape
  const middle = Math.floor(height / 2) * width + Math.floor(width / 2)
  const values = Float64Array.from({ length: sizeOf(shape) }, (_, index) =>
    Math.floor(index / channels) % (height * width) === middle ? fraction(index) : 0,
  )
  const stored = encode(dtype, values)
  return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength)
}

/** A number in [0, 1) for each index, spread evenly. */
function fraction(index: number): number {
  return (Math.imul(index + 1, 0x9e3779b1) >>> 0) / 2 ** 32
}
