// Products of two matrices whose rows are summed over, A^T B, on Tensor Cores: what the gradients of small weights are. One text
// for all extents, so that many such products are one launch; which of them stand together is fusions' part.
import type { DotExtents } from '../../compile/index.ts'
import { nameOf } from '../../compile/print/name.ts'
import { blockThreads } from '../../compile/print/index.ts'
import { warpPrelude } from '../prelude-warps.ts'
import type { KernelLaunch } from '../work.ts'
import { ceilDiv, operand } from './launch.ts'

/** Rows and columns of a block's part of the result; the depth that is in shared memory at once, and how many such pieces. */
const tile = 64
const depth = 32
const stages = 2
/** Bytes of one piece of one operand: rows of `tile` elements of 16 bits. */
const pieceBytes = depth * tile * 2
/** Offsets into an operand have 32 bits. */
const mostElements = 2 ** 31

/**
 * result[i, j] = sum over k of A[k, i] B[k, j] for dense f16 or bf16 matrices, summed in f32 in an order that the depth alone
 * decides, and rounded once. Operands A, B, result. Rows must be whole runs of 16 bytes, in all three; undefined for others.
 */
export function transposedProduct(extents: DotExtents): KernelLaunch | undefined {
  const { dtype, batch, m, n, k, transposeA, transposeB } = extents
  if ((dtype !== 'f16' && dtype !== 'bf16') || batch !== 1 || !transposeA || transposeB) return undefined
  if (m % 8 !== 0 || n % 8 !== 0 || m * n * k === 0) return undefined
  if (Math.max(m * k, n * k, m * n) >= mostElements) return undefined
  const columnTiles = ceilDiv(n, tile)
  return {
    kind: 'kernel',
    source: nameOf(`pb_dotTN_${dtype}`, (symbol) => `${warpPrelude}PB_KERNEL(${symbol}, 3, 4) {\n${body(dtype)}}\n`),
    blocks: ceilDiv(m, tile) * columnTiles,
    threads: blockThreads,
    sharedBytes: 2 * stages * pieceBytes,
    pointers: [operand(0), operand(1), operand(2)],
    numbers: [m, n, k, columnTiles],
  }
}

/**
 * Eight warps: four along the rows of the tile, 16 each, and two along its columns, 32 each. A row of a piece is 8 runs of 16
 * bytes, of which run r of row d lies at r xor d, so that eight rows of one column meet in no bank.
 */
const body = (dtype: 'f16' | 'bf16'): string => `
  const int32_t m = (int32_t)a.n[0], n = (int32_t)a.n[1], k = (int32_t)a.n[2], columnTiles = (int32_t)a.n[3];
  const int32_t block = (int32_t)pb_block(), firstRow = block / columnTiles * ${tile}, firstColumn = block % columnTiles * ${tile};
  const pb_shared_address shared = pb_dynamic_address();
  const int thread = (int)pb_thread(), lane = (int)pb_lane(), warp = thread / 32;
  const auto fetch = [&](int stage, int32_t from) {
    const int row = thread / 8, run = thread % 8;
    const int32_t d = from + row, i = firstRow + run * 8, j = firstColumn + run * 8;
    const pb_shared_address to = shared + (stage * ${2 * pieceBytes} + row * ${2 * tile} + (run ^ (row & 7)) * 16);
    const bool left = d < k && i < m, right = d < k && j < n;
    pb_async_copy_16(to, (const uint16_t *)a.p[0] + (left ? d * m + i : 0), true, left);
    pb_async_copy_16(to + ${pieceBytes}, (const uint16_t *)a.p[1] + (right ? d * n + j : 0), true, right);
  };
  float sums[4][4] = {{0}};
  fetch(0, 0);
  pb_async_commit();
  for (int32_t from = 0, stage = 0; from < k; from += ${depth}, stage ^= 1) {
    if (from + ${depth} < k) fetch(stage ^ 1, from + ${depth});
    pb_async_commit();
    pb_async_wait<1>();
    pb_barrier();
    const pb_shared_address left = shared + stage * ${2 * pieceBytes}, right = left + ${pieceBytes};
    PB_UNROLL
    for (int d = 0; d < ${depth}; d += 16) {
      const int low = d + (lane & 7), high = low + 8, odd = lane / 8 & 1, upper = lane / 16;
      uint32_t x[4], y[8];
      const int row = upper ? high : low, run = warp / 2 * 2 + odd;
      pb_ldmatrix_x4_trans(left + (row * ${2 * tile} + (run ^ (row & 7)) * 16), x);
      PB_UNROLL
      for (int pair = 0; pair < 2; ++pair) {
        const int deep = odd ? high : low, across = warp % 2 * 4 + pair * 2 + upper;
        pb_ldmatrix_x4_trans(right + (deep * ${2 * tile} + (across ^ (deep & 7)) * 16), y + 4 * pair);
      }
      PB_UNROLL
      for (int column = 0; column < 4; ++column)
        pb_matrix<pb_${dtype}>::k16(sums[column], x[0], x[1], x[2], x[3], y[2 * column], y[2 * column + 1]);
    }
    pb_barrier();
  }
  pb_async_wait<0>();
  PB_UNROLL
  for (int column = 0; column < 4; ++column) {
    const int32_t j = firstColumn + warp % 2 * 32 + column * 8 + lane % 4 * 2;
    PB_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int32_t i = firstRow + warp / 2 * 16 + half * 8 + lane / 4;
      const uint32_t two = pb_matrix<pb_${dtype}>::pack(sums[column][2 * half], sums[column][2 * half + 1]);
      if (i < m && j < n) pb_write_4((uint16_t *)a.p[2] + (i * n + j), &two);
    }
  }
`
