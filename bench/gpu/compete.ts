// One row: its contenders prepared one after the other, then timed in turns, block by block, while all are alive; where the
// memory does not suffice for that, each by itself. What fails is a fact about that contender, and the others go on.
import { type Command, Contender, ContenderError } from './contender.ts'
import { type Block, type Facts, asBlock } from './protocol.ts'
import { type Quartiles, quartiles } from './statistics.ts'

/** How long and how often. */
export interface Schedule {
  readonly warmup: number
  /** Blocks, and the timed steps of each. */
  readonly blocks: number
  readonly steps: number
  /** Seconds that the whole row may take. */
  readonly limit: number
}

/** What became of a contender. */
export interface Outcome {
  readonly name: string
  readonly prepared: Facts | undefined
  readonly finished: Facts | undefined
  readonly blocks: readonly Block[]
  readonly error: string | undefined
}

/** What became of a row. */
export interface Competition {
  readonly outcomes: readonly Outcome[]
  /** Whether the contenders took turns. */
  readonly interleaved: boolean
}

/** Part of the time that is kept for the blocks when contenders are prepared. */
const keptForBlocks = 0.25

/** A contender with what is known of it so far. */
class Entry {
  prepared: Facts | undefined
  finished: Facts | undefined
  error: ContenderError | undefined
  readonly blocks: Block[] = []
  readonly contender: Contender

  constructor(command: Command) {
    this.contender = new Contender(command)
  }

  /** Does what may fail; then the contender is out. */
  async attempt(action: () => Promise<void>): Promise<void> {
    if (this.error !== undefined) return
    try {
      await action()
    } catch (error) {
      this.error =
        error instanceof ContenderError
          ? error
          : new ContenderError(error instanceof Error ? error.message : String(error), 'error')
      this.contender.kill()
    }
  }

  get outcome(): Outcome {
    const { contender, prepared, finished, blocks, error } = this
    return { name: contender.name, prepared, finished, blocks, error: error?.message }
  }
}

/** Lets contenders compete. */
export async function compete(commands: readonly Command[], schedule: Schedule): Promise<Competition> {
  const end = performance.now() + schedule.limit * 1000
  const together = await round(commands, schedule, end)
  const crowded = together.filter(({ error }) => error?.kind === 'out-of-memory')
  if (commands.length === 1 || crowded.length === 0) return { outcomes: together.map(outcome), interleaved: true }
  process.stderr.write(
    `  not enough memory for all at once (${crowded.map(({ contender }) => contender.name).join(', ')}): one after the other\n`,
  )
  const alone: Entry[] = []
  for (const [index, command] of commands.entries()) {
    const share = (end - performance.now()) / (commands.length - index)
    alone.push(...(await round([command], schedule, performance.now() + share)))
  }
  return { outcomes: alone.map(outcome), interleaved: false }
}

const outcome = (entry: Entry): Outcome => entry.outcome

/** Prepares, takes turns, finishes. Gives up early where memory is short for all, since each is then tried by itself. */
async function round(commands: readonly Command[], schedule: Schedule, end: number): Promise<readonly Entry[]> {
  const entries = commands.map((command) => new Entry(command))
  const left = (): number => (end - performance.now()) / 1000
  const kept = left() * keptForBlocks
  const crowded = (): boolean => entries.length > 1 && entries.some(({ error }) => error?.kind === 'out-of-memory')
  try {
    for (const entry of entries) {
      if (crowded()) break
      await entry.attempt(async () => {
        entry.prepared = await entry.contender.ask(
          { do: 'prepare', warmup: schedule.warmup },
          Math.max(1, left() - kept),
        )
        process.stderr.write(`  ${entry.contender.name}: ready\n`)
      })
    }
    for (let turn = 0; turn < schedule.blocks && !crowded() && left() > 0; turn++)
      for (const entry of rotated(entries, turn)) await entry.attempt(() => takeTurn(entry, schedule.steps, left()))
    if (!crowded())
      for (const entry of entries)
        await entry.attempt(
          async () => void (entry.finished = await entry.contender.ask({ do: 'finish' }, Math.max(5, left()))),
        )
  } finally {
    await Promise.all(
      entries.map(({ contender, error }) => (error === undefined ? contender.close() : contender.killed())),
    )
  }
  return entries
}

async function takeTurn({ contender, blocks }: Entry, steps: number, seconds: number): Promise<void> {
  const answer = await contender.ask({ do: 'block', steps }, Math.max(5, seconds))
  const block = asBlock(answer)
  if (block === undefined)
    throw new ContenderError(`${contender.name} answered no block: ${JSON.stringify(answer)}`, 'error')
  blocks.push(block)
}

/** Another one begins in each turn. */
function rotated<T>(list: readonly T[], turn: number): readonly T[] {
  const first = turn % Math.max(1, list.length)
  return [...list.slice(first), ...list.slice(0, first)]
}

/**
 * The quartiles of one kind of times over all blocks; undefined where there are none. Of wall time each block counts once,
 * with its mean: single steps are seen to end only every millisecond or two.
 */
export function timesOf(
  blocks: readonly Block[],
  kind: 'events_ms' | 'wall_ms' | 'host_ms' | 'upload_ms',
): Quartiles | undefined {
  const mean = (list: readonly number[]): number => list.reduce((sum, ms) => sum + ms, 0) / list.length
  const times = blocks.flatMap((block) => (kind === 'wall_ms' ? [mean(block.wall_ms)] : (block[kind] ?? [])))
  return times.length === 0 ? undefined : quartiles(times)
}
