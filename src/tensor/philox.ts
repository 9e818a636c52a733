// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) on the host: the definition every
// device's randomBits must agree with, bit for bit. Many blocks at once are made by philox-blocks.ts.
import { ValueError } from './errors.ts'
import { mostBlocks, philoxBlocks } from './philox-blocks.ts'

const multiplier0 = 0xd2511f53 | 0
const multiplier1 = 0xcd9e8d57 | 0
const weyl0 = 0x9e3779b9 | 0
const weyl1 = 0xbb67ae85 | 0

/** Four random words from a 128-bit counter and a 64-bit key, written to `out` as signed 32-bit integers. */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
  out: Int32Array,
  offset = 0,
): void {
  writeBlock(...counter, ...key, out, offset)
}

/**
 * The meaning of the randomBits primitive: element i is word i mod 4 of the block with the counter
 * (i div 4, offset, stream, 0), its low `bits` bits.
 */
export function randomBits(
  key: readonly [number, number],
  offset: number,
  stream: number,
  bits: number,
  count: number,
): Int32Array {
  const words = new Int32Array(count)
  fillWords(words, key, offset, stream)
  if (bits === 32) return words
  const mask = 2 ** bits - 1
  return words.map((word) => word & mask)
}

const fewest = 256 // blocks that are worth a call of the other engine

/** @internal Fills `words` with the elements 0, 1, ... of randomBits, 32 bits each. */
export function fillWords(words: Int32Array, key: readonly [number, number], offset: number, stream: number): void {
  const blocks = Math.ceil(words.length / 4)
  for (let first = 0; first < blocks; first += mostBlocks) {
    const end = Math.min(blocks, first + mostBlocks)
    const drawn =
      (end - first < fewest ? undefined : philoxBlocks(first, end, offset, stream, key)) ??
      plainBlocks(first, end, offset, stream, key)
    words.set(end * 4 > words.length ? drawn.subarray(0, words.length - first * 4) : drawn, first * 4)
  }
}

/** @internal What {@link philoxBlocks} gives, by the definition. */
export function plainBlocks(
  first: number,
  end: number,
  offset: number,
  stream: number,
  [key0, key1]: readonly [number, number],
): Int32Array {
  const words = new Int32Array((end - first) * 4)
  for (let block = first; block < end; block++)
    writeBlock(block | 0, offset, stream, 0, key0, key1, words, (block - first) * 4)
  return words
}

/** The rounds, on plain numbers. */
function writeBlock(
  counter0: number,
  counter1: number,
  counter2: number,
  counter3: number,
  key0: number,
  key1: number,
  out: Int32Array,
  offset: number,
): void {
  let c0 = counter0
  let c1 = counter1
  let c2 = counter2
  let c3 = counter3
  let k0 = key0
  let k1 = key1
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(multiplier0, c0)
    const low0 = Math.imul(multiplier0, c0)
    const high1 = multiplyHigh(multiplier1, c2)
    const low1 = Math.imul(multiplier1, c2)
    c0 = high1 ^ c1 ^ k0
    c1 = low1
    c2 = high0 ^ c3 ^ k1
    c3 = low0
    k0 = (k0 + weyl0) | 0
    k1 = (k1 + weyl1) | 0
  }
  out[offset] = c0
  out[offset + 1] = c1
  out[offset + 2] = c2
  out[offset + 3] = c3
}

/** The high 32 bits of the product of two unsigned 32-bit integers, by 16-bit halves. */
function multiplyHigh(a: number, b: number): number {
  const aHigh = a >>> 16
  const aLow = a & 0xffff
  const bHigh = b >>> 16
  const bLow = b & 0xffff
  const middle = (Math.imul(aHigh, bLow) + (Math.imul(aLow, bLow) >>> 16)) | 0
  const cross = (Math.imul(aLow, bHigh) + (middle & 0xffff)) | 0
  return (Math.imul(aHigh, bHigh) + (middle >>> 16) + (cross >>> 16)) | 0
}

/** The two words of a seed's key: an integer of up to 53 bits. */
export function seedWords(seed: number): [number, number] {
  if (!Number.isSafeInteger(seed)) throw new ValueError(`[random.key] expected an integer seed, got ${seed}.`)
  return [seed | 0, Math.floor(seed / 2 ** 32) | 0]
}
