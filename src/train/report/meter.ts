// Throughput of an epoch: images, time on the device, time waiting for data. Values in, values out; no clock of its own.

/** Sums over the steps seen so far. */
export interface Meter {
  readonly steps: number
  readonly images: number
  readonly dataSeconds: number
  readonly computeSeconds: number
}

export const emptyMeter: Meter = { steps: 0, images: 0, dataSeconds: 0, computeSeconds: 0 }

/** One step: `images` that counted, seconds waited for the batch, seconds of the step itself. */
export type MeteredStep = Omit<Meter, 'steps'>

/** The meter after one more step. */
export const measured = (meter: Meter, step: MeteredStep): Meter => ({
  steps: meter.steps + 1,
  images: meter.images + step.images,
  dataSeconds: meter.dataSeconds + step.dataSeconds,
  computeSeconds: meter.computeSeconds + step.computeSeconds,
})

/** Averages under the reference's meaning: rates in images per second, times in seconds per step. */
export interface Rates {
  /** Images per second, waiting for data included. */
  readonly totalIps: number
  /** Images per second of the steps alone. */
  readonly computeIps: number
  readonly dataTime: number
  readonly computeTime: number
  readonly stepTime: number
}

/** The averages of a meter; all 0 before the first step. */
export function ratesOf({ steps, images, dataSeconds, computeSeconds }: Meter): Rates {
  const ratio = (a: number, b: number): number => (b > 0 ? a / b : 0)
  return {
    totalIps: ratio(images, dataSeconds + computeSeconds),
    computeIps: ratio(images, computeSeconds),
    dataTime: ratio(dataSeconds, steps),
    computeTime: ratio(computeSeconds, steps),
    stepTime: ratio(dataSeconds + computeSeconds, steps),
  }
}
