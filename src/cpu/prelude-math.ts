// The mathematics of printed kernels in C, on the registers of prelude-vectors.ts: arithmetic, comparisons, Philox, and
// elementary functions of f32 within 2 ulp (measured in test/unit/cpu-math.test.ts). f64 functions are libm's, by lane.
//
// The polynomials are weighted minimax fits made for this file over the reduced ranges named beside them.

const arithmetic = ['f', 'd']
  .map(
    (s) => `
PB_INLINE pbv_${s} pbv_add_${s}(pbv_${s} a, pbv_${s} b) { return a + b; }
PB_INLINE pbv_${s} pbv_sub_${s}(pbv_${s} a, pbv_${s} b) { return a - b; }
PB_INLINE pbv_${s} pbv_mul_${s}(pbv_${s} a, pbv_${s} b) { return a * b; }
PB_INLINE pbv_${s} pbv_div_${s}(pbv_${s} a, pbv_${s} b) { return a / b; }
PB_INLINE pbv_${s} pbv_neg_${s}(pbv_${s} x) { return -x; }
`,
  )
  .join('')

/** Integers wrap; u8 results are masked by the printer. Dividing by 0 gives 0. */
const integers = `
PB_INLINE pbv_i pbv_add_i(pbv_i a, pbv_i b) { return (pbv_i)((pbv_u)a + (pbv_u)b); }
PB_INLINE pbv_i pbv_sub_i(pbv_i a, pbv_i b) { return (pbv_i)((pbv_u)a - (pbv_u)b); }
PB_INLINE pbv_i pbv_mul_i(pbv_i a, pbv_i b) { return (pbv_i)((pbv_u)a * (pbv_u)b); }
PB_INLINE pbv_i pbv_neg_i(pbv_i x) { return (pbv_i)(0u - (pbv_u)x); }
PB_INLINE pbv_i pbv_abs_i(pbv_i x) { return pbv_select_i(x < 0, pbv_neg_i(x), x); }
PB_INLINE pbv_i pbv_sign_i(pbv_i x) { return (x < 0) | ((x > 0) & 1); }
PB_INLINE pbv_i pbv_max_i(pbv_i a, pbv_i b) { return pbv_select_i(a > b, a, b); }
PB_INLINE pbv_i pbv_min_i(pbv_i a, pbv_i b) { return pbv_select_i(a < b, a, b); }
/* Quotients of 32-bit integers are exact in double once truncated. Lane by lane, GCC 12 makes -1 of x / x. */
PB_INLINE pbv_i pbv_div_i(pbv_i a, pbv_i b) {
  const pbv_b zero = b == 0, minus = b == -1;
  const pbv_d divisor = pbv_d_of_i(pbv_select_i(zero | minus, pbv_splat_i(1), b));
  const pbv_i quotient = __builtin_convertvector(pbv_d_of_i(a) / divisor, pbv_i);
  return ~zero & pbv_select_i(minus, pbv_neg_i(a), quotient);
}
PB_INLINE pbv_b pbv_not_b(pbv_b x) { return ~x; }
PB_INLINE pbv_b pbv_and_b(pbv_b a, pbv_b b) { return a & b; }
PB_INLINE pbv_b pbv_or_b(pbv_b a, pbv_b b) { return a | b; }
`

const comparisons = Object.entries({ eq: '==', ne: '!=', lt: '<', le: '<=', gt: '>', ge: '>=' })
  .map(
    ([name, sign]) => `
PB_INLINE pbv_b pbv_${name}_f(pbv_f a, pbv_f b) { return a ${sign} b; }
PB_INLINE pbv_b pbv_${name}_d(pbv_d a, pbv_d b) { return __builtin_convertvector(a ${sign} b, pbv_i); }
PB_INLINE pbv_b pbv_${name}_i(pbv_i a, pbv_i b) { return a ${sign} b; }
PB_INLINE pbv_b pbv_${name}_b(pbv_b a, pbv_b b) { return (a & 1) ${sign} (b & 1); }
`,
  )
  .join('')

/** NaN if either is NaN; of two zeros the maximum is the positive and the minimum the negative one. */
const signs = [
  { s: 'f', mask: 'pbv_i', element: 'float', magnitude: 'INT32_MAX' },
  { s: 'd', mask: 'pbv_l', element: 'double', magnitude: 'INT64_MAX' },
]
  .map(
    ({ s, mask, magnitude }) => `
PB_INLINE pbv_${s} pbv_max_${s}(pbv_${s} a, pbv_${s} b) {
  const ${mask} second = (a < b) | (b != b), equal = a == b;
  return (pbv_${s})((second & (${mask})b) | (~second & (${mask})a & (~equal | (${mask})b)));
}
PB_INLINE pbv_${s} pbv_min_${s}(pbv_${s} a, pbv_${s} b) {
  const ${mask} second = (a > b) | (b != b), equal = a == b;
  return (pbv_${s})((second & (${mask})b) | (~second & ((${mask})a | (equal & (${mask})b))));
}
PB_INLINE pbv_${s} pbv_abs_${s}(pbv_${s} x) { return (pbv_${s})((${mask})x & ${magnitude}); }
PB_INLINE pbv_${s} pbv_sign_${s}(pbv_${s} x) {
  const ${mask} up = x > 0, down = x < 0;
  return (pbv_${s})((up & (${mask})pbv_splat_${s}(1)) | (down & (${mask})pbv_splat_${s}(-1)) | (~(up | down) & (${mask})x));
}
`,
  )
  .join('')

const roots = `
PB_INLINE pbv_f pbv_sqrt_f(pbv_f x) {
#if defined(__AVX__)
  return (pbv_f)_mm256_sqrt_ps((__m256)x);
#else
  PBV_EACH x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}
PB_INLINE pbv_f pbv_floor_f(pbv_f x) {
#if defined(__AVX__)
  return (pbv_f)_mm256_floor_ps((__m256)x);
#else
  PBV_EACH x[i] = __builtin_floorf(x[i]);
  return x;
#endif
}
PB_INLINE pbv_f pbv_nearest_f(pbv_f x) {
#if defined(__AVX__)
  return (pbv_f)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  PBV_EACH x[i] = __builtin_rintf(x[i]);
  return x;
#endif
}
PB_INLINE pbv_f pbv_rsqrt_f(pbv_f x) { return 1.0f / pbv_sqrt_f(x); }
PB_INLINE pbv_b pbv_isFinite_f(pbv_f x) { return ((pbv_i)x & 0x7f800000) != 0x7f800000; }
PB_INLINE pbv_b pbv_isFinite_d(pbv_d x) { return __builtin_convertvector(pbv_abs_d(x) < __builtin_inf(), pbv_i); }
PB_INLINE pbv_f pbv_fma(pbv_f a, pbv_f b, pbv_f c) { return pb_fma_f32x8(a, b, c); }
PB_INLINE pbv_f pbv_pow_f(pbv_f a, pbv_f b) { PBV_EACH a[i] = powf(a[i], b[i]); return a; }
`

const exponentials = `
/* 2^k x for the whole numbers k, in two steps so that subnormal results round once. */
PB_INLINE pbv_f pbv_scale_f(pbv_f x, pbv_i k) {
  const pbv_i half = k >> 1;
  return x * (pbv_f)((half + 127) << 23) * (pbv_f)((k - half + 127) << 23);
}
PB_INLINE pbv_f pbv_exp_f(pbv_f x) {
  /* clamped where the result is 0 or infinity already; NaN passes through the polynomial */
  const pbv_f y = pbv_select_f(x > 89.0f, pbv_splat_f(89.0f), pbv_select_f(x < -104.0f, pbv_splat_f(-104.0f), x));
  const pbv_f k = pbv_nearest_f(y * 0x1.715476p+0f);
  const pbv_f r = pbv_fma(k, pbv_splat_f(0x1.bd0106p-13f), pbv_fma(k, pbv_splat_f(-0.693359375f), y));
  pbv_f q = pbv_splat_f(0x1.6a1076p-10f); /* (e^r - 1 - r) / r^2, |r| <= ln 2 / 2 */
  q = pbv_fma(q, r, pbv_splat_f(0x1.1245cap-7f));
  q = pbv_fma(q, r, pbv_splat_f(0x1.55593cp-5f));
  q = pbv_fma(q, r, pbv_splat_f(0x1.555482p-3f));
  q = pbv_fma(q, r, pbv_splat_f(0x1.fffffcp-2f));
  const pbv_f e = 1.0f + pbv_fma(q, r * r, r);
  return pbv_scale_f(e, __builtin_convertvector(pbv_select_f(x != x, pbv_splat_f(0), k), pbv_i));
}
PB_INLINE pbv_f pbv_log_f(pbv_f x) {
  const pbv_b small = x < 0x1p-126f;
  const pbv_f y = pbv_select_f(small, x * 0x1p23f, x);
  /* m in [sqrt(1/2), sqrt(2)), y = 2^k m */
  const pbv_i bits = (pbv_i)y - 0x3f3504f3, k = (bits >> 23) - (small & 23);
  const pbv_f f = (pbv_f)((bits & 0x7fffff) + 0x3f3504f3) - 1.0f, z = f * f, n = pbv_f_of_i(k);
  pbv_f p = pbv_splat_f(0x1.14562cp-4f); /* (log(1 + f) - f + f^2 / 2) / f^3 */
  p = pbv_fma(p, f, pbv_splat_f(-0x1.de3cbap-4f));
  p = pbv_fma(p, f, pbv_splat_f(0x1.e6f16ep-4f));
  p = pbv_fma(p, f, pbv_splat_f(-0x1.fc21f2p-4f));
  p = pbv_fma(p, f, pbv_splat_f(0x1.233754p-3f));
  p = pbv_fma(p, f, pbv_splat_f(-0x1.555c4ep-3f));
  p = pbv_fma(p, f, pbv_splat_f(0x1.99a4b6p-3f));
  p = pbv_fma(p, f, pbv_splat_f(-0x1.000006p-2f));
  p = pbv_fma(p, f, pbv_splat_f(0x1.555548p-2f));
  pbv_f tail = pbv_fma(p * f, z, n * -0x1.bd0106p-13f);
  tail = pbv_fma(pbv_splat_f(-0.5f), z, tail);
  const pbv_f result = pbv_fma(n, pbv_splat_f(0.693359375f), f + tail);
  const pbv_f special = pbv_select_f(x == 0.0f, pbv_splat_f(-__builtin_inff()), pbv_select_f(x > 0.0f, x, pbv_splat_f(__builtin_nanf(""))));
  return pbv_select_f((x > 0.0f) & (x < __builtin_inff()), result, special);
}
/* p = e / (1 + e) for e <= 1, one Newton step with what 1 + e lost; 1 - p is the reciprocal of 1 + e. */
PB_INLINE pbv_f pbv_sigmoid_f(pbv_f x) {
  const pbv_f e = pbv_exp_f(-pbv_abs_f(x)), s = 1.0f + e, lost = e - (s - 1.0f), q = e / s;
  const pbv_f p = pbv_fma(pbv_fma(-q, s, e) - q * lost, 1.0f - q, q);
  return pbv_select_f(x >= 0.0f, 1.0f - p, p);
}
PB_INLINE pbv_f pbv_tanh_f(pbv_f x) {
  const pbv_f t = pbv_abs_f(x), z = x * x;
  pbv_f p = pbv_splat_f(0x1.18e1d0p-9f); /* (tanh x - x) / x^3 of x^2, |x| <= 0.625 */
  p = pbv_fma(p, z, pbv_splat_f(-0x1.0bf4f6p-7f));
  p = pbv_fma(p, z, pbv_splat_f(0x1.638b56p-6f));
  p = pbv_fma(p, z, pbv_splat_f(-0x1.b9ee90p-5f));
  p = pbv_fma(p, z, pbv_splat_f(0x1.111066p-3f));
  p = pbv_fma(p, z, pbv_splat_f(-0x1.555554p-2f));
  const pbv_f near = pbv_fma(p * z, x, x), far = 1.0f - 2.0f / (pbv_exp_f(t + t) + 1.0f);
  return (pbv_f)((pbv_i)pbv_select_f(t < 0.625f, near, far) | ((pbv_i)x & INT32_MIN));
}
PB_INLINE pbv_f pbv_erf_f(pbv_f x) {
  const pbv_f t = pbv_abs_f(x), z = x * x;
  pbv_f p = pbv_splat_f(0x1.5cd494p-14f); /* erf(x) / x - 1 of x^2, |x| <= 0.93 */
  p = pbv_fma(p, z, pbv_splat_f(-0x1.aa3f26p-11f));
  p = pbv_fma(p, z, pbv_splat_f(0x1.54c7f4p-8f));
  p = pbv_fma(p, z, pbv_splat_f(-0x1.b80e90p-6f));
  p = pbv_fma(p, z, pbv_splat_f(0x1.ce2e0ap-4f));
  p = pbv_fma(p, z, pbv_splat_f(-0x1.812742p-2f));
  p = pbv_fma(p, z, pbv_splat_f(0x1.06eba8p-3f));
  const pbv_f u = pbv_select_f(t > 4.0f, pbv_splat_f(4.0f), t);
  pbv_f g = pbv_splat_f(0x1.791e30p-17f); /* -log(erfc(t)) / t - 1, 0.92 <= t <= 3.95 */
  g = pbv_fma(g, u, pbv_splat_f(-0x1.529116p-12f));
  g = pbv_fma(g, u, pbv_splat_f(0x1.dd778ap-9f));
  g = pbv_fma(g, u, pbv_splat_f(-0x1.85543ap-6f));
  g = pbv_fma(g, u, pbv_splat_f(0x1.b3264ap-4f));
  g = pbv_fma(g, u, pbv_splat_f(0x1.45327ep-1f));
  g = pbv_fma(g, u, pbv_splat_f(0x1.0778ecp-3f));
  const pbv_f far = 1.0f - pbv_exp_f(-pbv_fma(g, u, u));
  const pbv_f result = pbv_select_f(t < 0.93f, pbv_fma(p, x, x), (pbv_f)((pbv_i)far | ((pbv_i)x & INT32_MIN)));
  return pbv_select_f(x != x, x, result);
}
`

/** x = q pi/2 + r in three steps of fused multiply-add; far from zero, and without the instruction, libm does it by lane. */
const circular = `
PB_INLINE pbv_f pbv_circle(pbv_f x, int shift) {
  const pbv_f q = pbv_nearest_f(x * 0x1.45f306p-1f);
  pbv_f r = pbv_fma(q, pbv_splat_f(-0x1.921fb6p+0f), x);
  r = pbv_fma(q, pbv_splat_f(0x1.777a5cp-25f), r);
  r = pbv_fma(q, pbv_splat_f(0x1.ee59dap-50f), r);
  const pbv_f z = r * r;
  pbv_f s = pbv_splat_f(0x1.6cb800p-19f), c = pbv_splat_f(-0x1.2417b6p-22f);
  s = pbv_fma(s, z, pbv_splat_f(-0x1.a00f12p-13f));
  s = pbv_fma(s, z, pbv_splat_f(0x1.111108p-7f));
  s = pbv_fma(s, z, pbv_splat_f(-0x1.555556p-3f));
  c = pbv_fma(c, z, pbv_splat_f(0x1.a010c4p-16f));
  c = pbv_fma(c, z, pbv_splat_f(-0x1.6c16b8p-10f));
  c = pbv_fma(c, z, pbv_splat_f(0x1.555556p-5f));
  const pbv_i quadrant = __builtin_convertvector(q, pbv_i) + shift;
  const pbv_f sine = pbv_fma(s * z, r, r), cosine = pbv_fma(c * z, z, 1.0f - 0.5f * z);
  const pbv_f value = pbv_select_f((quadrant & 1) != 0, cosine, sine);
  return (pbv_f)((pbv_i)value ^ ((quadrant & 2) << 30));
}
PB_INLINE int pbv_far(pbv_f x) {
  const pbv_b far = ~(pbv_abs_f(x) < 0x1p16f);
  int any = 0;
  PBV_EACH any |= far[i];
  return any;
}
static __attribute__((noinline)) pbv_f pbv_sin_lanes(pbv_f x) { PBV_EACH x[i] = sinf(x[i]); return x; }
static __attribute__((noinline)) pbv_f pbv_cos_lanes(pbv_f x) { PBV_EACH x[i] = cosf(x[i]); return x; }
#if defined(__FMA__) || defined(__aarch64__)
PB_INLINE pbv_f pbv_sin_f(pbv_f x) { return pbv_far(x) ? pbv_sin_lanes(x) : pbv_select_f(x == 0.0f, x, pbv_circle(x, 0)); }
PB_INLINE pbv_f pbv_cos_f(pbv_f x) { return pbv_far(x) ? pbv_cos_lanes(x) : pbv_circle(x, 1); }
#else
PB_INLINE pbv_f pbv_sin_f(pbv_f x) { return pbv_sin_lanes(x); }
PB_INLINE pbv_f pbv_cos_f(pbv_f x) { return pbv_cos_lanes(x); }
#endif
`

const doubles = ['exp', 'log', 'sqrt', 'sin', 'cos', 'tanh', 'erf', 'floor']
  .map(
    (name) =>
      `static __attribute__((noinline)) pbv_d pbv_${name}_d(pbv_d x) { PBV_EACH x[i] = ${name}(x[i]); return x; }\n`,
  )
  .concat(
    `static __attribute__((noinline)) pbv_d pbv_pow_d(pbv_d a, pbv_d b) { PBV_EACH a[i] = pow(a[i], b[i]); return a; }
PB_INLINE pbv_d pbv_rsqrt_d(pbv_d x) { return 1.0 / pbv_sqrt_d(x); }
PB_INLINE pbv_d pbv_sigmoid_d(pbv_d x) {
  const pbv_d small = pbv_exp_d(-pbv_abs_d(x));
  return pbv_select_d(__builtin_convertvector(x >= 0.0, pbv_i), pbv_splat_d(1.0), small) / (1.0 + small);
}
`,
  )
  .join('')

/** Philox4x32-10: every lane computes the block of its element and keeps one of its four words. */
const philox = `
PB_INLINE void pbv_multiply(pbv_u a, uint32_t b, pbv_u *high, pbv_u *low) {
#if defined(__AVX2__)
  const __m256i even = _mm256_mul_epu32((__m256i)a, _mm256_set1_epi32((int)b));
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), _mm256_set1_epi32((int)b));
  *high = (pbv_u)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
#else
  for (int i = 0; i < PBV_LANES; ++i) (*high)[i] = (uint32_t)((uint64_t)a[i] * b >> 32);
#endif
  *low = a * b;
}
PB_INLINE pbv_i pbv_philox(pbv_i key0, pbv_i key1, pbv_i offset, int64_t base, int64_t step, int64_t stream, int64_t mask) {
  pbv_u c0, c1 = (pbv_u)offset, c2 = (pbv_u)pbv_splat_i((int32_t)stream), c3 = {0}, k0 = (pbv_u)key0, k1 = (pbv_u)key1;
  pbv_i word;
  for (int i = 0; i < PBV_LANES; ++i) {
    const int64_t element = base + i * step;
    c0[i] = (uint32_t)(element >> 2);
    word[i] = (int32_t)(element & 3);
  }
  for (int round = 0; round < 10; ++round) {
    pbv_u high0, low0, high1, low1;
    pbv_multiply(c0, 0xd2511f53u, &high0, &low0);
    pbv_multiply(c2, 0xcd9e8d57u, &high1, &low1);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  const pbv_i low = pbv_select_i(word == 0, (pbv_i)c0, (pbv_i)c1), high = pbv_select_i(word == 2, (pbv_i)c2, (pbv_i)c3);
  return pbv_select_i(word < 2, low, high) & (int32_t)mask;
}
`

/** Everything that computes on registers. */
export const mathPrelude: string = [
  arithmetic,
  integers,
  comparisons,
  signs,
  roots,
  exponentials,
  circular,
  doubles,
  philox,
].join('')
