// Taking slices by index, the place of the largest element, and plain copies. Adding by index is scatter.ts's part.
import type { IndexedExtents } from '../../compile/index.ts'
import { blockThreads } from '../../compile/print/index.ts'
import { bytesOf } from '../../tensor/dtype.ts'
import type { Lowered } from '../work.ts'
import { ceilDiv, indexFor, launchOf, mapLaunch, operand, powerFrom, printDigits } from './launch.ts'

/** C that copies one unit of a size, from `from` to `to` in units. */
const copies: Readonly<Record<number, string>> = {
  16: 'uint32_t w[4];\n  pb_read_16((const char *)a.p[0] + (int64_t)from * 16, w);\n  pb_write_16((char *)a.p[2] + (int64_t)thread * 16, w);',
  8: '((uint64_t *)a.p[2])[thread] = ((const uint64_t *)a.p[0])[from];',
  4: '((uint32_t *)a.p[2])[thread] = ((const uint32_t *)a.p[0])[from];',
  2: '((uint16_t *)a.p[2])[thread] = ((const uint16_t *)a.p[0])[from];',
  1: '((uint8_t *)a.p[2])[thread] = ((const uint8_t *)a.p[0])[from];',
}

/** (x, indices i32) -> slices of x; indices outside are clamped. A thread copies up to 16 bytes of a slice. */
export function lowerGather({ dtype, before, extent, count, after }: IndexedExtents): Lowered {
  const bytes = after * bytesOf(dtype)
  const unit = [16, 8, 4, 2, 1].find((size) => bytes % size === 0) ?? 1
  const units = bytes / unit
  const threads = before * count * units
  const index = indexFor(threads, before * extent * units)
  const extents = { u: 'units', j: 'count' }
  const body = `
  ${printDigits(index, 'thread', extents, 'i')}
  const ${index} wanted = ((const int32_t *)a.p[1])[j], row = wanted < 0 ? 0 : PB_MIN(wanted, extent - 1);
  const ${index} from = (i * extent + row) * units + u;
  ${copies[unit] ?? ''}`
  const pointers = [operand(0), operand(1), operand(2)]
  const numbers = { units, count, extent }
  return { works: [mapLaunch({ name: `gather${unit}`, index, pointers, numbers, body }, threads)], scratchBytes: 0 }
}

/**
 * (x) -> the place of the first largest element along the middle of [before, extent, after]; NaN is the largest. Up to 256
 * threads of one block share a result, so a single result over millions of elements does not fill a GPU.
 */
export function lowerArgMax({ dtype, before, extent, after }: IndexedExtents): Lowered {
  const results = before * after
  const index = indexFor(before * extent * after, results)
  const neighbours = Math.min(32, powerFrom(after))
  const depth = Math.min(blockThreads / neighbours, powerFrom(extent / 4))
  const across = blockThreads / depth
  const strides = after === 1 ? { placeStride: 1, groupStride: depth } : { placeStride: across, groupStride: 1 }
  const t = `pb_${dtype}`
  const body = `
  PB_SHARED ${t}::value values[${blockThreads}];
  PB_SHARED int32_t places[${blockThreads}];
  const ${index} t = (${index})pb_thread(), place = t / placeStride % depth, group = t / groupStride % across;
  const ${index} r = (${index})pb_block() * across + group;
  const ${t}::bits *const x = (const ${t}::bits *)a.p[0] + (r / after * extent * after + r % after);
  ${t}::value best = 0;
  int32_t where = -1;
  for (${index} i = r < results ? place : extent; i < extent; i += depth) {
    const ${t}::value v = pb_get<${t}>(x + i * after);
    if (where < 0 || pb_larger(v, best)) {
      best = v;
      where = (int32_t)i;
    }
  }
  values[t] = best;
  places[t] = where;
  pb_barrier();
  for (${index} half = depth / 2; half > 0; half /= 2) {
    const ${index} other = t + half * placeStride;
    if (place < half && places[other] >= 0) {
      const bool earlier = places[other] < places[t] && !pb_larger(values[t], values[other]);
      if (places[t] < 0 || earlier || pb_larger(values[other], values[t])) {
        values[t] = values[other];
        places[t] = places[other];
      }
    }
    pb_barrier();
  }
  if (r < results && place == 0) ((int32_t *)a.p[1])[r] = places[t];`
  const numbers = { extent, after, results, depth, across, ...strides }
  const pointers = [operand(0), operand(1)]
  const blocks = ceilDiv(results, across)
  return { works: [launchOf({ name: `argMax_${dtype}`, index, blocks, pointers, numbers, body })], scratchBytes: 0 }
}

/** (x) -> x, copied: 16 bytes a thread, and the last ones one by one. */
export function lowerCopy(bytes: number): Lowered {
  const index = indexFor(bytes)
  const body = `
  const ${index} from = thread * 16;
  if (from + 16 <= bytes) {
    uint32_t w[4];
    pb_read_16((const char *)a.p[0] + from, w);
    pb_write_16((char *)a.p[1] + from, w);
  } else
    for (${index} i = from; i < bytes; ++i) ((char *)a.p[1])[i] = ((const char *)a.p[0])[i];`
  const pointers = [operand(0), operand(1)]
  const own = { name: 'copy', index, pointers, numbers: { bytes }, body }
  return { works: [mapLaunch(own, ceilDiv(bytes, 16))], scratchBytes: 0 }
}
