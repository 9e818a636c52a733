// The tuning cache: what is written is read, by this process and by others; what is damaged is never used.
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { Tuner, TuningCache, type TuningEntry, tuningIdentity } from '../../src/cuda/tune/index.ts'
import { runs } from '../runs.ts'
import { fakeBench, fakeCandidate, fakeTask, unreleased } from './tune-fake.ts'

const folders: string[] = []
const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), 'pullback-tuning-'))
  folders.push(made)
  return made
}
afterEach(() => {
  for (const made of folders.splice(0)) rmSync(made, { recursive: true })
})

const identity = { gpu: 'NVIDIA H200', driver: '13000', cudnn: '92400' }

function open(place: string, others: Readonly<Record<string, string>> = identity) {
  const notes: string[] = []
  return { cache: new TuningCache(place, others, (said) => notes.push(said)), notes }
}

const entries: fc.Arbitrary<TuningEntry> = fc
  .record(
    {
      id: fc.string(),
      recipe: fc.string({ maxLength: 40 }),
      microseconds: fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }),
      others: fc.dictionary(fc.string(), fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }), { maxKeys: 4 }),
      accepted: fc.constant(true as const),
    },
    { requiredKeys: ['id', 'others'] },
  )
  // JSON has no -0.
  .map((entry) => JSON.parse(JSON.stringify(entry)) as TuningEntry)

const books = fc.uniqueArray(fc.tuple(fc.string(), entries), { selector: ([key]) => key, minLength: 1, maxLength: 6 })

const entry = (id: string): TuningEntry => ({ id, recipe: `recipe of ${id}`, microseconds: 2.5, others: { other: 4 } })

describe('the file', () => {
  test('what is written is read, and nothing else lies about', () => {
    fc.assert(
      fc.property(books, (book) => {
        const place = folder()
        const { cache } = open(place)
        for (const [key, value] of book) cache.set(key, value)
        const again = open(place)
        expect(again.cache.size).toBe(book.length)
        for (const [key, value] of book) expect(again.cache.get(key)).toEqual(value)
        expect(again.notes).toEqual([])
        expect(readdirSync(place)).toEqual([cache.file.slice(place.length + 1)])
        expect(statSync(cache.file).mode & 0o077).toBe(0)
      }),
      { numRuns: runs(20) },
    )
  })

  test('a damaged file gives what was written or nothing', () => {
    const damage = fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.integer({ min: 32, max: 126 })), {
      minLength: 1,
      maxLength: 3,
    })
    fc.assert(
      fc.property(books, damage, fc.double({ min: 0, max: 1, noNaN: true }), (book, bytes, cut) => {
        const place = folder()
        const { cache } = open(place)
        for (const [key, value] of book) cache.set(key, value)
        const text = readFileSync(cache.file)
        for (const [where, byte] of bytes) text[Math.floor(where * (text.length - 1))] = byte
        writeFileSync(cache.file, text.subarray(0, cut < 0.5 ? text.length : Math.floor(cut * text.length)))
        const again = open(place)
        for (const [key, value] of book) expect([undefined, value]).toContainEqual(again.cache.get(key))
        again.cache.set('new', entry('a'))
        expect(open(place).cache.get('new')).toEqual(entry('a'))
      }),
      { numRuns: runs(30) },
    )
  })

  test('one that is no cache is set aside with a sentence', () => {
    const place = folder()
    const { file } = open(place).cache
    for (const text of ['', 'half a f', '[]', '{"format":1}', '{"format":99,"entries":{}}']) {
      writeFileSync(file, text)
      const { cache, notes } = open(place)
      expect(notes).toEqual([
        `[tune] ${file} is no tuning cache or is damaged: it is now ${file}.damaged, and tuning starts anew.`,
      ])
      expect(readFileSync(`${file}.damaged`, 'utf8')).toBe(text)
      expect([existsSync(file), cache.size]).toEqual([false, 0])
    }
  })

  test('an entry that somebody changed is not used, and the others are', () => {
    const place = folder()
    const { cache } = open(place)
    for (const key of ['p', 'q']) cache.set(key, entry(key))
    writeFileSync(cache.file, readFileSync(cache.file, 'utf8').replace('recipe of p', 'recipe of x'))
    const again = open(place)
    expect([again.cache.get('p'), again.cache.get('q')]).toEqual([undefined, entry('q')])
    expect(again.notes).toEqual([`[tune] 1 damaged entries of ${cache.file} are not used and tuned again.`])
  })

  test('the folder is made when it is first written', () => {
    const place = join(folder(), 'a', 'b')
    open(place).cache.set('p', entry('a'))
    expect(open(place).cache.get('p')).toEqual(entry('a'))
    expect(statSync(place).mode & 0o077).toBe(0)
  })

  test('two processes that write in turn keep what both know', () => {
    const place = folder()
    const [first, second] = [open(place).cache, open(place).cache]
    first.set('a', entry('a1'))
    second.set('b', entry('b2'))
    first.set('c', entry('c1'))
    second.set('a', entry('a2'))
    const { cache } = open(place)
    expect(['a', 'b', 'c'].map((key) => cache.get(key)?.id)).toEqual(['a2', 'b2', 'c1'])
    expect(first.get('b')?.id).toBe('b2')
    // A process stays with what it chose itself.
    first.set('d', entry('d1'))
    expect(first.get('a')?.id).toBe('a1')
  })

  test('another GPU or another version of a library has a file of its own', () => {
    const place = folder()
    open(place).cache.set('p', entry('a'))
    expect(open(place, { ...identity, cudnn: '92500' }).cache.get('p')).toBeUndefined()
    const turned = Object.fromEntries(Object.entries(identity).reverse())
    expect(open(place, turned).cache.get('p')).toEqual(entry('a'))
  })

  test('the identity is the GPU model, its size, every version and the package', () => {
    const gpu = {
      ordinal: 3,
      name: 'NVIDIA H200',
      capability: 90,
      architecture: 'sm_90',
      multiprocessors: 132,
      sharedBytes: 1,
      memoryBytes: 2,
    }
    const versions = { driver: 13000, nvrtc: 13000, cublasLt: 130101, cudnn: 92400 }
    expect(tuningIdentity({ gpu, versions }, '0.1.0')).toEqual({
      gpu: 'NVIDIA H200',
      architecture: 'sm_90',
      multiprocessors: '132',
      pullback: '0.1.0',
      driver: '13000',
      nvrtc: '13000',
      cublasLt: '130101',
      cudnn: '92400',
    })
  })

  test('where it cannot be written, one sentence, and the entries of this process', () => {
    const file = join(folder(), 'file')
    writeFileSync(file, '')
    const place = join(file, 'folder')
    const { cache, notes } = open(place)
    cache.set('p', entry('a'))
    cache.set('q', entry('b'))
    expect([cache.get('p'), cache.get('q')]).toEqual([entry('a'), entry('b')])
    expect(notes).toHaveLength(1)
    expect(notes[0]).toMatch(/cannot write .*ENOTDIR.*: what is tuned now is not kept/)
  })
})

describe('with the tuner', () => {
  const list = () => [fakeCandidate('a', { recipe: 'A' }), fakeCandidate('b', { recipe: 'B' }), fakeCandidate('own')]
  const tunerWith = (place: string, fast: string, mode: 'time' | 'heuristics' = 'time') => {
    const { bench, log } = fakeBench({ time: (id) => (id === fast ? 1.25 : 2.5) })
    const { cache } = open(place)
    const notes: string[] = []
    return {
      tuner: new Tuner({ bench, mode, verify: false, cache, note: (said) => notes.push(said) }),
      cache,
      log,
      notes,
    }
  }

  test.each(['b', 'own'])('the next process takes the winner %s without heuristics or timing', (fast) => {
    const place = folder()
    tunerWith(place, fast).tuner.choose(fakeTask('p', list))
    const { tuner, log, cache } = tunerWith(place, 'a')
    const task = fakeTask('p', list)
    expect(tuner.choose(task).id).toBe(fast)
    expect([task.asked, log]).toEqual([0, []])
    expect(tuner.counts).toMatchObject({ cached: 1, timed: 0 })
    const others = Object.fromEntries(['a', 'b', 'own'].flatMap((id) => (id === fast ? [] : [[id, 2.5]])))
    expect(cache.get('p')).toEqual({ id: fast, ...(fast === 'b' ? { recipe: 'B' } : {}), microseconds: 1.25, others })
  })

  test('an entry whose candidate cannot be made any more is tuned again and counted', () => {
    const place = folder()
    tunerWith(place, 'b').tuner.choose(fakeTask('p', list))
    const { tuner, notes, cache } = tunerWith(place, 'own')
    const task = fakeTask('p', () => list().filter(({ id }) => id !== 'b'))
    expect(tuner.choose(task).id).toBe('own')
    expect(tuner.counts).toMatchObject({ cached: 0, timed: 1, retuned: 1 })
    expect(notes).toEqual(['[tune] b, which the tuning cache has for p, cannot be used any more: tuning again.'])
    expect(cache.get('p')?.id).toBe('own')
    expect(unreleased(task)).toEqual(['own'])
  })

  test('a single candidate is kept without a time', () => {
    const place = folder()
    const { tuner, cache } = tunerWith(place, 'a')
    tuner.choose(fakeTask('p', () => [fakeCandidate('a', { recipe: 'A' })]))
    tuner.choose(fakeTask('q', () => [fakeCandidate('own')]))
    expect(cache.get('p')).toEqual({ id: 'a', recipe: 'A', others: {} })
    expect(cache.get('q')).toEqual({ id: 'own', others: {} })
  })

  test('what was accepted once is not asked again with the same libraries, unless everything is checked', () => {
    const place = folder()
    const asked: string[] = []
    const accepting = () => ({
      ...fakeTask('p', list),
      acceptance: (_: unknown, { id }: { readonly id: string }) => (asked.push(id), undefined),
    })
    tunerWith(place, 'b').tuner.choose(accepting())
    expect(asked).toEqual(['b'])
    tunerWith(place, 'a').tuner.choose(accepting())
    const required = tunerWith(place, 'a').tuner
    required.require({ p: 'b' })
    expect(required.choose(accepting()).id).toBe('b')
    expect(asked).toEqual(['b'])
    const { bench } = fakeBench({})
    new Tuner({ bench, mode: 'time', verify: true, cache: open(place).cache }).choose(accepting())
    const elsewhere = open(place, { ...identity, driver: '13010' }).cache
    new Tuner({ bench, mode: 'time', verify: false, cache: elsewhere }).choose(accepting())
    expect(asked).toEqual(['b', 'b', 'a'])
  })

  test('an entry that nobody accepted is asked as a fresh one, and what fails is tuned again', () => {
    const place = folder()
    tunerWith(place, 'b').tuner.choose(fakeTask('p', list))
    const { tuner } = tunerWith(place, 'b')
    const task = {
      ...fakeTask('p', list),
      acceptance: (_: unknown, { id }: { readonly id: string }) => (id === 'b' ? 'unfit' : undefined),
    }
    expect(tuner.choose(task).id).not.toBe('b')
    expect(tuner.counts).toMatchObject({ retuned: 1, dropped: 2, timed: 1 })
  })

  test('heuristics neither read nor write it', () => {
    const place = folder()
    tunerWith(place, 'b').tuner.choose(fakeTask('p', list))
    const { tuner, cache } = tunerWith(place, 'b', 'heuristics')
    expect(tuner.choose(fakeTask('p', list)).id).toBe('a')
    tuner.choose(fakeTask('q', list))
    expect([cache.get('p')?.id, cache.get('q')]).toEqual(['b', undefined])
  })

  test('what a checkpoint asks for is made from the cache where it has it', () => {
    const place = folder()
    tunerWith(place, 'b').tuner.choose(fakeTask('p', list))
    const { tuner } = tunerWith(place, 'a')
    tuner.require({ p: 'b' })
    const task = fakeTask('p', list)
    expect(tuner.choose(task).id).toBe('b')
    expect(task.asked).toBe(0)
  })
})
