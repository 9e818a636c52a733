// Element types of the simulated libraries: memory to f64 and back, rounding once. Used by cuDNN's and cuBLASLt's
// parts.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace simnum {

enum class Type { f32, f64, f16, bf16, i32, i64, u8, boolean };

size_t bytes_of(Type type);

/** Reads `count` elements that lie `stride` elements apart. */
void read(Type type, const void *from, int64_t stride, double *to, int64_t count);

/** Writes values that are rounded already, or rounds them: to the nearest, ties to even, once. */
void write(Type type, void *to, int64_t stride, const double *from, int64_t count);

/**
 * The nearest value with `precision` bits from 2^least upwards (subnormals below), infinity from 2^(most + 1). Adding
 * and taking away a number whose last bit is worth as much as the result's rounds as the processor does.
 */
inline double rounded(double value, int precision, int least, int most) {
  uint64_t bits;
  memcpy(&bits, &value, 8);
  int exponent = (int)((bits >> 52) & 0x7ff) - 1023;
  if (exponent == 1024) return value;
  if (exponent < least) exponent = least;
  if (exponent > most) return (bits >> 63) ? -__builtin_inf() : __builtin_inf();
  const uint64_t magic_bits = ((uint64_t)(exponent + 53 - precision + 1023) << 52) | (uint64_t(1) << 51);
  double magic;
  memcpy(&magic, &magic_bits, 8);
  const double shifted = value + magic;
  double result = shifted - magic;
  if (result == 0) return (bits >> 63) ? -0.0 : 0.0;
  double limit;
  const uint64_t limit_bits = (uint64_t)(most + 1 + 1023) << 52;
  memcpy(&limit, &limit_bits, 8);
  if (result >= limit) result = __builtin_inf();
  if (result <= -limit) result = -__builtin_inf();
  return result;
}

inline double to_f16(double value) { return rounded(value, 11, -14, 15); }
inline double to_bf16(double value) { return rounded(value, 8, -126, 127); }
/** What Tensor Cores read of an f32. */
inline double to_tf32(double value) { return rounded(value, 11, -126, 127); }

/** The value as an element of the type holds it. */
double to(Type type, double value);

/** The next larger (or smaller) element of a float type; infinities and NaN stay. */
double neighbour(Type type, double value, bool up);

} // namespace simnum
