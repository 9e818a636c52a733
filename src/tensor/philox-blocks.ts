// Many blocks of Philox at once, four in the lanes of each vector: what makes the words of initial weights cheap. philox.ts
// says what a block is, and makes them where there is no WebAssembly.
import { range } from './shape.ts'
import { type Code, i32, i32x4, i64x2, makeWasm, repeat, v128 } from './wasm.ts'

/** @internal The blocks one call writes at most: four words each, a quarter of a MiB. */
export const mostBlocks = 1 << 14

let made: { readonly words: Int32Array; readonly run: (...parameters: number[]) => void } | 'none' | undefined

/**
 * @internal The words of blocks `first` to `end` (at most {@link mostBlocks}) with the counters (block, offset, stream, 0),
 * valid until the next call; undefined where Node cannot run the function.
 */
export function philoxBlocks(
  first: number,
  end: number,
  offset: number,
  stream: number,
  key: readonly [number, number],
): Int32Array | undefined {
  made ??= make()
  if (made === 'none') return undefined
  made.run(first, end, offset, stream, ...key, 0)
  return made.words.subarray(0, (end - first) * 4)
}

function make(): NonNullable<typeof made> {
  const vectors = ['c0', 'c1', 'c2', 'c3', 'k0', 'k1', 'low0', 'high0', 'low1', 'high1'] as const
  const wasm = makeWasm({
    pages: (mostBlocks * 16) / 65536,
    parameters: { block: 'i32', end: 'i32', offset: 'i32', stream: 'i32', key0: 'i32', key1: 'i32', address: 'i32' },
    variables: Object.fromEntries(vectors.map((name) => [name, 'v128'])) as Record<(typeof vectors)[number], 'v128'>,
    body: ({ get, set }) => {
      const next = (name: 'k0' | 'k1', weyl: number): Code => set(name, i32x4.add(get(name), i32x4.same(weyl)))
      // Products of 64 bits, lanes 0 and 1 in low, 2 and 3 in high.
      const multiply = (half: 0 | 1, counter: 'c0' | 'c2', multiplier: number): Code => [
        ...set(`low${half}`, i64x2.extmulLowU(get(counter), i32x4.same(multiplier))),
        ...set(`high${half}`, i64x2.extmulHighU(get(counter), i32x4.same(multiplier))),
      ]
      const highWords = (half: 0 | 1): Code => i32x4.shuffle(get(`low${half}`), get(`high${half}`), [1, 3, 5, 7])
      const lowWords = (half: 0 | 1): Code => i32x4.shuffle(get(`low${half}`), get(`high${half}`), [0, 2, 4, 6])
      const round = [
        ...multiply(0, 'c0', 0xd2511f53),
        ...multiply(1, 'c2', 0xcd9e8d57),
        ...set('c0', v128.xor(v128.xor(highWords(1), get('c1')), get('k0'))),
        ...set('c1', lowWords(1)),
        ...set('c2', v128.xor(v128.xor(highWords(0), get('c3')), get('k1'))),
        ...set('c3', lowWords(0)),
        ...next('k0', 0x9e3779b9),
        ...next('k1', 0xbb67ae85),
      ]
      const begin = [
        ...set('c0', i32x4.add(i32x4.splat(get('block')), i32x4.const([0, 1, 2, 3]))),
        ...[...set('c1', i32x4.splat(get('offset'))), ...set('c2', i32x4.splat(get('stream')))],
        ...set('c3', i32x4.same(0)),
        ...[...set('k0', i32x4.splat(get('key0'))), ...set('k1', i32x4.splat(get('key1')))],
      ]
      // The counters' lanes are the blocks: transposed, a block's words lie together.
      const store = range(4).flatMap((block) => {
        const from = block < 2 ? ([0, 4, 1, 5] as const) : ([2, 6, 3, 7] as const)
        const to = block % 2 === 0 ? ([0, 1, 4, 5] as const) : ([2, 3, 6, 7] as const)
        const front = i32x4.shuffle(get('c0'), get('c1'), from)
        const back = i32x4.shuffle(get('c2'), get('c3'), from)
        return v128.store(get('address'), i32x4.shuffle(front, back, to), 16 * block)
      })
      const step = [
        ...set('address', i32.add(get('address'), i32.const(64))),
        ...set('block', i32.add(get('block'), i32.const(4))),
      ]
      return repeat([...begin, ...range(10).flatMap(() => round), ...store, ...step], i32.ltU(get('block'), get('end')))
    },
  })
  return wasm === undefined ? 'none' : { words: new Int32Array(wasm.memory), run: wasm.run }
}
