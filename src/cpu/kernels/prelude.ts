// The C that every printed kernel may count on: vectors, fused multiply-add, and conversions of the 16-bit formats.
// It is put once at the head of a translation unit. GCC 12 and clang compile it; what AVX2, FMA and F16C are missing is
// written in portable C with the same results (multiply-adds without FMA round twice).

/** Vector types by width. Loads and stores go through the unaligned twins. */
const vectors = `
#include <stdint.h>
#include <string.h>
#include <math.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif
#pragma GCC diagnostic ignored "-Wunused-function"
#define PB_INLINE static inline __attribute__((always_inline))
#define PB_MIN(a, b) ((a) < (b) ? (a) : (b))
#define PB_MAX(a, b) ((a) > (b) ? (a) : (b))
/* Keeps a vector that is used several times in a register, where the compiler would load it again at each use. */
#if defined(__AVX__)
#define PB_KEEP(x) __asm__("" : "+x"(x))
#else
#define PB_KEEP(x) (void)(x)
#endif
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define PB_HAS_SHUFFLE 1
#endif
#endif
typedef float pb_f32x8 __attribute__((vector_size(32)));
typedef float pb_f32x8u __attribute__((vector_size(32), aligned(4), may_alias));
typedef double pb_f64x4 __attribute__((vector_size(32)));
typedef double pb_f64x4u __attribute__((vector_size(32), aligned(8), may_alias));
typedef uint32_t pb_u32x8 __attribute__((vector_size(32)));
typedef uint16_t pb_u16x8 __attribute__((vector_size(16)));
typedef uint16_t pb_u16x8u __attribute__((vector_size(16), aligned(2), may_alias));
PB_INLINE pb_f32x8 pb_splat_f32x8(float x) { return (pb_f32x8){x, x, x, x, x, x, x, x}; }
PB_INLINE pb_f64x4 pb_splat_f64x4(double x) { return (pb_f64x4){x, x, x, x}; }
PB_INLINE pb_f32x8 pb_read_f32x8(const float *p) { return *(const pb_f32x8u *)p; }
PB_INLINE pb_f64x4 pb_read_f64x4(const double *p) { return *(const pb_f64x4u *)p; }
PB_INLINE void pb_write_f32x8(float *p, pb_f32x8 x) { *(pb_f32x8u *)p = x; }
PB_INLINE void pb_write_f64x4(double *p, pb_f64x4 x) { *(pb_f64x4u *)p = x; }
`

/** Multiply-add with one rounding wherever the hardware has it. */
const multiplyAdd = `
#if defined(__FMA__)
PB_INLINE pb_f32x8 pb_fma_f32x8(pb_f32x8 a, pb_f32x8 b, pb_f32x8 c) { return (pb_f32x8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
PB_INLINE pb_f64x4 pb_fma_f64x4(pb_f64x4 a, pb_f64x4 b, pb_f64x4 c) { return (pb_f64x4)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
#elif defined(__aarch64__)
PB_INLINE pb_f32x8 pb_fma_f32x8(pb_f32x8 a, pb_f32x8 b, pb_f32x8 c) { for (int i = 0; i < 8; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]); return c; }
PB_INLINE pb_f64x4 pb_fma_f64x4(pb_f64x4 a, pb_f64x4 b, pb_f64x4 c) { for (int i = 0; i < 4; ++i) c[i] = __builtin_fma(a[i], b[i], c[i]); return c; }
#else
PB_INLINE pb_f32x8 pb_fma_f32x8(pb_f32x8 a, pb_f32x8 b, pb_f32x8 c) { return a * b + c; }
PB_INLINE pb_f64x4 pb_fma_f64x4(pb_f64x4 a, pb_f64x4 b, pb_f64x4 c) { return a * b + c; }
#endif
/* Rows of the register tile: 6 of two 32-byte vectors, or 12 of one 64-byte vector. */
#if defined(__AVX512F__)
#define PB_ROWS 12
#else
#define PB_ROWS 6
#endif
/* One 64-byte vector where there is AVX-512: the width of a packed panel. */
#if defined(__AVX512F__)
#define PB_WIDE 1
typedef float pb_f32x16 __attribute__((vector_size(64)));
typedef float pb_f32x16u __attribute__((vector_size(64), aligned(4), may_alias));
typedef double pb_f64x8 __attribute__((vector_size(64)));
typedef double pb_f64x8u __attribute__((vector_size(64), aligned(8), may_alias));
PB_INLINE pb_f32x16 pb_splat_f32x16(float x) { return (pb_f32x16)_mm512_set1_ps(x); }
PB_INLINE pb_f64x8 pb_splat_f64x8(double x) { return (pb_f64x8)_mm512_set1_pd(x); }
PB_INLINE pb_f32x16 pb_read_f32x16(const float *p) { return *(const pb_f32x16u *)p; }
PB_INLINE pb_f64x8 pb_read_f64x8(const double *p) { return *(const pb_f64x8u *)p; }
PB_INLINE void pb_write_f32x16(float *p, pb_f32x16 x) { *(pb_f32x16u *)p = x; }
PB_INLINE void pb_write_f64x8(double *p, pb_f64x8 x) { *(pb_f64x8u *)p = x; }
PB_INLINE pb_f32x16 pb_fma_f32x16(pb_f32x16 a, pb_f32x16 b, pb_f32x16 c) { return (pb_f32x16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
PB_INLINE pb_f64x8 pb_fma_f64x8(pb_f64x8 a, pb_f64x8 b, pb_f64x8 c) { return (pb_f64x8)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
#endif
`

/** Scalar conversions: round to nearest even, NaNs stay NaNs (made quiet, upper payload bits kept). */
const scalars = `
PB_INLINE float pb_float_of_bits(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
PB_INLINE uint32_t pb_bits_of_float(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }
PB_INLINE float pb_get_bf16(const uint16_t *p) { return pb_float_of_bits((uint32_t)*p << 16); }
PB_INLINE void pb_put_bf16(uint16_t *p, float x) {
  const uint32_t bits = pb_bits_of_float(x);
  *p = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
PB_INLINE float pb_half_to_float(uint16_t half) {
#if defined(__F16C__)
  return _cvtsh_ss(half);
#else
  const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7fffu;
  if (rest >= 0x7c00u) return pb_float_of_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13 | (rest > 0x7c00u ? 0x400000u : 0u));
  if (rest >= 0x400u) return pb_float_of_bits(sign | ((rest << 13) + 0x38000000u));
  const float small = (float)rest * 0x1p-24f;
  return sign ? -small : small;
#endif
}
PB_INLINE uint16_t pb_float_to_half(float x) {
#if defined(__F16C__)
  return (uint16_t)_cvtss_sh(x, 0);
#else
  const uint32_t bits = pb_bits_of_float(x), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (rest >> 13 & 0x1ffu));
  if (rest >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
  if (rest < 0x38800000u) return (uint16_t)(sign | (pb_bits_of_float(pb_float_of_bits(rest) + 0.5f) - 0x3f000000u));
  return (uint16_t)(sign | (((rest + 0xfffu + (rest >> 13 & 1u)) >> 13) - 0x1c000u));
#endif
}
PB_INLINE float pb_get_f16(const uint16_t *p) { return pb_half_to_float(*p); }
PB_INLINE void pb_put_f16(uint16_t *p, float x) { *p = pb_float_to_half(x); }
PB_INLINE float pb_get_f32(const float *p) { return *p; }
PB_INLINE void pb_put_f32(float *p, float x) { *p = x; }
PB_INLINE double pb_get_f64(const double *p) { return *p; }
PB_INLINE void pb_put_f64(double *p, double x) { *p = x; }
`

/** Whole vectors: `pb_load_<dtype>` widens 32 bytes of the compute type, `pb_store_<dtype>` narrows them. */
const conversions = `
PB_INLINE pb_f32x8 pb_load_f32(const float *p) { return pb_read_f32x8(p); }
PB_INLINE void pb_store_f32(float *p, pb_f32x8 x) { pb_write_f32x8(p, x); }
PB_INLINE pb_f64x4 pb_load_f64(const double *p) { return pb_read_f64x4(p); }
PB_INLINE void pb_store_f64(double *p, pb_f64x4 x) { pb_write_f64x4(p, x); }
PB_INLINE pb_f32x8 pb_load_bf16(const uint16_t *p) {
  return (pb_f32x8)(__builtin_convertvector((pb_u16x8)*(const pb_u16x8u *)p, pb_u32x8) << 16);
}
PB_INLINE void pb_store_bf16(uint16_t *p, pb_f32x8 x) {
  const pb_u32x8 bits = (pb_u32x8)x, nan = (pb_u32x8)((bits & 0x7fffffffu) > 0x7f800000u);
  const pb_u32x8 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  *(pb_u16x8u *)p = __builtin_convertvector((nan & (bits >> 16 | 0x40u)) | (~nan & rounded), pb_u16x8);
}
PB_INLINE pb_f32x8 pb_load_f16(const uint16_t *p) {
#if defined(__F16C__)
  return (pb_f32x8)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
  return (pb_f32x8){pb_get_f16(p), pb_get_f16(p + 1), pb_get_f16(p + 2), pb_get_f16(p + 3), pb_get_f16(p + 4), pb_get_f16(p + 5), pb_get_f16(p + 6), pb_get_f16(p + 7)};
#endif
}
PB_INLINE void pb_store_f16(uint16_t *p, pb_f32x8 x) {
#if defined(__F16C__)
  _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)x, 0));
#else
  for (int i = 0; i < 8; ++i) pb_put_f16(p + i, x[i]);
#endif
}
`

/** `pb_widen_<dtype>` and `pb_narrow_<dtype>`: runs of any length between storage and compute type. */
function runs(dtype: string, storage: string, compute: string, lanes: number): string {
  return `
PB_INLINE void pb_widen_${dtype}(${compute} *to, const ${storage} *from, int64_t count) {
  int64_t i = 0;
  for (; i + ${lanes} <= count; i += ${lanes}) pb_store_${compute === 'float' ? 'f32' : 'f64'}(to + i, pb_load_${dtype}(from + i));
  for (; i < count; ++i) to[i] = pb_get_${dtype}(from + i);
}
PB_INLINE void pb_narrow_${dtype}(${storage} *to, const ${compute} *from, int64_t count) {
  int64_t i = 0;
  for (; i + ${lanes} <= count; i += ${lanes}) pb_store_${dtype}(to + i, pb_load_${compute === 'float' ? 'f32' : 'f64'}(from + i));
  for (; i < count; ++i) pb_put_${dtype}(to + i, from[i]);
}
`
}

/** Shuffles within a vector: spreading channel c of each group of 4, and transposing a square of vectors. */
const shuffles = `
PB_INLINE pb_f32x8 pb_spread4(pb_f32x8 x, const int c) {
#if defined(__AVX__)
  switch (c) {
    case 0: return (pb_f32x8)_mm256_permute_ps((__m256)x, 0x00);
    case 1: return (pb_f32x8)_mm256_permute_ps((__m256)x, 0x55);
    case 2: return (pb_f32x8)_mm256_permute_ps((__m256)x, 0xaa);
    default: return (pb_f32x8)_mm256_permute_ps((__m256)x, 0xff);
  }
#else
  return (pb_f32x8){x[c], x[c], x[c], x[c], x[4 + c], x[4 + c], x[4 + c], x[4 + c]};
#endif
}
PB_INLINE void pb_transpose_f32x8(pb_f32x8 *r) {
#if defined(PB_HAS_SHUFFLE)
  pb_f32x8 a[8], b[8];
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    a[2 * i + 1] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      b[4 * i + 2 * j] = __builtin_shufflevector(a[4 * i + j], a[4 * i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      b[4 * i + 2 * j + 1] = __builtin_shufflevector(a[4 * i + j], a[4 * i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int i = 0; i < 4; ++i) {
    r[i] = __builtin_shufflevector(b[i], b[4 + i], 0, 1, 2, 3, 8, 9, 10, 11);
    r[4 + i] = __builtin_shufflevector(b[i], b[4 + i], 4, 5, 6, 7, 12, 13, 14, 15);
  }
#else
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < i; ++j) { const float x = r[i][j]; r[i][j] = r[j][i]; r[j][i] = x; }
#endif
}
PB_INLINE void pb_transpose_f64x4(pb_f64x4 *r) {
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < i; ++j) { const double x = r[i][j]; r[i][j] = r[j][i]; r[j][i] = x; }
}
`

/** The text every translation unit of kernels opens with. */
export const prelude: string = [
  vectors,
  multiplyAdd,
  scalars,
  conversions,
  runs('f32', 'float', 'float', 8),
  runs('f16', 'uint16_t', 'float', 8),
  runs('bf16', 'uint16_t', 'float', 8),
  runs('f64', 'double', 'double', 4),
  shuffles,
].join('')
