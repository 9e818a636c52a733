// What a run tells as it goes: records for programs (DLLogger's names) and progress for people, from the same numbers.
import type { RecordData, RunLog } from '../report/dllogger.ts'
import { etaSeconds, formatDuration, formatRate } from '../report/format.ts'
import type { Rates } from '../report/meter.ts'
import type { ProgressReporter } from '../report/progress.ts'
import type { RowMeans } from './batch.ts'
import type { StepReport } from './epoch.ts'
import type { Evaluation } from './evaluate.ts'

/** Receives what happens in a run. */
export interface RunReporter {
  /** Steps reported so far. */
  readonly stepsSeen: number
  beginEpoch(epoch: number, learningRate: number): void
  step(report: StepReport): void
  endEpoch(means: RowMeans, rates: Rates): void
  evaluating(epoch: number, done: number, total: number, sofar: RowMeans, rates: Rates): void
  evaluated(epoch: number, found: Evaluation): void
  finish(ending: string): void
}

export interface RunReporterOptions {
  readonly epochs: number
  readonly stepsAnEpoch: number
  /** Steps skipped before this run. */
  readonly skipped: number
  readonly topk?: number
  readonly log?: RunLog
  readonly progress?: ProgressReporter
  readonly printEvery?: number
}

/** What is known of the epoch in progress. */
interface Now {
  readonly epoch: number
  readonly learningRate: number
  readonly scale: number
  readonly skipped: number
  readonly stepsSeen: number
}

/** A reporter to a log and a progress line, either of which may be missing. */
export function runReporter(options: RunReporterOptions): RunReporter {
  const { log, progress, epochs, stepsAnEpoch, printEvery = 10, topk = 5 } = options
  let now: Now = { epoch: 0, learningRate: 0, scale: 1, skipped: options.skipped, stepsSeen: 0 }
  const trainRecord = (means: RowMeans, rates: Rates): RecordData => ({
    'train.loss': means.loss,
    ...rateRecord('train', rates),
    'train.lr': now.learningRate,
    'train.grad_scale': now.scale,
    'train.skipped': now.skipped,
  })
  return {
    get stepsSeen() {
      return now.stepsSeen
    },
    beginEpoch(epoch, learningRate) {
      now = { ...now, epoch, learningRate }
    },
    step(report) {
      const { step, rates, loss, top1, scale, applied, firstSeconds } = report
      now = { ...now, scale, skipped: now.skipped + (applied ? 0 : 1), stepsSeen: now.stepsSeen + 1 }
      if (firstSeconds !== undefined)
        progress?.message(`first step, with compiling: ${firstSeconds.toFixed(1)} s, loss ${loss.toFixed(4)}`)
      const left = etaSeconds(now.epoch * stepsAnEpoch + step + 1, epochs * stepsAnEpoch, rates.stepTime)
      progress?.update({
        phase: 'train',
        ...{ epoch: now.epoch, epochs, step: step + 1, steps: stepsAnEpoch },
        ...{ loss, top1, totalIps: known(rates.totalIps), computeIps: known(rates.computeIps) },
        ...{ lr: now.learningRate, scale, skipped: now.skipped },
        etaSeconds: rates.stepTime > 0 ? left : undefined,
      })
      if (printEvery > 0 && (step + 1) % printEvery === 0) log?.log([now.epoch, step], trainRecord(report, rates))
    },
    endEpoch(means, rates) {
      log?.log([now.epoch], trainRecord(means, rates))
    },
    evaluating(epoch, done, total, { loss, top1, topk: top5 }, rates) {
      const { totalIps, computeIps } = rates
      progress?.update({
        phase: 'val',
        epoch,
        epochs,
        step: done,
        steps: total,
        loss,
        top1,
        top5,
        totalIps,
        computeIps,
      })
    },
    evaluated(epoch, found) {
      log?.log([epoch], evaluationRecord(found, topk))
      progress?.message(evaluationLine(`epoch ${epoch + 1}/${epochs}`, found, topk))
    },
    finish(ending) {
      progress?.finish()
      if (ending !== 'completed') progress?.message(`${ending} in epoch ${now.epoch + 1}/${epochs}`)
    },
  }
}

const known = (value: number): number | undefined => (value > 0 ? value : undefined)

/** The record of an evaluation, under the reference's names. */
export function evaluationRecord({ loss, top1, topk: topK, rates, images }: Evaluation, k: number): RecordData {
  return {
    'val.loss': loss,
    'val.top1': top1,
    [`val.top${k}`]: topK,
    ...rateRecord('val', rates),
    'val.images': images,
  }
}

/** One sentence about an evaluation. */
export function evaluationLine(what: string, { loss, top1, topk: topK, images, rates }: Evaluation, k: number): string {
  const time = formatDuration(images / rates.totalIps)
  return `${what}: validation top1 ${top1.toFixed(2)}%  top${k} ${topK.toFixed(2)}%  loss ${loss.toFixed(4)}  (${images} images, ${formatRate(rates.totalIps)} img/s, ${time})`
}

function rateRecord(phase: 'train' | 'val', { totalIps, computeIps, dataTime, computeTime }: Rates): RecordData {
  return {
    [`${phase}.total_ips`]: totalIps,
    [`${phase}.compute_ips`]: computeIps,
    [`${phase}.data_time`]: dataTime,
    [`${phase}.compute_time`]: computeTime,
  }
}
