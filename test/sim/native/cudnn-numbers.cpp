// Conversions of element types; the definitions behind cudnn-numbers.h.
#include "cudnn-numbers.h"

#include <cmath>
#include <vector>

#pragma GCC optimize("O2")

namespace simnum {

namespace {

/** The bits of a double that an f16 holds exactly. */
uint16_t f16_bits(double value) {
  if (std::isnan(value)) return 0x7e00;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::fabs(value);
  if (std::isinf(size)) return sign | 0x7c00;
  if (size < 0x1p-14) return sign | (uint16_t)(size * 0x1p24);
  int exponent;
  const double fraction = std::frexp(size, &exponent);
  return sign | (uint16_t)((exponent + 14) << 10) | (uint16_t)((fraction * 2 - 1) * 1024);
}

double f16_value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  double size;
  if (exponent == 31) size = fraction == 0 ? INFINITY : NAN;
  else if (exponent == 0) size = std::ldexp(fraction, -24);
  else size = std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) ? -size : size;
}

const double *f16_table() {
  static const std::vector<double> table = [] {
    std::vector<double> values(65536);
    for (int bits = 0; bits < 65536; ++bits) values[bits] = f16_value((uint16_t)bits);
    return values;
  }();
  return table.data();
}

float bf16_value(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
}

uint16_t bf16_bits(double value) {
  if (std::isnan(value)) return 0x7fc0;
  const float narrow = (float)value;
  uint32_t bits;
  memcpy(&bits, &narrow, 4);
  return (uint16_t)(bits >> 16);
}

template <class T>
void read_as(const void *from, int64_t stride, double *to, int64_t count) {
  const T *const source = (const T *)from;
  for (int64_t i = 0; i < count; ++i) to[i] = (double)source[i * stride];
}

template <class T>
void write_as(void *to, int64_t stride, const double *from, int64_t count) {
  T *const target = (T *)to;
  for (int64_t i = 0; i < count; ++i) target[i * stride] = (T)from[i];
}

} // namespace

size_t bytes_of(Type type) {
  switch (type) {
    case Type::f64:
    case Type::i64: return 8;
    case Type::f32:
    case Type::i32: return 4;
    case Type::f16:
    case Type::bf16: return 2;
    default: return 1;
  }
}

void read(Type type, const void *from, int64_t stride, double *to, int64_t count) {
  switch (type) {
    case Type::f32: return read_as<float>(from, stride, to, count);
    case Type::f64: return read_as<double>(from, stride, to, count);
    case Type::i32: return read_as<int32_t>(from, stride, to, count);
    case Type::i64: return read_as<int64_t>(from, stride, to, count);
    case Type::u8:
    case Type::boolean: return read_as<uint8_t>(from, stride, to, count);
    case Type::f16: {
      const double *const table = f16_table();
      const uint16_t *const source = (const uint16_t *)from;
      for (int64_t i = 0; i < count; ++i) to[i] = table[source[i * stride]];
      return;
    }
    case Type::bf16: {
      const uint16_t *const source = (const uint16_t *)from;
      for (int64_t i = 0; i < count; ++i) to[i] = bf16_value(source[i * stride]);
      return;
    }
  }
}

void write(Type type, void *to, int64_t stride, const double *from, int64_t count) {
  uint16_t *const target = (uint16_t *)to;
  switch (type) {
    case Type::f32: return write_as<float>(to, stride, from, count);
    case Type::f64: return write_as<double>(to, stride, from, count);
    case Type::i32: return write_as<int32_t>(to, stride, from, count);
    case Type::i64: return write_as<int64_t>(to, stride, from, count);
    case Type::u8:
    case Type::boolean: return write_as<uint8_t>(to, stride, from, count);
    case Type::f16:
      for (int64_t i = 0; i < count; ++i) target[i * stride] = f16_bits(to_f16(from[i]));
      return;
    case Type::bf16:
      for (int64_t i = 0; i < count; ++i) target[i * stride] = bf16_bits(to_bf16(from[i]));
      return;
  }
}

double to(Type type, double value) {
  switch (type) {
    case Type::f32: return (float)value;
    case Type::f16: return to_f16(value);
    case Type::bf16: return to_bf16(value);
    case Type::f64: return value;
    default: return std::nearbyint(value);
  }
}

double neighbour(Type type, double value, bool up) {
  if (!std::isfinite(value)) return value;
  const double towards = up ? INFINITY : -INFINITY;
  if (type == Type::f64) return std::nextafter(value, towards);
  if (type == Type::f32) return std::nextafterf((float)value, (float)towards);
  const int precision = type == Type::f16 ? 11 : 8, least = type == Type::f16 ? -14 : -126;
  const int exponent = value == 0 ? least : std::max(std::ilogb(value), least);
  const double step = std::ldexp(1, exponent - precision + 1);
  return to(type, up ? value + step : value - step);
}

} // namespace simnum
