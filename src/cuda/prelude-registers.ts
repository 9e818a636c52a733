// The vocabulary of compile/print/expression.ts for CUDA C, where a register holds one number: conversions, arithmetic,
// mathematics, Philox. C++ that a GPU and g++ compile alike; elementary functions are the compiler's own (libdevice, libm).
//
// Suffixes are register classes: _f (f32, f16, bf16), _d (f64), _i (i32, u8) and _b (bool).

const registers = `
typedef float pbv_f;
typedef double pbv_d;
typedef int32_t pbv_i;
typedef bool pbv_b;
PB_INLINE pbv_f pbv_splat_f(float x) { return x; }
PB_INLINE pbv_d pbv_splat_d(double x) { return x; }
PB_INLINE pbv_i pbv_splat_i(int32_t x) { return x; }
PB_INLINE pbv_b pbv_splat_b(int32_t x) { return x != 0; }
PB_INLINE float pbv_argument_f(int64_t bits) { return pb_float_of_bits((uint32_t)bits); }
PB_INLINE double pbv_argument_d(int64_t high, int64_t low) {
  return pb_double_of_bits((uint64_t)high << 32 | (uint64_t)low);
}
PB_INLINE pbv_f pbv_infinity_f() { return pb_float_of_bits(0x7f800000u); }
PB_INLINE pbv_d pbv_infinity_d() { return (double)pbv_infinity_f(); }
PB_INLINE pbv_i pbv_index_i(int64_t base, int64_t) { return (int32_t)base; }
`

/** Each rounds once; floating to integer truncates, saturates, and makes NaN 0. */
const conversions = `
PB_INLINE pbv_f pbv_round_f16(pbv_f x) { return pb_float_of_f16(pb_f16_of_float(x)); }
PB_INLINE pbv_f pbv_round_bf16(pbv_f x) { return pb_float_of_bf16(pb_bf16_of_float(x)); }
/* The float towards zero of x, made odd where x is none: rounding it further is rounding x once. */
PB_INLINE float pbv_odd(double x) {
  const float y = (float)x;
  if (x != x || (double)y == x) return y;
  uint32_t bits = pb_bits_of_float(y);
  if ((y < 0 ? -(double)y : (double)y) > (x < 0 ? -x : x)) bits -= 1;
  return pb_float_of_bits(bits | 1u);
}
PB_INLINE pbv_f pbv_f16_of_d(pbv_d x) { return pbv_round_f16(pbv_odd(x)); }
PB_INLINE pbv_f pbv_bf16_of_d(pbv_d x) { return pbv_round_bf16(pbv_odd(x)); }
PB_INLINE pbv_f pbv_f_of_d(pbv_d x) { return (float)x; }
PB_INLINE pbv_d pbv_d_of_f(pbv_f x) { return (double)x; }
PB_INLINE pbv_f pbv_f_of_i(pbv_i x) { return (float)x; }
PB_INLINE pbv_d pbv_d_of_i(pbv_i x) { return (double)x; }
PB_INLINE pbv_i pbv_i_of_d(pbv_d x) {
  return x != x ? 0 : x >= 0x1p31 ? PB_INT32_MAX : x <= -0x1p31 ? PB_INT32_MIN : (int32_t)x;
}
PB_INLINE pbv_i pbv_i_of_f(pbv_f x) { return pbv_i_of_d((double)x); }
PB_INLINE pbv_i pbv_clamp_u8(pbv_i x) { return x < 0 ? 0 : x > 255 ? 255 : x; }
PB_INLINE pbv_i pbv_wrap_u8(pbv_i x) { return x & 255; }
PB_INLINE pbv_i pbv_i_of_b(pbv_b x) { return x ? 1 : 0; }
PB_INLINE pbv_f pbv_f_of_b(pbv_b x) { return x ? 1.0f : 0.0f; }
PB_INLINE pbv_d pbv_d_of_b(pbv_b x) { return x ? 1.0 : 0.0; }
PB_INLINE pbv_b pbv_b_of_f(pbv_f x) { return x != 0.0f; }
PB_INLINE pbv_b pbv_b_of_d(pbv_d x) { return x != 0.0; }
PB_INLINE pbv_b pbv_b_of_i(pbv_i x) { return x != 0; }
`

const selects = ['f', 'd', 'i', 'b']
  .map((s) => `PB_INLINE pbv_${s} pbv_select_${s}(pbv_b m, pbv_${s} a, pbv_${s} b) { return m ? a : b; }\n`)
  .join('')

const comparisons = ['f', 'd', 'i', 'b']
  .flatMap((s) =>
    Object.entries({ eq: '==', ne: '!=', lt: '<', le: '<=', gt: '>', ge: '>=' }).map(
      ([name, sign]) => `PB_INLINE pbv_b pbv_${name}_${s}(pbv_${s} a, pbv_${s} b) { return a ${sign} b; }\n`,
    ),
  )
  .join('')

/** NaN if either is NaN; of two zeros the maximum is the positive and the minimum the negative one. */
function floating(s: 'f' | 'd', bits: string, sign: string): string {
  const [to, from] = s === 'f' ? ['pb_bits_of_float', 'pb_float_of_bits'] : ['pb_bits_of_double', 'pb_double_of_bits']
  return `
PB_INLINE pbv_${s} pbv_add_${s}(pbv_${s} a, pbv_${s} b) { return a + b; }
PB_INLINE pbv_${s} pbv_sub_${s}(pbv_${s} a, pbv_${s} b) { return a - b; }
PB_INLINE pbv_${s} pbv_mul_${s}(pbv_${s} a, pbv_${s} b) { return a * b; }
PB_INLINE pbv_${s} pbv_div_${s}(pbv_${s} a, pbv_${s} b) { return a / b; }
PB_INLINE pbv_${s} pbv_neg_${s}(pbv_${s} x) { return -x; }
PB_INLINE pbv_${s} pbv_abs_${s}(pbv_${s} x) { return ${from}(${to}(x) & ~(${bits})${sign}); }
PB_INLINE pbv_${s} pbv_sign_${s}(pbv_${s} x) { return x > 0 ? (pbv_${s})1 : x < 0 ? (pbv_${s})-1 : x; }
PB_INLINE pbv_${s} pbv_max_${s}(pbv_${s} a, pbv_${s} b) {
  return a == b ? ${from}(${to}(a) & ${to}(b)) : a < b || b != b ? b : a;
}
PB_INLINE pbv_${s} pbv_min_${s}(pbv_${s} a, pbv_${s} b) {
  return a == b ? ${from}(${to}(a) | ${to}(b)) : a > b || b != b ? b : a;
}
PB_INLINE pbv_b pbv_isFinite_${s}(pbv_${s} x) { return pbv_abs_${s}(x) < pbv_infinity_${s}(); }
PB_INLINE pbv_${s} pbv_rsqrt_${s}(pbv_${s} x) { return (pbv_${s})1 / pbv_sqrt_${s}(x); }
PB_INLINE pbv_${s} pbv_sigmoid_${s}(pbv_${s} x) {
  const pbv_${s} small = pbv_exp_${s}(-pbv_abs_${s}(x));
  return (x >= 0 ? (pbv_${s})1 : small) / ((pbv_${s})1 + small);
}
`
}

const elementary = ['exp', 'log', 'sqrt', 'sin', 'cos', 'tanh', 'erf', 'floor']
  .map(
    (name) => `PB_INLINE pbv_f pbv_${name}_f(pbv_f x) { return ${name}f(x); }
PB_INLINE pbv_d pbv_${name}_d(pbv_d x) { return ${name}(x); }
`,
  )
  .concat(
    `PB_INLINE pbv_f pbv_pow_f(pbv_f a, pbv_f b) { return powf(a, b); }
PB_INLINE pbv_d pbv_pow_d(pbv_d a, pbv_d b) { return pow(a, b); }
`,
  )
  .join('')

/** Integers wrap; u8 results are masked by the printer. Dividing by 0 gives 0. */
const integers = `
PB_INLINE pbv_i pbv_add_i(pbv_i a, pbv_i b) { return (pbv_i)((uint32_t)a + (uint32_t)b); }
PB_INLINE pbv_i pbv_sub_i(pbv_i a, pbv_i b) { return (pbv_i)((uint32_t)a - (uint32_t)b); }
PB_INLINE pbv_i pbv_mul_i(pbv_i a, pbv_i b) { return (pbv_i)((uint32_t)a * (uint32_t)b); }
PB_INLINE pbv_i pbv_neg_i(pbv_i x) { return (pbv_i)(0u - (uint32_t)x); }
PB_INLINE pbv_i pbv_abs_i(pbv_i x) { return x < 0 ? pbv_neg_i(x) : x; }
PB_INLINE pbv_i pbv_sign_i(pbv_i x) { return (x > 0) - (x < 0); }
PB_INLINE pbv_i pbv_max_i(pbv_i a, pbv_i b) { return a > b ? a : b; }
PB_INLINE pbv_i pbv_min_i(pbv_i a, pbv_i b) { return a < b ? a : b; }
PB_INLINE pbv_i pbv_div_i(pbv_i a, pbv_i b) { return b == 0 ? 0 : b == -1 ? pbv_neg_i(a) : a / b; }
PB_INLINE pbv_b pbv_not_b(pbv_b x) { return !x; }
PB_INLINE pbv_b pbv_and_b(pbv_b a, pbv_b b) { return a && b; }
PB_INLINE pbv_b pbv_or_b(pbv_b a, pbv_b b) { return a || b; }
`

/** Philox4x32-10: the block of the element, and one of its four words. */
const philox = `
PB_INLINE pbv_i pbv_philox(pbv_i key0, pbv_i key1, pbv_i offset, int64_t element, int64_t, int64_t stream, int64_t mask) {
  uint32_t c0 = (uint32_t)(element >> 2), c1 = (uint32_t)offset, c2 = (uint32_t)stream, c3 = 0;
  uint32_t k0 = (uint32_t)key0, k1 = (uint32_t)key1;
  PB_UNROLL
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = (uint64_t)c0 * 0xd2511f53u, second = (uint64_t)c2 * 0xcd9e8d57u;
    c0 = (uint32_t)(second >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)second;
    c2 = (uint32_t)(first >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)first;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  const int word = (int)(element & 3);
  return (pbv_i)((word < 2 ? (word == 0 ? c0 : c1) : (word == 2 ? c2 : c3)) & (uint32_t)mask);
}
`

/** Everything that computes on registers; behind the device's part. */
export const registerPrelude: string = [
  registers,
  conversions,
  selects,
  comparisons,
  elementary,
  floating('f', 'uint32_t', '0x80000000u'),
  floating('d', 'uint64_t', '0x8000000000000000ull'),
  integers,
  philox,
].join('')
