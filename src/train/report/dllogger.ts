// The run's record: JSON lines in DLLogger's format, so that tools made for the reference's logs read ours.
// What is measured is the training loop's business; lines for people are progress.ts's.

import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs'
import { PullbackError } from '../../tensor/errors.ts'

/** A value of a record: what JSON can say; numbers that are not finite become null. */
export type RecordValue =
  | string
  | number
  | boolean
  | null
  | undefined
  | readonly RecordValue[]
  | { readonly [key: string]: RecordValue }
/** The values of one record, by metric name. */
export type RecordData = Readonly<Record<string, RecordValue>>

/** Where in the run: `PARAMETER` for its settings, [epoch, iteration], [epoch], or [] for the whole run. */
export type RecordStep = 'PARAMETER' | readonly number[]

/** How readers may print a metric. */
export interface MetricMetadata {
  readonly unit?: string
  /** A Python format, e.g. `:.5f`. */
  readonly format?: string
}

const loss: MetricMetadata = { format: ':.5f' }
const accuracy: MetricMetadata = { unit: '%', format: ':.2f' }
const rate: MetricMetadata = { unit: 'img/s', format: ':.2f' }
const seconds: MetricMetadata = { unit: 's', format: ':.5f' }

/** The reference's metric names with what it says of them. */
export const metrics = {
  'train.loss': loss,
  'train.total_ips': rate,
  'train.compute_ips': rate,
  'train.data_time': seconds,
  'train.compute_time': seconds,
  'train.lr': {},
  'train.grad_scale': {},
  'val.loss': loss,
  'val.top1': accuracy,
  'val.top5': accuracy,
  'val.total_ips': rate,
  'val.compute_ips': rate,
  'val.data_time': seconds,
  'val.compute_time': seconds,
} as const satisfies Readonly<Record<string, MetricMetadata>>

export type MetricName = keyof typeof metrics

/** A moment: microseconds since 1970, and seconds since the log was opened. */
export interface Moment {
  readonly microseconds: number
  readonly elapsed: number
}

/** One LOG line, without its end. */
export function logLine({ microseconds, elapsed }: Moment, step: RecordStep, data: RecordData): string {
  const fields = {
    timestamp: timestamp(microseconds),
    datetime: localDateTime(microseconds),
    elapsedtime: elapsed.toFixed(6),
  }
  return `DLLL ${pythonJson({ ...fields, type: 'LOG', step, data })}`
}

/** One METADATA line, without its end. */
export function metadataLine({ microseconds, elapsed }: Moment, metric: string, metadata: MetricMetadata): string {
  const fields = {
    timestamp: timestamp(microseconds),
    elapsedtime: elapsed.toFixed(6),
    datetime: localDateTime(microseconds),
  }
  return `DLLL ${pythonJson({ ...fields, type: 'METADATA', metric, metadata: { ...metadata } })}`
}

const timestamp = (microseconds: number): string => (microseconds / 1e6).toFixed(6)

/** `2019-10-10 14:15:16.143421` in local time, as Python prints a datetime. */
function localDateTime(microseconds: number): string {
  const date = new Date(Math.floor(microseconds / 1000))
  const two = (n: number): string => String(n).padStart(2, '0')
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  const fraction = String(Math.floor(microseconds) % 1e6).padStart(6, '0')
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${fraction}`
}

/** JSON with the spaces and the ASCII escapes of Python's `json.dumps`. */
export function pythonJson(value: RecordValue): string {
  if (value === null || value === undefined) return 'null'
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : 'null'
  if (typeof value === 'boolean') return String(value)
  if (typeof value === 'string') return asciiString(value)
  if (isList(value)) return `[${value.map(pythonJson).join(', ')}]`
  const fields = Object.entries(value).filter(([, field]) => field !== undefined)
  return `{${fields.map(([key, field]) => `${asciiString(key)}: ${pythonJson(field)}`).join(', ')}}`
}

const isList = (value: RecordValue): value is readonly RecordValue[] => Array.isArray(value)
const asciiString = (text: string): string =>
  JSON.stringify(text).replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)

/** An open record of a run. */
export interface RunLog {
  /** Appends a LOG line; a metric of `metrics` is preceded by its METADATA line the first time it is seen. */
  log(step: RecordStep, data: RecordData): void
  /** Flushes to the disk and closes; later lines are an error. Closing twice is harmless. */
  close(): void
}

/**
 * Opens a record for appending (a resumed run goes on in the same file).
 *
 * Each line is written at once and whole, so a killed run loses none; a line an earlier run left unfinished is ended.
 *
 * @throws PullbackError `file` when the file cannot be opened
 */
export function openRunLog(path: string): RunLog {
  const file = openForAppending(path)
  const opened = performance.now()
  const seen = new Set<string>()
  let isOpen = true
  const now = (): Moment => ({
    microseconds: Math.floor((performance.timeOrigin + performance.now()) * 1000),
    elapsed: (performance.now() - opened) / 1000,
  })
  const describe = (names: readonly string[]): string[] =>
    names.filter(isMetric).flatMap((name) => {
      if (seen.has(name)) return []
      seen.add(name)
      return [metadataLine(now(), name, metrics[name])]
    })
  return {
    log(step, data) {
      if (!isOpen) throw new PullbackError('file', `[report] expected an open record, got ${path}, which is closed.`)
      const lines = [...describe(Object.keys(data)), logLine(now(), step, data)]
      writeSync(file, lines.map((line) => `${line}\n`).join(''))
    },
    close() {
      if (!isOpen) return
      isOpen = false
      // A pipe or /dev/null cannot be flushed to a disk.
      if (fstatSync(file).isFile()) fsyncSync(file)
      closeSync(file)
    },
  }
}

const isMetric = (name: string): name is MetricName => Object.hasOwn(metrics, name)

function openForAppending(path: string): number {
  try {
    const file = openSync(path, 'a')
    if (endsWithinLine(path, fstatSync(file).size)) writeSync(file, '\n')
    return file
  } catch (cause) {
    throw new PullbackError('file', `[report] could not open ${path} for writing. Is the folder there?`, { cause })
  }
}

function endsWithinLine(path: string, size: number): boolean {
  if (size === 0) return false
  const file = openSync(path, 'r')
  try {
    const last = new Uint8Array(1)
    readSync(file, last, 0, 1, size - 1)
    return last[0] !== 0x0a
  } finally {
    closeSync(file)
  }
}
