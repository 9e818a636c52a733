// CUDA C of the products in a chain of row-wise steps: a block has 8 rows, whose values lie in shared memory, and the matrix
// streams from device memory straight into the registers in which Tensor Cores want it. Pointwise steps are rows-map.ts's part.
//
// Columns of the result are the 16 rows of a fragment, rows of the chain its 8 columns: no lane is idle for 8 rows. A warp
// takes 64 columns and 32 of the depth at a time. Which number of the depth a fragment calls which is ours to choose, as long
// as both sides agree: lane 4 g + q has numbers 8 q to 8 q + 7 of columns 8 g to 8 g + 7, so that all access is of 16 bytes.
// Nothing of the matrix is read twice by a block, which is why it does not pass through shared memory.

/** Rows of a block: the columns of a fragment. */
export const blockRows = 8
/** Warps of a block. */
export const blockWarps = 16
/** Threads of a block. */
export const rowThreads = 32 * blockWarps
/** Columns and depth that a warp takes at a time. */
export const tileColumns = 64
export const chunkDepth = 32

const places = `
constexpr int pb_rows_threads = ${rowThreads}, pb_rows_count = ${blockRows};
/* The block's first row, and how many rows there are: behind the last one, that one is computed again and not kept. */
struct pb_rows_place {
  int64_t first, rows;
  PB_MEMBER int64_t row(int r) const { return PB_MIN(first + r, rows - 1); }
  PB_MEMBER bool has(int r) const { return first + r < rows; }
};
/* V neighbours in shared memory, at a multiple of their size or of 16 bytes. */
template <class B, int V> struct alignas(V * sizeof(B) < 16 ? V * sizeof(B) : 16) pb_rows_piece { B e[V]; };
template <class T, int V> PB_INLINE void pb_rows_get(const uint8_t *from, typename T::value *x) {
  const pb_rows_piece<typename T::bits, V> piece = *(const pb_rows_piece<typename T::bits, V> *)from;
  PB_UNROLL
  for (int k = 0; k < V; ++k) x[k] = T::wide(piece.e[k]);
}
template <class T, int V> PB_INLINE void pb_rows_put(uint8_t *to, const typename T::value *x) {
  pb_rows_piece<typename T::bits, V> piece;
  PB_UNROLL
  for (int k = 0; k < V; ++k) piece.e[k] = T::narrow(x[k]);
  *(pb_rows_piece<typename T::bits, V> *)to = piece;
}
/* Rows into shared memory, 16 bytes at a time if WIDE. */
template <class T, bool WIDE>
PB_INLINE void pb_rows_stage(int to, int pitch, const void *from, int columns, const pb_rows_place &place) {
  typedef typename T::bits bits;
  constexpr int V = WIDE ? 16 / (int)sizeof(bits) : 1;
  const int pieces = columns / V;
  for (int i = (int)pb_thread(); i < pb_rows_count * pieces; i += pb_rows_threads) {
    const int r = i / pieces, c = i % pieces * V, at = to + r * pitch + c * (int)sizeof(bits);
    const bits *const source = (const bits *)from + place.row(r) * columns + c;
    if constexpr (WIDE) {
      uint32_t w[4];
      pb_read_16(source, w);
      pb_shared_write_16(pb_dynamic_address() + at, w);
    } else *(bits *)(pb_dynamic_shared() + at) = *source;
  }
}
/* And out of it. */
template <class T, bool WIDE>
PB_INLINE void pb_rows_keep(int from, int pitch, void *to, int columns, const pb_rows_place &place) {
  typedef typename T::bits bits;
  constexpr int V = WIDE ? 16 / (int)sizeof(bits) : 1;
  const int pieces = columns / V;
  for (int i = (int)pb_thread(); i < pb_rows_count * pieces; i += pb_rows_threads) {
    const int r = i / pieces, c = i % pieces * V, at = from + r * pitch + c * (int)sizeof(bits);
    if (!place.has(r)) continue;
    bits *const target = (bits *)to + (place.first + r) * columns + c;
    if constexpr (WIDE) {
      uint32_t w[4];
      pb_shared_read_16(pb_dynamic_address() + at, w);
      pb_write_16(target, w);
    } else *target = *(const bits *)(pb_dynamic_shared() + at);
  }
}
/* Zeros from the last column of 16-bit elements to the end of its chunk: a product reads whole chunks. */
PB_INLINE void pb_rows_clear(int to, int pitch, int columns) {
  const int r = (int)pb_thread() / ${chunkDepth}, c = columns + (int)pb_thread() % ${chunkDepth};
  if (r < pb_rows_count && c < (columns + ${chunkDepth - 1}) / ${chunkDepth} * ${chunkDepth})
    *(uint16_t *)(pb_dynamic_shared() + to + r * pitch + 2 * c) = 0;
}
/* Asks for a matrix of 16-bit elements before it is needed, each block for its share of the lines. */
PB_INLINE void pb_rows_ahead(const void *matrix, int64_t elements, int blocks) {
  for (int64_t line = (int64_t)pb_thread() * blocks + pb_block(); line * 64 < elements; line += (int64_t)pb_rows_threads * blocks)
    pb_prefetch((const uint8_t *)matrix + line * 128);
}
`

/**
 * A unit is 64 columns and one of `shares` parts of the depth, `size` chunks each; warps take them in turn. Of the matrix,
 * stored [n, k] if DEEP, else [k, n], a lane has w[j]: column 8 g + j of 8 numbers of the depth, or the other way round.
 * Outside are zeros; rows of the matrix begin at multiples of 16 bytes if WIDE.
 */
const fragments = `
struct pb_rows_extents { int n, k, shares, size; };
template <bool DEEP, bool WIDE>
PB_INLINE void pb_rows_fetch(uint32_t (&w)[8][4], const void *matrix, const pb_rows_extents &e, int unit, int chunk) {
  const int lane = (int)pb_lane(), n = unit / e.shares * ${tileColumns} + lane / 4 * 8, k = chunk * ${chunkDepth} + lane % 4 * 8;
  PB_UNROLL
  for (int j = 0; j < 8; ++j) {
    const int far = DEEP ? n + j : k + j, near = DEEP ? k : n, extent = DEEP ? e.k : e.n;
    const uint16_t *const from = (const uint16_t *)matrix + (int64_t)far * extent + near;
    const int inside = far < (DEEP ? e.n : e.k) ? extent - near : 0;
    PB_UNROLL
    for (int i = 0; i < 4; ++i) w[j][i] = 0;
    if constexpr (WIDE) {
      if (inside > 0) pb_read_16(from, w[j]);
    } else {
      PB_UNROLL
      for (int i = 0; i < 8; ++i)
        if (i < inside) w[j][i / 2] |= (uint32_t)from[i] << i % 2 * 16;
    }
  }
}
/* What a warp takes first, which does not depend on the chain's values: the sooner it is asked for, the better. */
template <bool DEEP, bool WIDE>
PB_INLINE void pb_rows_open(uint32_t (&w)[8][4], const void *matrix, const pb_rows_extents &e) {
  const int unit = (int)(pb_thread() >> 5);
  pb_rows_fetch<DEEP, WIDE>(w, matrix, e, unit, unit % e.shares * e.size);
}
PB_INLINE uint32_t pb_rows_low(uint32_t x, uint32_t y) { return (x & 0xffffu) | y << 16; }
PB_INLINE uint32_t pb_rows_high(uint32_t x, uint32_t y) { return x >> 16 | (y & 0xffff0000u); }
/* Product t has columns 8 g + 2 t and the next of the chunk, half h has numbers 8 q + 4 h to 8 q + 4 h + 3 of its depth. */
template <class T, bool DEEP>
PB_INLINE void pb_rows_multiply(float (&sums)[4][4], const uint32_t (&w)[8][4], const uint32_t (&x)[4]) {
  PB_UNROLL
  for (int h = 0; h < 2; ++h)
    PB_UNROLL
    for (int t = 0; t < 4; ++t) {
      const int i = 2 * t, j = 4 * h;
      if constexpr (DEEP)
        pb_matrix<T>::k16(sums[t], w[i][2 * h], w[i + 1][2 * h], w[i][2 * h + 1], w[i + 1][2 * h + 1], x[2 * h], x[2 * h + 1]);
      else
        pb_matrix<T>::k16(sums[t], pb_rows_low(w[j][t], w[j + 1][t]), pb_rows_high(w[j][t], w[j + 1][t]),
          pb_rows_low(w[j + 2][t], w[j + 3][t]), pb_rows_high(w[j + 2][t], w[j + 3][t]), x[2 * h], x[2 * h + 1]);
    }
}
`

/**
 * The rows at `from` in shared memory times the matrix, to `to`; `w` is what pb_rows_open fetched. Where warps share a depth,
 * their sums meet in shared memory and are added in order; all threads of the block must call.
 */
const product = `
/* A lane's sums are those of rows 2 q and 2 q + 1 in columns 8 g to 8 g + 7. */
template <class R> PB_INLINE void pb_rows_round(const float (&sums)[4][4], int to, int pitch, int column, int columns) {
  typedef typename R::bits bits;
  PB_UNROLL
  for (int r = 0; r < 2; ++r) {
    uint8_t *const row = pb_dynamic_shared() + to + ((int)pb_lane() % 4 * 2 + r) * pitch + column * (int)sizeof(bits);
    float x[8];
    PB_UNROLL
    for (int i = 0; i < 8; ++i) x[i] = sums[i / 2][i % 2 * 2 + r];
    if (column + 8 <= columns) pb_rows_put<R, 8>(row, x);
    else
      for (int i = 0; i < 8; ++i)
        if (column + i < columns) *((bits *)row + i) = R::narrow(x[i]);
  }
}
template <class R>
PB_INLINE void pb_rows_combine(const float *partials, const pb_rows_extents &e, int to, int pitch) {
  typedef typename R::bits bits;
  for (int i = (int)pb_thread(); i < (e.n + ${tileColumns - 1}) / ${tileColumns} * 512; i += pb_rows_threads) {
    const int tile = i / 512, place = i % 512, word = place / 32, lane = place % 32;
    const int column = tile * ${tileColumns} + lane / 4 * 8 + word / 4 * 2 + word % 4 / 2, r = lane % 4 * 2 + word % 2;
    float sum = 0.0f;
    for (int s = 0; s < e.shares; ++s) sum += partials[(tile * e.shares + s) * 512 + place];
    if (column < e.n) *((bits *)(pb_dynamic_shared() + to + r * pitch) + column) = R::narrow(sum);
  }
}
template <class T, class R, bool DEEP, bool WIDE>
PB_INLINE void pb_rows_dot(uint32_t (&w)[8][4], const void *matrix, const pb_rows_extents &e, int from, int from_pitch,
    int partial, int to, int pitch) {
  const int lane = (int)pb_lane(), units = (e.n + ${tileColumns - 1}) / ${tileColumns} * e.shares;
  const int chunks = (e.k + ${chunkDepth - 1}) / ${chunkDepth};
  const pb_shared_address row = pb_dynamic_address() + from + lane / 4 * from_pitch + lane % 4 * 16;
  float *const partials = (float *)(pb_dynamic_shared() + partial);
  PB_ONE_BY_ONE
  for (int unit = (int)(pb_thread() >> 5); unit < units; unit += ${blockWarps}) {
    const int first = unit % e.shares * e.size, last = PB_MIN(chunks, first + e.size);
    float sums[4][4] = {};
    PB_ONE_BY_ONE
    for (int chunk = first; chunk < last; ++chunk) {
      uint32_t now[8][4], x[4];
      PB_UNROLL
      for (int i = 0; i < 32; ++i) now[i / 4][i % 4] = w[i / 4][i % 4];
      const bool ends = chunk + 1 == last; /* a warp has several units only where they begin with the first chunk */
      pb_rows_fetch<DEEP, WIDE>(w, matrix, e, ends ? unit + ${blockWarps} : unit, ends ? 0 : chunk + 1);
      pb_shared_read_16(row + chunk * ${2 * chunkDepth}, x);
      pb_rows_multiply<T, DEEP>(sums, now, x);
    }
    if (e.shares == 1) pb_rows_round<R>(sums, to, pitch, unit * ${tileColumns} + lane / 4 * 8, e.n);
    else
      PB_UNROLL
      for (int i = 0; i < 16; ++i) partials[unit * 512 + i * 32 + lane] = sums[i / 4][i % 4];
  }
  if (e.shares > 1) {
    pb_barrier();
    pb_rows_combine<R>(partials, e, to, pitch);
  }
}
`

/** Goes behind the warp prelude; more than once is as good as once. */
export const rowsText = `#ifndef PB_ROWS
#define PB_ROWS
${places}${fragments}${product}#endif
`
