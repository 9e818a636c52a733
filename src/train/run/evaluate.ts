// One evaluation: every image of the validation split once, sums read a step late so that the device never waits.
import type { TensorTree } from '../../nn/layer.ts'
import type { EvalStep } from '../eval-step.ts'
import type { BatchStream } from '../data/batch.ts'
import type { MetricSums } from '../metrics.ts'
import { type Meter, type Rates, emptyMeter, measured, ratesOf } from '../report/meter.ts'
import {
  type RowMeans,
  type RowSums,
  addSums,
  disposeTree,
  meansOf,
  noRows,
  readSums,
  uploadEvaluation,
} from './batch.ts'

/** What an evaluation found. */
export interface Evaluation extends RowMeans {
  /** Images that counted. */
  readonly images: number
  readonly rates: Rates
}

/** What an evaluation needs. */
export interface EvaluateOptions {
  /** At most so many batches (--prof). */
  readonly limit?: number
  /** Stops between two batches. */
  readonly signal?: AbortSignal
  /** Told after each batch. */
  readonly onBatch?: (done: number, total: number, sofar: RowMeans, rates: Rates) => void
}

/** Evaluates weights and statistics over a stream; undefined if it was told to stop before the end. */
export async function evaluate<P extends TensorTree, S extends TensorTree>(
  step: EvalStep<P, S>,
  { params, state }: { readonly params: P; readonly state: S },
  batches: BatchStream,
  { limit = Infinity, signal, onBatch }: EvaluateOptions = {},
): Promise<Evaluation | undefined> {
  const total = Math.min(limit, batches.length)
  let sums: RowSums = noRows
  let meter: Meter = emptyMeter
  let late: MetricSums | undefined
  const settle = async (): Promise<void> => {
    if (late === undefined) return
    sums = addSums(sums, await readSums(late))
    disposeTree(late)
    late = undefined
  }
  let done = 0
  let asked = performance.now()
  for await (const batch of batches) {
    const began = performance.now()
    const input = uploadEvaluation(batch)
    const next = step(params, state, input)
    disposeTree(input)
    await settle()
    late = next
    done += 1
    if (done === total) await settle()
    const ended = performance.now()
    meter = measured(meter, {
      images: batch.count,
      dataSeconds: (began - asked) / 1000,
      computeSeconds: (ended - began) / 1000,
    })
    if (sums.count > 0) onBatch?.(done, total, meansOf(sums), ratesOf(meter))
    asked = performance.now()
    if (done === total || signal?.aborted === true) break
  }
  await settle()
  return done < total ? undefined : { ...meansOf(sums), images: sums.count, rates: ratesOf(meter) }
}
