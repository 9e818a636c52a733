// CUDA C of the grouped 3x3 convolution's filter gradient: a block walks down its strips and keeps the sums of all nine taps
// of 64 channels in registers; each block's sums are a partial, and a second kernel adds the partials in their order.
//
// Matrices are 16 target channels by 16 pixels (two octets of the cotangent, transposed as they are read) and that by 8 source
// channels. Groups smaller than 16 channels leave sums that mix groups: they are not stored.

const walk = `
/* A row of the source, in its three places against the filter. */
PB_INLINE void pb_load_columns(uint32_t (&b)[3][4], pb_shared_address row, const int (&places)[3]) {
  PB_UNROLL
  for (int u = 0; u < 3; ++u) pb_ldmatrix_x4_trans(row + places[u], b[u]);
}
/* It against a row of the cotangent: one row of taps. */
template <class T> PB_INLINE void pb_outer(float (&sums)[3][2][4], const uint32_t (&a)[4], const uint32_t (&b)[3][4]) {
  PB_UNROLL
  for (int u = 0; u < 3; ++u)
    PB_UNROLL
    for (int t = 0; t < 2; ++t) pb_matrix<T>::k16(sums[u][t], a[0], a[1], a[2], a[3], b[u][2 * t], b[u][2 * t + 1]);
}
template <class T, int CG, int STRIDE, int P, int STAGES, bool PRE>
PB_INLINE void pb_grouped_filter(const void *x, const void *cotangent, void *partials, const pb_vectors &vectors, const int64_t *numbers) {
  constexpr bool HALVE = STRIDE == 2;
  constexpr int ROLES = CG == 32 ? 8 : 4, THREADS = 32 * ROLES * P, BEHIND = STRIDE == 1 ? 2 : 1;
  constexpr int PIECES = (2 * P * (7 * STRIDE + 3) * 8 + THREADS - 1) / THREADS;
  const pb_extents e = pb_extents_of(numbers);
  const pb_strip strip = pb_strip_of(e);
  const int stage_bytes = STRIDE * e.pitch + 2 * P * 1024, stages = strip.rows + BEHIND, lane = (int)pb_lane();
  const int role = (int)(pb_thread() >> 5) % ROLES, pair = (int)(pb_thread() >> 5) / ROLES;
  /* The 16 target and 16 source channels of the warp, in the block's 64. */
  const int target = CG == 32 ? role / 2 * 16 : role * 16, source = CG == 32 ? role / 4 * 32 + role % 2 * 16 : role * 16;
  const pb_shared_address ring = pb_dynamic_address();

  pb_stream<PIECES, STRIDE, STRIDE, 1, HALVE> ahead_x;
  pb_stream<1, 1, 1, 0, false> ahead_y;
  pb_stream_open(ahead_x, e, strip, THREADS, e.span, e.source_height, e.source_width);
  pb_stream_open(ahead_y, e, strip, THREADS, 8 * e.octets, e.target_height, e.target_width);
  int ahead = strip.group, ahead_stage = 0;
  const auto ask = [&](int slot) {
    if (ahead < e.groups) {
      const pb_shared_address stage = ring + slot * stage_bytes;
      const int images = e.images - ahead * e.tile_images;
      if (ahead_stage == 0) {
        pb_stream_begin(ahead_x, e, strip, x, ahead, e.source_height, e.source_width);
        pb_stream_begin(ahead_y, e, strip, cotangent, ahead, e.target_height, e.target_width);
      }
      pb_stream_copy(ahead_x, e, strip, stage, ahead_stage, images, e.source_height, e.source_width);
      pb_stream_copy(ahead_y, e, strip, stage + STRIDE * e.pitch, ahead_stage, images, strip.row + strip.rows, e.target_width);
      if (++ahead_stage == stages) {
        ahead_stage = 0;
        ahead += e.lanes;
      }
    }
    pb_async_commit();
  };
  PB_ONE_BY_ONE
  for (int i = 0; i < STAGES - 1; ++i) ask(i);

  /* Of the source, matrix m has octet m % 2 and half m / 2 of 16 channels; of the cotangent the other way round. */
  const int m = lane >> 3, row = lane & 7, octet = 2 * pair + (m & 1);
  int places[3];
  PB_UNROLL
  for (int u = 0; u < 3; ++u) {
    const int column = (octet % e.octets * 8 + row) * STRIDE + u;
    places[u] = pb_chunk_place(octet / e.octets * e.span + pb_column_place<HALVE>(column, e.octets), source / 8 + m / 2);
  }
  const int other = STRIDE * e.pitch + pb_chunk_place(8 * (2 * pair + m / 2) + row, target / 8 + (m & 1));
  pb_affine<8> before;
  if constexpr (PRE) pb_stream_affine(before, vectors, e, strip);
  int slot = 0;
  float sums[3][3][2][4];
  PB_UNROLL
  for (int i = 0; i < 72; ++i) sums[i / 24][i / 8 % 3][i / 4 % 2][i % 4] = 0.0f;
  /* The cotangent's last two rows; stages are counted by j, of target rows by unit, and rows outside the image add nothing. */
  uint32_t a[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
  int j = 0, images = e.images - strip.group * e.tile_images;
  PB_ONE_BY_ONE
  for (int left = (e.groups - strip.group + e.lanes - 1) / e.lanes * stages; left > 0; --left) {
    pb_async_wait<STAGES - 2>();
    if constexpr (PRE) pb_stream_activate<T>(ahead_x, e, strip, ring + slot * stage_bytes, j, images, e.source_height, before);
    pb_barrier();
    ask((slot + STAGES - 1) & (STAGES - 1));
    const pb_shared_address stage = ring + slot * stage_bytes;
    const int row = (strip.row + j) * STRIDE - 1;
    const bool inside = row >= 0 && row < e.source_height;
    uint32_t b[3][4];
    if (inside) pb_load_columns(b, stage, places);
    if constexpr (HALVE) {
      if (inside && j >= 1) pb_outer<T>(sums[2], a[0], b);
      pb_ldmatrix_x4_trans(stage + other, a[0]);
      if (inside && j < strip.rows) pb_outer<T>(sums[0], a[0], b);
      if (j < strip.rows && row + 1 < e.source_height) {
        pb_load_columns(b, stage + e.pitch, places);
        pb_outer<T>(sums[1], a[0], b);
      }
    } else {
      if (inside && j >= 2) pb_outer<T>(sums[2], a[1], b);
      PB_UNROLL
      for (int i = 0; i < 4; ++i) a[1][i] = a[0][i];
      pb_ldmatrix_x4_trans(stage + other, a[0]);
      if (inside && j >= 1 && j <= strip.rows) pb_outer<T>(sums[1], a[1], b);
      if (inside && j < strip.rows) pb_outer<T>(sums[0], a[0], b);
    }
    slot = (slot + 1) & (STAGES - 1);
    if (++j == stages) {
      j = 0;
      images -= e.lanes * e.tile_images;
    }
  }

  /* The pairs of octets are added in their order; of sums that mix groups nothing is stored. */
  float *const other_pair = (float *)pb_dynamic_shared() + role * 32 + lane;
  if constexpr (P == 2) {
    pb_barrier();
    if (pair == 1) {
      PB_UNROLL
      for (int i = 0; i < 72; ++i) other_pair[i * (32 * ROLES)] = sums[i / 24][i / 8 % 3][i / 4 % 2][i % 4];
    }
    pb_barrier();
    if (pair == 1) return;
  }
  float *const mine = (float *)partials + (int64_t)(pb_block() / ((e.channels + 63) / 64)) * e.channels * 9 * CG;
  PB_UNROLL
  for (int i = 0; i < 8; i += 2) {
    const int to = strip.channel + target + lane / 4 + i % 4 * 4, of = strip.channel + source + i / 4 * 8 + 2 * (lane & 3);
    if (to >= e.channels || to / CG != of / CG) continue;
    PB_UNROLL
    for (int tap = 0; tap < 9; ++tap) {
      float pair_of[2] = {sums[tap / 3][tap % 3][i / 4][i % 4], sums[tap / 3][tap % 3][i / 4][i % 4 + 1]};
      if constexpr (P == 2) {
        pair_of[0] += other_pair[(tap * 8 + i) * (32 * ROLES)];
        pair_of[1] += other_pair[(tap * 8 + i + 1) * (32 * ROLES)];
      }
      const uint32_t w[2] = {pb_bits_of_float(pair_of[0]), pb_bits_of_float(pair_of[1])};
      pb_write_8(mine + (to * 9 + tap) * CG + of % CG, w);
    }
  }
}
`

/** Goes behind the stream's text; more than once is as good as once. */
export const filterText = `#ifndef PB_GROUPED_FILTER
#define PB_GROUPED_FILTER
${walk}#endif
`
