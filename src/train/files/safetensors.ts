// safetensors files: tensors by name, read with full checks and written atomically.
// What a header may say is header.ts's business; names and layouts of models are names.ts's.

import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { messageOf, writeAtomically } from './atomic.ts'
import {
  elementBytes,
  fileFault,
  headerBytesCap,
  metadataName,
  parseHeader,
  printHeader,
  tensorBytes,
} from './header.ts'
import type { FileDType, TensorEntry } from './header.ts'
import { PullbackError } from '../../tensor/errors.ts'

/** A tensor of a file: little-endian elements, row-major. */
export interface FileTensor {
  readonly dtype: FileDType
  readonly shape: readonly number[]
  /** The bytes, aligned to the element's size, so that a typed array can be laid over them. */
  readonly data: Uint8Array
}

/** What a safetensors file holds. */
export interface Safetensors {
  readonly tensors: ReadonlyMap<string, FileTensor>
  readonly metadata: ReadonlyMap<string, string>
}

/** One read from the system at a time carries at most this many bytes. */
const readBytes = 64 * 1024 * 1024

/**
 * Reads a safetensors file whole.
 *
 * The header is checked completely (see `parseHeader`) before any data is read; the tensors are views of one buffer,
 * copied only where a file does not align them.
 *
 * @throws PullbackError `file` when the file cannot be read or is not valid; the message names the path and the tensor
 */
export async function readSafetensors(path: string): Promise<Safetensors> {
  try {
    const file = await open(path, 'r')
    try {
      return await readOpen(file, path)
    } finally {
      await file.close()
    }
  } catch (cause) {
    if (cause instanceof PullbackError) throw cause
    throw fileFault(path, `could not be read: ${messageOf(cause)}.`, cause)
  }
}

async function readOpen(file: FileHandle, path: string): Promise<Safetensors> {
  const { size } = await file.stat()
  if (size < 8) throw fileFault(path, `expected at least 8 bytes, got ${size}. Is the file cut short?`)
  const prefix = await readExactly(file, 0, 8, path)
  const length = Number(new DataView(prefix.buffer).getBigUint64(0, true))
  if (length > headerBytesCap)
    throw fileFault(
      path,
      `expected a header of at most ${headerBytesCap} bytes, got ${length}. Is this a safetensors file?`,
    )
  if (8 + length > size)
    throw fileFault(path, `expected a header of ${length} bytes, got a file of ${size}. Is the file cut short?`)
  const dataBytes = size - 8 - length
  const { tensors, metadata } = parseHeader(await readExactly(file, 8, length, path), dataBytes, path)
  const data = await readExactly(file, 8 + length, dataBytes, path)
  return { tensors: new Map(tensors.map((entry) => [entry.name, viewOf(entry, data)])), metadata }
}

function viewOf({ dtype, shape, begin, end }: TensorEntry, data: Uint8Array): FileTensor {
  const aligned = begin % elementBytes[dtype] === 0
  return { dtype, shape, data: aligned ? data.subarray(begin, end) : data.slice(begin, end) }
}

async function readExactly(
  file: FileHandle,
  position: number,
  length: number,
  path: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length)
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, Math.min(readBytes, length - done), position + done)
    if (bytesRead === 0)
      throw fileFault(path, `expected ${length} bytes at ${position}, got ${done}: the file shrank while being read.`)
    done += bytesRead
  }
  return bytes
}

/** A tensor to write; `data` may be any view (a Float32Array, bytes), it is written as it lies in memory. */
export interface NamedTensor {
  readonly name: string
  readonly dtype: FileDType
  readonly shape: readonly number[]
  readonly data: ArrayBufferView
}

/**
 * Writes tensors and metadata to a safetensors file, atomically (see `writeAtomically`).
 *
 * Tensors are ordered by element size, then name, so that all are aligned and the same content gives the same bytes.
 * The data must not change until the promise settles; it is not copied.
 *
 * @throws PullbackError `file` for a name given twice, bytes that do not fit dtype and shape, or a refused write
 */
export async function writeSafetensors(
  path: string,
  entries: Iterable<NamedTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { header, chunks } = layOut(path, entries, metadata)
  const prefix = new Uint8Array(8)
  new DataView(prefix.buffer).setBigUint64(0, BigInt(header.length), true)
  await writeAtomically(path, [prefix, header, ...chunks])
}

function layOut(path: string, entries: Iterable<NamedTensor>, metadata: Readonly<Record<string, string>>) {
  const sorted = [...entries].sort(
    (a, b) => elementBytes[b.dtype] - elementBytes[a.dtype] || (a.name < b.name ? -1 : 1),
  )
  const names = new Set<string>()
  let offset = 0
  const tensors = sorted.map((entry): TensorEntry => {
    checkEntry(path, entry, names)
    const begin = offset
    offset += entry.data.byteLength
    return { name: entry.name, dtype: entry.dtype, shape: entry.shape, begin, end: offset }
  })
  const header = printHeader({ tensors, metadata: new Map(Object.entries(metadata)) })
  if (header.length > headerBytesCap)
    throw fileFault(path, `expected a header of at most ${headerBytesCap} bytes, got ${header.length}.`)
  const chunks = sorted.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
  return { header, chunks }
}

function checkEntry(path: string, { name, dtype, shape, data }: NamedTensor, names: Set<string>): void {
  const fault = (message: string): PullbackError => fileFault(path, `tensor '${name}': ${message}`)
  if (name === metadataName) throw fault('expected another name, this one is kept for the metadata.')
  if (/\p{Surrogate}/u.test(name)) throw fault('expected a name of well-formed Unicode.')
  if (names.has(name)) throw fault('expected every name once, got it twice.')
  names.add(name)
  const bytes = shape.every((extent) => Number.isSafeInteger(extent) && extent >= 0)
    ? tensorBytes(dtype, shape)
    : undefined
  if (bytes !== data.byteLength) {
    throw fault(
      `expected ${bytes ?? 'a countable number of'} bytes for ${dtype} [${shape.join(', ')}], got ${data.byteLength}.`,
    )
  }
}
