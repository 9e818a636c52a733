// A batch size that would fit, for the error of running out of memory: an estimate, since temporaries grow with the batch and
// parameters do not.
import type { TensorType } from '../tensor/program.ts'
import { at, sizeOf } from '../tensor/shape.ts'

/** Extents of an image are larger than those of any filter in use. */
const leastImage = 12

/** The batch of a program's inputs: the leading extent of the largest bytes, else of the largest images; if there are any. */
export function batchOf(types: readonly TensorType[]): number | undefined {
  const largest = (list: readonly TensorType[]): TensorType | undefined =>
    [...list].sort((a, b) => sizeOf(b.shape) - sizeOf(a.shape))[0]
  const bytes = largest(types.filter(({ dtype, shape }) => dtype === 'u8' && shape.length >= 2))
  const images = largest(
    types.filter(({ shape }) => shape.length === 4 && at(shape, 1) >= leastImage && at(shape, 2) >= leastImage),
  )
  return (bytes ?? images)?.shape[0]
}

/**
 * The sentence about a batch that would fit, '' where there is no batch.
 *
 * @param needed Bytes that the program needs for its temporaries and results.
 * @param available Bytes that can be had for them.
 */
export function batchAdvice(batch: number | undefined, needed: number, available: number): string {
  if (batch === undefined || batch < 2 || needed <= 0) return ''
  const fitting = Math.floor((batch * 0.95 * Math.max(0, available)) / needed)
  if (fitting < 1) return ` By estimate not even one of the ${batch} examples of this batch would fit.`
  const round = fitting >= 16 ? fitting - (fitting % 8) : fitting
  return ` By estimate a batch of ${Math.min(round, batch - 1)} instead of ${batch} would fit.`
}
