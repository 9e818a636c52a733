// Adding by index without atomics: a block owns some rows and columns of the result in shared memory, looks through all
// indices for those that name its rows, and adds their updates in order.
import type { IndexedExtents } from '../../compile/index.ts'
import { blockThreads } from '../../compile/print/index.ts'
import { type FloatDType, accumulationType, bytesOf } from '../../tensor/dtype.ts'
import type { Lowered } from '../work.ts'
import { type Index, ceilDiv, indexFor, launchOf, operand, printDigits, scratch } from './launch.ts'
import { addPartials, partialBytes, sharesOf } from './partials.ts'

/** Bytes of sums that a block owns. */
const ownedBytes = 16384
/** Indices that a block looks at before it adds what it found: eight for each thread. */
const tile = 2048

/**
 * (updates, indices i32) -> the transpose of gather: sums in order of the indices, in f32 (f64 for f64), rounded once;
 * indices outside are clamped.
 *
 * Every block reads all indices of its share: 4 bytes x count for every 16 KB of sums. That is little beside updates and
 * result unless both are huge: a million updates into a million rows of 64 read 64 GB of indices, mostly from the
 * second-level cache. Updates of one row are added one after the other by the same threads.
 */
export function lowerScatterAdd(extents: IndexedExtents & { readonly dtype: FloatDType }): Lowered {
  const { dtype, before, extent, count, after } = extents
  const total = before * extent * after
  const columns = Math.min(after, blockThreads)
  const owned = ownedBytes / bytesOf(accumulationType(dtype))
  const rows = Math.min(extent, Math.floor(owned / columns))
  const [ranges, columnParts] = [ceilDiv(extent, rows), ceilDiv(after, columns)]
  const blocks = before * ranges * columnParts
  const shares = sharesOf(count, blocks, tile, tile)
  const split = shares.count > 1
  const index = indexFor(total * shares.count, before * count * after, count + tile)
  const result = split ? accumulationType(dtype) : dtype
  const add = launchOf({
    name: `scatterAdd_${dtype}`,
    index,
    blocks: blocks * shares.count,
    pointers: [operand(0), operand(1), split ? scratch(0) : operand(2)],
    numbers: {
      ...{ extent, count, after, rows, columns, ranges, columnParts, befores: before, share: shares.size },
      lanes: 2 ** Math.floor(Math.log2(blockThreads / columns)),
    },
    body: printScatter(index, dtype, result, owned),
  })
  const works = split ? [add, addPartials(dtype, total, shares, 2)] : [add]
  return { works, scratchBytes: partialBytes(dtype, total, shares) }
}

/** A thread adds to one column of every `lanes`-th row; which rows those are does not change the order of any sum. */
function printScatter(index: Index, dtype: FloatDType, result: FloatDType, owned: number): string {
  const t = `pb_${dtype}`
  const extents = { part: 'columnParts', range: 'ranges', before: 'befores' }
  return `
  PB_SHARED ${t}::value sums[${owned}];
  PB_SHARED uint32_t found[${tile}], counts[512];
  const ${index} t = (${index})pb_thread();
  ${printDigits(index, `(${index})pb_block()`, extents, 'split')}
  const ${index} low = range * rows, high = PB_MIN(extent, low + rows), first = part * columns;
  const ${index} column = t % columns, lane = t / columns, start = split * share, end = PB_MIN(count, start + share);
  const bool active = lane < lanes && first + column < after;
  const int32_t *const indices = (const int32_t *)a.p[1];
  const ${t}::bits *const updates = (const ${t}::bits *)a.p[0] + before * count * after + first + column;
  for (${index} e = t; e < rows * columns; e += ${blockThreads}) sums[e] = 0;
  pb_barrier();
  for (${index} begin = start; begin < end; begin += ${tile}) {
    ${printSearch(index)}
    for (uint32_t e = 0; active && e < matches; e += 4) {
      ${t}::value v[4];
      int32_t to[4];
      PB_UNROLL
      for (int k = 0; k < 4; ++k) {
        const int32_t code = e + k < matches ? (int32_t)found[e + k] : -1, row = code / ${tile};
        to[k] = code >= 0 && (row & (int32_t)(lanes - 1)) == (int32_t)lane ? row * (int32_t)columns + (int32_t)column : -1;
        v[k] = to[k] >= 0 ? pb_get<${t}>(updates + (begin + code % ${tile}) * after) : 0;
      }
      PB_UNROLL
      for (int k = 0; k < 4; ++k)
        if (to[k] >= 0) sums[to[k]] += v[k];
    }
    pb_barrier();
  }
  const ${index} base = ((split * befores + before) * extent + low) * after + first;
  for (${index} e = t; e < (high - low) * columns; e += ${blockThreads}) {
    const ${index} row = e / columns, c = e % columns;
    if (first + c < after) pb_put<pb_${result}>((pb_${result}::bits *)a.p[2] + base + row * after + c, sums[e]);
  }`
}

/** Lists, in order, the indices of this tile that name rows of this block, as row x tile + place in the tile. */
function printSearch(index: Index): string {
  return `int32_t code[8];
    uint32_t mine = 0, matches;
    PB_UNROLL
    for (int k = 0; k < 8; ++k) {
      const ${index} j = begin + t * 8 + k;
      const ${index} wanted = j < end ? (${index})indices[j] : 0, row = wanted < 0 ? 0 : PB_MIN(wanted, extent - 1);
      code[k] = j < end && row >= low && row < high ? (int32_t)((row - low) * ${tile} + t * 8 + k) : -1;
      mine += code[k] >= 0;
    }
    uint32_t next = pb_scan(counts, mine, matches);
    PB_UNROLL
    for (int k = 0; k < 8; ++k)
      if (code[k] >= 0) found[next++] = (uint32_t)code[k];
    pb_barrier();`
}
