// The three sums of a convolution in f64. Each element of a result is summed in one order that depends on nothing but
// the shape; the innermost loops run over channels that lie side by side, for four places of a row at once.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "cudnn-graph.h"

#pragma GCC optimize("O3")

namespace simdnn {

namespace {

/** Places along a row that are computed at once. */
constexpr int block = 4;

__attribute__((target_clones("avx2", "default"))) void spread_any(double *const *y, const double *a, const double *x,
                                                                  int64_t count) {
  double *const y0 = y[0], *const y1 = y[1], *const y2 = y[2], *const y3 = y[3];
  const double a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
  for (int64_t i = 0; i < count; ++i) {
    const double value = x[i];
    y0[i] += a0 * value;
    y1[i] += a1 * value;
    y2[i] += a2 * value;
    y3[i] += a3 * value;
  }
}

__attribute__((target_clones("avx2", "default"))) void gather_any(double *y, const double *a, const double *const *x,
                                                                  int64_t count) {
  const double *const x0 = x[0], *const x1 = x[1], *const x2 = x[2], *const x3 = x[3];
  const double a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
  for (int64_t i = 0; i < count; ++i) y[i] = (((y[i] + a0 * x0[i]) + a1 * x1[i]) + a2 * x2[i]) + a3 * x3[i];
}

__attribute__((target_clones("avx2", "default"))) void add_any(double *y, double a, const double *x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] += a * x[i];
}

/** y += a x over `Width` elements, or over `count` where Width is 0; rounded after each addition where asked. */
template <int Width>
inline void add(double *y, double a, const double *x, int64_t count, RoundSum round) {
  if (round != nullptr)
    for (int64_t i = 0; i < count; ++i) y[i] = round(y[i] + a * x[i]);
  else if constexpr (Width == 0) add_any(y, a, x, count);
  else
    for (int i = 0; i < Width; ++i) y[i] += a * x[i];
}

/** One x to four ys. */
template <int Width>
inline void spread(double *const *y, const double *a, const double *x, int64_t count) {
  if constexpr (Width == 0) spread_any(y, a, x, count);
  else
    for (int place = 0; place < block; ++place)
      for (int i = 0; i < Width; ++i) y[place][i] += a[place] * x[i];
}

/** Four xs to one y, one after the other. */
template <int Width>
inline void gather(double *y, const double *a, const double *const *x, int64_t count) {
  if constexpr (Width == 0) gather_any(y, a, x, count);
  else
    for (int i = 0; i < Width; ++i)
      y[i] = (((y[i] + a[0] * x[0][i]) + a[1] * x[1][i]) + a[2] * x[2][i]) + a[3] * x[3][i];
}

/** Calls with the width as a constant where it is a small one, as groups have. */
template <class Body>
void with_width(int64_t width, const Body &body) {
  switch (width) {
    case 1: return body(std::integral_constant<int, 1>());
    case 2: return body(std::integral_constant<int, 2>());
    case 3: return body(std::integral_constant<int, 3>());
    case 4: return body(std::integral_constant<int, 4>());
    case 8: return body(std::integral_constant<int, 8>());
    case 16: return body(std::integral_constant<int, 16>());
    default: return body(std::integral_constant<int, 0>());
  }
}

/** Where position `at` of the output reads the input through tap `tap`; below 0 or past the end in the padding. */
int64_t input_of(const ConvolutionShape &s, int axis, int64_t at, int64_t tap) {
  return at * s.stride[axis] - s.before[axis] + tap * s.dilation[axis];
}

/**
 * Calls with blocks of four places of the output, by rows, for each tap that reads inside of the input somewhere:
 * visit(tap, first output pixel, input pixels or -1).
 */
template <class Visit>
void walk(const ConvolutionShape &s, const Visit &visit) {
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t oh = 0; oh < s.oh; ++oh)
      for (int64_t ow = 0; ow < s.ow; ow += block)
        for (int64_t r = 0; r < s.r; ++r) {
          const int64_t ih = input_of(s, 0, oh, r);
          if (ih < 0 || ih >= s.h) continue;
          for (int64_t q = 0; q < s.s; ++q) {
            int64_t inputs[block];
            bool any = false;
            for (int i = 0; i < block; ++i) {
              const int64_t iw = input_of(s, 1, ow + i, q);
              inputs[i] = ow + i < s.ow && iw >= 0 && iw < s.w ? (n * s.h + ih) * s.w + iw : -1;
              any |= inputs[i] >= 0;
            }
            if (any) visit(r * s.s + q, (n * s.oh + oh) * s.ow + ow, inputs);
          }
        }
}

bool whole(const int64_t *inputs) {
  return std::all_of(inputs, inputs + block, [](int64_t at) { return at >= 0; });
}

/** [tap][group][in][out] of a filter [out][tap][in]: the outputs side by side. */
std::vector<double> outputs_last(const ConvolutionShape &s, const double *w) {
  const int64_t taps = s.r * s.s, cg = s.c / s.groups, kg = s.k / s.groups;
  std::vector<double> turned((size_t)(s.k * taps * cg));
  for (int64_t k = 0; k < s.k; ++k)
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < cg; ++c)
        turned[((tap * s.groups + k / kg) * cg + c) * kg + k % kg] = w[(k * taps + tap) * cg + c];
  return turned;
}

} // namespace

void convolve_forward(const ConvolutionShape &s, const double *x, const double *w, double *y, RoundSum round) {
  const std::vector<double> turned = outputs_last(s, w);
  const int64_t cg = s.c / s.groups, kg = s.k / s.groups;
  std::fill(y, y + s.n * s.oh * s.ow * s.k, 0.0);
  with_width(kg, [&](auto width) {
    walk(s, [&](int64_t tap, int64_t pixel, const int64_t *inputs) {
      const bool full = round == nullptr && whole(inputs);
      for (int64_t channel = 0; channel < s.c; ++channel) {
        const double *const row = turned.data() + (tap * s.c + channel) * kg;
        double *const first = y + pixel * s.k + channel / cg * kg;
        if (full) {
          double *const to[block] = {first, first + s.k, first + 2 * s.k, first + 3 * s.k};
          double by[block];
          for (int i = 0; i < block; ++i) by[i] = x[inputs[i] * s.c + channel];
          spread<width.value>(to, by, row, kg);
          continue;
        }
        for (int i = 0; i < block; ++i)
          if (inputs[i] >= 0) add<width.value>(first + i * s.k, x[inputs[i] * s.c + channel], row, kg, round);
      }
    });
  });
}

void convolve_data(const ConvolutionShape &s, double *x, const double *w, const double *y, RoundSum round) {
  const int64_t taps = s.r * s.s, cg = s.c / s.groups, kg = s.k / s.groups;
  std::fill(x, x + s.n * s.h * s.w * s.c, 0.0);
  with_width(cg, [&](auto width) {
    walk(s, [&](int64_t tap, int64_t pixel, const int64_t *inputs) {
      const bool full = round == nullptr && whole(inputs);
      for (int64_t k = 0; k < s.k; ++k) {
        const double *const row = w + (k * taps + tap) * cg, *const cotangents = y + pixel * s.k + k;
        const int64_t group = k / kg * cg;
        if (full) {
          double *to[block];
          double by[block];
          for (int i = 0; i < block; ++i) {
            to[i] = x + inputs[i] * s.c + group;
            by[i] = cotangents[i * s.k];
          }
          spread<width.value>(to, by, row, cg);
          continue;
        }
        for (int i = 0; i < block; ++i)
          if (inputs[i] >= 0) add<width.value>(x + inputs[i] * s.c + group, cotangents[i * s.k], row, cg, round);
      }
    });
  });
}

void convolve_filter(const ConvolutionShape &s, const double *x, double *w, const double *y, RoundSum round) {
  const int64_t taps = s.r * s.s, cg = s.c / s.groups, kg = s.k / s.groups;
  std::fill(w, w + s.k * taps * cg, 0.0);
  with_width(cg, [&](auto width) {
    walk(s, [&](int64_t tap, int64_t pixel, const int64_t *inputs) {
      const bool full = round == nullptr && whole(inputs);
      for (int64_t k = 0; k < s.k; ++k) {
        double *const target = w + (k * taps + tap) * cg;
        const double *const cotangents = y + pixel * s.k + k;
        const int64_t group = k / kg * cg;
        if (full) {
          const double *from[block];
          double by[block];
          for (int i = 0; i < block; ++i) {
            from[i] = x + inputs[i] * s.c + group;
            by[i] = cotangents[i * s.k];
          }
          gather<width.value>(target, by, from, cg);
          continue;
        }
        for (int i = 0; i < block; ++i)
          if (inputs[i] >= 0) add<width.value>(target, cotangents[i * s.k], x + inputs[i] * s.c + group, cg, round);
      }
    });
  });
}

} // namespace simdnn
