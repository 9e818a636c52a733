// What own kernels take from the prelude beyond elements: fused multiply-add, running counts over a block, and the pieces of a
// tiled product, whose sides come from memory in runs of four and meet in shared memory. All of it is C++ that a GPU and
// g++ compile alike.

const arithmetic = `
#define PB_MAX(a, b) ((a) > (b) ? (a) : (b))
#ifdef __CUDACC__
#define PB_UNROLL_4 _Pragma("unroll 4")
#else
#define PB_UNROLL_4
#endif
PB_INLINE pbv_f pb_fma(pbv_f a, pbv_f b, pbv_f c) { return fmaf(a, b, c); }
PB_INLINE pbv_d pb_fma(pbv_d a, pbv_d b, pbv_d c) { return fma(a, b, c); }
/* Whether x takes the place of best: the first of equals stays, and NaN is the largest. */
template <class V> PB_INLINE bool pb_larger(V x, V best) { return !(x <= best) && best == best; }
/* The sum of the counts of all threads before this one; total is that of all. \`shared\` has 512 places and may be used again
   after the next barrier; every thread of the block must call. */
PB_INLINE uint32_t pb_scan(uint32_t *shared, uint32_t count, uint32_t &total) {
  const uint32_t t = pb_thread();
  uint32_t *from = shared, *to = shared + 256;
  from[t] = count;
  pb_barrier();
  for (uint32_t stride = 1; stride < 256; stride *= 2) {
    to[t] = from[t] + (t >= stride ? from[t - stride] : 0);
    pb_barrier();
    uint32_t *const kept = from;
    from = to;
    to = kept;
  }
  total = from[255];
  return from[t] - count;
}
`

/**
 * A tile's side is `Extent` rows, 16 deep, in shared memory as [depth][row]. The block's threads bring it in runs of four
 * elements that lie along the depth (Deep) or along the rows, each in one access if Wide. `place(row, depth, from)` says
 * whether an element is inside, and where; those outside are zero.
 */
const products = `
template <class R> struct alignas(16) pb_quad { R x[4]; };
template <int Extent> struct pb_side {
  static constexpr int runs = Extent < 64 ? 1 : Extent / 64;
  static constexpr int pitch = Extent + 4;
  static constexpr int quads = 16 * pitch / 4;
};
template <int Extent, bool Deep> PB_INLINE int pb_side_row(int q) { return Deep ? q / 4 : q % (Extent / 4) * 4; }
template <int Extent, bool Deep> PB_INLINE int pb_side_depth(int q) { return Deep ? q % 4 * 4 : q / (Extent / 4); }
template <class T, int Extent, bool Deep, bool Wide, class I, class P>
PB_INLINE void pb_fetch(const void *p, I row, I depth, typename T::value *x, const P &place) {
  typedef typename T::bits element;
  PB_UNROLL
  for (int run = 0; run < pb_side<Extent>::runs; ++run) {
    const int q = run * 256 + (int)pb_thread();
    const I r = row + pb_side_row<Extent, Deep>(q), d = depth + pb_side_depth<Extent, Deep>(q);
    const bool mine = Extent >= 64 || q < Extent * 4;
    I from = 0;
    PB_UNROLL
    for (int k = 0; k < 4; ++k) x[4 * run + k] = 0;
    if constexpr (Wide) {
      if (mine && place(r, d, from)) pb_load<T, 4>((const element *)p + from, x + 4 * run);
    } else {
      PB_UNROLL
      for (int k = 0; k < 4; ++k)
        if (mine && place(r + (Deep ? 0 : k), d + (Deep ? k : 0), from)) x[4 * run + k] = pb_get<T>((const element *)p + from);
    }
  }
}
template <int Extent, bool Deep, class R> PB_INLINE void pb_stage(pb_quad<R> *shared, const R *x) {
  R *const to = shared->x;
  PB_UNROLL
  for (int run = 0; run < pb_side<Extent>::runs; ++run) {
    const int q = run * 256 + (int)pb_thread();
    const int r = pb_side_row<Extent, Deep>(q), d = pb_side_depth<Extent, Deep>(q);
    if (Extent >= 64 || q < Extent * 4) {
      PB_UNROLL
      for (int k = 0; k < 4; ++k) to[(d + (Deep ? k : 0)) * pb_side<Extent>::pitch + r + (Deep ? 0 : k)] = x[4 * run + k];
    }
  }
}
/* Adds the tile's products to the 4 by 4 sums of this thread, in order of depth. */
template <int Rows, int Columns, class R>
PB_INLINE void pb_multiply(const pb_quad<R> *left, const pb_quad<R> *right, R *sums) {
  const int i = (int)pb_thread() / (Columns / 4), j = (int)pb_thread() % (Columns / 4);
  PB_UNROLL_4
  for (int d = 0; d < 16; ++d) {
    const pb_quad<R> a = left[d * pb_side<Rows>::pitch / 4 + i], b = right[d * pb_side<Columns>::pitch / 4 + j];
    PB_UNROLL
    for (int k = 0; k < 16; ++k) sums[k] = pb_fma(a.x[k / 4], b.x[k % 4], sums[k]);
  }
}
template <class R> PB_INLINE void pb_flush(R *totals, R *sums) {
  PB_UNROLL
  for (int k = 0; k < 16; ++k) {
    totals[k] += sums[k];
    sums[k] = 0;
  }
}
`

/** For kernels of whole blocks; behind the registers and memory. */
export const blockPrelude: string = [arithmetic, products].join('')
