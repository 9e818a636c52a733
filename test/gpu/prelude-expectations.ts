// What the kernels of prelude-kernels.ts are given, and what they should leave. Nothing here knows of a GPU.
import { type DType, bytesOf, dtypes } from '../../src/tensor/dtype.ts'
import { decode, encode } from '../../src/tensor/half.ts'
import { randomBits } from '../../src/tensor/philox.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { vectorWidths } from './prelude-kernels.ts'

/** Random bytes. */
export function randomBytes(seed: number, count: number): Uint8Array {
  const words = Uint32Array.from(randomBits([seed, 0x70726c], 0, 0, 32, Math.ceil(count / 4)))
  return new Uint8Array(words.buffer, 0, count)
}

/** Bytes of the arrays of `access`. */
export function accessBytes(threads: number): number {
  return 16 * threads + 8 + 8 * threads + 4 + 4 * threads
}

/** What `access` leaves of `given` in an array of 0xa5: everything but the two gaps. */
export function accessed(given: Uint8Array, threads: number): Uint8Array {
  const out = given.slice()
  out.fill(0xa5, 16 * threads, 16 * threads + 8)
  out.fill(0xa5, 24 * threads + 8, 24 * threads + 12)
  return out
}

/** The regions of `vectors`: which dtype, and how many elements at once. */
export const vectorRegions = dtypes.flatMap((dtype) => vectorWidths.map((width) => ({ dtype, width })))

/** Bytes of a region; each thread takes 8 elements of 8 bytes at most. */
export function regionBytes(threads: number): number {
  return 64 * threads
}

/** Elements of every dtype that come back as they are: no NaN, whose payload is free, and bools of 0 and 1. */
export function vectorInput(seed: number, threads: number): Uint8Array {
  const region = regionBytes(threads)
  const all = randomBytes(seed, region * vectorRegions.length)
  vectorRegions.forEach(({ dtype, width }, index) => {
    const used = all.subarray(region * index, region * index + threads * width * bytesOf(dtype))
    if (dtype === 'bool') used.forEach((byte, i) => (used[i] = byte & 1))
    else if (dtype !== 'u8' && dtype !== 'i32') clearNaN(dtype, used)
  })
  return all
}

/** Takes a bit of the exponent away. */
function clearNaN(dtype: Exclude<DType, 'u8' | 'i32' | 'bool'>, bytes: Uint8Array): void {
  const size = bytesOf(dtype)
  for (let last = size - 1; last < bytes.length; last += size) bytes[last] = at(bytes, last) & 0xbf
}

/** What `vectors` leaves in an array of 0xa5. */
export function vectorOutput(given: Uint8Array, threads: number): Uint8Array {
  const region = regionBytes(threads)
  const out = given.slice()
  vectorRegions.forEach(({ dtype, width }, index) =>
    out.fill(0xa5, region * index + threads * width * bytesOf(dtype), region * (index + 1)),
  )
  return out
}

/** What `copies` leaves: a thread's own first 16 bytes, and its neighbour's second. */
export function copied(given: Uint8Array): Uint8Array {
  const out = new Uint8Array(given.length)
  for (const thread of range(given.length / 32)) {
    const neighbour = thread ^ 1
    out.set(arrived(given.subarray(32 * thread, 32 * thread + 16), thread), 32 * thread)
    out.set(arrived(given.subarray(32 * neighbour + 16, 32 * neighbour + 32), neighbour), 32 * thread + 16)
  }
  return out
}

function arrived(bytes: Uint8Array, thread: number): Uint8Array {
  if (thread % 4 === 3) return bytes.slice().fill(0x5a)
  return thread % 4 === 2 ? bytes.slice().fill(0) : bytes
}

/** How the operands of a product are drawn. */
export const productKinds = ['uniform', 'whole numbers', 'many magnitudes', 'infinities, NaN, subnormals'] as const

/** Operands of small products, warp by warp: [16, 16] and [16, 8] in 16 bits, [16, 8] in f32. */
export interface Products {
  readonly left: Uint16Array
  readonly right: Uint16Array
  readonly onto: Float32Array
}

/** Products of every kind in turn. */
export function productOperands(dtype: 'f16' | 'bf16', seed: number, count: number): Products {
  const draw = (salt: number, size: number): Float64Array => {
    const words = randomBits([seed, salt], 0, 0, 32, 2 * count * size)
    return Float64Array.from({ length: count * size }, (_, i) =>
      drawn(Math.floor(i / size) % productKinds.length, dtype, at(words, 2 * i) >>> 0, at(words, 2 * i + 1) >>> 0),
    )
  }
  return {
    left: encode(dtype, draw(1, 256)) as Uint16Array,
    right: encode(dtype, draw(2, 128)) as Uint16Array,
    onto: Float32Array.from(draw(3, 128)),
  }
}

function drawn(kind: number, dtype: 'f16' | 'bf16', word: number, other: number): number {
  const uniform = word / 2 ** 31 - 1
  if (kind === 0) return uniform
  if (kind === 1) return Math.floor(uniform * 9)
  const most = dtype === 'f16' ? 14 : 40
  if (kind === 2) return uniform * 2 ** ((other % (2 * most)) - most)
  const least = dtype === 'f16' ? 2 ** -24 : 2 ** -133 // the smallest numbers there are
  const specials = [Infinity, -Infinity, Number.NaN, 0, -0, least, -3 * least, 5 * least]
  return other % 13 === 0 ? at(specials, word % specials.length) : other % 3 === 0 ? least * (word % 512) : uniform
}

/**
 * How far results are from c + a b in units of what they may be off by, the largest of each kind.
 *
 * A Tensor Core aligns the products of 8 or 16 columns and what they are added to at the largest of them, cuts off below 23
 * bits, and cuts off again for each sum: each of `depth + 1` terms and of at most three sums loses 2^-23 of
 * |c| + sum |a b|. Where that is not finite, the result is what IEEE arithmetic gives, whatever its NaN.
 */
export function productErrors(
  dtype: 'f16' | 'bf16',
  { left, right, onto }: Products,
  found: Float32Array,
  depth: 8 | 16,
): readonly number[] {
  const [a, b] = [decode(dtype, left), decode(dtype, right)]
  const worst = productKinds.map(() => 0)
  for (let i = 0; i < found.length; i++) {
    const problem = Math.floor(i / 128)
    const [row, column] = [Math.floor((i % 128) / 8), i % 8]
    let [sum, size] = [at(onto, i), Math.abs(at(onto, i))]
    for (let k = 0; k < depth; k++) {
      const product = at(a, 256 * problem + 16 * row + k) * at(b, 128 * problem + 8 * k + column)
      sum += product
      size += Math.abs(product)
    }
    const kind = problem % productKinds.length
    const error = kind === 1 ? whole(at(found, i), sum) : share(at(found, i), sum, (depth + 4) * 2 ** -23 * size)
    worst[kind] = Math.max(at(worst, kind), error)
  }
  return worst
}

/** Sums of whole numbers are exact. */
function whole(found: number, exact: number): number {
  return found === exact ? 0 : Infinity
}

function share(found: number, exact: number, allowed: number): number {
  if (Number.isNaN(exact)) return Number.isNaN(found) ? 0 : Infinity
  if (!Number.isFinite(exact)) return found === exact ? 0 : Infinity
  const error = Math.abs(found - exact)
  return error === 0 ? 0 : Number.isNaN(error) ? Infinity : error / Math.max(allowed, 2 ** -149)
}
