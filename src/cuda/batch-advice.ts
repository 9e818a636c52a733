// A batch size that would fit, for the error of running out of memory: an estimate on the safe side, since what grows with the
// batch and what does not is told by shapes alone.
import type { TensorType } from '../tensor/program.ts'
import { at, sizeOf } from '../tensor/shape.ts'
import type { CudaPlan } from './fusions/arrange.ts'
import { tensorBytes } from './tune/index.ts'

/** Extents of an image are larger than those of any filter in use. */
const leastImage = 12
/** What may be used of the memory there is: the driver and the libraries take some without asking us. */
const usable = 0.95
/** A batch is in use, one is bound to the recorded run, and one is on its way. */
const batchCopies = 3
/** A result is where the recorded run leaves it, and in a block of its own. */
const resultCopies = 2

/** What a program wants of the GPU's memory beyond its state. */
export interface Demand {
  /** Examples in a batch, where there are batches. */
  readonly batch: number | undefined
  /** Bytes that all examples want together. */
  readonly examples: number
  /** Bytes that do not depend on the batch. */
  readonly fixed: number
}

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
 * What a plan wants for its runs. With a smaller batch its temporaries take no more than the same arena made smaller in
 * proportion and all those beside it that do not shrink.
 *
 * @param donate The inputs that are state.
 * @param scratchBytes What its steps want behind the arena.
 */
export function demandOf(plan: CudaPlan, donate: readonly number[], scratchBytes: number): Demand {
  const batches = plan.inputs.filter((_, index) => !donate.includes(index)).map((buffer) => at(plan.buffers, buffer))
  const batch = batchOf(batches.map(({ type }) => type))
  const grows = ({ type: { shape } }: Pick<(typeof batches)[number], 'type'>): boolean =>
    batch !== undefined && sizeOf(shape) > 0 && (shape[0] ?? 1) % batch === 0
  const results = plan.buffers.filter(({ place }) => place.kind === 'output')
  const still = plan.buffers.filter((buffer) => buffer.place.kind === 'arena' && !grows(buffer))
  return {
    batch,
    examples:
      plan.arenaBytes + batchCopies * total(batches.filter(grows)) + resultCopies * total(results.filter(grows)),
    fixed:
      Math.min(plan.arenaBytes, total(still)) +
      scratchBytes +
      resultCopies * total(results.filter((buffer) => !grows(buffer))),
  }
}

/** The bytes of a plan's inputs that are batches: they are had again where the batch is smaller. */
export function batchBytes(types: readonly TensorType[]): number {
  const batch = batchOf(types)
  return batch === undefined
    ? 0
    : total(types.filter(({ shape }) => shape[0] === batch).map((type) => ({ bytes: tensorBytes(type) })))
}

/** What one array of a batch wants, where no program is known that takes it. */
export function demandOfBatch(type: TensorType): Demand {
  return { batch: batchOf([type]), examples: batchCopies * tensorBytes(type), fixed: 0 }
}

/**
 * The sentence about a batch that would fit, '' where there is no batch.
 *
 * @param available Bytes that can be had for all that the program wants.
 */
export function batchAdvice({ batch, examples, fixed }: Demand, available: number): string {
  if (batch === undefined || batch < 2 || examples <= 0) return ''
  const fitting = Math.floor((batch * (usable * available - fixed)) / examples)
  if (fitting < 1) return ` By estimate not even one of the ${batch} examples of this batch would fit.`
  const round = fitting >= 16 ? fitting - (fitting % 8) : fitting
  return ` By estimate a batch of ${Math.min(round, batch - 1)} instead of ${batch} would fit.`
}

function total(parts: readonly { readonly bytes: number }[]): number {
  return parts.reduce((sum, { bytes }) => sum + bytes, 0)
}
