// Laws of safetensors: what is written is read; a damaged file is an error with a name, never a crash or other numbers.
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { PullbackError } from '../../src/tensor/errors.ts'
import { elementBytes, tensorBytes } from '../../src/train/files/header.ts'
import type { FileDType } from '../../src/train/files/header.ts'
import { readSafetensors, writeSafetensors } from '../../src/train/files/safetensors.ts'
import type { NamedTensor, Safetensors } from '../../src/train/files/safetensors.ts'

let dir = ''
let path = ''
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pullback-safetensors-'))
  path = join(dir, 'file.safetensors')
})
afterAll(() => rm(dir, { recursive: true, force: true }))

const dtypes: readonly FileDType[] = ['F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'I16', 'I8', 'U8', 'BOOL']
const anyText = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.string({ unit: 'grapheme', maxLength: 6 }),
  fc.constant('__proto__'),
)
const anyName = anyText.filter((name) => name !== '__metadata__')

const tensor: fc.Arbitrary<NamedTensor> = fc
  .record({ name: anyName, dtype: fc.constantFrom(...dtypes), shape: fc.array(fc.nat(4), { maxLength: 4 }) })
  .chain(({ name, dtype, shape }) => {
    const length = tensorBytes(dtype, shape) ?? -1
    return fc.uint8Array({ minLength: length, maxLength: length }).map((data) => ({ name, dtype, shape, data }))
  })
const tensors = fc.uniqueArray(tensor, { maxLength: 6, selector: ({ name }) => name })
const metadata = fc.dictionary(anyText, anyText, { maxKeys: 3 })

it('write then read gives the same tensors and metadata, aligned, whatever the names, dtypes and shapes', async () => {
  await fc.assert(
    fc.asyncProperty(tensors, metadata, async (entries, notes) => {
      await writeSafetensors(path, entries, notes)
      const read = await readSafetensors(path)
      expect(new Map(read.metadata)).toEqual(new Map(Object.entries(notes)))
      expect(read.tensors.size).toBe(entries.length)
      for (const { name, dtype, shape, data } of entries) {
        const found = read.tensors.get(name)
        expect(found?.dtype).toBe(dtype)
        expect(found?.shape).toEqual(shape)
        expect(found?.data).toEqual(data)
        expect((found?.data.byteOffset ?? -1) % elementBytes[dtype]).toBe(0)
      }
    }),
    { numRuns: 100 },
  )
})

it('the same tensors in another order give the same bytes', async () => {
  await fc.assert(
    fc.asyncProperty(tensors, async (entries) => {
      await writeSafetensors(path, entries)
      const bytes = await readFile(path)
      await writeSafetensors(path, entries.toReversed())
      expect((await readFile(path)).equals(bytes)).toBe(true)
    }),
    { numRuns: 30 },
  )
})

/** Reads bytes as a file; a PullbackError naming the path is the only failure allowed. */
async function readOrRefuse(bytes: Uint8Array): Promise<Safetensors | undefined> {
  await writeFile(path, bytes)
  try {
    return await readSafetensors(path)
  } catch (error) {
    expect(error).toBeInstanceOf(PullbackError)
    expect(error).toMatchObject({ code: 'file' })
    expect(String(error)).toContain(path)
    return undefined
  }
}

const sample: readonly NamedTensor[] = [
  { name: 'conv1.weight', dtype: 'F32', shape: [2, 3], data: Float32Array.from([1, 2, 3, 4, 5, 6]) },
  { name: 'bn1.bias', dtype: 'F16', shape: [3], data: Uint16Array.from([7, 8, 9]) },
  { name: 'mask', dtype: 'BOOL', shape: [2], data: Uint8Array.from([0, 1]) },
]

// A changed byte can still spell a valid header: another name, another dtype of the same size, other metadata.
// It must never move, stretch or lose data.
it('with one byte of the header changed, a file gives the same data and shapes or is refused', async () => {
  await writeSafetensors(path, sample, { format: 'pt' })
  const whole = await readFile(path)
  const headerEnd = 8 + Number(whole.readBigUInt64LE(0))
  const dataOf = (read: Safetensors) =>
    [...read.tensors.values()]
      .map(({ shape, data, dtype }) => `${shape.join('x')} ${elementBytes[dtype]} ${data.join()}`)
      .sort()
  const want = dataOf(await readSafetensors(path))
  let refused = 0
  await fc.assert(
    fc.asyncProperty(fc.nat(headerEnd - 1), fc.nat(255), async (position, value) => {
      const damaged = Buffer.from(whole)
      damaged[position] = value
      const read = await readOrRefuse(damaged)
      if (read === undefined) refused++
      else expect(dataOf(read)).toEqual(want)
    }),
    { numRuns: 600 },
  )
  expect(refused).toBeGreaterThan(200)
})

it('cut anywhere or with bytes added, a file is refused', async () => {
  await writeSafetensors(path, sample)
  const whole = await readFile(path)
  for (let length = 0; length < whole.length; length++)
    expect(await readOrRefuse(whole.subarray(0, length))).toBeUndefined()
  expect(await readOrRefuse(Buffer.concat([whole, Buffer.alloc(1)]))).toBeUndefined()
})

it('random bytes behind a plausible length are refused (or spell a file without tensors)', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 64 }), async (tail) => {
      const bytes = new Uint8Array(8 + tail.length)
      new DataView(bytes.buffer).setBigUint64(0, BigInt(tail.length), true)
      bytes.set(tail, 8)
      const read = await readOrRefuse(bytes)
      expect(read?.tensors.size ?? 0).toBe(0)
    }),
    { numRuns: 100 },
  )
})

it('leaves nothing but the file behind', async () => {
  expect(await readdir(dir)).toEqual(['file.safetensors'])
})
