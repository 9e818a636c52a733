// The rows of bench:gpu by name, `training-f16-256`: what is computed, in which precision, at which batch.

/** What both libraries are to do. */
export interface Workload {
  readonly mode: 'training' | 'inference'
  readonly precision: 'f16' | 'bf16' | 'tf32'
  readonly batch: number
  /** Height and width of the images. */
  readonly size: number
  /** 'tiny' is for trying the benchmark itself. */
  readonly model: 'se-resnext101-32x4d' | 'tiny'
}

/** What is run where no rows are named. */
export const defaultRows = ['training-f16-256', 'inference-f16-256'] as const

/** What `--list` shows besides; any other mode, precision and batch has a row as well. */
export const moreRows = [
  'training-bf16-256',
  'training-tf32-256',
  'training-f16-128',
  'inference-f16-1',
  'inference-f16-8',
  'inference-f16-32',
] as const

/** The workload of a row's name; undefined for what is none. */
export function workloadOf(row: string, size: number, model: Workload['model']): Workload | undefined {
  const [, mode, precision, batch] = /^(training|inference)-(f16|bf16|tf32)-([1-9]\d{0,4})$/.exec(row) ?? []
  if (mode === undefined || precision === undefined) return undefined
  return {
    mode: mode as Workload['mode'],
    precision: precision as Workload['precision'],
    batch: Number(batch),
    size,
    model,
  }
}

/** The flags by which a contender is told. */
export function flagsOf({ mode, precision, batch, size, model }: Workload): string[] {
  const flags = { mode, precision, batch, size, model }
  return Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)])
}
