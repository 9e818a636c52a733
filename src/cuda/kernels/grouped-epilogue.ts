// CUDA C of what becomes of a grouped convolution's results on their way out: they are stored, and beside that summed for the
// batch norm behind or in front of them, or made into the activation behind them. Where they go is grouped-rows.ts's part.

/** What comes behind the results, as the kernel's parameter POST. */
export const epilogues = { none: 0, statistics: 1, normalize: 2, mask: 3 } as const

/** Which of them. */
export type Epilogue = keyof typeof epilogues

/** Whether sums per channel come out beside the result. */
export function givesSums(epilogue: Epilogue): boolean {
  return epilogue === 'statistics' || epilogue === 'mask'
}

/**
 * A warp's results are 16 channels of two octets of pixels: of pixel lane / 4 of either, a lane has the channels 2 q and the
 * next, in words 0 and 2, and those 8 on, in words 1 and 3. Sums are of at most 32 rows before the lanes' are added, by
 * halves, and lane g of a quad's eight keeps the g-th: the sums of four channels, then their squares or products.
 */
const behind = `
struct pb_around {
  pb_vectors before, after;
  const void *source;
  float *partials;
};
template <class T, int POST> struct pb_behind {
  static constexpr bool AFFINE = POST >= 2, SUMS = POST == 1 || POST == 3;
  pb_affine<4> affine;
  float sums[8], total;
  /* From a result to the source's element of the same place, in bytes. */
  int64_t apart;
  PB_INLINE int channel_of(int quarter) { return quarter * 16 + 2 * (int)(pb_lane() & 3); }
  PB_MEMBER void open(const pb_around &around, const void *into, int channel, int channels) {
    if constexpr (AFFINE) {
      PB_UNROLL
      for (int t = 0; t < 2; ++t) pb_affine_load(affine, 2 * t, around.after, channel + 8 * t, channel + 8 * t < channels);
    }
    if constexpr (SUMS) {
      total = 0.0f;
      PB_UNROLL
      for (int i = 0; i < 8; ++i) sums[i] = 0.0f;
    }
    if constexpr (POST == 3) apart = (const uint8_t *)around.source - (const uint8_t *)into;
  }
  /* A word's two channels count if their pixel does. */
  PB_MEMBER void add(int i, uint32_t pair, uint32_t factors) {
    PB_UNROLL
    for (int k = 0; k < 2; ++k) {
      const float x = T::wide((uint16_t)(pair >> 16 * k)), y = T::wide((uint16_t)(factors >> 16 * k));
      sums[i + k] += x;
      sums[i + k + 4] = pb_fma(x, y, sums[i + k + 4]);
    }
  }
  /* The source's words for results that go to \`at\`, to be asked for early. */
  PB_MEMBER void fetch(const uint16_t *at, bool inside, uint32_t (&w)[4]) {
    PB_UNROLL
    for (int i = 0; i < 4; ++i) w[i] = 0;
    if (inside) pb_read_16((const uint8_t *)at + apart, w);
  }
  /* \`counted\` has a bit for either octet whose pixel is inside; \`fetched\` is the source's words. */
  PB_MEMBER void store(uint16_t *at, bool inside, uint32_t counted, const float (&sum)[2][4], uint32_t (&fetched)[4]) {
    uint32_t w[4] = {pb_matrix<T>::pack(sum[0][0], sum[0][1]), pb_matrix<T>::pack(sum[1][0], sum[1][1]),
      pb_matrix<T>::pack(sum[0][2], sum[0][3]), pb_matrix<T>::pack(sum[1][2], sum[1][3])};
    if constexpr (POST == 3) pb_quad_transpose(fetched);
    PB_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int channels = i % 2 * 2;
      if constexpr (POST == 2) w[i] = pb_activate<T>(affine, channels, w[i]);
      if constexpr (SUMS) {
        uint32_t pair = counted >> i / 2 & 1 ? w[i] : 0;
        if constexpr (POST == 3) {
          const uint32_t before = pb_activate<T>(affine, channels, fetched[i]);
          if (!(T::wide((uint16_t)before) > 0.0f)) pair &= 0xffff0000u;
          if (!(T::wide((uint16_t)(before >> 16)) > 0.0f)) pair &= 0xffffu;
        }
        add(channels, pair, POST == 3 ? fetched[i] : pair);
      }
    }
    pb_quad_transpose(w);
    if (inside) pb_write_16(at, w);
  }
  /* Adds the sums of the warp's pixels; every lane must call. */
  PB_MEMBER void gather() {
    PB_UNROLL
    for (int half = 4; half > 0; half /= 2) {
      const bool upper = pb_lane() & (uint32_t)(4 * half);
      PB_UNROLL
      for (int i = 0; i < half; ++i) {
        const float mine = upper ? sums[i + half] : sums[i], other = upper ? sums[i] : sums[i + half];
        sums[i] = mine + pb_float_of_bits(pb_shuffle_xor(pb_bits_of_float(other), 4 * half));
      }
    }
    total += sums[0];
    PB_UNROLL
    for (int i = 0; i < 8; ++i) sums[i] = 0.0f;
  }
  /* The block's sums, [part][sum or square][channel]: of P pairs of octets in their order, all 128 P threads. */
  template <int P> PB_MEMBER void close(const pb_around &around, int part, int channel, int channels) {
    float *const shared = (float *)pb_dynamic_shared();
    if constexpr (P == 2) {
      pb_barrier();
      if (pb_thread() >= 128) shared[pb_thread() - 128] = total;
      pb_barrier();
      if (pb_thread() >= 128) return;
      total += shared[pb_thread()];
    }
    const int g = (int)(pb_lane() >> 2), own = channel + (g & 1) + (g & 2) * 4;
    if (own < channels) around.partials[((int64_t)part * 2 + g / 4) * channels + own] = total;
  }
};
`

/** Goes behind the stream's text; more than once is as good as once. */
export const epilogueText = `#ifndef PB_GROUPED_EPILOGUE
#define PB_GROUPED_EPILOGUE
${behind}#endif
`
