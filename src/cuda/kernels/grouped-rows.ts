// CUDA C of the grouped 3x3 convolution and its input gradient: a block walks down a strip of 64 channels, and every source
// row, read once from shared memory, adds its share to the three target rows it reaches, whose sums are in registers.
//
// A warp computes 16 channels of two octets of pixels. Matrices are 16 pixels by 16 channels of the source and that by 8
// target channels of the filter, which stays in registers. Up to 8 channels in a group, the eight source channels of two
// neighbouring columns make one matrix of depth 16: no part of it is zero for 8 channels, half of it for 4.

/** The filter's fragments: pairs of neighbouring source channels of each tap, zero where the groups differ. */
const filters = `
template <int CG, bool BACK>
PB_INLINE uint32_t pb_filter_pair(const uint16_t *filter, int to, int from, int tap, int channels) {
  if (to >= channels || to / CG != from / CG) return 0;
  if constexpr (BACK) {
    const uint16_t *const low = filter + ((int64_t)from * 9 + tap) * CG + to % CG;
    return (uint32_t)low[9 * CG] << 16 | low[0];
  } else {
    uint32_t pair;
    pb_read_4(filter + ((int64_t)to * 9 + tap) * CG + from % CG, &pair);
    return pair;
  }
}
/* Of the 16 target channels from \`first\`. A gradient of stride 1 is a convolution with the filter turned round. */
template <int CG, bool BACK, bool TURN, int HALVES>
PB_INLINE void pb_filter_load(const uint16_t *filter, int first, int channels, uint32_t (&w)[2][3][3][HALVES]) {
  const int g = pb_lane() / 4, q = pb_lane() % 4;
  PB_UNROLL
  for (int t = 0; t < 2; ++t) {
    const int source = CG < 16 ? first + 8 * t : first / CG * CG;
    PB_UNROLL
    for (int v = 0; v < 3; ++v)
      PB_UNROLL
      for (int u = 0; u < 3; ++u)
        PB_UNROLL
        for (int h = 0; h < HALVES; ++h)
          w[t][v][u][h] = pb_filter_pair<CG, BACK>(filter, first + 8 * t + g, source + 8 * h + 2 * q,
            TURN ? 8 - 3 * v - u : 3 * v + u, channels);
  }
}
`

/** Products with one column's and two columns' fragments; `t` is the half of the 16 target channels. */
const products = `
template <class T, int HALVES> PB_INLINE void pb_tap(float *sum, int t, const uint32_t *f, const uint32_t *w) {
  if constexpr (HALVES == 1) pb_matrix<T>::k8(sum, f[2 * t], f[2 * t + 1], w[0]);
  else {
    PB_UNROLL
    for (int h = 0; h < HALVES; h += 2) {
      const uint32_t *const a = f + 2 * h;
      pb_matrix<T>::k16(sum, a[0], a[1], a[2], a[3], w[h], w[h + 1]);
    }
  }
}
template <class T, int HALVES>
PB_INLINE void pb_taps(float *sum, int t, const uint32_t *f, const uint32_t *w, const uint32_t *g, const uint32_t *x) {
  if constexpr (HALVES == 1) pb_matrix<T>::k16(sum, f[2 * t], f[2 * t + 1], g[2 * t], g[2 * t + 1], w[0], x[0]);
  else {
    pb_tap<T, HALVES>(sum, t, f, w);
    pb_tap<T, HALVES>(sum, t, g, x);
  }
}
/* A whole row of the filter. */
template <class T, int HALVES, int WORDS>
PB_INLINE void pb_row_of_taps(float (&sum)[2][4], const uint32_t (&f)[3][WORDS], const uint32_t (&w)[2][3][3][HALVES], int v) {
  PB_UNROLL
  for (int t = 0; t < 2; ++t) {
    pb_taps<T, HALVES>(sum[t], t, f[0], w[t][v][0], f[1], w[t][v][1]);
    pb_tap<T, HALVES>(sum[t], t, f[2], w[t][v][2]);
  }
}
/* 16 channels of two octets of pixels, 16 bytes a lane: lane q of four has octet q / 2 and 8 channels. */
template <class T> PB_INLINE void pb_store_octets(uint16_t *at, bool inside, const float (&sum)[2][4]) {
  uint32_t w[4] = {pb_matrix<T>::pack(sum[0][0], sum[0][1]), pb_matrix<T>::pack(sum[1][0], sum[1][1]),
    pb_matrix<T>::pack(sum[0][2], sum[0][3]), pb_matrix<T>::pack(sum[1][2], sum[1][3])};
  pb_quad_transpose(w);
  if (inside) pb_write_16(at, w);
}
PB_INLINE void pb_clear(float (&sum)[2][4]) {
  PB_UNROLL
  for (int i = 0; i < 8; ++i) sum[i / 4][i % 4] = 0.0f;
}
PB_INLINE void pb_move(float (&to)[2][4], const float (&from)[2][4]) {
  PB_UNROLL
  for (int i = 0; i < 8; ++i) to[i / 4][i % 4] = from[i / 4][i % 4];
}
`

/** What one stage adds: the sums of unfinished rows are in `sums`, finished ones are stored. `j` counts stages. */
const steps = `
/* Where a lane's part of the target goes: of unit row \`row\`, and whether its first and its second column are inside. */
struct pb_target { uint16_t *at; int row, height; bool first, second; int64_t row_elements; int channels; };
template <class T> PB_INLINE void pb_finish(const pb_target &to, int row, const float (&sum)[2][4]) {
  pb_store_octets<T>(to.at + row * to.row_elements, to.first, sum);
}
template <class T, int HALVES, int WORDS> struct pb_step {
  typedef const uint32_t (&filter)[2][3][3][HALVES];
  /* Stride 1: the row is the last of one target row, the middle of the next, the first of the one after. */
  PB_INLINE void dense(float (&sums)[3][2][4], filter w, const uint32_t (&f)[3][WORDS], int j, const pb_target &to) {
    pb_row_of_taps<T, HALVES>(sums[0], f, w, 2);
    pb_row_of_taps<T, HALVES>(sums[1], f, w, 1);
    pb_row_of_taps<T, HALVES>(sums[2], f, w, 0);
    if (j >= 2) pb_finish<T>(to, to.row + j - 2, sums[0]);
    pb_move(sums[0], sums[1]);
    pb_move(sums[1], sums[2]);
    pb_clear(sums[2]);
  }
  /* Stride 2: two rows, the first of which is the last of one target row and the first of the next. */
  PB_INLINE void halving(float (&sums)[3][2][4], filter w, const uint32_t (&f)[3][WORDS], const uint32_t (&g)[3][WORDS], int j,
      const pb_target &to) {
    pb_row_of_taps<T, HALVES>(sums[0], f, w, 2);
    if (j >= 1) pb_finish<T>(to, to.row + j - 1, sums[0]);
    pb_clear(sums[0]);
    pb_row_of_taps<T, HALVES>(sums[0], f, w, 0);
    pb_row_of_taps<T, HALVES>(sums[0], g, w, 1);
  }
  /* Its gradient: a cotangent row reaches the target row above it, its own and the one below, which waits for the next. */
  PB_INLINE void doubling(float (&sums)[3][2][4], filter w, const uint32_t (&f)[2][WORDS], int j, int rows, const pb_target &to) {
    float even[2][4], odd[2][4];
    pb_clear(even);
    pb_clear(odd);
    PB_UNROLL
    for (int t = 0; t < 2; ++t) {
      pb_tap<T, HALVES>(sums[0][t], t, f[0], w[t][0][1]);
      pb_taps<T, HALVES>(sums[1][t], t, f[1], w[t][0][0], f[0], w[t][0][2]);
      pb_tap<T, HALVES>(even[t], t, f[0], w[t][1][1]);
      pb_taps<T, HALVES>(odd[t], t, f[1], w[t][1][0], f[0], w[t][1][2]);
    }
    const int row = 2 * (to.row + j);
    if (j >= 1) both(to, row - 1, sums[0], sums[1]);
    if (j < rows) both(to, row, even, odd);
    pb_clear(sums[0]);
    pb_clear(sums[1]);
    PB_UNROLL
    for (int t = 0; t < 2; ++t) {
      pb_tap<T, HALVES>(sums[0][t], t, f[0], w[t][2][1]);
      pb_taps<T, HALVES>(sums[1][t], t, f[1], w[t][2][0], f[0], w[t][2][2]);
    }
  }
  PB_INLINE void both(const pb_target &to, int row, const float (&even)[2][4], const float (&odd)[2][4]) {
    uint16_t *const at = to.at + row * to.row_elements;
    pb_store_octets<T>(at, to.first && row < to.height, even);
    pb_store_octets<T>(at + to.channels, to.second && row < to.height, odd);
  }
};
`

/** The kernel's body; `P` pairs of octets times four warps of 16 channels each are a block. */
const walk = `
template <class T, int CG, int STRIDE, bool BACK, int P, int STAGES>
PB_INLINE void pb_grouped_rows(const void *from, const void *weights, void *into, const int64_t *numbers) {
  constexpr bool HALVE = STRIDE == 2 && !BACK, DOUBLE = STRIDE == 2 && BACK;
  constexpr int SHIFTS = DOUBLE ? 2 : 3, ROWS = HALVE ? 2 : 1, LEFT = DOUBLE ? 0 : 1, SCALE = HALVE ? 2 : 1;
  constexpr int BEHIND = STRIDE == 1 ? 2 : 1, HALVES = CG < 16 ? 1 : CG / 8, WORDS = CG == 32 ? 8 : 4, THREADS = 128 * P;
  constexpr int MOST = 2 * P * (8 * SCALE + SHIFTS - SCALE), PIECES = (MOST * 8 + THREADS - 1) / THREADS;
  const pb_extents e = pb_extents_of(numbers);
  const int slabs = (e.channels + 63) / 64, slab = (int)(pb_block() % slabs), first = (int)(pb_block() / slabs);
  const int images = 2 * P / e.octets, span = 8 * SCALE * e.octets + SHIFTS - SCALE;
  const int pitch = images * span * 128, warp = (int)(pb_thread() >> 5), quarter = warp & 3, pair = warp >> 2;
  uint8_t *const ring = pb_dynamic_shared();

  uint32_t w[2][3][3][HALVES];
  pb_filter_load<CG, BACK, BACK && STRIDE == 1>((const uint16_t *)weights, slab * 64 + quarter * 16, e.channels, w);

  /* Where the lane's row of each fragment lies: matrix m has octet m % 2 and half m / 2 of 16 channels. */
  int places[SHIFTS];
  {
    const int m = pb_lane() >> 3, octet = 2 * pair + (m & 1), chunk = (CG == 32 ? quarter / 2 * 4 : quarter * 2) + m / 2;
    PB_UNROLL
    for (int u = 0; u < SHIFTS; ++u) {
      const int column = ((octet % e.octets) * 8 + (int)(pb_lane() & 7)) * SCALE + u;
      places[u] = pb_chunk_place(octet / e.octets * span + pb_column_place<HALVE>(column, e.octets), chunk);
    }
  }
  const int octet = 2 * pair + (int)(pb_lane() & 3) / 2, own = octet % e.octets * 8 + (int)(pb_lane() >> 2);
  const int channel = slab * 64 + quarter * 16 + (int)(pb_lane() & 1) * 8;

  const uint16_t *const source = (const uint16_t *)from;
  const int64_t source_row = (int64_t)e.source_width * e.channels;
  pb_stream<PIECES, ROWS, SCALE, LEFT, HALVE, THREADS> stream;
  pb_stream_open(stream, images, span, e.octets);
  int ahead = first, left = 0;
  const auto ask = [&](int slot) {
    if (left == 0 && ahead < e.strips) {
      const pb_strip strip = pb_strip_of(e, ahead, images);
      pb_stream_begin(stream, e, strip, e.source_height, e.source_width, slab * 64, e.source_height);
      left = strip.rows + BEHIND;
      ahead += e.step;
    }
    if (left > 0) {
      pb_stream_copy(stream, source, ring + slot * ROWS * pitch, pitch, source_row);
      --left;
    }
    pb_async_commit();
  };
  PB_UNROLL
  for (int i = 0; i < STAGES - 1; ++i) ask(i);
  int slot = 0;
  for (int index = first; index < e.strips; index += e.step) {
    const pb_strip strip = pb_strip_of(e, index, images);
    const int image = strip.image + octet / e.octets, column = (strip.column + own) * (DOUBLE ? 2 : 1);
    const bool inside = image < e.images && channel < e.channels;
    const int64_t target_row = (int64_t)e.target_width * e.channels;
    const pb_target to = {(uint16_t *)into + image * e.target_height * target_row + (int64_t)column * e.channels + channel,
      strip.row, e.target_height, inside && column < e.target_width, inside && column + 1 < e.target_width, target_row, e.channels};
    float sums[3][2][4];
    PB_UNROLL
    for (int i = 0; i < 3; ++i) pb_clear(sums[i]);
    for (int j = 0; j < strip.rows + BEHIND; ++j) {
      pb_async_wait<STAGES - 2>();
      pb_barrier();
      ask((slot + STAGES - 1) % STAGES);
      uint32_t f[ROWS][SHIFTS][WORDS];
      PB_UNROLL
      for (int r = 0; r < ROWS; ++r)
        PB_UNROLL
        for (int u = 0; u < SHIFTS; ++u)
          PB_UNROLL
          for (int h = 0; h < WORDS; h += 4)
            pb_ldmatrix_x4(ring + (slot * ROWS + r) * pitch + (places[u] ^ 8 * h), f[r][u] + h);
      if constexpr (HALVE) pb_step<T, HALVES, WORDS>::halving(sums, w, f[0], f[1], j, to);
      else if constexpr (DOUBLE) pb_step<T, HALVES, WORDS>::doubling(sums, w, f[0], j, strip.rows, to);
      else pb_step<T, HALVES, WORDS>::dense(sums, w, f[0], j, to);
      slot = (slot + 1) % STAGES;
    }
  }
}
`

/** Goes behind the stream's text; more than once is as good as once. */
export const rowsText: string = `#ifndef PB_GROUPED_ROWS
#define PB_GROUPED_ROWS
${[filters, products, steps, walk].join('')}#endif
`
