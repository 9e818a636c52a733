// Calls on cuBLASLt's descriptors as data. Setting looks at nothing but the attribute's number and the value's size, so that
// is what there is to get wrong; wrong values are found by heuristics and products, which need a device.
import type { NativeLibrary } from '../../../src/cuda/ffi/loader.ts'

/** The objects that have attributes, and an algorithm's 64 bytes, zeros here. */
export type BlasObject = 'matmul' | 'layout' | 'preference' | 'algorithm'

/** One call: an attribute by its number and a value of so many bytes, or a null pointer; an algorithm is read. */
export interface BlasCall {
  readonly name: string
  readonly object: BlasObject
  readonly attribute: number
  readonly bytes: number
  readonly value: number | null
}

const at = (
  object: BlasObject,
  name: string,
  attribute: number,
  bytes: number,
  value: number | null = 1,
): BlasCall => ({
  name: `${object}: ${name}`,
  object,
  attribute,
  bytes,
  value,
})

/** Calls that succeed, and calls that are mistakes. */
export const blasCalls: readonly BlasCall[] = [
  ...[0, 1, 2, 3, 4, 7, 26].map((attribute) => at('matmul', `attribute ${attribute} of 4 bytes`, attribute, 4)),
  ...[8, 10, 11, 12].map((attribute) => at('matmul', `attribute ${attribute} of 8 bytes`, attribute, 8)),
  ...[0, 1, 5].map((attribute) => at('layout', `attribute ${attribute} of 4 bytes`, attribute, 4)),
  ...[2, 3, 4, 6].map((attribute) => at('layout', `attribute ${attribute} of 8 bytes`, attribute, 8)),
  ...[0, 3, 5, 6, 7, 8].map((attribute) => at('preference', `attribute ${attribute} of 4 bytes`, attribute, 4)),
  ...[1, 12].map((attribute) => at('preference', `attribute ${attribute} of 8 bytes`, attribute, 8)),
  ...[0, 1, 2, 3, 4, 5, 6].map((attribute) => at('algorithm', `attribute ${attribute} of 4 bytes`, attribute, 4)),
  ...[7, 8].map((attribute) => at('algorithm', `attribute ${attribute} of 2 bytes`, attribute, 2)),
  // Values that make no sense are taken.
  at('matmul', 'a transposition there is not', 3, 4, 99),
  at('matmul', 'a negative epilogue', 7, 4, -1),
  at('matmul', 'a compute type there is not', 0, 4, 9999),
  at('matmul', 'a bias at 1', 8, 8, 1),
  at('layout', 'a negative order', 1, 4, -1),
  at('layout', 'no rows', 2, 8, 0),
  at('layout', 'a negative leading dimension', 4, 8, -1),
  at('layout', 'no batches', 5, 4, 0),
  at('preference', 'a mask of schemes there are not', 3, 4, -1),
  at('preference', 'an alignment of 3', 5, 4, 3),
  // Mistakes.
  at('matmul', 'a transposition of 8 bytes', 3, 8),
  at('matmul', 'a transposition of 2 bytes', 3, 2),
  at('matmul', 'a transposition of no bytes', 3, 0),
  at('matmul', 'a bias of 4 bytes', 8, 4),
  at('matmul', 'an epilogue of 8 bytes', 7, 8),
  at('matmul', 'attribute 99', 99, 4),
  at('matmul', 'attribute -1', -1, 4),
  at('matmul', 'a null value', 3, 4, null),
  at('layout', 'an order of 8 bytes', 1, 8),
  at('layout', 'rows of 4 bytes', 2, 4),
  at('layout', 'a leading dimension of 4 bytes', 4, 4),
  at('layout', 'batches of 8 bytes', 5, 8),
  at('layout', 'attribute 99', 99, 4),
  at('layout', 'a null value', 1, 4, null),
  at('preference', 'scratch memory of 4 bytes', 1, 4),
  at('preference', 'schemes of 8 bytes', 3, 8),
  at('preference', 'attribute 99', 99, 4),
  at('preference', 'a null value', 3, 4, null),
  at('algorithm', 'a number of 8 bytes', 0, 8),
  at('algorithm', 'a number of 2 bytes', 0, 2),
  at('algorithm', 'an inner shape of 4 bytes', 7, 4),
  at('algorithm', 'attribute 99', 99, 4),
]

/** The status of each call, by name. */
export function blasAnswers(library: NativeLibrary): Readonly<Record<string, number>> {
  const p = 'void *'
  const cell = new BigUint64Array(1)
  const made = (name: string, ...parameters: ('int' | 'uint64_t' | 'int64_t')[]) => {
    const create = library.func(`cublasLt${name}Create`, 'int', [p, ...parameters])
    return (...values: readonly number[]): bigint => {
      if (create(cell, ...values) !== 0) throw new Error(`cublasLt${name}Create failed`)
      return cell[0] ?? 0n
    }
  }
  const setter = (name: string) => library.func(`cublasLt${name}SetAttribute`, 'int', [p, 'int', p, 'size_t'])
  const objects = {
    matmul: { name: 'MatmulDesc', handle: made('MatmulDesc', 'int', 'int')(68, 0) },
    layout: {
      name: 'MatrixLayout',
      handle: made('MatrixLayout', 'int', 'uint64_t', 'uint64_t', 'int64_t')(2, 64, 32, 64),
    },
    preference: { name: 'MatmulPreference', handle: made('MatmulPreference')() },
  } as const
  const read = library.func('cublasLtMatmulAlgoConfigGetAttribute', 'int', [p, 'int', p, 'size_t', p])
  const status = ({ object, attribute, bytes, value }: BlasCall): unknown => {
    const memory = value === null ? null : BigInt64Array.of(BigInt(value))
    if (object === 'algorithm') return read(new Uint8Array(64), attribute, memory, bytes, new BigUint64Array(1))
    return setter(objects[object].name)(objects[object].handle, attribute, memory, bytes)
  }
  const answers = Object.fromEntries(blasCalls.map((call) => [call.name, Number(status(call))]))
  for (const { name, handle } of Object.values(objects)) library.func(`cublasLt${name}Destroy`, 'int', [p])(handle)
  return answers
}
