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

/**
 * The source's fragments. Of groups of 16 and 32 channels, f[u] is column u, four words for each 16 channels. Of narrower
 * groups, f[t] is the eight channels of half `t` of the 16 target channels, columns 0 and 1, and f[2] is column 2, both
 * halves: two matrices each, in the order in which products take them.
 */
const products = `
template <int HALVES> PB_INLINE int pb_fragment_place(const pb_extents &e, int octets, int u, int lane, int quarter, int scale, bool split) {
  const int m = lane >> 3, octet = octets + (m & 1), shift = HALVES == 1 && u < 2 ? m / 2 : u;
  const int chunk = HALVES == 4 ? quarter / 2 * 4 + m / 2 : quarter * 2 + (HALVES == 1 && u < 2 ? u : m / 2);
  const int column = (octet % e.octets * 8 + (lane & 7)) * scale + shift;
  return pb_chunk_place(octet / e.octets * e.span + (split ? pb_column_place<true>(column, e.octets) : column), chunk);
}
/* The second 16 channels lie two chunks on. */
template <int SHIFTS, int WORDS>
PB_INLINE void pb_load_fragments(uint32_t (&f)[SHIFTS][WORDS], pb_shared_address row, const int (&places)[SHIFTS]) {
  PB_UNROLL
  for (int u = 0; u < SHIFTS; ++u)
    PB_UNROLL
    for (int k = 0; k < WORDS; k += 4) pb_ldmatrix_x4(row + (places[u] ^ 8 * k), f[u] + k);
}
/* Adds the products with column u. */
template <class T, int HALVES, int SHIFTS, int WORDS>
PB_INLINE void pb_tap(float *sum, int t, const uint32_t (&f)[SHIFTS][WORDS], int u, const uint32_t *w) {
  if constexpr (HALVES == 1) {
    const uint32_t *const a = u == 2 ? f[u] + 2 * t : f[t] + 2 * u;
    pb_matrix<T>::k8(sum, a[0], a[1], w[0]);
  } else {
    PB_UNROLL
    for (int h = 0; h < HALVES; h += 2) {
      const uint32_t *const a = f[u] + 2 * h;
      pb_matrix<T>::k16(sum, a[0], a[1], a[2], a[3], w[h], w[h + 1]);
    }
  }
}
/* Those with the columns 0 and 1. */
template <class T, int HALVES, int SHIFTS, int WORDS>
PB_INLINE void pb_two_taps(float *sum, int t, const uint32_t (&f)[SHIFTS][WORDS], const uint32_t *w, const uint32_t *x) {
  if constexpr (HALVES == 1) pb_matrix<T>::k16(sum, f[t][0], f[t][1], f[t][2], f[t][3], w[0], x[0]);
  else {
    pb_tap<T, HALVES>(sum, t, f, 0, w);
    pb_tap<T, HALVES>(sum, t, f, 1, x);
  }
}
/* Those with a whole row of the filter. */
template <class T, int HALVES, int WORDS>
PB_INLINE void pb_row_of_taps(float (&sum)[2][4], const uint32_t (&f)[3][WORDS], const uint32_t (&w)[2][3][3][HALVES], int v) {
  PB_UNROLL
  for (int t = 0; t < 2; ++t) pb_two_taps<T, HALVES>(sum[t], t, f, w[t][v][0], w[t][v][1]);
  PB_UNROLL
  for (int t = 0; t < 2; ++t) pb_tap<T, HALVES>(sum[t], t, f, 2, w[t][v][2]);
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
/**
 * Where the lane's part of the next target row goes, 16 bytes: lane q of four has octet q / 2 and 8 channels. Whether its first
 * and its second column are inside; bits that say so of the lane's pixels of both octets; the source's words beside it.
 */
struct pb_target {
  uint16_t *at;
  bool first, second;
  uint32_t counted;
  int row_elements, channels;
  uint32_t fetched[4];
};
template <class T, int POST> PB_INLINE void pb_finish(pb_target &to, const float (&sum)[2][4], pb_behind<T, POST> &behind) {
  behind.store(to.at, to.first, to.counted & 3u, sum, to.fetched);
  to.at += to.row_elements;
}
/* Stages are counted by j, of target rows by unit; a source row outside the image adds nothing. */
template <class T, int HALVES, int WORDS, int POST> struct pb_step {
  typedef const uint32_t (&filter)[2][3][3][HALVES];
  typedef pb_behind<T, POST> behind;
  /* Stride 1: the row is the last of one target row, the middle of the next, the first of the one after. */
  PB_INLINE void dense(float (&sums)[2][2][4], filter w, const uint32_t (&f)[3][WORDS], int j, int rows, bool inside, pb_target &to,
      behind &after) {
    constexpr bool LATE = HALVES == 1; /* fewer sums at a time where there are fewer products to hide behind each other */
    float next[2][4];
    pb_clear(next);
    if (inside && j >= 2 && j < rows) {
      pb_row_of_taps<T, HALVES>(sums[0], f, w, 2);
      pb_row_of_taps<T, HALVES>(sums[1], f, w, 1);
      if constexpr (!LATE) pb_row_of_taps<T, HALVES>(next, f, w, 0);
    } else if (inside) {
      if (j >= 2) pb_row_of_taps<T, HALVES>(sums[0], f, w, 2);
      if (j >= 1 && j <= rows) pb_row_of_taps<T, HALVES>(sums[1], f, w, 1);
      if constexpr (!LATE) {
        if (j < rows) pb_row_of_taps<T, HALVES>(next, f, w, 0);
      }
    }
    if (j >= 2) pb_finish(to, sums[0], after);
    if constexpr (LATE) {
      if (inside && j < rows) pb_row_of_taps<T, HALVES>(next, f, w, 0);
    }
    pb_move(sums[0], sums[1]);
    pb_move(sums[1], next);
  }
  /* Stride 2: the first of a stage's two rows is the last of one target row and the first of the next. */
  PB_INLINE void halving(float (&sums)[2][2][4], filter w, const uint32_t (&f)[3][WORDS], int j, int rows, bool inside, pb_target &to,
      behind &after) {
    float next[2][4];
    pb_clear(next);
    if (inside && j >= 1) pb_row_of_taps<T, HALVES>(sums[0], f, w, 2);
    if (inside && j < rows) pb_row_of_taps<T, HALVES>(next, f, w, 0);
    if (j >= 1) pb_finish(to, sums[0], after);
    pb_move(sums[0], next);
  }
  /* Its gradient: a cotangent row reaches the target row above its own, that, and the one below, which waits for the next. */
  PB_INLINE void doubling(float (&sums)[2][2][4], filter w, const uint32_t (&f)[2][WORDS], int j, int rows, bool inside, int below,
      pb_target &to, behind &after) {
    if (j >= 1) {
      if (inside) taps(sums, w, f, 0);
      both(to, below > -1, sums, after);
    }
    if (j == rows) return;
    pb_clear(sums[0]);
    pb_clear(sums[1]);
    taps(sums, w, f, 1);
    both(to, below > 0, sums, after);
    pb_clear(sums[0]);
    pb_clear(sums[1]);
    taps(sums, w, f, 2);
  }
  /* Of the even and the odd columns, with row v of the filter. */
  PB_INLINE void taps(float (&sums)[2][2][4], filter w, const uint32_t (&f)[2][WORDS], int v) {
    PB_UNROLL
    for (int t = 0; t < 2; ++t) {
      pb_tap<T, HALVES>(sums[0][t], t, f, 0, w[t][v][1]);
      pb_two_taps<T, HALVES>(sums[1][t], t, f, w[t][v][2], w[t][v][0]);
    }
  }
  /* The even and the odd columns of a row. */
  PB_INLINE void both(pb_target &to, bool inside, const float (&sums)[2][2][4], behind &after) {
    const uint32_t counted = inside ? to.counted : 0;
    uint32_t fetched[2][4];
    if constexpr (POST == 3) {
      after.fetch(to.at, to.first && inside, fetched[0]);
      after.fetch(to.at + to.channels, to.second && inside, fetched[1]);
    }
    after.store(to.at, to.first && inside, counted & 3u, sums[0], fetched[0]);
    after.store(to.at + to.channels, to.second && inside, counted >> 2, sums[1], fetched[1]);
    to.at += to.row_elements;
  }
};
`

/** The kernel's body; `P` pairs of octets times four warps of 16 channels each are a block. */
const walk = `
template <class T, int CG, int STRIDE, bool BACK, int P, int STAGES, bool PRE, int POST>
PB_INLINE void pb_grouped_rows(const void *from, const void *weights, void *into, const pb_around &around, const int64_t *numbers) {
  constexpr bool HALVE = STRIDE == 2 && !BACK, DOUBLE = STRIDE == 2 && BACK;
  constexpr int SHIFTS = DOUBLE ? 2 : 3, ROWS = HALVE ? 2 : 1, LEFT = DOUBLE ? 0 : 1, SCALE = HALVE ? 2 : 1;
  constexpr int BEHIND = STRIDE == 1 ? 2 : 1, HALVES = CG < 16 ? 1 : CG / 8, WORDS = CG == 32 ? 8 : 4, THREADS = 128 * P;
  constexpr int PIECES = (2 * P * (8 * SCALE + SHIFTS - SCALE) * 8 + THREADS - 1) / THREADS;
  const pb_extents e = pb_extents_of(numbers);
  const pb_strip strip = pb_strip_of(e);
  const int quarter = (int)(pb_thread() >> 5) & 3, pair = (int)(pb_thread() >> 7), lane = (int)pb_lane();
  const pb_shared_address ring = pb_dynamic_address();

  pb_stream<PIECES, ROWS, SCALE, LEFT, HALVE> stream;
  pb_stream_open(stream, e, strip, THREADS, e.span, e.source_height, e.source_width);
  int ahead = strip.group, ahead_stage = 0;
  const auto ask = [&](int slot) {
    if (ahead < e.groups) {
      if (ahead_stage == 0) pb_stream_begin(stream, e, strip, from, ahead, e.source_height, e.source_width);
      pb_stream_copy(stream, e, strip, ring + slot * ROWS * e.pitch, ahead_stage, e.images - ahead * e.tile_images,
        e.source_height, e.source_width);
      if (++ahead_stage == strip.rows + BEHIND) {
        ahead_stage = 0;
        ahead += e.lanes;
      }
    }
    pb_async_commit();
  };
  PB_ONE_BY_ONE
  for (int i = 0; i < STAGES - 1; ++i) ask(i);

  uint32_t w[2][3][3][HALVES];
  pb_filter_load<CG, BACK, BACK && STRIDE == 1>((const uint16_t *)weights, strip.channel + quarter * 16, e.channels, w);
  int places[SHIFTS];
  PB_UNROLL
  for (int u = 0; u < SHIFTS; ++u) places[u] = pb_fragment_place<HALVES>(e, 2 * pair, u, lane, quarter, SCALE, HALVE);
  /* Where its results go: those of an octet's pixel, 8 channels. */
  const int octet = 2 * pair + (lane & 3) / 2, image = octet / e.octets, channel = strip.channel + quarter * 16 + (lane & 1) * 8;
  const int column = (strip.column + octet % e.octets * 8 + (lane >> 2)) * (DOUBLE ? 2 : 1);
  const bool first = channel < e.channels && column < e.target_width, second = channel < e.channels && column + 1 < e.target_width;
  pb_affine<8> before;
  if constexpr (PRE) pb_stream_affine(before, around.before, e, strip);
  pb_behind<T, POST> behind;
  const int summed = strip.channel + pb_behind<T, POST>::channel_of(quarter);
  behind.open(around, into, summed, e.channels);

  int slot = 0;
  for (int group = strip.group; group < e.groups; group += e.lanes) {
    const int64_t row = ((int64_t)group * e.tile_images + image) * e.target_height + strip.row * (DOUBLE ? 2 : 1);
    const bool inside = group * e.tile_images + image < e.images;
    pb_target to = {(uint16_t *)into + (row * e.target_width + column) * e.channels + channel, inside && first, inside && second,
      0, e.target_width * e.channels, e.channels};
    if constexpr (behind.SUMS) {
      PB_UNROLL
      for (int o = 0; o < 2; ++o) {
        const int octet = 2 * pair + o, column = (strip.column + octet % e.octets * 8 + (lane >> 2)) * (DOUBLE ? 2 : 1);
        const int width = group * e.tile_images + octet / e.octets < e.images ? e.target_width : 0;
        to.counted |= (uint32_t)(column < width) << o | (uint32_t)(column + 1 < width) << (2 + o);
      }
    }
    float sums[2][2][4];
    pb_clear(sums[0]);
    pb_clear(sums[1]);
    PB_ONE_BY_ONE
    for (int j = 0; j < strip.rows + BEHIND; ++j) {
      pb_async_wait<STAGES - 2>();
      if constexpr (PRE) pb_stream_activate<T>(stream, e, strip, ring + slot * ROWS * e.pitch, j, e.images - group * e.tile_images,
        e.source_height, before);
      pb_barrier();
      ask((slot + STAGES - 1) & (STAGES - 1));
      const int row = (strip.row + j) * SCALE - LEFT;
      const bool inside = row >= 0 && row < e.source_height;
      uint32_t f[SHIFTS][WORDS];
      if (inside) pb_load_fragments(f, ring + slot * ROWS * e.pitch, places);
      if constexpr (HALVE) {
        pb_step<T, HALVES, WORDS, POST>::halving(sums, w, f, j, strip.rows, inside, to, behind);
        if (j < strip.rows && row + 1 < e.source_height) {
          pb_load_fragments(f, ring + (slot * ROWS + 1) * e.pitch, places);
          pb_row_of_taps<T, HALVES>(sums[0], f, w, 1);
        }
      } else if constexpr (DOUBLE) pb_step<T, HALVES, WORDS, POST>::doubling(sums, w, f, j, strip.rows, inside,
        e.target_height - 2 * (strip.row + j), to, behind);
      else pb_step<T, HALVES, WORDS, POST>::dense(sums, w, f, j, strip.rows, inside, to, behind);
      slot = (slot + 1) & (STAGES - 1);
      if constexpr (behind.SUMS) {
        if ((j & 31) == 31 || j + 1 == strip.rows + BEHIND) behind.gather();
      }
      if constexpr (POST == 3 && !DOUBLE) behind.fetch(to.at, to.first && j >= 1 && j <= strip.rows, to.fetched);
    }
  }
  if constexpr (behind.SUMS) behind.template close<P>(around, (int)pb_block() / ((e.channels + 63) / 64), summed, e.channels);
}
`

/** Goes behind the stream's and the epilogue's texts; more than once is as good as once. */
export const rowsText = `#ifndef PB_GROUPED_ROWS
#define PB_GROUPED_ROWS
${[filters, products, steps, walk].join('')}#endif
`
