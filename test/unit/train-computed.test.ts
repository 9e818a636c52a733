// What checkpoints keep of a device that chooses among ways to compute, and what a run tells of such a device.
import fc from 'fast-check'
import { train } from 'pullback'
import { describe, expect, it } from 'vitest'
import type { Device, Preparation } from '../../src/tensor/device.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { computedNotes, differenceSentence, preferComputed } from '../../src/train/run/computed.ts'

/** A device that has chosen. */
function choosing(choices: Readonly<Record<string, string>>, description = 'gpu:0: a GPU, library 9') {
  const state = {
    preferred: [] as unknown[],
    details: { library: '9, in /lib' } as Record<string, string>,
    listener: undefined as ((state: Preparation) => void) | undefined,
  }
  const device: Device = Object.assign(referenceDevice(), {
    name: 'gpu:0',
    description,
    details: () => state.details,
    choices: () => choices,
    prefer: (wanted: unknown) => void state.preferred.push(wanted),
    watch: (listener?: (state: Preparation) => void) => void (state.listener = listener),
  })
  return { device, state }
}

const saved = (metadata: Readonly<Record<string, string>>): train.Checkpoint => ({
  path: 'x.safetensors',
  position: { epoch: 0, step: 0, bestTop1: 0, bestEpoch: -1 },
  identity: { seed: 0, batchSize: 1, accumulate: 1, trainImages: 1 },
  metadata: new Map(Object.entries(metadata)),
  tensors: new Map(),
})

const names = fc.dictionary(fc.string(), fc.string(), { noNullPrototype: true })

describe('what was chosen', () => {
  it('comes back from a checkpoint, whatever it is, in an order of its own', () => {
    fc.assert(
      fc.property(names, (choices) => {
        const notes = computedNotes(choosing(choices).device)
        const entries = Object.entries(choices)
        expect(computedNotes(choosing(Object.fromEntries([...entries].reverse())).device)).toEqual(notes)
        if (entries.length === 0) expect(notes).toEqual({})
        else expect(train.computedOf(saved(notes))).toEqual({ device: 'a GPU, library 9', choices })
      }),
    )
  })

  it('is nothing where a device has one way, and an error where it is damaged', () => {
    expect(computedNotes(referenceDevice())).toEqual({})
    expect(train.computedOf(saved({}))).toBeUndefined()
    for (const text of ['{', '3', '{"a": 1}'])
      expect(() => train.computedOf(saved({ choices: text }))).toThrow(/x.safe/)
  })

  it('is asked for again of the same kind of device only, whatever its number', () => {
    const computed = { device: 'a GPU, library 9', choices: { p: 'a' } }
    const [same, other] = [choosing({}), choosing({}, 'gpu:0: a GPU, library 10')]
    preferComputed(computed, same.device)
    preferComputed(computed, other.device)
    expect([same.state.preferred, other.state.preferred]).toEqual([[{ p: 'a' }], []])
  })
})

describe('the sentence about a resumed run', () => {
  const before = { device: 'a GPU, library 9', choices: { p: 'a', q: 'b', r: 'c', s: 'd', t: 'e' } }

  it('is none as long as nothing was settled otherwise', () => {
    for (const choices of [{}, { p: 'a' }, { ...before.choices, other: 'x' }])
      expect(differenceSentence(before, choosing(choices).device)).toBeUndefined()
  })

  it('names the first few that were', () => {
    const sentence = 'the resumed run may differ in bits from an uninterrupted one: '
    expect(differenceSentence(before, choosing({ p: 'a', q: 'x' }).device)).toBe(`${sentence}q by x instead of b`)
    const all = Object.fromEntries(Object.keys(before.choices).map((key) => [key, 'x']))
    expect(differenceSentence(before, choosing(all).device)).toBe(
      `${sentence}p by x instead of a; q by x instead of b; r by x instead of c; and 2 more`,
    )
  })

  it('names another device', () => {
    expect(differenceSentence(before, referenceDevice())).toMatch(
      /: it ran on a GPU, library 9, and runs on reference interpreter/,
    )
  })
})

describe('a run', () => {
  it('shows preparation on a terminal, tells each detail that is new and each difference once', () => {
    const { device, state } = choosing({ p: 'x' })
    const written: string[] = []
    const stream = { isTTY: true, columns: 40, write: (text: string) => written.push(text) }
    const logged: unknown[] = []
    const log = { log: (...record: unknown[]) => void logged.push(record), close: () => undefined }
    const progress = train.progressReporter(stream, { every: 1, now: () => 1000 * written.length })
    const before = { device: 'a GPU, library 9', choices: { p: 'a' } }
    const reporter = train.deviceReporter(device, { log, progress }, before)
    state.listener?.({ phase: 'tuning', done: 3, total: 71 })
    expect(written).toEqual(['\r\u001b[Kgpu:0: tuning 3/71'])
    state.details = { ...state.details, tuning: '71 timed' }
    reporter.prepared()
    reporter.prepared()
    const text = written.join('')
    expect(text.match(/tuning: 71 timed\n/g)).toHaveLength(1)
    expect(text.match(/may differ in bits.*: p by x instead of a\n/g)).toHaveLength(1)
    expect(text).not.toContain('library: 9')
    expect(logged).toEqual([['PARAMETER', { tuning: '71 timed' }]])
    reporter.close()
    expect(state.listener).toBeUndefined()
  })

  it('says nothing of preparation in a pipe', () => {
    const { device, state } = choosing({})
    const written: string[] = []
    const progress = train.progressReporter({ write: (text) => written.push(text) }, { every: 1 })
    train.deviceReporter(device, { progress })
    state.listener?.({ phase: 'compiling', done: 1, total: 2 })
    expect(written).toEqual([])
  })
})
