// Checks a candidate by its numbers: it fills its outputs, it gives the same bits twice where it must, and it agrees with a
// plain way to compute the same within what rounding explains.
import { type DType, accumulationType, bytesOf, isFloat, storageView, type FloatDType } from '../../tensor/dtype.ts'
import { decode } from '../../tensor/half.ts'
import type { TensorType } from '../../tensor/program.ts'
import { at, range, zip } from '../../tensor/shape.ts'
import { type DevicePointer, offset } from '../ffi/values.ts'
import type { Candidate } from '../work.ts'
import type { Bench } from './bench.ts'
import { type Operands, type TaskTypes, type TuningTask, cleanedUp, tensorBytes, withOperands } from './task.ts'

/**
 * What is wrong with a candidate, in words; undefined where it agrees with the reference on random operands.
 *
 * @throws PullbackError 'out-of-memory' where there is no room to try, and what a candidate throws.
 */
export function disagreement(
  bench: Bench,
  task: TuningTask,
  candidate: Candidate,
  reference: Candidate,
): string | undefined {
  return withOperands(bench, task, 1, (sets) => {
    const operands = at(sets, 0)
    const expected = results(bench, task, reference, operands)
    const once = results(bench, task, candidate, operands)
    const again = task.deterministic === false ? once : results(bench, task, candidate, operands)
    for (const [index, type] of task.outputs.entries()) {
      if (!Buffer.from(at(once, index)).equals(at(again, index))) return 'it gives other bits the second time'
      const allowed = task.tolerance?.(index) ?? tolerance(task, type.dtype)
      const difference = compare(type.dtype, at(once, index), at(expected, index), allowed)
      if (difference !== undefined) return `${difference} from ${reference.id}`
    }
    return undefined
  })
}

/** Runs a candidate over outputs full of NaN, and reads what it left there; of large outputs, pieces. */
export function results(
  bench: Bench,
  task: TaskTypes,
  candidate: Candidate,
  operands: Operands,
): readonly Uint8Array[] {
  const outputs = zip(task.outputs, operands.slice(task.inputs.length))
  for (const [type, address] of outputs) if (tensorBytes(type) > 0) bench.fill(address, 0xff, tensorBytes(type))
  cleanedUp((cleanup) => {
    const { scratchBytes } = candidate
    const scratch =
      scratchBytes === 0 ? undefined : cleanup.own(bench.allocate(scratchBytes), (address) => bench.free(address))
    if (scratch !== undefined) bench.fill(scratch, 0xff, scratchBytes)
    const bound = cleanup.own(bench.bind(candidate, operands, scratch), (made) => made.release())
    bench.clock.run(() => bound.enqueue())
  })
  return outputs.map(([type, address]) => sample(bench, type, address))
}

const wholeBytes = 2 ** 24
const windows = 64

/** A tensor's bytes; of a large one 64 pieces over its whole length, the first and the last included. */
function sample(bench: Bench, type: TensorType, address: DevicePointer): Uint8Array {
  const bytes = tensorBytes(type)
  if (bytes === 0) return new Uint8Array(0)
  if (bytes <= wholeBytes) return bench.read(address, bytes)
  const length = wholeBytes / windows
  const element = bytesOf(type.dtype)
  const starts = range(windows).map(
    (index) => Math.floor(((bytes - length) * index) / (windows - 1) / element) * element,
  )
  return new Uint8Array(Buffer.concat(starts.map((start) => bench.read(offset(address, start), length))))
}

/** The first element outside the tolerance, in words. */
function compare(
  dtype: DType,
  got: Uint8Array,
  expected: Uint8Array,
  allowed: (a: number, b: number) => number,
): string | undefined {
  const [a, b] = [valuesOf(dtype, got), valuesOf(dtype, expected)]
  for (let index = 0; index < a.length; index++) {
    const [x, y] = [at(a, index), at(b, index)]
    if (!Object.is(x, y) && !(Math.abs(x - y) <= allowed(x, y)))
      return `it gives ${x} for element ${index} of a result and ${y} is expected`
  }
  return undefined
}

/** The elements that bytes hold; copied, as views of wider elements need. */
export function valuesOf(dtype: DType, bytes: Uint8Array): ReturnType<typeof decode> {
  return decode(dtype, storageView(dtype, new Uint8Array(bytes).buffer, 0, bytes.length / bytesOf(dtype)))
}

/** Half the distance of neighbours near 1. */
export const roundings = { f64: 2 ** -53, f32: 2 ** -24, f16: 2 ** -11, bf16: 2 ** -8 } as const satisfies Record<
  FloatDType,
  number
>

/**
 * How far two computations of one element may be apart, whose operands are uniform in [-1, 1).
 *
 * Each rounds its result once: `u (|a| + |b|)`, twice that for a computation that rounds before an epilogue. The sum of
 * K products has a deviation of `sqrt(K) / 3`. With operands rounded to TF32 each product moves by up to `2^-10` of
 * itself. Adding up in f32 moves the sum at each of K steps by up to the rounding of a partial sum, at random where it
 * is rounded to nearest (`sqrt(K)` such steps) and always towards zero where a Tensor Core cuts off, which adds at least
 * eight products a step. Bounds of all but the first are taken with `sqrt(K)` for a partial sum, three deviations.
 */
export function tolerance(
  { inputs, depth, precision }: Pick<TuningTask, 'inputs' | 'depth' | 'precision'>,
  result: DType,
): (a: number, b: number) => number {
  const operand = inputs.find(({ dtype }) => isFloat(dtype))?.dtype ?? result
  if (!isFloat(operand) || !isFloat(result)) return () => 0
  const partial = Math.sqrt(depth)
  const sum = roundings[accumulationType(operand)]
  const nearest = 8 * Math.sqrt(depth) * sum
  const cut = operand === 'f64' ? 0 : (depth / 4) * sum
  const narrowed = operand === 'f32' && precision === 'tf32' ? 8 * 2 ** -11 : 0
  const summed = partial * (narrowed + nearest + cut)
  return (a, b) => 2 * roundings[result] * (Math.abs(a) + Math.abs(b)) + summed
}
