// Many blocks of Philox at once, in WebAssembly: it has the product of 64 bits that JavaScript lacks, which makes the words
// of initial weights several times cheaper. The module is assembled here by name; philox.ts says what a block is.
import { range } from './shape.ts'

// Of the global WebAssembly, which Node has and its types do not name, what is used here.
declare const WebAssembly:
  | {
      readonly Module: new (bytes: Uint8Array) => object
      readonly Instance: new (module: object) => { readonly exports: Exports }
    }
  | undefined

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer }
  readonly fill: (first: number, end: number, offset: number, stream: number, key0: number, key1: number) => void
}

/** @internal The blocks one call writes at most: four words each, a quarter of a MiB. */
export const mostBlocks = 1 << 14

let made: { readonly words: Int32Array; readonly fill: Exports['fill'] } | undefined

/**
 * @internal The words of blocks `first` to `end` (at most {@link mostBlocks}) with the counters (block, offset, stream, 0),
 * valid until the next call; undefined where Node runs without WebAssembly (`--jitless`).
 */
export function philoxBlocks(
  first: number,
  end: number,
  offset: number,
  stream: number,
  key: readonly [number, number],
): Int32Array | undefined {
  if (typeof WebAssembly === 'undefined') return undefined
  if (made === undefined) {
    const { memory, fill } = new WebAssembly.Instance(new WebAssembly.Module(moduleBytes())).exports
    made = { words: new Int32Array(memory.buffer), fill }
  }
  made.fill(first, end, offset, stream, ...key)
  return made.words.subarray(0, (end - first) * 4)
}

/** The instructions used, by the names of the specification's text format. */
const i32 = { const: 0x41, ltU: 0x49, add: 0x6a, xor: 0x73, wrap: 0xa7, store: 0x36 } as const
const i64 = { const: 0x42, mul: 0x7e, shrU: 0x88, extendU: 0xad } as const
const control = { loop: 0x03, end: 0x0b, branchIf: 0x0d, empty: 0x40 } as const

/** Where the parameters and the variables of `fill` are: eleven of 32 bits, then the two products of 64. */
const local = { block: 0, end: 1, offset: 2, stream: 3, key0: 4, key1: 5, address: 6, counter: 7, product: 11 } as const
const counter = (word: number): number => local.counter + word
const product = (half: number): number => local.product + half

const get = (index: number): number[] => [0x20, index]
const set = (index: number): number[] => [0x21, index]
const constant = (value: number): number[] => [i32.const, ...signed(value | 0)]

const multipliers = [0xd2511f53, 0xcd9e8d57] as const
const weyl = [0x9e3779b9, 0xbb67ae85] as const

/** Ten rounds, as in philox.ts; the key's two words come back to what they were by taking the ten steps away again. */
function fillBody(): number[] {
  const bump = (word: number, times: number): number[] => {
    const key = word === 0 ? local.key0 : local.key1
    return [...get(key), ...constant(Math.imul(weyl[word === 0 ? 0 : 1], times)), i32.add, ...set(key)]
  }
  const round = [
    ...[0, 1].flatMap((half) => multiply(half)),
    ...[0, 1].flatMap((half) => mix(half)),
    ...[0, 1].flatMap((word) => bump(word, 1)),
  ]
  return [
    ...[control.loop, control.empty],
    ...[...get(local.block), ...set(counter(0)), ...get(local.offset), ...set(counter(1))],
    ...[...get(local.stream), ...set(counter(2)), ...constant(0), ...set(counter(3))],
    ...range(10).flatMap(() => round),
    ...[0, 1].flatMap((word) => bump(word, -10)),
    ...range(4).flatMap((word) => [...get(local.address), ...get(counter(word)), i32.store, 2, 4 * word]),
    ...[...get(local.address), ...constant(16), i32.add, ...set(local.address)],
    ...[...get(local.block), ...constant(1), i32.add, ...set(local.block)],
    ...[...get(local.block), ...get(local.end), i32.ltU, control.branchIf, 0],
    ...[control.end, control.end],
  ]
}

/** product[half] = multiplier[half] * counter[2 half], all 64 bits. */
function multiply(half: number): number[] {
  const multiplier = multipliers[half === 0 ? 0 : 1]
  return [...get(counter(2 * half)), i64.extendU, i64.const, ...signed(multiplier), i64.mul, ...set(product(half))]
}

/** counter[2 half] = high(the other product) ^ counter[2 half + 1] ^ key[half]; counter[2 half + 1] = low(that product). */
function mix(half: number): number[] {
  const other = get(product(1 - half))
  return [
    ...[...other, i64.const, ...signed(32), i64.shrU, i32.wrap, ...get(counter(2 * half + 1)), i32.xor],
    ...[...get(half === 0 ? local.key0 : local.key1), i32.xor, ...set(counter(2 * half))],
    ...[...other, i32.wrap, ...set(counter(2 * half + 1))],
  ]
}

/** A module of one function over one memory, both exported. */
function moduleBytes(): Uint8Array {
  const type = { i32: 0x7f, i64: 0x7e, function: 0x60 }
  const variables = [2, ...[5, type.i32], ...[2, type.i64]]
  const name = (text: string): number[] => counted(range(text.length).map((i) => text.charCodeAt(i)))
  const kind = { function: 0, memory: 2 }
  const sections: readonly (readonly [id: number, content: number[]])[] = [
    [1, [1, type.function, ...counted(range(6).map(() => type.i32)), 0]],
    [3, [1, 0]],
    [5, [1, 0, (mostBlocks * 16) / 65536]],
    [7, [2, ...name('fill'), kind.function, 0, ...name('memory'), kind.memory, 0]],
    [10, [1, ...counted([...variables, ...fillBody()])]],
  ]
  const head = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]
  return Uint8Array.from([...head, ...sections.flatMap(([id, content]) => [id, ...counted(content)])])
}

/** Bytes behind their number. */
function counted(bytes: readonly number[]): number[] {
  const length: number[] = []
  let left = bytes.length
  for (; left >= 128; left >>>= 7) length.push((left & 127) | 128)
  return [...length, left, ...bytes]
}

/** An integer of at most 33 bits in LEB128, signed. */
function signed(value: number): number[] {
  const low = ((value % 128) + 128) % 128
  const rest = Math.floor(value / 128)
  const last = (rest === 0 && low < 64) || (rest === -1 && low >= 64)
  return last ? [low] : [low | 128, ...signed(rest)]
}
