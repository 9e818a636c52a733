// The registers of printed kernels in C: eight lanes of float, double and int, masks, and how elements of every dtype get
// in and out of them. Goes behind kernels/prelude.ts; the mathematics on registers is prelude-math.ts.
//
// The names are the vocabulary of compile/print/expression.ts, suffixed by register class: _f (f32, f16, bf16), _d (f64),
// _i (i32, u8) and _b (bool: 0 or -1 in every lane). CUDA C defines the same names on scalars.

const registers = `
#define PBV_LANES 8
typedef float pbv_f __attribute__((vector_size(32)));
typedef double pbv_d __attribute__((vector_size(64)));
typedef int32_t pbv_i __attribute__((vector_size(32)));
typedef uint32_t pbv_u __attribute__((vector_size(32)));
typedef int64_t pbv_l __attribute__((vector_size(64)));
typedef uint8_t pbv_bytes __attribute__((vector_size(8)));
typedef pbv_i pbv_b;
#define PBV_EACH for (int i = 0; i < PBV_LANES; ++i)
PB_INLINE pbv_f pbv_splat_f(float x) { return (pbv_f){x, x, x, x, x, x, x, x}; }
PB_INLINE pbv_d pbv_splat_d(double x) { return (pbv_d){x, x, x, x, x, x, x, x}; }
PB_INLINE pbv_i pbv_splat_i(int32_t x) { return (pbv_i){x, x, x, x, x, x, x, x}; }
PB_INLINE pbv_b pbv_splat_b(int32_t x) { return pbv_splat_i(-(x != 0)); }
PB_INLINE float pbv_argument_f(int64_t bits) { return pb_float_of_bits((uint32_t)bits); }
PB_INLINE double pbv_argument_d(int64_t high, int64_t low) {
  const uint64_t bits = (uint64_t)high << 32 | (uint64_t)low;
  double x;
  memcpy(&x, &bits, 8);
  return x;
}
PB_INLINE pbv_i pbv_lane(void) { return (pbv_i){0, 1, 2, 3, 4, 5, 6, 7}; }
PB_INLINE pbv_i pbv_index_i(int64_t base, int64_t step) { return (int32_t)base + pbv_lane() * (int32_t)step; }
PB_INLINE pbv_f pbv_select_f(pbv_b m, pbv_f a, pbv_f b) { return (pbv_f)((m & (pbv_i)a) | (~m & (pbv_i)b)); }
PB_INLINE pbv_i pbv_select_i(pbv_b m, pbv_i a, pbv_i b) { return (m & a) | (~m & b); }
PB_INLINE pbv_b pbv_select_b(pbv_b m, pbv_b a, pbv_b b) { return (m & a) | (~m & b); }
PB_INLINE pbv_d pbv_select_d(pbv_b m, pbv_d a, pbv_d b) {
  const pbv_l wide = __builtin_convertvector(m, pbv_l);
  return (pbv_d)((wide & (pbv_l)a) | (~wide & (pbv_l)b));
}
`

/** Conversions between registers: each rounds once; floating to integer truncates, saturates, and makes NaN 0. */
const conversions = `
PB_INLINE pbv_f pbv_round_f16(pbv_f x) {
#if defined(__F16C__)
  return (pbv_f)_mm256_cvtph_ps(_mm256_cvtps_ph((__m256)x, 0));
#else
  uint16_t half[PBV_LANES];
  pb_store_f16(half, x);
  return pb_load_f16(half);
#endif
}
PB_INLINE pbv_f pbv_round_bf16(pbv_f x) {
  const pbv_u bits = (pbv_u)x, nan = (pbv_u)((bits & 0x7fffffffu) > 0x7f800000u);
  const pbv_u rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
  return (pbv_f)((nan & (bits | 0x400000u)) | (~nan & rounded));
}
/* The float towards zero of x, made odd where x is none: rounding it further is rounding x once. */
PB_INLINE float pbv_odd(double x) {
  float y = (float)x;
  if (x != x || (double)y == x) return y;
  uint32_t bits = pb_bits_of_float(y);
  if (__builtin_fabs((double)y) > __builtin_fabs(x)) bits -= 1;
  return pb_float_of_bits(bits | 1u);
}
PB_INLINE pbv_f pbv_odd_f(pbv_d x) { pbv_f y; PBV_EACH y[i] = pbv_odd(x[i]); return y; }
PB_INLINE pbv_f pbv_f16_of_d(pbv_d x) { return pbv_round_f16(pbv_odd_f(x)); }
PB_INLINE pbv_f pbv_bf16_of_d(pbv_d x) { return pbv_round_bf16(pbv_odd_f(x)); }
PB_INLINE pbv_f pbv_f_of_d(pbv_d x) { return __builtin_convertvector(x, pbv_f); }
PB_INLINE pbv_d pbv_d_of_f(pbv_f x) { return __builtin_convertvector(x, pbv_d); }
PB_INLINE pbv_f pbv_f_of_i(pbv_i x) { return __builtin_convertvector(x, pbv_f); }
PB_INLINE pbv_d pbv_d_of_i(pbv_i x) { return __builtin_convertvector(x, pbv_d); }
PB_INLINE pbv_i pbv_i_of_f(pbv_f x) {
  const pbv_b high = x >= 0x1p31f, low = x <= -0x1p31f;
  const pbv_i inside = __builtin_convertvector((pbv_f)((pbv_i)x & ~(high | low | (x != x))), pbv_i);
  return inside | (high & INT32_MAX) | (low & INT32_MIN);
}
PB_INLINE pbv_i pbv_i_of_d(pbv_d x) {
  const pbv_l high = x >= 0x1p31, low = x <= -0x1p31;
  const pbv_i inside = __builtin_convertvector((pbv_d)((pbv_l)x & ~(high | low | (x != x))), pbv_i);
  return inside | (__builtin_convertvector(high, pbv_i) & INT32_MAX) | (__builtin_convertvector(low, pbv_i) & INT32_MIN);
}
PB_INLINE pbv_i pbv_clamp_u8(pbv_i x) { return pbv_select_i(x < 0, pbv_splat_i(0), pbv_select_i(x > 255, pbv_splat_i(255), x)); }
PB_INLINE pbv_i pbv_wrap_u8(pbv_i x) { return x & 255; }
PB_INLINE pbv_i pbv_i_of_b(pbv_b x) { return x & 1; }
PB_INLINE pbv_f pbv_f_of_b(pbv_b x) { return (pbv_f)(x & (pbv_i)pbv_splat_f(1.0f)); }
PB_INLINE pbv_d pbv_d_of_b(pbv_b x) { return pbv_d_of_i(x & 1); }
PB_INLINE pbv_b pbv_b_of_f(pbv_f x) { return x != 0.0f; }
PB_INLINE pbv_b pbv_b_of_d(pbv_d x) { return __builtin_convertvector(x != 0.0, pbv_i); }
PB_INLINE pbv_b pbv_b_of_i(pbv_i x) { return x != 0; }
`

/** Whole vectors of each dtype in memory; no alignment is assumed. */
const wholes = `
PB_INLINE pbv_f pbv_load_f32(const float *p) { pbv_f x; memcpy(&x, p, sizeof x); return x; }
PB_INLINE pbv_d pbv_load_f64(const double *p) { pbv_d x; memcpy(&x, p, sizeof x); return x; }
PB_INLINE pbv_i pbv_load_i32(const int32_t *p) { pbv_i x; memcpy(&x, p, sizeof x); return x; }
PB_INLINE pbv_f pbv_load_f16(const uint16_t *p) { return pb_load_f16(p); }
PB_INLINE pbv_f pbv_load_bf16(const uint16_t *p) { return pb_load_bf16(p); }
PB_INLINE pbv_i pbv_load_u8(const uint8_t *p) { pbv_bytes x; memcpy(&x, p, sizeof x); return __builtin_convertvector(x, pbv_i); }
PB_INLINE pbv_b pbv_load_bool(const uint8_t *p) { return pbv_load_u8(p) != 0; }
PB_INLINE void pbv_store_f32(float *p, pbv_f x) { memcpy(p, &x, sizeof x); }
PB_INLINE void pbv_store_f64(double *p, pbv_d x) { memcpy(p, &x, sizeof x); }
PB_INLINE void pbv_store_i32(int32_t *p, pbv_i x) { memcpy(p, &x, sizeof x); }
PB_INLINE void pbv_store_f16(uint16_t *p, pbv_f x) { pb_store_f16(p, x); }
PB_INLINE void pbv_store_bf16(uint16_t *p, pbv_f x) { pb_store_bf16(p, x); }
PB_INLINE void pbv_store_u8(uint8_t *p, pbv_i x) { const pbv_bytes y = __builtin_convertvector(x, pbv_bytes); memcpy(p, &y, sizeof y); }
PB_INLINE void pbv_store_bool(uint8_t *p, pbv_b x) { pbv_store_u8(p, x & 1); }
`

/** The first m lanes, strided lanes, elements that repeat, and one element in all lanes, by way of the whole. */
function pieces(dtype: string, element: string, register: string): string {
  return `
PB_INLINE ${register} pbv_spread_${dtype}(const ${element} *p) {
  const ${element} x = *p, all[PBV_LANES] = {x, x, x, x, x, x, x, x};
  return pbv_load_${dtype}(all);
}
PB_INLINE ${register} pbv_gather_${dtype}(const ${element} *p, int64_t s) {
  const ${element} all[PBV_LANES] = {p[0], p[s], p[2 * s], p[3 * s], p[4 * s], p[5 * s], p[6 * s], p[7 * s]};
  return pbv_load_${dtype}(all);
}
PB_INLINE ${register} pbv_cycle_${dtype}(const ${element} *p, int64_t s, int64_t c, int64_t period) {
  ${element} all[PBV_LANES];
  PBV_EACH all[i] = p[(c + i) % period * s];
  return pbv_load_${dtype}(all);
}
PB_INLINE void pbv_scatter_${dtype}(${element} *p, int64_t s, ${register} x) {
  ${element} all[PBV_LANES];
  pbv_store_${dtype}(all, x);
  PBV_EACH p[i * s] = all[i];
}
static __attribute__((noinline)) ${register} pbv_gather_part_${dtype}(const ${element} *p, int64_t s, int64_t m) {
  ${element} all[PBV_LANES] = {0};
  PBV_EACH if (i < m) all[i] = p[i * s];
  return pbv_load_${dtype}(all);
}
static __attribute__((noinline)) void pbv_scatter_part_${dtype}(${element} *p, int64_t s, ${register} x, int64_t m) {
  ${element} all[PBV_LANES];
  pbv_store_${dtype}(all, x);
  PBV_EACH if (i < m) p[i * s] = all[i];
}
`
}

/** What reductions need of each class: lanes past the end replaced, and the lanes of one vector combined in a fixed order. */
function reducing(suffix: string, element: string): string {
  const pairwise = (op: string): string =>
    `pbv_${op}_${suffix}(pbv_${op}_${suffix}(pbv_${op}_${suffix}(e(0), e(1)), pbv_${op}_${suffix}(e(2), e(3))), ` +
    `pbv_${op}_${suffix}(pbv_${op}_${suffix}(e(4), e(5)), pbv_${op}_${suffix}(e(6), e(7))))`
  const folds = (['add', 'max', 'min'] as const).map(
    (op) => `PB_INLINE pbv_${suffix} pbv_fold_${op}_${suffix}(pbv_${suffix} x) { return ${pairwise(op)}; }`,
  )
  return `
#define e(k) pbv_splat_${suffix}(x[k])
${folds.join('\n')}
#undef e
PB_INLINE pbv_${suffix} pbv_keep_${suffix}(pbv_${suffix} x, ${element} rest, int64_t m) {
  return pbv_select_${suffix}(pbv_lane() < (int32_t)m, x, pbv_splat_${suffix}(rest));
}
PB_INLINE pbv_${suffix} pbv_peek_${suffix}(const ${element} *p) { pbv_${suffix} x; memcpy(&x, p, sizeof x); return x; }
PB_INLINE void pbv_poke_${suffix}(${element} *p, pbv_${suffix} x) { memcpy(p, &x, sizeof x); }
`
}

/** Registers, memory access and casts. */
export const vectorPrelude: string = [
  registers,
  conversions,
  wholes,
  pieces('f32', 'float', 'pbv_f'),
  pieces('f64', 'double', 'pbv_d'),
  pieces('i32', 'int32_t', 'pbv_i'),
  pieces('f16', 'uint16_t', 'pbv_f'),
  pieces('bf16', 'uint16_t', 'pbv_f'),
  pieces('u8', 'uint8_t', 'pbv_i'),
  pieces('bool', 'uint8_t', 'pbv_b'),
].join('')

/** Folds and buffers; behind the mathematics, whose add, max and min they use. */
export const reductionPrelude: string = [
  reducing('f', 'float'),
  reducing('d', 'double'),
  reducing('i', 'int32_t'),
  `
PB_INLINE pbv_b pbv_peek_b(const int32_t *p) { return pbv_peek_i(p); }
PB_INLINE void pbv_poke_b(int32_t *p, pbv_b x) { pbv_poke_i(p, x); }
`,
].join('')
