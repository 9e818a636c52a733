// The header of a safetensors file: its JSON, checked completely, to and from a list of tensors.
// Bytes of tensors and files are safetensors.ts's business. Format: https://github.com/huggingface/safetensors#format

import { PullbackError } from '../../tensor/errors.ts'
import { messageOf } from './atomic.ts'

/** Element types of a file, under the format's names. */
export type FileDType = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U8' | 'BOOL'

/** Bytes of one element. */
export const elementBytes: { readonly [D in FileDType]: number } = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
}

/** Where a tensor lies: bytes `begin` to `end` (exclusive) of the data after the header. */
export interface TensorEntry {
  readonly name: string
  readonly dtype: FileDType
  readonly shape: readonly number[]
  readonly begin: number
  readonly end: number
}

export interface Header {
  readonly tensors: readonly TensorEntry[]
  readonly metadata: ReadonlyMap<string, string>
}

/** The format's own cap on the header's length. */
export const headerBytesCap = 100_000_000
export const metadataName = '__metadata__'

/** A fault of a file: always names the path, and the tensor where one is at fault. */
export const fileFault = (path: string, message: string, cause?: unknown): PullbackError =>
  new PullbackError('file', `[safetensors] ${path}: ${message}`, cause === undefined ? undefined : { cause })

/**
 * Reads a header: well-formed JSON without duplicate keys, known dtypes, shapes of non-negative integers, and tensors
 * that tile the `dataBytes` bytes of data exactly (inside, no overlap, no hole).
 *
 * @returns the tensors by their place in the file
 * @throws PullbackError `file` naming `path` and the tensor at fault
 */
export function parseHeader(bytes: Uint8Array, dataBytes: number, path: string): Header {
  const root = parseJson(bytes, path)
  let metadata: ReadonlyMap<string, string> = new Map()
  const tensors: TensorEntry[] = []
  for (const [name, value] of Object.entries(root)) {
    if (name === metadataName) metadata = parseMetadata(value, path)
    else tensors.push(parseEntry(name, value, dataBytes, path))
  }
  const placed = tensors.sort((a, b) => a.begin - b.begin || a.end - b.end)
  checkTiling(placed, dataBytes, path)
  return { tensors: placed, metadata }
}

type JsonObject = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function parseJson(bytes: Uint8Array, path: string): JsonObject {
  if (bytes[0] !== 0x7b) throw fileFault(path, `expected a header that begins with '{'. Is this a safetensors file?`)
  let text: string
  let root: unknown
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    root = JSON.parse(text)
  } catch (cause) {
    throw fileFault(path, `expected a header of well-formed JSON, got an error: ${messageOf(cause)}.`, cause)
  }
  if (!isObject(root)) throw fileFault(path, 'expected a header that is a JSON object.')
  const twice = duplicateKey(text)
  if (twice !== undefined) throw fileFault(path, `expected every name once, got '${twice}' twice in the header.`)
  return root
}

/** The first key that an object of well-formed JSON has twice (JSON.parse would keep the last one in silence). */
function duplicateKey(json: string): string | undefined {
  const open: Set<string>[] = []
  for (let i = 0; i < json.length; i++) {
    const character = json[i]
    if (character === '{') open.push(new Set())
    else if (character === '}') open.pop()
    else if (character === '"') {
      const end = stringEnd(json, i)
      const key: unknown = followedByColon(json, end) ? JSON.parse(json.slice(i, end)) : undefined
      const keys = open.at(-1)
      i = end - 1
      if (typeof key !== 'string' || keys === undefined) continue
      if (keys.has(key)) return key
      keys.add(key)
    }
  }
  return undefined
}

/** The position after the closing quote of the JSON string that begins at `start`. */
function stringEnd(json: string, start: number): number {
  let i = start + 1
  while (i < json.length && json[i] !== '"') i += json[i] === '\\' ? 2 : 1
  return i + 1
}

function followedByColon(json: string, position: number): boolean {
  let i = position
  while (json[i] === ' ' || json[i] === '\n' || json[i] === '\r' || json[i] === '\t') i++
  return json[i] === ':'
}

function parseMetadata(value: unknown, path: string): ReadonlyMap<string, string> {
  if (!isObject(value)) throw fileFault(path, `expected ${metadataName} to be a JSON object of strings.`)
  const metadata = new Map<string, string>()
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string')
      throw fileFault(path, `expected the metadata '${key}' to be a string, got ${typeof text}.`)
    metadata.set(key, text)
  }
  return metadata
}

const isSize = (value: unknown): value is number =>
  Number.isSafeInteger(value) && !Object.is(value, -0) && Number(value) >= 0
const isDType = (value: unknown): value is FileDType => typeof value === 'string' && Object.hasOwn(elementBytes, value)

function parseEntry(name: string, value: unknown, dataBytes: number, path: string): TensorEntry {
  const fault = (message: string): PullbackError => fileFault(path, `tensor '${name}': ${message}`)
  if (!isObject(value)) throw fault('expected a JSON object with dtype, shape and data_offsets.')
  const { dtype, shape, data_offsets: offsets, ...others } = value
  const [unknown] = Object.keys(others)
  if (unknown !== undefined) throw fault(`expected dtype, shape and data_offsets only, got '${unknown}'.`)
  if (!isDType(dtype)) {
    throw fault(`expected a dtype among ${Object.keys(elementBytes).join(' ')}, got ${brief(dtype)}.`)
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    throw fault(`expected a shape of non-negative integers, got ${brief(shape)}.`)
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw fault(`expected data_offsets [begin, end] of non-negative integers, got ${brief(offsets)}.`)
  }
  const [begin = 0, end = 0] = offsets
  if (begin > end || end > dataBytes) {
    throw fault(
      `expected data_offsets inside the ${dataBytes} bytes of data, got [${begin}, ${end}]. Is the file cut short?`,
    )
  }
  const bytes = tensorBytes(dtype, shape)
  if (bytes !== end - begin) {
    throw fault(
      `expected ${bytes ?? 'too many'} bytes for ${dtype} [${shape.join(', ').slice(0, 80)}], got ${end - begin}.`,
    )
  }
  return { name, dtype, shape, begin, end }
}

/** Bytes of a tensor, or undefined past the largest safe integer. */
export function tensorBytes(dtype: FileDType, shape: readonly number[]): number | undefined {
  let bytes = elementBytes[dtype]
  for (const extent of shape) {
    bytes *= extent
    if (!Number.isSafeInteger(bytes)) return undefined
  }
  return bytes
}

function checkTiling(placed: readonly TensorEntry[], dataBytes: number, path: string): void {
  let covered = 0
  let before = 'the header'
  for (const { name, begin, end } of placed) {
    if (begin < covered)
      throw fileFault(path, `tensor '${name}': expected data of its own, got bytes shared with ${before}.`)
    if (begin > covered)
      throw fileFault(path, `tensor '${name}': expected to begin at byte ${covered}, after ${before}, got ${begin}.`)
    covered = end
    before = `'${name}'`
  }
  if (covered !== dataBytes) {
    throw fileFault(
      path,
      `expected the tensors to cover the ${dataBytes} bytes of data, got ${covered}: ${dataBytes - covered} belong to none.`,
    )
  }
}

/** A value as JSON, cut to what fits a sentence. */
function brief(value: unknown): string {
  const text = value === undefined ? 'none' : JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 80)}...` : text
}

/** The header's bytes, padded with spaces so that the data behind it begins at a multiple of 8. */
export function printHeader({ tensors, metadata }: Header): Uint8Array {
  const parts = tensors.map(({ name, dtype, shape, begin, end }) => {
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`
  })
  if (metadata.size > 0) {
    const pairs = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)
    parts.unshift(`"${metadataName}":{${pairs.join(',')}}`)
  }
  const text = new TextEncoder().encode(`{${parts.join(',')}}`)
  const padded = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(0x20)
  padded.set(text)
  return padded
}
