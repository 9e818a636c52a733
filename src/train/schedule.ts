// Learning rates by epoch, as in NVIDIA's recipes: a linear warm-up, then steps, a line or half a cosine.
import { ValueError } from '../tensor/errors.ts'

/** The learning rate of an epoch, counted from 0. */
export type Schedule = (epoch: number) => number

/** What every schedule takes. */
export interface ScheduleOptions {
  /** The rate after the warm-up. */
  readonly learningRate: number
  /** Epochs of warm-up, with (epoch + 1) / warmup of the rate; 0 unless said otherwise. */
  readonly warmup?: number
}

/** A schedule that ends at a given rate. */
export interface DecayingOptions extends ScheduleOptions {
  /** The length of the whole run, warm-up included. */
  readonly epochs: number
  /** What the rate falls to; 0 unless said otherwise. */
  readonly endLearningRate?: number
}

/** end + (1 + cos(pi e / E)) / 2 (rate - end), with e and E counted from the end of the warm-up. */
export function cosineSchedule(options: DecayingOptions): Schedule {
  const { learningRate, endLearningRate = 0 } = options
  return falling(
    'cosine',
    options,
    (part) => endLearningRate + 0.5 * (1 + Math.cos(Math.PI * part)) * (learningRate - endLearningRate),
  )
}

/** From the rate to `endLearningRate` in a line. */
export function linearSchedule(options: DecayingOptions): Schedule {
  const { learningRate, endLearningRate = 0 } = options
  return falling('linear', options, (part) => endLearningRate + (1 - part) * (learningRate - endLearningRate))
}

/** A schedule that falls in steps. */
export interface StepOptions extends ScheduleOptions {
  /** The epochs from which the rate is multiplied by `decay` once more; 30, 60, 80 unless said otherwise. */
  readonly steps?: readonly number[]
  /** 0.1 unless said otherwise. */
  readonly decay?: number
}

/** The rate times `decay` for each of `steps` that has come. */
export function stepSchedule(options: StepOptions): Schedule {
  const { learningRate, steps = [30, 60, 80], decay = 0.1 } = options
  return warming('step', options, (epoch) =>
    steps.reduce((rate, step) => (epoch >= step ? rate * decay : rate), learningRate),
  )
}

function falling(name: string, options: DecayingOptions, rate: (part: number) => number): Schedule {
  const { epochs, warmup = 0 } = options
  if (!(Number.isInteger(epochs) && epochs >= 1))
    throw new ValueError(`[schedule] ${name} expected at least one epoch, got ${epochs}.`)
  return warming(name, options, (epoch) => rate((epoch - warmup) / (epochs - warmup)))
}

function warming(name: string, { learningRate, warmup = 0 }: ScheduleOptions, rate: Schedule): Schedule {
  if (!(learningRate >= 0))
    throw new ValueError(`[schedule] ${name} expected a rate of at least 0, got ${learningRate}.`)
  if (!(Number.isInteger(warmup) && warmup >= 0))
    throw new ValueError(`[schedule] ${name} expected whole epochs of warm-up, got ${warmup}.`)
  return (epoch) => (epoch < warmup ? (learningRate * (epoch + 1)) / warmup : rate(epoch))
}
