// The check by numbers: what rounding explains passes, for every order of summation; what it does not is found.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import { Tuner } from '../../src/cuda/tune/index.ts'
import { tolerance } from '../../src/cuda/tune/verify.ts'
import { type DType, bytesOf, storageView } from '../../src/tensor/dtype.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import { randomBits } from '../../src/tensor/philox.ts'
import { at, range } from '../../src/tensor/shape.ts'
import {
  type Action,
  type FakeCandidate,
  FakeMemory,
  fakeBench,
  fakeCandidate,
  fakeTask,
  unreleased,
} from './tune-fake.ts'

function read(memory: FakeMemory, address: DevicePointer | undefined, dtype: DType, count: number) {
  const bytes = memory.bytes(address ?? 0n, count * bytesOf(dtype)).slice()
  return decode(dtype, storageView(dtype, bytes.buffer, 0, count))
}

function store(memory: FakeMemory, address: DevicePointer | undefined, dtype: DType, values: readonly number[]): void {
  const stored = encode(dtype, values)
  memory.bytes(address ?? 0n, stored.byteLength).set(new Uint8Array(stored.buffer))
}

/** How a sum is formed: the rounding of operands, of partial sums, and how many products are added at once. */
interface Summation {
  readonly operand: (value: number) => number
  readonly partial: (value: number) => number
  readonly step: number
}

const exact: Summation = { operand: (x) => x, partial: (x) => x, step: 1 }
const nearest: Summation = { ...exact, partial: Math.fround }
/** What a Tensor Core may do: sixteen products at once, the sum cut off towards zero. */
const cut: Summation = { ...exact, partial: towardsZero, step: 16 }
const tf32: Summation = { operand: (x) => roundBits(x, 11), partial: towardsZero, step: 8 }

const rounded = new Float32Array(1)
const roundedBits = new Int32Array(rounded.buffer)

function towardsZero(value: number): number {
  rounded[0] = value
  if (Math.abs(at(rounded, 0)) > Math.abs(value)) roundedBits[0] = at(roundedBits, 0) - 1
  return at(rounded, 0)
}

function roundBits(value: number, bits: number): number {
  if (value === 0) return 0
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(value))) + 1 - bits)
  return Math.round(value / unit) * unit
}

/** The sum of the products of the first `depth` elements of a and those of b from `start` on. */
function innerSum(a: ArrayLike<number>, b: ArrayLike<number>, start: number, depth: number, how: Summation): number {
  let sum = 0
  for (let first = 0; first < depth; first += how.step) {
    let group = 0
    for (let k = first; k < Math.min(depth, first + how.step); k++) group += at(a, k) * at(b, start + k)
    sum = how.partial(sum + group)
  }
  return sum
}

/** c[i] = sum over k of a[k] b[i, k]. */
function product(dtype: DType, depth: number, columns: number, how: Summation): Action {
  return (memory, [left, right, out]) => {
    const a = Float64Array.from(read(memory, left, dtype, depth), how.operand)
    const b = Float64Array.from(read(memory, right, dtype, depth * columns), how.operand)
    store(
      memory,
      out,
      dtype,
      range(columns).map((column) => innerSum(a, b, column * depth, depth, how)),
    )
  }
}

const columns = 16

function productTask(dtype: DType, depth: number, precision: 'tf32' | 'ieee', ways: Readonly<Record<string, Action>>) {
  const inputs = [
    { dtype, shape: [depth] },
    { dtype, shape: [columns, depth] },
  ]
  const make = () => Object.entries(ways).map(([id, run]) => fakeCandidate(id, { run }))
  const reference = () =>
    fakeCandidate('plain', { run: product(dtype, depth, columns, dtype === 'f64' ? exact : nearest) })
  return fakeTask('p', make, { inputs, outputs: [{ dtype, shape: [columns] }], depth, precision, reference })
}

/** The tuner, to which the earlier candidate is the faster. */
function verifier() {
  const { bench, memory, held } = fakeBench({ time: (id) => 1000 * id.length })
  const notes: string[] = []
  return {
    tuner: new Tuner({ bench, mode: 'time', verify: true, note: (said) => notes.push(said) }),
    notes,
    memory,
    held,
  }
}

describe('what rounding explains', () => {
  const depths = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(512, 2048, 20_000))
  const ieee = 'ieee' as const
  const cases = fc.oneof(
    fc.tuple(
      fc.constantFrom('f16' as const, 'bf16' as const, 'f32' as const),
      fc.constantFrom(nearest, cut),
      fc.constant(ieee),
    ),
    fc.constant(['f32', tf32, 'tf32'] as const),
    fc.constant(['f64', { ...exact, step: 7 }, ieee] as const),
  )

  /** Two sums of the same random products are as close as the tolerance says. */
  function expectClose(
    [dtype, how, precision]: readonly [DType, Summation, 'tf32' | 'ieee'],
    depth: number,
    seed: number,
  ) {
    const [a, b] = [1, 2].map((stream) => {
      const words = randomBits([seed, 0], 0, stream, 32, depth)
      return decode(
        dtype,
        encode(
          dtype,
          Float64Array.from(words, (word) => word / 2 ** 31),
        ),
      )
    }) as [Float64Array, Float64Array]
    const [left, right] = [Float64Array.from(a, how.operand), Float64Array.from(b, how.operand)]
    const got = roundTo(dtype, innerSum(left, right, 0, depth, how))
    const expected = roundTo(dtype, innerSum(a, b, 0, depth, dtype === 'f64' ? exact : nearest))
    const allowed = tolerance(productTask(dtype, depth, precision, {}), dtype)(got, expected)
    expect(Math.abs(got - expected)).toBeLessThanOrEqual(allowed)
  }

  test('is within the tolerance, for any operands', () => {
    fc.assert(fc.property(cases, depths, fc.integer(), (summation, depth, seed) => expectClose(summation, depth, seed)))
  })

  test('is within the tolerance for sums so long that cutting off counts for more than rounding', () => {
    expectClose(['f32', { ...cut, step: 8 }, 'ieee'], 2 ** 18, 3)
  })

  test.each([
    ['f16', cut, 'ieee'],
    ['bf16', cut, 'ieee'],
    ['f32', nearest, 'ieee'],
    ['f32', tf32, 'tf32'],
    ['f64', { ...exact, step: 7 }, 'ieee'],
  ] as const)('passes: %s', (dtype, how, precision) => {
    const { tuner, notes } = verifier()
    expect(tuner.choose(productTask(dtype, 300, precision, { a: product(dtype, 300, columns, how) })).id).toBe('a')
    expect(notes).toEqual([])
  })
})

describe('what it does not', () => {
  const depth = 300
  const right = product('f32', depth, columns, nearest)
  let calls = 0
  const wrong: Readonly<Record<string, Action>> = {
    'a product too few': product('f32', depth - 1, columns, nearest),
    'rounded to 11 bits where IEEE is asked for': product('f32', depth, columns, tf32),
    'partial sums of 16 bits': product('f32', depth, columns, { ...nearest, partial: (x) => roundBits(x, 11) }),
    'an element left out': (memory, operands) => {
      const before = read(memory, operands[2], 'f32', columns)
      right(memory, operands, undefined)
      const after = [...read(memory, operands[2], 'f32', columns)]
      store(memory, operands[2], 'f32', [...after.slice(0, columns - 1), at(before, columns - 1)])
    },
    'other bits the second time': (memory, operands) => {
      right(memory, operands, undefined)
      const sums = [...read(memory, operands[2], 'f32', columns)]
      calls += 1
      store(
        memory,
        operands[2],
        'f32',
        sums.map((value) => value * (1 + (calls % 2) * 2 ** -23)),
      )
    },
    'a result for the transposed operand': (memory, [left, operand, out]) => {
      const turned = memory.allocate(4 * depth * columns)
      const values = read(memory, operand, 'f32', depth * columns)
      const places = range(depth * columns).map((index) => (index % columns) * depth + Math.floor(index / columns))
      store(
        memory,
        turned,
        'f32',
        places.map((place) => at(values, place)),
      )
      right(memory, [left, turned, out] as DevicePointer[], undefined)
      memory.free(turned)
    },
    failure: () => {
      throw new Error('it fails')
    },
  }

  test.each(Object.keys(wrong))('%s is dropped by name, and the next best taken', (name) => {
    const { tuner, notes, memory, held } = verifier()
    const task = productTask('f32', depth, 'ieee', {
      a: at(Object.values(wrong), Object.keys(wrong).indexOf(name)),
      bb: right,
      ccc: right,
    })
    expect(tuner.choose(task).id).toBe('bb')
    expect(notes).toHaveLength(1)
    expect(notes[0]).toMatch(/^\[tune\] dropped a for p: it /)
    expect(tuner.counts.dropped).toBe(1)
    expect(unreleased(task)).toEqual(['bb'])
    expect([memory.used, held.bounds]).toEqual([0, 0])
  })

  test('a sentence says which element is off', () => {
    const { tuner, notes } = verifier()
    tuner.choose(
      productTask('f32', 4, 'ieee', {
        a: (memory, [, , out]) =>
          store(
            memory,
            out,
            'f32',
            range(columns).map(() => 100),
          ),
        bb: product('f32', 4, columns, nearest),
      }),
    )
    expect(notes[0]).toMatch(
      /^\[tune\] dropped a for p: it gives 100 for element 0 of a result and -?[\d.]+ is expected from plain$/,
    )
  })
})

describe('when it is done', () => {
  const wrongRun: Action = (memory, operands) => store(memory, operands[1], 'f32', [1, 2, 3, 4])
  const rightRun: Action = (memory, operands) => store(memory, operands[1], 'f32', [0, 0, 0, 0])
  const reference = () => fakeCandidate('plain', { run: rightRun })

  test('by heuristics too, and for a single candidate', () => {
    const { bench } = fakeBench()
    const tuner = new Tuner({ bench, mode: 'heuristics', verify: true })
    const list = (): FakeCandidate[] => [fakeCandidate('a', { run: wrongRun }), fakeCandidate('b', { run: rightRun })]
    expect(tuner.choose(fakeTask('p', list, { reference })).id).toBe('b')
    const single = fakeTask('q', () => [fakeCandidate('a', { run: wrongRun })], { reference })
    expect(() => tuner.choose(single)).toThrow(/got none \(a: it gives 1 for element 0/)
    expect(unreleased(single)).toEqual([])
  })

  test('the reference itself is not compared with itself, and nothing is compared unless asked', () => {
    const { bench, log } = fakeBench()
    new Tuner({ bench, mode: 'time', verify: true }).choose(
      fakeTask('p', () => [fakeCandidate('plain')], { reference }),
    )
    new Tuner({ bench, mode: 'time', verify: false }).choose(fakeTask('p', () => [fakeCandidate('a')], { reference }))
    expect(log).toEqual([])
  })

  test('without memory it is said that the candidate is unchecked', () => {
    const { bench } = fakeBench({ memory: new FakeMemory(16) })
    const notes: string[] = []
    const tuner = new Tuner({ bench, mode: 'time', verify: true, note: (said) => notes.push(said) })
    expect(tuner.choose(fakeTask('p', () => [fakeCandidate('a', { run: wrongRun })], { reference })).id).toBe('a')
    expect(notes).toEqual(['[tune] no memory to check a for p: it is used unchecked.'])
  })

  test('a large result is compared in pieces over its whole length', () => {
    const elements = 5 * 2 ** 20
    const spoil =
      (element: number): Action =>
      (memory, operands) => {
        const bytes = memory.bytes(operands[1] ?? 0n, elements * 4)
        bytes.fill(0)
        bytes.fill(0x40, element * 4, element * 4 + 2 ** 20)
      }
    const zeros: Action = (memory, operands) => void memory.bytes(operands[1] ?? 0n, elements * 4).fill(0)
    const { bench } = fakeBench()
    const tuner = new Tuner({ bench, mode: 'time', verify: true })
    for (const element of [2 ** 21, elements - 2 ** 18]) {
      const list = () => [fakeCandidate('a', { run: spoil(element) })]
      const given = {
        outputs: [{ dtype: 'f32', shape: [elements] }] as const,
        reference: () => fakeCandidate('plain', { run: zeros }),
      }
      expect(() => tuner.choose(fakeTask(`p${element}`, list, given))).toThrow(/it gives 3\.00\d* for element/)
    }
  })
})
