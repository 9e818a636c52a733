// Records in DLLogger's format and the progress line, without a terminal.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { logLine, metadataLine, pythonJson } from '../../src/train/report/dllogger.ts'
import { fitLine } from '../../src/train/report/format.ts'
import {
  emptyMeter,
  etaSeconds,
  formatDuration,
  formatRate,
  measured,
  openRunLog,
  progressParts,
  progressReporter,
  ratesOf,
} from '../../src/train/report/index.ts'
import type { Progress } from '../../src/train/report/index.ts'

let dir = ''
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'pullback-report-'))
})
afterAll(() => {
  rmSync(dir, { recursive: true, force: true })
})

describe('lines', () => {
  // What NVIDIA's dllogger writes: fields in this order, Python's spaces, a local time without a zone.
  const microseconds = 1570716916143421
  const local = new Date(1570716916143)
  const two = (n: number): string => String(n).padStart(2, '0')
  const clock = `${two(local.getHours())}:${two(local.getMinutes())}:16.143421`
  const day = `2019-10-${two(local.getDate())}`

  it('are those of DLLogger', () => {
    expect(logLine({ microseconds, elapsed: 1.5 }, [0, 5], { 'train.loss': 8.5, 'train.lr': 0.1 })).toBe(
      `DLLL {"timestamp": "1570716916.143421", "datetime": "${day} ${clock}", "elapsedtime": "1.500000", "type": "LOG", "step": [0, 5], "data": {"train.loss": 8.5, "train.lr": 0.1}}`,
    )
    expect(logLine({ microseconds, elapsed: 0 }, 'PARAMETER', { amp: true, seed: null })).toContain(
      '"type": "LOG", "step": "PARAMETER", "data": {"amp": true, "seed": null}}',
    )
    expect(metadataLine({ microseconds, elapsed: 0 }, 'val.top1', { unit: '%', format: ':.2f' })).toBe(
      `DLLL {"timestamp": "1570716916.143421", "elapsedtime": "0.000000", "datetime": "${day} ${clock}", "type": "METADATA", "metric": "val.top1", "metadata": {"unit": "%", "format": ":.2f"}}`,
    )
  })

  it('stay JSON and ASCII whatever the values', () => {
    const text = pythonJson({
      nan: NaN,
      up: Infinity,
      down: -Infinity,
      tiny: 1e-7,
      gone: undefined,
      list: [1, [], {}],
      'ü"': 'ß\n😀',
    })
    expect(text).toBe(
      '{"nan": null, "up": null, "down": null, "tiny": 1e-7, "list": [1, [], {}], "\\u00fc\\"": "\\u00df\\n\\ud83d\\ude00"}',
    )
    expect(JSON.parse(text)).toMatchObject({ tiny: 1e-7, 'ü"': 'ß\n😀' })
  })
})

describe('openRunLog', () => {
  interface Line {
    readonly type: string
    readonly metric?: string
    readonly data?: unknown
    readonly step?: unknown
  }
  const linesOf = (path: string): Line[] =>
    readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('DLLL '))
      .map((line) => JSON.parse(line.slice(5)) as Line)

  it('writes at once, describes each metric before its first use, and appends on resume', () => {
    const path = join(dir, 'raport.json')
    const first = openRunLog(path)
    first.log('PARAMETER', { arch: 'resnet50' })
    first.log([0, 1], { 'train.loss': 2, mine: 1 })
    first.log([0, 2], { 'train.loss': NaN })
    expect(linesOf(path).map(({ type, metric, step }) => metric ?? `${type} ${JSON.stringify(step)}`)).toEqual([
      'LOG "PARAMETER"',
      'train.loss',
      'LOG [0,1]',
      'LOG [0,2]',
    ])
    first.close()
    first.close()
    expect(() => {
      first.log([], {})
    }).toThrow(/closed/)
    const second = openRunLog(path)
    second.log([1], { 'val.top1': 90 })
    second.close()
    expect(linesOf(path).length).toBe(6)
    expect(linesOf(path).at(-1)?.data).toEqual({ 'val.top1': 90 })
  })

  it('ends a line that a killed run left half written', () => {
    const path = join(dir, 'killed.json')
    writeFileSync(path, 'DLLL {"timest')
    const log = openRunLog(path)
    log.log([], { a: 1 })
    log.close()
    expect(readFileSync(path, 'utf8').split('\n')[0]).toBe('DLLL {"timest')
    expect(readFileSync(path, 'utf8').split('\n')[1]).toMatch(/^DLLL .*"data": \{"a": 1\}\}$/)
  })

  it('says which file it cannot open', () => {
    expect(() => openRunLog(join(dir, 'no', 'where.json'))).toThrow(/could not open .*where\.json/)
  })
})

const progress: Progress = {
  phase: 'train',
  epoch: 2,
  epochs: 90,
  step: 120,
  steps: 5004,
  loss: 2.34567,
  totalIps: 855.1,
  computeIps: 870.2,
  lr: 0.256,
  scale: 65536,
  skipped: 2,
  etaSeconds: 3723,
}

describe('the progress line', () => {
  it('tells everything known, and nothing else', () => {
    expect(progressParts(progress).join('  ')).toBe(
      'train epoch 3/90 step 120/5004  loss 2.3457  855 img/s  eta 1:02:03  compute 870 img/s  lr 0.256  scale 65536  skipped 2',
    )
    expect(
      progressParts({
        phase: 'val',
        epoch: 0,
        epochs: 1,
        step: 1,
        steps: 2,
        top1: 90.123,
        top5: 99,
        loss: NaN,
        skipped: 0,
      }),
    ).toEqual(['val epoch 1/1 step 1/2', 'loss NaN', 'top1 90.12%', 'top5 99.00%'])
  })

  it('fits the width by leaving out whole parts', () => {
    const parts = ['aaaa', 'bbb', 'cc']
    expect([20, 13, 12, 9, 8, 4, 2, 0].map((width) => fitLine(parts, width))).toEqual([
      'aaaa  bbb  cc',
      'aaaa  bbb  cc',
      'aaaa  bbb',
      'aaaa  bbb',
      'aaaa',
      'aaaa',
      'aa',
      '',
    ])
  })

  it('formats durations and rates', () => {
    expect([0, 59.6, 245, 3723, 183600, NaN, Infinity, -1].map(formatDuration)).toEqual([
      '0:00',
      '1:00',
      '4:05',
      '1:02:03',
      '2d 03:00',
      '-',
      '-',
      '-',
    ])
    expect([0.0523, 7.314, 99.96, 855.1, Infinity].map(formatRate)).toEqual(['0.0523', '7.31', '100', '855', '-'])
    expect(etaSeconds(10, 30, 0.5)).toBe(10)
    expect(etaSeconds(40, 30, 0.5)).toBe(0)
  })
})

describe('progressReporter', () => {
  it('on a terminal renews one line, ten times a second at most, within the width, and takes it away', () => {
    let text = ''
    let time = 0
    const stream = { isTTY: true, columns: 40, write: (part: string) => (text += part) }
    const reporter = progressReporter(stream, { every: 1000, now: () => time })
    const at = (milliseconds: number, step: number): void => {
      time = milliseconds
      reporter.update({ ...progress, step })
    }
    at(0, 1)
    at(50, 2)
    at(120, 3)
    expect(text.split('\r\u001b[K')).toEqual(
      ['', 'train epoch 3/90 step 1/5004', 'train epoch 3/90 step 3/5004'].map((line) =>
        line === '' ? '' : (expect.stringMatching(`^${line}`) as string),
      ),
    )
    text.split('\r\u001b[K').forEach((line) => expect(line.length).toBeLessThan(40))
    text = ''
    reporter.message('a broken image')
    expect(text).toMatch(/^\r\u001b\[Ka broken image\ntrain epoch 3\/90 step 3/)
    at(121, 5004)
    expect(text).toContain('step 5004/5004')
    text = ''
    reporter.finish()
    reporter.finish()
    expect(text).toBe('\r\u001b[K')
  })

  it('in a pipe writes a whole line every so many steps and for the last', () => {
    const written: string[] = []
    const reporter = progressReporter({ write: (text: string) => written.push(text) }, { every: 10 })
    for (let step = 1; step <= 25; step++) reporter.update({ ...progress, step, steps: 25 })
    reporter.message('saved')
    reporter.finish()
    expect(written.map((line) => /step (\d+)/.exec(line)?.[1] ?? line)).toEqual(['10', '20', '25', 'saved\n'])
    expect(written.join('')).not.toContain('\r')
  })
})

describe('meter', () => {
  it('averages with and without the time for data', () => {
    expect(ratesOf(emptyMeter)).toEqual({ totalIps: 0, computeIps: 0, dataTime: 0, computeTime: 0, stepTime: 0 })
    const one = measured(emptyMeter, { images: 64, dataSeconds: 1, computeSeconds: 1 })
    const two = measured(one, { images: 32, dataSeconds: 0, computeSeconds: 2 })
    expect(ratesOf(two)).toEqual({ totalIps: 24, computeIps: 32, dataTime: 0.5, computeTime: 1.5, stepTime: 2 })
  })
})
