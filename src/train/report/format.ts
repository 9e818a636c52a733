// How far a run is, as text: pure functions from numbers to strings. Where the text goes is progress.ts's business.

/** What a progress line can tell; what is left out (or undefined) is not shown. */
export interface Progress {
  readonly phase: 'train' | 'val'
  /** From 0. */
  readonly epoch: number
  readonly epochs: number
  /** Steps done, of `steps`. */
  readonly step: number
  readonly steps: number
  readonly loss?: number | undefined
  /** Percent. */
  readonly top1?: number | undefined
  readonly top5?: number | undefined
  /** Images per second, waiting for data included. */
  readonly totalIps?: number | undefined
  /** Images per second of the device alone. */
  readonly computeIps?: number | undefined
  readonly lr?: number | undefined
  /** The loss scale. */
  readonly scale?: number | undefined
  /** Steps skipped because a gradient was not finite. */
  readonly skipped?: number | undefined
  readonly etaSeconds?: number | undefined
}

/** The parts of a progress line, the most important first. */
export function progressParts(progress: Progress): readonly string[] {
  const { phase, epoch, epochs, step, steps, loss, top1, top5, totalIps, computeIps, lr, scale, skipped, etaSeconds } =
    progress
  const part = (value: number | undefined, print: (value: number) => string): string[] =>
    value === undefined ? [] : [print(value)]
  return [
    `${phase} epoch ${epoch + 1}/${epochs} step ${step}/${steps}`,
    ...part(loss, (n) => `loss ${Number.isFinite(n) ? n.toFixed(4) : String(n)}`),
    ...part(top1, (n) => `top1 ${n.toFixed(2)}%`),
    ...part(top5, (n) => `top5 ${n.toFixed(2)}%`),
    ...part(totalIps, (n) => `${formatRate(n)} img/s`),
    ...part(etaSeconds, (n) => `eta ${formatDuration(n)}`),
    ...part(computeIps, (n) => `compute ${formatRate(n)} img/s`),
    ...part(lr, (n) => `lr ${formatSmall(n)}`),
    ...part(scale, (n) => `scale ${formatSmall(n)}`),
    ...(skipped === undefined || skipped === 0 ? [] : [`skipped ${skipped}`]),
  ]
}

/** Parts joined by two spaces: as many whole parts, from the front, as fit `width` columns; the first is cut if it must be. */
export function fitLine(parts: readonly string[], width: number): string {
  let line = parts[0] ?? ''
  for (const part of parts.slice(1)) {
    if (line.length + 2 + part.length > width) break
    line += `  ${part}`
  }
  return line.slice(0, Math.max(0, width))
}

/** `4:05`, `1:02:03`, `2d 03:00`; `-` for what is not a duration. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return '-'
  const total = Math.round(seconds)
  const two = (n: number): string => String(n).padStart(2, '0')
  const [days, hours, minutes] = [Math.floor(total / 86400), Math.floor(total / 3600) % 24, Math.floor(total / 60) % 60]
  if (days > 0) return `${days}d ${two(hours)}:${two(minutes)}`
  return hours > 0 ? `${hours}:${two(minutes)}:${two(total % 60)}` : `${minutes}:${two(total % 60)}`
}

/** Three significant digits below a hundred, whole numbers above: `0.052`, `7.31`, `855`. */
export function formatRate(rate: number): string {
  if (!Number.isFinite(rate)) return '-'
  return rate >= 100 ? rate.toFixed(0) : String(Number(rate.toPrecision(3)))
}

/** Four significant digits without a tail of zeros: `0.256`, `128`, `1.5e-7`; powers of two are exact: `65536`. */
function formatSmall(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)))
}

/** Seconds left after `done` of `total` steps at `secondsPerStep`. */
export const etaSeconds = (done: number, total: number, secondsPerStep: number): number =>
  Math.max(0, total - done) * secondsPerStep
