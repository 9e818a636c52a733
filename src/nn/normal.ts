// Normal numbers from random words by Box and Muller's transform, as fast as tables and vectors allow and with the bits of
// the plain formula: where the tables' error could decide how a number rounds to f32, the formula itself is asked. Which
// words, and for which parameter, is init.ts's.
import { range } from '../tensor/shape.ts'
import { type Code, f64x2, i32, i32x4, i64x2, makeWasm, repeat, unless, v128 } from '../tensor/wasm.ts'

/** The numbers that are made in one go at most. */
const chunk = 1 << 16

/**
 * Fills `out` with normal numbers of mean 0; each pair of `words` makes a pair of independent numbers. The words are at
 * least as many as `out`, and even in number.
 */
export function fillNormal(out: Float32Array, words: Int32Array, deviation: number): void {
  fast ??= make()
  if (fast === 'none') {
    for (let i = 0; i < out.length; i += 2) plainPair(out, i, words, i, deviation)
    return
  }
  for (let start = 0; start < out.length; start += chunk) {
    const count = Math.min(chunk, out.length - start)
    fast.words.set(words.subarray(start, start + count + (count & 1)))
    fast.deviation = deviation
    fast.run(0, count * 4, deviation)
    out.set(fast.out.subarray(0, count), start)
  }
}

/** The formula: radius sqrt(-2 log u), angle 2 pi v. */
export function plainPair(out: Float32Array, i: number, words: Int32Array, at: number, deviation: number): void {
  const radius = deviation * Math.sqrt(-2 * Math.log(unit(words[at] ?? 0)))
  const angle = 2 * Math.PI * unit(words[at + 1] ?? 0)
  out[i] = radius * Math.cos(angle)
  if (i + 1 < out.length) out[i + 1] = radius * Math.sin(angle)
}

/** A word as a number strictly between 0 and 1. */
export function unit(word: number): number {
  return ((word >>> 0) + 0.5) * 2 ** -32
}

interface Fast {
  readonly words: Int32Array
  readonly out: Float32Array
  readonly run: (...parameters: number[]) => void
  /** That of the present call. */
  deviation: number
}

let fast: Fast | 'none' | undefined

const indexBits = 10
const size = 1 << indexBits

/** Where things lie in memory, in bytes: words, results, [1 / c, log c] by interval, [cos, sin, -sin, cos] by interval. */
const places = { out: chunk * 4, logarithms: chunk * 8, turns: chunk * 8 + size * 16, end: chunk * 8 + size * 48 }

/**
 * How far the tables' pair may be from the formula's, relative to the radius. The formula's angle is rounded twice near
 * 2 pi (7e-16), and so are those of the table; the products, sums and series of both add fewer than ten roundings of 1.1e-16.
 */
const mostError = 4e-15

function make(): Fast | 'none' {
  const wasm = makeWasm({
    pages: Math.ceil(places.end / 65536),
    parameters: { address: 'i32', end: 'i32', deviation: 'f64' },
    variables: {
      turn: 'i32',
      ...vectors('words', 'u', 'interval', 'first', 'second', 'r', 'exponent', 'radius', 't', 'square'),
      ...vectors('cosT', 'sinT', 'x', 'y', 'low', 'high'),
    },
    body: ({ get, set }) =>
      repeat(
        [
          ...set('words', v128.load(get('address'))),
          ...radius({ get, set }),
          ...rest({ get, set }),
          ...turned({ get, set }, 'x', 0),
          ...turned({ get, set }, 'y', 1),
          ...set('t', f64x2.mul(get('radius'), f64x2.same(mostError))),
          ...set('first', both(get('t'), 0)),
          ...set('second', both(get('t'), 1)),
          ...set('low', rounded(f64x2.sub(get('x'), get('first')), f64x2.sub(get('y'), get('second')))),
          ...set('high', rounded(f64x2.add(get('x'), get('first')), f64x2.add(get('y'), get('second')))),
          ...v128.store(get('address'), get('low'), places.out),
          ...unless(i32x4.allTrue(i32x4.eq(get('low'), get('high'))), get('address')),
          ...set('address', i32.add(get('address'), i32.const(16))),
        ],
        i32.ltU(get('address'), get('end')),
      ),
    outside: (address) => {
      if (fast === undefined || fast === 'none') return
      for (const i of [address / 4, address / 4 + 2]) plainPair(fast.out, i, fast.words, i, fast.deviation)
    },
  })
  if (wasm === undefined) return 'none'
  fillTables(new Float64Array(wasm.memory))
  const words = new Int32Array(wasm.memory, 0, chunk)
  return { words, out: new Float32Array(wasm.memory, places.out, chunk), run: wasm.run, deviation: 1 }
}

type Vector = 'words' | 'u' | 'interval' | 'first' | 'second' | 'r' | 'exponent' | 'radius' | 't' | 'square'
type Result = 'cosT' | 'sinT' | 'x' | 'y' | 'low' | 'high'
interface Names {
  readonly get: (name: Vector | Result | 'address' | 'end' | 'deviation' | 'turn') => Code
  readonly set: (name: Vector | Result | 'turn', value: Code) => Code
}

function vectors<Name extends string>(...names: Name[]): Record<Name, 'v128'> {
  return Object.fromEntries(names.map((name) => [name, 'v128'])) as Record<Name, 'v128'>
}

/** c0 + x (c1 + x (c2 + ...)). */
function series(x: Code, ...[first = 0, ...others]: readonly number[]): Code {
  if (others.length === 0) return f64x2.same(first)
  return f64x2.add(f64x2.same(first), f64x2.mul(x, series(x, ...others)))
}

/** A vector of one of two numbers, twice. */
function both(numbers: Code, which: 0 | 1): Code {
  return i32x4.shuffle(numbers, numbers, which === 0 ? [0, 1, 0, 1] : [2, 3, 2, 3])
}

/** Four numbers in single precision. */
function rounded(first: Code, second: Code): Code {
  return i32x4.shuffle(f64x2.demote(first), f64x2.demote(second), [0, 1, 4, 5])
}

/**
 * radius = deviation sqrt(-2 log(u 2^-32)) for u = word + 1/2 = m 2^e with 1/2 <= m < 1: log m is that of the middle c of
 * m's interval and a series of r = m / c - 1, which is exact and less than 2^-10.
 */
function radius({ get, set }: Names): Code {
  const bits = (value: bigint): Code => i64x2.same(value)
  const entry = (lane: number): Code => v128.load(i32x4.lane(get('interval'), lane), places.logarithms)
  const mantissa = v128.or(v128.and(get('u'), bits(2n ** 52n - 1n)), bits(0x3fe0_0000_0000_0000n))
  const logarithm = f64x2.add(
    f64x2.add(
      i32x4.shuffle(get('first'), get('second'), [2, 3, 6, 7]),
      f64x2.mul(get('exponent'), f64x2.same(Math.LN2)),
    ),
    f64x2.mul(get('r'), series(get('r'), 1, -1 / 2, 1 / 3, -1 / 4, 1 / 5)),
  )
  return [
    ...set('u', i32x4.shuffle(get('words'), get('words'), [0, 2, 0, 2])),
    ...set('u', f64x2.add(f64x2.convertLowU(get('u')), f64x2.same(0.5))),
    ...set('interval', v128.and(i64x2.shrU(get('u'), 52 - indexBits - 4), bits(BigInt((size - 1) * 16)))),
    ...[...set('first', entry(0)), ...set('second', entry(2))],
    ...set('r', f64x2.mul(mantissa, i32x4.shuffle(get('first'), get('second'), [0, 1, 4, 5]))),
    ...set('r', f64x2.sub(get('r'), f64x2.same(1))),
    // An exponent's bits, put under those of 2^52, are a number.
    ...set('exponent', v128.or(i64x2.shrU(get('u'), 52), bits(0x4330_0000_0000_0000n))),
    ...set('exponent', f64x2.sub(get('exponent'), f64x2.same(2 ** 52 + 1022 + 32))),
    ...set('radius', f64x2.sqrt(f64x2.mul(logarithm, f64x2.same(-2)))),
    ...set('radius', f64x2.mul(get('radius'), f64x2.splat(get('deviation')))),
  ]
}

/** radius cos t and radius sin t of the angle t between the turn and the middle of its interval, at most pi / 1024. */
function rest({ get, set }: Names): Code {
  const below = 32 - indexBits
  const turns = i32x4.shuffle(get('words'), get('words'), [1, 3, 1, 3])
  const fraction = f64x2.sub(
    f64x2.convertLowU(v128.and(turns, i32x4.same(2 ** below - 1))),
    f64x2.same(2 ** (below - 1) - 0.5),
  )
  return [
    ...set('t', f64x2.mul(fraction, f64x2.same((2 * Math.PI) / 2 ** 32))),
    ...set('square', f64x2.mul(get('t'), get('t'))),
    ...set('cosT', f64x2.mul(get('radius'), series(get('square'), 1, -1 / 2, 1 / 24))),
    ...set('sinT', f64x2.mul(f64x2.mul(get('radius'), get('t')), series(get('square'), 1, -1 / 6, 1 / 120))),
  ]
}

/** `to` = radius [cos, sin] of a pair's angle: those of its interval's middle, turned by t. */
function turned({ get, set }: Names, to: 'x' | 'y', pair: 0 | 1): Code {
  const word = i32x4.lane(get('words'), 1 + 2 * pair)
  return [
    ...set('turn', i32.and(i32.shrU(word, i32.const(32 - indexBits - 5)), i32.const((size - 1) * 32))),
    ...set(
      to,
      f64x2.add(
        f64x2.mul(v128.load(get('turn'), places.turns), both(get('cosT'), pair)),
        f64x2.mul(v128.load(get('turn'), places.turns + 16), both(get('sinT'), pair)),
      ),
    ),
  ]
}

/** 1 / c in 20 bits, so that its product with a word is exact, and 1 in the last interval, where logarithms come near 0. */
function fillTables(memory: Float64Array): void {
  for (const k of range(size)) {
    const middle = (k + 0.5) / size
    const inverse = k === size - 1 ? 1 : Math.round(2 ** 19 / (0.5 + middle / 2)) / 2 ** 19
    memory.set([inverse, -Math.log(inverse)], places.logarithms / 8 + 2 * k)
    const [cosine, sine] = [Math.cos(2 * Math.PI * middle), Math.sin(2 * Math.PI * middle)]
    memory.set([cosine, sine, -sine, cosine], places.turns / 8 + 4 * k)
  }
}
