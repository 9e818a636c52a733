// The three sums of a convolution in f64. Each element of a result is summed in one order, whatever the blocking, and
// the innermost loops run over channels that lie side by side.
#include <algorithm>
#include <vector>

#include "cudnn-graph.h"

#pragma GCC optimize("O3")

namespace simdnn {

namespace {

/** y += a x, each sum rounded where `round` is given. */
__attribute__((target_clones("avx2", "default"))) void add_scaled(double *y, double a, const double *x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] += a * x[i];
}

void add_scaled_rounded(double *y, double a, const double *x, int64_t count, RoundSum round) {
  for (int64_t i = 0; i < count; ++i) y[i] = round(y[i] + a * x[i]);
}

/** Four rows at once: what is added is read once for all. Rows without a source are null. */
__attribute__((target_clones("avx2", "default"))) void add_scaled_4(double *const y[4], const double a[4],
                                                                    const double *x, int64_t count) {
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

/** Where position `at` of the output reads the input through tap `tap`; below 0 or past the end in the padding. */
int64_t input_of(const ConvolutionShape &s, int axis, int64_t at, int64_t tap) {
  return at * s.stride[axis] - s.before[axis] + tap * s.dilation[axis];
}

/** [tap][group][in][out] of a filter [out][tap][in]: the outputs side by side. */
std::vector<double> outputs_last(const ConvolutionShape &s, const double *w) {
  const int64_t taps = s.r * s.s, cg = s.c / s.groups, kg = s.k / s.groups;
  std::vector<double> turned(s.k * taps * cg);
  for (int64_t k = 0; k < s.k; ++k)
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < cg; ++c)
        turned[((tap * s.groups + k / kg) * cg + c) * kg + k % kg] = w[(k * taps + tap) * cg + c];
  return turned;
}

/** A block of at most four outputs of a row, one tap: sums over the channels of each group. */
void forward_tap(const ConvolutionShape &s, double *const rows[4], const double *const from[4], int64_t count,
                 const double *taps, RoundSum round) {
  const int64_t cg = s.c / s.groups, kg = s.k / s.groups;
  const bool whole = count == 4 && from[0] && from[1] && from[2] && from[3] && round == nullptr;
  for (int64_t g = 0; g < s.groups; ++g)
    for (int64_t c = 0; c < cg; ++c) {
      const double *const row = taps + (g * cg + c) * kg;
      const int64_t channel = g * cg + c;
      if (whole) {
        double *const out[4] = {rows[0] + g * kg, rows[1] + g * kg, rows[2] + g * kg, rows[3] + g * kg};
        const double by[4] = {from[0][channel], from[1][channel], from[2][channel], from[3][channel]};
        add_scaled_4(out, by, row, kg);
        continue;
      }
      for (int64_t i = 0; i < count; ++i) {
        if (from[i] == nullptr) continue;
        if (round) add_scaled_rounded(rows[i] + g * kg, from[i][channel], row, kg, round);
        else add_scaled(rows[i] + g * kg, from[i][channel], row, kg);
      }
    }
}

} // namespace

void convolve_forward(const ConvolutionShape &s, const double *x, const double *w, double *y, RoundSum round) {
  const std::vector<double> turned = outputs_last(s, w);
  const int64_t tap_size = s.c * (s.k / s.groups);
  std::fill(y, y + s.n * s.oh * s.ow * s.k, 0.0);
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t oh = 0; oh < s.oh; ++oh)
      for (int64_t block = 0; block < s.ow; block += 4) {
        const int64_t count = std::min<int64_t>(4, s.ow - block);
        double *rows[4] = {};
        for (int64_t i = 0; i < count; ++i) rows[i] = y + ((n * s.oh + oh) * s.ow + block + i) * s.k;
        for (int64_t r = 0; r < s.r; ++r) {
          const int64_t ih = input_of(s, 0, oh, r);
          if (ih < 0 || ih >= s.h) continue;
          for (int64_t q = 0; q < s.s; ++q) {
            const double *from[4] = {};
            for (int64_t i = 0; i < count; ++i) {
              const int64_t iw = input_of(s, 1, block + i, q);
              if (iw >= 0 && iw < s.w) from[i] = x + ((n * s.h + ih) * s.w + iw) * s.c;
            }
            forward_tap(s, rows, from, count, turned.data() + (r * s.s + q) * tap_size, round);
          }
        }
      }
}

void convolve_data(const ConvolutionShape &s, double *x, const double *w, const double *y, RoundSum round) {
  const int64_t cg = s.c / s.groups, kg = s.k / s.groups;
  std::fill(x, x + s.n * s.h * s.w * s.c, 0.0);
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t oh = 0; oh < s.oh; ++oh)
      for (int64_t ow = 0; ow < s.ow; ++ow)
        for (int64_t r = 0; r < s.r; ++r) {
          const int64_t ih = input_of(s, 0, oh, r);
          if (ih < 0 || ih >= s.h) continue;
          for (int64_t q = 0; q < s.s; ++q) {
            const int64_t iw = input_of(s, 1, ow, q);
            if (iw < 0 || iw >= s.w) continue;
            double *const row = x + ((n * s.h + ih) * s.w + iw) * s.c;
            const double *const cotangent = y + ((n * s.oh + oh) * s.ow + ow) * s.k;
            for (int64_t k = 0; k < s.k; ++k) {
              double *const target = row + (k / kg) * cg;
              const double *const taps = w + ((k * s.r + r) * s.s + q) * cg;
              if (round) add_scaled_rounded(target, cotangent[k], taps, cg, round);
              else add_scaled(target, cotangent[k], taps, cg);
            }
          }
        }
}

void convolve_filter(const ConvolutionShape &s, const double *x, double *w, const double *y, RoundSum round) {
  const int64_t cg = s.c / s.groups, kg = s.k / s.groups;
  std::fill(w, w + s.k * s.r * s.s * cg, 0.0);
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t oh = 0; oh < s.oh; ++oh)
      for (int64_t ow = 0; ow < s.ow; ++ow)
        for (int64_t r = 0; r < s.r; ++r) {
          const int64_t ih = input_of(s, 0, oh, r);
          if (ih < 0 || ih >= s.h) continue;
          for (int64_t q = 0; q < s.s; ++q) {
            const int64_t iw = input_of(s, 1, ow, q);
            if (iw < 0 || iw >= s.w) continue;
            const double *const row = x + ((n * s.h + ih) * s.w + iw) * s.c;
            const double *const cotangent = y + ((n * s.oh + oh) * s.ow + ow) * s.k;
            for (int64_t k = 0; k < s.k; ++k) {
              double *const target = w + ((k * s.r + r) * s.s + q) * cg;
              const double *const source = row + (k / kg) * cg;
              if (round) add_scaled_rounded(target, cotangent[k], source, cg, round);
              else add_scaled(target, cotangent[k], source, cg);
            }
          }
        }
}

} // namespace simdnn
