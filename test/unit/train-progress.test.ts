// Progress of a whole run as a terminal shows it, and as a pipe gets it: the stream is played to a terminal of one page.
import { train } from 'pullback'
import { beforeAll, describe, expect, it } from 'vitest'
import { memorySource, size, tinyModel, useReference } from './train-loop-data.ts'

beforeAll(useReference)

const columns = 60

/** Runs two epochs of four steps with progress on `stream`; a message is written in between. */
async function runOn(stream: train.ProgressStream, time: () => number): Promise<void> {
  const optimizer = train.sgd({ momentum: 0.9 })
  const progress = train.progressReporter(stream, { every: 2, now: time })
  await train.fit({
    model: tinyModel(),
    data: memorySource(),
    optimizer,
    schedule: () => 0.01,
    epochs: 2,
    run: await train.startRun(tinyModel().init(1, [1, size, size, 3]), { optimizer, lossScale: train.none(), seed: 1 }),
    progress,
  })
}

/** What a terminal knows: lines of text, and where the cursor is. It understands what progress lines need, no more. */
class Terminal implements train.ProgressStream {
  readonly isTTY = true
  readonly columns = columns
  readonly lines: string[] = ['']
  /** Every state of the last line. */
  readonly seen: string[] = []
  column = 0

  write(text: string): void {
    for (const [piece] of text.matchAll(/\r|\n|\u001b\[K|[^\r\n\u001b]+/g)) this.play(piece)
    expect(text.replaceAll('\u001b[K', '')).not.toContain('\u001b')
  }

  private play(piece: string): void {
    const line = this.lines.at(-1) ?? ''
    if (piece === '\r') this.column = 0
    else if (piece === '\u001b[K') this.show(line.slice(0, this.column))
    else if (piece === '\n') this.lines.push('')
    else this.show(line.slice(0, this.column) + piece + line.slice(this.column + piece.length))
    if (piece === '\n') this.column = 0
    else if (!/[\r\u001b]/.test(piece)) this.column += piece.length
  }

  private show(line: string): void {
    this.lines[this.lines.length - 1] = line
    this.seen.push(line)
  }
}

describe('progress of a run', () => {
  it('on a terminal is one line that fits, and leaves whole lines and a free one behind', async () => {
    const terminal = new Terminal()
    let time = 0
    await runOn(terminal, () => (time += 1000)) // each draw is late enough to be shown
    const drawn = terminal.seen.filter((line) => /^(train|val) epoch/.test(line))
    for (const step of ['train epoch 1/2 step 1/4', 'train epoch 2/2 step 4/4', 'val epoch 2/2 step 3/3'])
      expect(
        drawn.filter((line) => line.startsWith(step)),
        step,
      ).not.toEqual([])
    for (const line of drawn) expect(line.length).toBeLessThan(columns)
    const left = [
      /^first step, with compiling: /,
      /^epoch 1\/2: validation top1 /,
      /^epoch 2\/2: validation top1 /,
      /^$/,
    ]
    expect(terminal.lines).toEqual(left.map((line): unknown => expect.stringMatching(line)))
    expect(terminal.column).toBe(0)
  })

  it('in a pipe is whole lines of plain text', async () => {
    const written: string[] = []
    await runOn({ columns, write: (text) => written.push(text) }, () => 0)
    for (const text of written) expect(text).toMatch(/^[^\r\n\u001b]+\n$/)
    const steps = written.flatMap((text) => /^train (epoch \d\/2 step \d)\/4/.exec(text)?.[1] ?? [])
    expect(steps).toEqual(['epoch 1/2 step 2', 'epoch 1/2 step 4', 'epoch 2/2 step 2', 'epoch 2/2 step 4'])
  })
})
