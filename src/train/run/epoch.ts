// One training epoch: batches in, steps enqueued, their metrics read a step late so that the device never waits for the
// host. What an epoch is part of is loop.ts's business; what a step does, step.ts's.
import { tensor } from '../../tensor/ops/create.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import type { TensorTree } from '../../nn/layer.ts'
import type { Batch, BatchStream } from '../data/batch.ts'
import { type Meter, type Rates, emptyMeter, measured, ratesOf } from '../report/meter.ts'
import type { TrainState } from '../state.ts'
import type { TrainBatch, TrainMetrics } from '../step.ts'
import {
  type RowMeans,
  type RowSums,
  addSums,
  disposeTree,
  meansOf,
  noRows,
  readSums,
  uploadTraining,
} from './batch.ts'

/** One step over one or more batches; donates the state. */
export interface StepFunction<P extends TensorTree, S extends TensorTree> {
  (
    state: TrainState<P, S>,
    batches: readonly TrainBatch[],
    learningRate: Tensor,
  ): readonly [TrainState<P, S>, TrainMetrics]
  /** Releases what was compiled. */
  clear(): void
}

/** A step whose numbers have arrived. */
export interface StepReport extends RowMeans {
  /** From 0 within the epoch. */
  readonly step: number
  /** Whether it changed the weights. */
  readonly applied: boolean
  /** The loss scale it used. */
  readonly scale: number
  /** The batches it saw. */
  readonly batches: readonly Batch[]
  /** Averages over the epoch so far. */
  readonly rates: Rates
  /** Seconds from the first step's start to its end: compiling, mostly. Only in the first report of a run. */
  readonly firstSeconds?: number
}

export interface EpochOptions<P extends TensorTree, S extends TensorTree> {
  readonly step: StepFunction<P, S>
  /** The epoch's batches, from the first one of step `from` on. */
  readonly batches: BatchStream
  /** Batches a step. */
  readonly accumulate: number
  /** Steps taken before; `to` is where to stop. */
  readonly from: number
  readonly to: number
  readonly learningRate: number
  /** Whether the first step will compile: its time is told apart and not averaged. */
  readonly compiles: boolean
  readonly signal: AbortSignal | undefined
  /** Told of each step in order; what it throws ends the epoch. */
  readonly onStep: (report: StepReport, newest: Newest<P, S>) => void | Promise<void>
}

/** The newest state while a step is told of: the one after it, or after the next step, which is enqueued by then. */
export interface Newest<P extends TensorTree, S extends TensorTree> {
  readonly state: TrainState<P, S>
  /** Whether the next step changed the weights; undefined if it has not been enqueued. */
  readonly nextApplied: Tensor | undefined
}

/** What an epoch, or the part of one that was run, came to. */
export interface EpochResult<P extends TensorTree, S extends TensorTree> {
  readonly state: TrainState<P, S>
  /** Steps of the epoch taken by now. */
  readonly step: number
  /** Means over the steps of this call; undefined if there were none. */
  readonly means: RowMeans | undefined
  readonly rates: Rates
}

interface Pending {
  readonly metrics: TrainMetrics
  readonly step: number
  readonly batches: readonly Batch[]
}

/** Runs the steps `from` to `to` of an epoch; ends early, between two steps, when the signal says so. */
export async function trainEpoch<P extends TensorTree, S extends TensorTree>(
  start: TrainState<P, S>,
  options: EpochOptions<P, S>,
): Promise<EpochResult<P, S>> {
  const { from, to, signal, onStep } = options
  const learningRate = tensor(options.learningRate)
  let [state, step, late, sums]: [TrainState<P, S>, number, Pending | undefined, RowSums] = [
    start,
    from,
    undefined,
    noRows,
  ]
  let meter: Meter = emptyMeter
  let firstSeconds: number | undefined
  const settle = async (next?: TrainMetrics): Promise<void> => {
    if (late === undefined) return
    const { metrics, ...which } = late
    late = undefined
    const read = await readStep(metrics)
    // A skipped step's loss may be no number; it says nothing about the epoch.
    if (Number.isFinite(read.sums.loss)) sums = addSums(sums, read.sums)
    const first = firstSeconds === undefined ? {} : { firstSeconds }
    firstSeconds = undefined
    const report = { ...which, ...meansOf(read.sums), ...read, rates: ratesOf(meter), ...first }
    await onStep(report, { state, nextApplied: next?.finite })
  }
  let asked = performance.now()
  try {
    for await (const batches of grouped(options.batches, options.accumulate, to - from)) {
      const began = performance.now()
      const inputs = batches.map(uploadTraining)
      const [next, metrics] = options.step(state, inputs, learningRate)
      state = next
      disposeTree(inputs)
      await settle(metrics)
      late = { metrics, step, batches }
      const compiled = options.compiles && step === from
      step += 1
      const last = step === to || signal?.aborted === true
      if (compiled || last) await metrics.loss.item()
      const ended = performance.now()
      if (compiled) firstSeconds = (ended - began) / 1000
      if (!compiled || step === to) meter = measured(meter, timing(batches, asked, began, ended))
      if (compiled || last) await settle()
      if (last) break
      asked = performance.now()
    }
    await settle()
  } finally {
    learningRate.dispose()
  }
  return { state, step, means: sums.count > 0 ? meansOf(sums) : undefined, rates: ratesOf(meter) }
}

function timing(batches: readonly Batch[], asked: number, began: number, ended: number) {
  const images = batches.reduce((sum, { count }) => sum + count, 0)
  return { images, dataSeconds: (began - asked) / 1000, computeSeconds: (ended - began) / 1000 }
}

async function readStep(metrics: TrainMetrics) {
  const [sums, finite, scale] = await Promise.all([readSums(metrics), metrics.finite.item(), metrics.scale.item()])
  disposeTree(metrics)
  return { sums, applied: finite !== 0, scale }
}

/** At most `limit` groups of `size` items; an incomplete group at the end is dropped. */
async function* grouped(batches: BatchStream, size: number, limit: number): AsyncGenerator<readonly Batch[]> {
  let group: Batch[] = []
  let given = 0
  if (limit <= 0) return
  for await (const batch of batches) {
    group.push(batch)
    if (group.length < size) continue
    yield group
    group = []
    given += 1
    if (given === limit) return
  }
}
