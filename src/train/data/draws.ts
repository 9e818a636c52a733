// Counter-based random draws for data: every draw is a pure function of (seed, stream, epoch, index, block).
// Model randomness (initial weights, dropout) lives in src/tensor; this file serves data order and augmentation only.

/** The four 32-bit words of one block. */
export type Words = readonly [number, number, number, number]

/** What a block is drawn for: blocks of different streams never coincide. */
export type Stream = 'shuffle' | 'crop' | 'flip' | 'synthetic'

const streamNumber: { readonly [S in Stream]: number } = { shuffle: 1, crop: 2, flip: 3, synthetic: 4 }

const twoTo32 = 4294967296

/** The high 32 bits of the 64-bit product of two unsigned 32-bit numbers. */
function highProduct(a: number, b: number): number {
  const a0 = a & 0xffff
  const a1 = a >>> 16
  const b0 = b & 0xffff
  const b1 = b >>> 16
  const cross = a1 * b0 + ((a0 * b0) >>> 16)
  const middle = a0 * b1 + (cross % 65536)
  return (a1 * b1 + Math.floor(cross / 65536) + Math.floor(middle / 65536)) >>> 0
}

/**
 * One block of Philox4x32-10: four unsigned 32-bit words from a 128-bit counter and a 64-bit key.
 *
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
 */
export function philox4x32(counter: Words, key: readonly [number, number]): Words {
  let [c0, c1, c2, c3] = counter
  let [k0, k1] = key
  for (let round = 0; round < 10; round++) {
    const high0 = highProduct(0xd2511f53, c0)
    const low0 = Math.imul(0xd2511f53, c0) >>> 0
    const high1 = highProduct(0xcd9e8d57, c2)
    const low1 = Math.imul(0xcd9e8d57, c2) >>> 0
    c0 = (high1 ^ c1 ^ k0) >>> 0
    c1 = low1
    c2 = (high0 ^ c3 ^ k1) >>> 0
    c3 = low0
    k0 = (k0 + 0x9e3779b9) >>> 0
    k1 = (k1 + 0xbb67ae85) >>> 0
  }
  return [c0, c1, c2, c3]
}

/** The address of a block of draws. `seed` is any safe integer; the others are below 2^32 (index: below 2^53). */
export interface DrawAddress {
  readonly seed: number
  readonly stream: Stream
  readonly epoch: number
  readonly index: number
  /** Which block of four words at this address; 0 (the default) is the first; below 2^24. */
  readonly block?: number
}

const low = (n: number): number => n >>> 0
const high = (n: number): number => Math.floor(n / twoTo32) >>> 0

/** Four unsigned 32-bit words at an address: the same address gives the same words on every machine. */
export function drawWords({ seed, stream, epoch, index, block = 0 }: DrawAddress): Words {
  // The stream shares a word with the block: 8 and 24 bits.
  const tag = ((streamNumber[stream] << 24) | (block & 0xffffff)) >>> 0
  return philox4x32([low(index), high(index), tag, low(epoch)], [low(seed), high(seed)])
}

/** A word as a number in [0, 1), a multiple of 2^-32. */
export const unit = (word: number): number => word / twoTo32

/** A word as an integer in [0, n); the bias of at most n / 2^32 is far below what an augmentation can show. */
export const below = (word: number, n: number): number => Math.floor(unit(word) * n)

/**
 * The order in which an epoch visits n samples: a Fisher-Yates shuffle drawn from (seed, epoch).
 *
 * @returns a permutation of 0..n-1; the same (seed, epoch, n) gives the same one.
 */
export function shuffledOrder(seed: number, epoch: number, n: number): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i)
  for (let i = n - 1; i > 0; i--) {
    // 53 bits, so that an order of millions has no measurable bias; two draws share a block.
    const words = drawWords({ seed, stream: 'shuffle', epoch, index: i >> 1 })
    const [a, b] = i % 2 === 0 ? [words[0], words[1]] : [words[2], words[3]]
    const j = Math.floor(((a >>> 5) * 67108864 + (b >>> 6)) * 2 ** -53 * (i + 1))
    const held = order[i] ?? 0
    order[i] = order[j] ?? 0
    order[j] = held
  }
  return order
}
