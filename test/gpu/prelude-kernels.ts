// Kernels that use the prelude's access, shuffles, reductions, fragments, products and asynchronous copies as its comments
// promise, on data of the host's making. What their results should be is prelude-expectations.ts's part.
import type { PrintedSource } from '../../src/compile/print/index.ts'
import { nameOf } from '../../src/compile/print/name.ts'
import { warpPrelude } from '../../src/cuda/prelude-warps.ts'
import { dtypes } from '../../src/tensor/dtype.ts'

/** A kernel with one number, which not all of them use: C++ has no arrays of nothing. */
const kernel = (name: string, pointers: number, body: string): PrintedSource =>
  nameOf(`pb_check_${name}`, (symbol) => {
    return `${warpPrelude}${helpers}\nPB_KERNEL(${symbol}, ${pointers}, 1) {\n${body.trim()}\n}\n`
  })

/** A thread's number in the launch, and words that differ from thread to thread. */
const helpers = `
PB_INLINE uint32_t pb_check_place() { return pb_block() * 256 + pb_thread(); }
PB_INLINE uint32_t pb_check_mix(uint32_t x) {
  x = (x ^ x >> 16) * 0x7feb352du;
  return (x ^ x >> 15) * 0x846ca68bu;
}
template <class T, int V> PB_INLINE void pb_check_through(const uint8_t *from, uint8_t *to, uint32_t t) {
  typename T::value x[V];
  constexpr uint32_t bytes = V * sizeof(typename T::bits);
  pb_load<T, V>(from + t * bytes, x);
  pb_store<T, V>(to + t * bytes, x);
}
`

/** 16, 8 and 4 bytes by each thread, from and to regions that begin at a multiple of their size and of no more. */
export const access = kernel(
  'access',
  2,
  `
  const uint32_t t = pb_check_place(), threads = (uint32_t)a.n[0];
  const uint8_t *const from = (const uint8_t *)a.p[0];
  uint8_t *const to = (uint8_t *)a.p[1];
  const uint32_t eights = 16 * threads + 8, fours = eights + 8 * threads + 4;
  uint32_t w[4];
  pb_read_16(from + 16 * t, w);
  pb_write_16(to + 16 * t, w);
  pb_read_8(from + eights + 8 * t, w);
  pb_write_8(to + eights + 8 * t, w);
  pb_read_4(from + fours + 4 * t, w);
  pb_write_4(to + fours + 4 * t, w);
`,
)

/** Elements of each dtype at once in `vectors`; region r of the two arrays is \`regionBytes\` long. */
export const vectorWidths = [1, 2, 4, 8] as const

/** Loads and stores of 1 to 8 elements of every dtype, each in a region of its own. */
export const vectors = kernel(
  'vectors',
  2,
  `
  const uint32_t t = pb_check_place();
  const uint64_t region = (uint64_t)a.n[0];
  const uint8_t *from = (const uint8_t *)a.p[0];
  uint8_t *to = (uint8_t *)a.p[1];
${dtypes
  .flatMap((dtype) =>
    vectorWidths.map(
      (width) => `  pb_check_through<pb_${dtype}, ${width}>(from, to, t);\n  from += region;\n  to += region;`,
    ),
  )
  .join('\n')}
`,
)

/** Counts, for each thread, the shuffles and transposed words that are another lane's. */
export const shuffles = kernel(
  'shuffles',
  1,
  `
  const uint32_t t = pb_check_place();
  uint32_t wrong = 0;
  for (uint32_t mask = 0; mask < 32; ++mask)
    if (pb_shuffle_xor(pb_check_mix(t), mask) != pb_check_mix(t ^ mask)) wrong += 1;
  uint32_t w[4];
  for (uint32_t i = 0; i < 4; ++i) w[i] = pb_check_mix(4 * t + i);
  pb_quad_transpose(w);
  for (uint32_t i = 0; i < 4; ++i)
    if (w[i] != pb_check_mix(4 * ((t & ~3u) + i) + (t & 3u))) wrong += 1;
  ((uint32_t *)a.p[0])[t] = wrong;
`,
)

/** Counts the sums and running counts of a block that are not those of a plain loop. Integers, so that order is no matter. */
export const reductions = kernel(
  'reductions',
  1,
  `
  PB_SHARED int32_t sums[512];
  PB_SHARED uint32_t counts[512];
  const uint32_t t = pb_thread(), salt = 1024 * pb_block();
  uint32_t wrong = 0;
  for (uint32_t depth = 2; depth <= 256; depth *= 2)
    for (uint32_t stride = 1; depth * stride <= 256; stride *= 2) {
      int32_t x[2] = {(int32_t)pb_check_mix(salt + 2 * t), (int32_t)pb_check_mix(salt + 2 * t + 1)};
      const uint32_t place = t / stride % depth;
      pb_combine<pb_add_i, 2>(sums, x, place, depth, stride);
      if (place == 0)
        for (uint32_t k = 0; k < 2; ++k) {
          uint32_t want = 0;
          for (uint32_t j = 0; j < depth; ++j) want += pb_check_mix(salt + 2 * (t + j * stride) + k);
          if ((uint32_t)x[k] != want) wrong += 1;
        }
    }
  uint32_t total = 0, before = 0, all = 0;
  const uint32_t found = pb_scan(counts, pb_check_mix(salt + t) & 7u, total);
  for (uint32_t j = 0; j < 256; ++j) {
    before += j < t ? pb_check_mix(salt + j) & 7u : 0;
    all += pb_check_mix(salt + j) & 7u;
  }
  if (found != before || total != all) wrong += 1;
  ((uint32_t *)a.p[0])[pb_check_place()] = wrong;
`,
)

/** Counts the words of fragments from shared memory that are not where the prelude says; 512 bytes a warp, rows shuffled. */
export const fragments = kernel(
  'fragments',
  1,
  `
  const uint32_t t = pb_thread(), lane = pb_lane(), warp = t / 32;
  uint16_t *const own = (uint16_t *)pb_dynamic_shared() + 256 * warp;
  for (uint32_t i = 0; i < 8; ++i) own[8 * lane + i] = (uint16_t)pb_check_mix(2048 * pb_block() + 256 * warp + 8 * lane + i);
  pb_barrier();
  const pb_shared_address row = pb_dynamic_address() + 512 * warp + 16 * (lane * 5 % 32);
  uint32_t straight[4], turned[4], wrong = 0;
  pb_ldmatrix_x4(row, straight);
  pb_ldmatrix_x4_trans(row, turned);
  for (uint32_t m = 0; m < 4; ++m) {
    const uint32_t r = (8 * m + lane / 4) * 5 % 32, low = (8 * m + 2 * (lane % 4)) * 5 % 32;
    const uint32_t high = (8 * m + 2 * (lane % 4) + 1) * 5 % 32, column = 2 * (lane % 4);
    if (straight[m] != ((uint32_t)own[8 * r + column + 1] << 16 | own[8 * r + column])) wrong += 1;
    if (turned[m] != ((uint32_t)own[8 * high + lane / 4] << 16 | own[8 * low + lane / 4])) wrong += 1;
  }
  ((uint32_t *)a.p[0])[pb_check_place()] = wrong;
`,
)

/** Bytes of dynamic shared memory: of \`fragments\`, and of \`copies\`, whose two groups have a half each. */
export const fragmentBytes = 8 * 512
export const copyBytes = 2 * 256 * 16

/**
 * Two groups of 16-byte copies: of four threads one wants none, and one is outside. The first group is read by its own
 * thread as soon as it is there, the second by its neighbour behind a barrier.
 */
export const copies = kernel(
  'copies',
  2,
  `
  const uint32_t t = pb_thread(), place = pb_check_place();
  const uint8_t *const from = (const uint8_t *)a.p[0] + 32 * (uint64_t)place;
  uint8_t *const to = (uint8_t *)a.p[1] + 32 * (uint64_t)place;
  uint32_t *const shared = (uint32_t *)pb_dynamic_shared();
  for (uint32_t i = 0; i < 8; ++i) shared[i % 4 + 4 * t + 1024 * (i / 4)] = 0x5a5a5a5au;
  pb_barrier();
  const bool wanted = t % 4 != 3, inside = t % 4 != 2;
  pb_async_copy_16(pb_dynamic_address() + 16 * t, from, wanted, inside);
  pb_async_commit();
  pb_async_copy_16(pb_dynamic_address() + 4096 + 16 * t, from + 16, wanted, inside);
  pb_async_commit();
  pb_async_wait<1>();
  pb_write_16(to, shared + 4 * t);
  pb_async_wait<0>();
  pb_barrier();
  pb_write_16(to + 16, shared + 1024 + 4 * (t ^ 1));
`,
)

/** A product of [16, 16] and [16, 8] for each warp, 16 deep and, of its first half, 8 deep, on top of c. */
export function products(dtype: 'f16' | 'bf16'): PrintedSource {
  return kernel(
    `products_${dtype}`,
    5,
    `
  const uint32_t lane = pb_lane(), problem = pb_check_place() / 32, g = lane / 4, q = lane % 4;
  const uint32_t *const left = (const uint32_t *)a.p[0] + 128 * (uint64_t)problem;
  const uint16_t *const right = (const uint16_t *)a.p[1] + 128 * (uint64_t)problem;
  const uint64_t at = 128 * (uint64_t)problem + 8 * g + 2 * q;
  const float *const c = (const float *)a.p[2];
  const uint32_t a0 = left[8 * g + q], a1 = left[8 * (g + 8) + q], a2 = left[8 * g + q + 4], a3 = left[8 * (g + 8) + q + 4];
  uint32_t b[2];
  for (uint32_t i = 0; i < 2; ++i) b[i] = (uint32_t)right[8 * (2 * q + 8 * i + 1) + g] << 16 | right[8 * (2 * q + 8 * i) + g];
  for (uint32_t half = 0; half < 2; ++half) {
    float sums[4] = {c[at], c[at + 1], c[at + 64], c[at + 65]};
    if (half == 0) pb_matrix<pb_${dtype}>::k16(sums, a0, a1, a2, a3, b[0], b[1]);
    else pb_matrix<pb_${dtype}>::k8(sums, a0, a1, b[0]);
    float *const to = (float *)a.p[3 + half];
    to[at] = sums[0];
    to[at + 1] = sums[1];
    to[at + 64] = sums[2];
    to[at + 65] = sums[3];
  }
`,
  )
}

/** Every kernel here. */
export const checkKernels: readonly PrintedSource[] = [
  ...[access, vectors, shuffles, reductions, fragments, copies],
  ...(['f16', 'bf16'] as const).map(products),
]
