// Floating-point elements of a file as float32.
// What a half float is worth is src/tensor's business.

import { PullbackError } from '../../tensor/errors.ts'
import { decodeBF16, decodeF16 } from '../../tensor/half.ts'
import type { FileTensor } from './safetensors.ts'

/**
 * The elements of a floating-point tensor as float32: exact for F32, F16 and BF16, rounded to nearest for F64.
 * For F32 the result shares the file's memory.
 *
 * @throws PullbackError `file` for a dtype that is not floating-point
 */
export function toFloat32(name: string, { dtype, data }: FileTensor): Float32Array {
  switch (dtype) {
    case 'F32':
      return new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4)
    case 'F64':
      return Float32Array.from(new Float64Array(data.buffer, data.byteOffset, data.byteLength / 8))
    case 'BF16':
      return Float32Array.from(halfWords(data), decodeBF16)
    case 'F16':
      return Float32Array.from(halfWords(data), decodeF16)
    case 'I64':
    case 'I32':
    case 'I16':
    case 'I8':
    case 'U8':
    case 'BOOL':
      throw new PullbackError('file', `[weights] tensor '${name}': expected floating-point elements, got ${dtype}.`)
    default:
      return dtype satisfies never
  }
}

const halfWords = (data: Uint8Array): Uint16Array => new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2)
