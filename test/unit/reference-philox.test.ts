// Random bits: Philox4x32-10 against the known answers of Random123 (kat_vectors), and how a tensor is filled from it.
import { expect, test } from 'vitest'
import { mostBlocks, philoxBlocks } from '../../src/tensor/philox-blocks.ts'
import { philox, plainBlocks, randomBits } from '../../src/tensor/philox.ts'
import { elements, value, vector } from './reference-run.ts'

type Words = [number, number, number, number]

test.each<{ counter: Words; key: [number, number]; words: string }>([
  { counter: [0, 0, 0, 0], key: [0, 0], words: '6627e8d5 e169c58d bc57ac4c 9b00dbd8' },
  { counter: [-1, -1, -1, -1], key: [-1, -1], words: '408f276d 41c83b0e a20bc7c6 6d5451fd' },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    key: [0xa4093822, 0x299f31d0],
    words: 'd16cfe09 94fdcceb 5001e420 24126ea1',
  },
])('the known answer $words', ({ counter, key, words }) => {
  const out = new Int32Array(6)
  philox(counter, key, out, 1)
  expect([...out.subarray(1, 5)].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join(' ')).toBe(words)
  expect([out[0], out[5]]).toEqual([0, 0])
})

test('element i is word i mod 4 of the block whose counter is (i div 4, offset, stream, 0)', () => {
  const words = new Int32Array(12)
  for (let block = 0; block < 3; block++) philox([block, 7, 2, 0], [11, -5], words, block * 4)
  const inputs = [vector('i32', 11, -5), value('i32', [], [7])]
  expect(elements('randomBits', inputs, { shape: [2, 5], bits: 32, stream: 2 })).toEqual([...words.subarray(0, 10)])
})

test.each([1, 8, 24, 31, 32])('%i bits are the low ones of each word, not negative below 32', (bits) => {
  const all = randomBits([3, 4], 5, 0, 32, 9)
  const low = [...randomBits([3, 4], 5, 0, bits, 9)]
  expect(low.map((word) => BigInt.asUintN(32, BigInt(word)))).toEqual(
    [...all].map((word) => BigInt.asUintN(bits, BigInt(word))),
  )
})

test('key, offset and stream each change the bits', () => {
  const draw = (key: [number, number], offset: number, stream: number): string =>
    randomBits(key, offset, stream, 32, 4).join()
  const drawn = [draw([0, 0], 0, 0), draw([1, 0], 0, 0), draw([0, 1], 0, 0), draw([0, 0], 1, 0), draw([0, 0], 0, 1)]
  expect(new Set(drawn).size).toBe(5)
})

test('many blocks at once are the same blocks', () => {
  for (const [first, end] of [
    [0, 1000],
    [2 ** 31 - 3, 2 ** 31 + 3],
    [0, mostBlocks],
  ] as const) {
    const key = [-5, 0x299f31d0] as const
    const words = philoxBlocks(first, end, -7, 0x696e6974, key)
    const plain = plainBlocks(first, end, -7, 0x696e6974, key)
    expect(words?.length).toBe((end - first) * 4)
    expect(plain.findIndex((word, i) => word !== words?.[i])).toBe(-1)
  }
})

test.each([1, 1023, 1025, mostBlocks * 4 - 1, mostBlocks * 4 + 1])('%i elements are the first of more', (count) => {
  const more = randomBits([1, 2], 3, 4, 32, mostBlocks * 4 + 4000)
  const drawn = randomBits([1, 2], 3, 4, 32, count)
  expect(drawn.length).toBe(count)
  expect(drawn.findIndex((word, i) => word !== more[i])).toBe(-1)
})
