// What a row comes to: figures of each contender, ratios between them, the file they are kept in and the table of a run.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Competition, type Outcome, timesOf } from './compete.ts'
import type { Facts } from './protocol.ts'
import type { Workload } from './rows.ts'
import type { Quartiles } from './statistics.ts'

/** The figures of one contender. */
export interface Figures {
  readonly name: string
  readonly error?: string
  readonly images_per_s?: number
  readonly wall_ms?: Quartiles
  readonly events_ms?: Quartiles
  readonly host_ms?: Quartiles
  readonly upload_ms?: Quartiles
  /** What the plan would take on the roofline, as a part of what it took by events. */
  readonly roofline_share?: number
  /** The last result: the loss, or the mean of the logits. */
  readonly value?: number
  readonly facts: Facts
}

/** One row as it is recorded. */
export interface RowRecord extends Workload {
  readonly row: string
  readonly time: string
  readonly complete: boolean
  readonly interleaved: boolean
  /** Whether our first step found kernels and choices of an earlier try. */
  readonly first_step_is_warm?: boolean
  /** Images per second of ours divided by theirs, by the median of the wall clock. */
  readonly ratios: Readonly<Record<string, number>>
  readonly contenders: readonly Figures[]
  /** Of our plan: the first step with warm caches, and the dearest steps. */
  readonly profile?: Facts | undefined
}

/** The file of a day's results on one GPU. */
export interface ResultFile {
  readonly date: string
  readonly gpu: string
  readonly machine: Facts
  readonly rows: readonly RowRecord[]
}

/** The record of a row as far as it was measured. */
export function recordOf(
  row: string,
  workload: Workload,
  { outcomes, interleaved }: Competition,
  time: string,
): RowRecord {
  const contenders = outcomes.map((outcome) => figuresOf(outcome, workload))
  const [ours, ...others] = contenders
  const ratios = others.flatMap(({ name, images_per_s: theirs }) => {
    const mine = ours?.images_per_s
    return mine === undefined || theirs === undefined ? [] : [[name, mine / theirs] as const]
  })
  // One after the other, our second process finds what the first one has compiled and tuned.
  const first = interleaved ? {} : { first_step_is_warm: true }
  return {
    row,
    time,
    complete: false,
    ...workload,
    interleaved,
    ...first,
    ratios: Object.fromEntries(ratios),
    contenders,
  }
}

function figuresOf({ name, prepared = {}, finished = {}, blocks, error }: Outcome, { batch }: Workload): Figures {
  const [wall, events, host, upload] = (['wall_ms', 'events_ms', 'host_ms', 'upload_ms'] as const).map((kind) =>
    timesOf(blocks, kind),
  )
  const { roofline_s: roofline, value: _, ok: _ok, ...facts } = { ...prepared, ...finished }
  return {
    name,
    ...(error === undefined ? {} : { error }),
    ...(wall === undefined ? {} : { images_per_s: (batch * 1000) / wall.median, wall_ms: wall }),
    ...(events === undefined ? {} : { events_ms: events }),
    ...(host === undefined ? {} : { host_ms: host }),
    ...(upload === undefined ? {} : { upload_ms: upload }),
    ...(events === undefined || typeof roofline !== 'number'
      ? {}
      : { roofline_share: (roofline * 1000) / events.median }),
    ...(blocks.length === 0 ? {} : { value: blocks.at(-1)?.value ?? Number.NaN }),
    facts: { ...facts, ...(typeof roofline === 'number' ? { roofline_s: roofline } : {}) },
  }
}

/** Puts a row into a file of results, at once and whole: in the place of the same row of the same time, else behind all. */
export function putRow(path: string, head: Omit<ResultFile, 'rows'>, row: RowRecord): void {
  const before = readResults(path)?.rows ?? []
  const same = (known: RowRecord): boolean => known.row === row.row && known.time === row.time
  const rows = before.some(same) ? before.map((known) => (same(known) ? row : known)) : [...before, row]
  mkdirSync(dirname(path), { recursive: true })
  const fresh = `${path}.${process.pid}.tmp`
  writeFileSync(fresh, `${JSON.stringify({ ...head, rows }, shortened, 1)}\n`)
  renameSync(fresh, path)
}

/** A file of results; undefined where there is none yet. */
export function readResults(path: string): ResultFile | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as ResultFile
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Fractions to five digits, and what is no number as its name, which JSON has not. */
function shortened(_: string, value: unknown): unknown {
  if (typeof value !== 'number' || Number.isInteger(value)) return value
  return Number.isFinite(value) ? Number(value.toPrecision(5)) : String(value)
}

/** The rows as a short table. */
export function table(rows: readonly RowRecord[]): string {
  const head = [
    'row',
    'contender',
    'img/s',
    'wall ms (quartiles)',
    'GPU ms',
    'host ms with batch',
    'peak GiB',
    'ours is',
  ]
  const lines = rows.flatMap((row) => row.contenders.map((figures) => cells(row, figures)))
  const widths = head.map((title, column) =>
    Math.max(...[head, ...lines].map((line) => (line[column] ?? title).length)),
  )
  const show = (line: readonly string[]): string =>
    line
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
  const failed = rows.flatMap(({ row, contenders }) =>
    contenders.flatMap(({ name, error }) =>
      error === undefined ? [] : [`${row}, ${name}: ${error.split('\n')[0] ?? ''}`],
    ),
  )
  return [...[head, ...lines].map(show), ...failed].join('\n')
}

function cells({ row, interleaved, ratios, contenders }: RowRecord, figures: Figures): string[] {
  const { name, images_per_s: speed, wall_ms: wall, events_ms: events, host_ms: host, facts } = figures
  const ms = (value: number | undefined): string => (value === undefined ? '-' : value.toFixed(2))
  const peak = facts['peak_bytes']
  const first = name === contenders[0]?.name
  const ratio = ratios[name]
  return [
    first ? `${row}${interleaved ? '' : ' (one after the other)'}` : '',
    name,
    speed === undefined ? '-' : speed.toFixed(1),
    wall === undefined ? 'failed' : `${ms(wall.median)} (${ms(wall.lower)} to ${ms(wall.upper)})`,
    ms(events?.median),
    ms(host === undefined ? undefined : host.median + (figures.upload_ms?.median ?? 0)),
    typeof peak === 'number' ? (peak / 2 ** 30).toFixed(2) : '-',
    ratio === undefined ? '' : `${ratio.toFixed(2)} times as fast`,
  ]
}
