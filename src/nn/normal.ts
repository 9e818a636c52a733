// Normal numbers from random words by Box and Muller's transform, as fast as tables allow and with the bits of the plain
// formula: where the tables' error could decide how a number rounds to f32, the formula itself is asked. Which words, and
// for which parameter, is init.ts's.
import { range } from '../tensor/shape.ts'

/**
 * Fills `out` with normal numbers of mean 0; each pair of `words` makes a pair of independent numbers. The words are at
 * least as many as `out`, and even in number.
 */
export function fillNormal(out: Float32Array, words: Int32Array, deviation: number): void {
  const { inverse, logarithm, cosine, sine, exponent } = (tables ??= makeTables())
  const last = out.length - 1
  for (let i = 0; i <= last; i += 2) {
    const word = words[i] ?? 0
    const turn = words[i + 1] ?? 0
    // The logarithm of u = (word + 1/2) / 2^32, which is m 2^-shift with 1/2 <= m < 1; r is exact, and less than 2^-10.
    const shift = Math.clz32(word)
    const k = ((word << shift) >>> (31 - indexBits)) & (size - 1)
    const r = ((word >>> 0) + 0.5) * (exponent[shift] ?? 0) * (inverse[k] ?? 0) - 1
    const series = r * (1 - r * (0.5 - r * (1 / 3 - r * (0.25 - r * 0.2))))
    const radius = deviation * Math.sqrt(-2 * ((logarithm[k] ?? 0) - shift * Math.LN2 + series))
    // The angle's cosine and sine: those of the middle of its interval, turned by what is left, t < pi / 1024.
    const j = turn >>> (32 - indexBits)
    const t = ((turn & restMask) - restMiddle) * perTurn
    const cosT = 1 - t * t * (0.5 - t * t * (1 / 24))
    const sinT = t * (1 - t * t * (1 / 6 - t * t * (1 / 120)))
    const x = radius * ((cosine[j] ?? 0) * cosT - (sine[j] ?? 0) * sinT)
    const y = radius * ((sine[j] ?? 0) * cosT + (cosine[j] ?? 0) * sinT)
    const doubt = radius * mostError
    const low = Math.fround(x - doubt)
    const high = Math.fround(y - doubt)
    if (low === Math.fround(x + doubt) && high === Math.fround(y + doubt) && shift < smallShift) {
      out[i] = low
      if (i < last) out[i + 1] = high
    } else plainPair(out, i, word, turn, deviation)
  }
}

/** The formula: radius sqrt(-2 log u), angle 2 pi v. */
function plainPair(out: Float32Array, i: number, word: number, turn: number, deviation: number): void {
  const radius = deviation * Math.sqrt(-2 * Math.log(unit(word)))
  const angle = 2 * Math.PI * unit(turn)
  out[i] = radius * Math.cos(angle)
  if (i + 1 < out.length) out[i + 1] = radius * Math.sin(angle)
}

/** A word as a number strictly between 0 and 1. */
export function unit(word: number): number {
  return ((word >>> 0) + 0.5) * 2 ** -32
}

const indexBits = 10
const size = 1 << indexBits
const restMask = 2 ** (32 - indexBits) - 1
const restMiddle = 2 ** (31 - indexBits) - 0.5
const perTurn = (2 * Math.PI) / 2 ** 32

/** From words this small (one in four million) the half added to them changes the interval: the formula's. */
const smallShift = 22

/**
 * How far the tables' pair may be from the formula's, relative to the radius. The formula's angle is rounded twice near
 * 2 pi (7e-16), and so are those of the table; the products, sums and series of both add fewer than ten roundings of 1.1e-16.
 */
const mostError = 4e-15

interface Tables {
  /** 1 / c at the middle c of interval k of [1/2, 1), in 20 bits, so that its product with a word is exact. */
  readonly inverse: Float64Array
  /** log c; 0 in the last interval, so that logarithms near 0 lose nothing. */
  readonly logarithm: Float64Array
  readonly cosine: Float64Array
  readonly sine: Float64Array
  /** 2^(shift - 32). */
  readonly exponent: Float64Array
}

let tables: Tables | undefined

function makeTables(): Tables {
  const middles = range(size).map((k) => (k + 0.5) / size)
  const inverse = Float64Array.from(middles, (middle, k) =>
    k === size - 1 ? 1 : Math.round(2 ** 19 / (0.5 + middle / 2)) / 2 ** 19,
  )
  return {
    inverse,
    logarithm: inverse.map((value) => -Math.log(value)),
    cosine: Float64Array.from(middles, (middle) => Math.cos(2 * Math.PI * middle)),
    sine: Float64Array.from(middles, (middle) => Math.sin(2 * Math.PI * middle)),
    exponent: Float64Array.from(range(33), (shift) => 2 ** (shift - 32)),
  }
}
