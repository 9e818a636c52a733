// Headers that are wrong in one way each: the error names the path, the tensor, and what is wrong.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readSafetensors, writeSafetensors } from '../../src/train/files/safetensors.ts'

let dir = ''
let path = ''
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pullback-header-'))
  path = join(dir, 'model.safetensors')
})
afterAll(() => rm(dir, { recursive: true, force: true }))

async function file(header: string | Uint8Array, dataBytes: number, claimed?: bigint): Promise<void> {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header
  const bytes = new Uint8Array(8 + text.length + dataBytes).map((_, i) => i)
  new DataView(bytes.buffer).setBigUint64(0, claimed ?? BigInt(text.length), true)
  bytes.set(text, 8)
  await writeFile(path, bytes)
}

const entry = (dtype: string, shape: string, begin: number, end: number): string =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`

describe('readSafetensors refuses', () => {
  const cases: readonly (readonly [string, string, number, RegExp])[] = [
    ['an array', '[]', 0, /begins with '\{'/],
    ['a leading space', ' {}', 0, /begins with '\{'/],
    ['broken JSON', '{"a":', 0, /well-formed JSON/],
    ['text behind the JSON', '{} {}', 0, /well-formed JSON/],
    ['a name given twice', `{"a":${entry('U8', '[1]', 0, 1)},"\\u0061":${entry('U8', '[1]', 1, 2)}}`, 2, /'a' twice/],
    ['a field given twice', '{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1, /'dtype' twice/],
    ['a tensor that is no object', '{"a":7}', 0, /tensor 'a': expected a JSON object/],
    ['an unknown field', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}', 1, /tensor 'a': .* got 'x'/],
    ['an unknown dtype', `{"a":${entry('F8_E4M3', '[1]', 0, 1)}}`, 1, /tensor 'a': expected a dtype among .*F8_E4M3/],
    ['a dtype off the prototype', `{"a":${entry('toString', '[1]', 0, 1)}}`, 1, /expected a dtype among/],
    ['no dtype', '{"a":{"shape":[1],"data_offsets":[0,1]}}', 1, /expected a dtype among .* got none/],
    ['a negative extent', `{"a":${entry('U8', '[-1]', 0, 1)}}`, 1, /tensor 'a': .* got \[-1\]/],
    ['a fractional extent', `{"a":${entry('U8', '[1.5]', 0, 1)}}`, 1, /non-negative integers, got \[1.5\]/],
    ['an extent past 2^53', `{"a":${entry('U8', '[9007199254740993]', 0, 1)}}`, 1, /non-negative integers/],
    ['a size past 2^53', `{"a":${entry('F32', '[4294967296,4294967296]', 0, 4)}}`, 4, /too many bytes/],
    ['offsets turned round', `{"a":${entry('U8', '[1]', 1, 0)}}`, 1, /tensor 'a': .* inside the 1 bytes/],
    ['three offsets', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}', 1, /data_offsets \[begin, end\]/],
    ['offsets past the end', `{"a":${entry('U8', '[9]', 0, 9)}}`, 8, /tensor 'a': .* inside the 8 bytes .* cut short/],
    [
      'a size that is not shape x dtype',
      `{"a":${entry('F32', '[2]', 0, 4)}}`,
      4,
      /tensor 'a': expected 8 bytes .* got 4/,
    ],
    [
      'an overlap',
      `{"a":${entry('U8', '[3]', 0, 3)},"b":${entry('U8', '[2]', 2, 4)}}`,
      4,
      /tensor 'b': .* shared with 'a'/,
    ],
    [
      'a hole',
      `{"a":${entry('U8', '[1]', 0, 1)},"b":${entry('U8', '[2]', 2, 4)}}`,
      4,
      /tensor 'b': .* byte 1, after 'a', got 2/,
    ],
    ['bytes of no tensor', `{"a":${entry('U8', '[1]', 0, 1)}}`, 4, /3 belong to none/],
    ['metadata that is no object', '{"__metadata__":[]}', 0, /__metadata__ to be a JSON object/],
    ['metadata that is no string', '{"__metadata__":{"epoch":1}}', 0, /metadata 'epoch' to be a string, got number/],
  ]
  it.each(cases)('%s', async (_, header, dataBytes, message) => {
    await file(header, dataBytes)
    await expect(readSafetensors(path)).rejects.toMatchObject({ name: 'PullbackError', code: 'file' })
    await expect(readSafetensors(path)).rejects.toThrow(message)
    await expect(readSafetensors(path)).rejects.toThrow(path)
  })

  it('headers that are too long, empty files, absent files, folders, and text that is not UTF-8', async () => {
    await file('{}', 0, 3n)
    await expect(readSafetensors(path)).rejects.toThrow(/header of 3 bytes, got a file of 10/)
    await file('{}', 0, 100_000_001n)
    await expect(readSafetensors(path)).rejects.toThrow(/at most 100000000 bytes, got 100000001/)
    await file('{}', 0, 2n ** 64n - 1n)
    await expect(readSafetensors(path)).rejects.toThrow(/at most 100000000 bytes/)
    await file(Uint8Array.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 0)
    await expect(readSafetensors(path)).rejects.toThrow(/well-formed JSON/)
    await writeFile(path, '')
    await expect(readSafetensors(path)).rejects.toThrow(/at least 8 bytes, got 0/)
    await expect(readSafetensors(join(dir, 'absent'))).rejects.toThrow(/absent: could not be read: ENOENT/)
    await expect(readSafetensors(dir)).rejects.toMatchObject({ code: 'file' })
  })

  it('nesting a million deep, without falling over', async () => {
    await file(`{"a":${'['.repeat(1e6)}${']'.repeat(1e6)}}`, 0)
    await expect(readSafetensors(path)).rejects.toMatchObject({ code: 'file' })
    await file(`{"a":${'{"b":'.repeat(1e5)}1${'}'.repeat(1e5)}}`, 0)
    await expect(readSafetensors(path)).rejects.toMatchObject({ code: 'file' })
  })
})

describe('readSafetensors', () => {
  it('accepts padding, empty tensors, scalars, and copies what a file does not align', async () => {
    await file(
      `{"a":${entry('U8', '[1]', 0, 1)},"b":${entry('F32', '[]', 1, 5)},"c":${entry('F32', '[0,3]', 5, 5)}}   `,
      5,
    )
    const { tensors, metadata } = await readSafetensors(path)
    expect([...tensors.keys()]).toEqual(['a', 'b', 'c'])
    expect(metadata.size).toBe(0)
    expect(tensors.get('b')?.shape).toEqual([])
    expect((tensors.get('b')?.data.byteOffset ?? -1) % 4).toBe(0)
    const [a = 0] = tensors.get('a')?.data ?? []
    expect(Array.from(tensors.get('b')?.data ?? [])).toEqual([a + 1, a + 2, a + 3, a + 4])
  })

  it('reads a metadata string of megabytes in good time', async () => {
    const long = 'x"\\'.repeat(1e6)
    await writeSafetensors(path, [], { long })
    expect((await readSafetensors(path)).metadata.get('long')).toBe(long)
  })

  // Written by the Python package: save_file({"w": tensor([[1., 2.]], dtype=float16)}, path, {"format": "pt"}).
  it('reads a file of the Python package', async () => {
    await writeFile(
      path,
      Buffer.from(
        '58000000000000007b225f5f6d657461646174615f5f223a7b22666f726d6174223a227074227d2c2277223a7b226474797065223a22463136222c227368617065223a5b312c325d2c22646174615f6f666673657473223a5b302c345d7d7d20003c0040',
        'hex',
      ),
    )
    const { tensors, metadata } = await readSafetensors(path)
    expect(tensors.get('w')).toEqual({ dtype: 'F16', shape: [1, 2], data: Uint8Array.from([0x00, 0x3c, 0x00, 0x40]) })
    expect(metadata.get('format')).toBe('pt')
  })
})

describe('writeSafetensors refuses', () => {
  const data = new Uint8Array(4)
  it('names given twice or reserved, and bytes that do not fit', async () => {
    const a = { name: 'a', dtype: 'U8', shape: [4], data } as const
    await expect(writeSafetensors(path, [a, a])).rejects.toThrow(/tensor 'a': expected every name once/)
    await expect(writeSafetensors(path, [{ ...a, name: '__metadata__' }])).rejects.toThrow(/another name/)
    await expect(writeSafetensors(path, [{ ...a, name: '\ud800' }])).rejects.toThrow(/Unicode/)
    await expect(writeSafetensors(path, [{ ...a, dtype: 'F32' }])).rejects.toThrow(
      /expected 16 bytes for F32 \[4\], got 4/,
    )
    await expect(writeSafetensors(path, [{ ...a, shape: [-4] }])).rejects.toThrow(/countable/)
    await expect(writeSafetensors(join(dir, 'no/where'), [a])).rejects.toMatchObject({ code: 'file' })
  })
})
