// Channels added to images and filters, and taken away again: cuDNN's Tensor Core engines want a multiple of 4 or 8 of them.
import { type DType, bytesOf } from '../../tensor/dtype.ts'
import type { Lowered } from '../work.ts'
import { indexFor, mapLaunch, operand } from './launch.ts'

/** Rows of `from` channels each. */
export interface ChannelExtents {
  readonly dtype: Extract<DType, 'f16' | 'bf16' | 'f32'>
  readonly rows: number
  readonly from: number
  readonly to: number
}

/** (x [rows, from]) -> [rows, to] with zeros behind; `to` elements are 16 bytes, or 8. A thread writes a row. */
export function lowerPadChannels({ dtype, rows, from, to }: ChannelExtents): Lowered {
  const index = indexFor(rows * to)
  const t = `pb_${dtype}`
  const body = `
  const ${t}::bits *const x = (const ${t}::bits *)a.p[0] + thread * channels;
  ${t}::value row[${to}];
  PB_UNROLL
  for (int k = 0; k < ${to}; ++k) row[k] = k < channels ? pb_get<${t}>(x + (k < channels ? k : 0)) : 0;
  pb_store<${t}, ${to}>((${t}::bits *)a.p[1] + thread * ${to}, row);`
  const own = { name: `padChannels${to}_${dtype}`, index, pointers: [operand(0), operand(1)], body }
  return { works: [mapLaunch({ ...own, numbers: { channels: from } }, rows)], scratchBytes: 0 }
}

/** (x [rows, from]) -> the first `to` channels of each row. A thread copies an element. */
export function lowerCutChannels({ dtype, rows, from, to }: ChannelExtents): Lowered {
  const index = indexFor(rows * from)
  const type = `uint${8 * bytesOf(dtype)}_t`
  const body = `
  const ${index} row = thread / to, k = thread - row * to;
  ((${type} *)a.p[1])[thread] = ((const ${type} *)a.p[0])[row * from + k];`
  const own = { name: `cutChannels_${type}`, index, pointers: [operand(0), operand(1)], body }
  return { works: [mapLaunch({ ...own, numbers: { from, to } }, rows * to)], scratchBytes: 0 }
}
