// Which products the simulated cuBLASLt takes, and the algorithms it proposes for them: some that add partial sums in
// an order of the moment or in 16 bits come first, for whoever does not ask for better.
#include <algorithm>
#include <cstring>

#include "cublaslt.h"

namespace simblas {

namespace {

constexpr uint32_t magic = 0x4c744167;

uint32_t sealed(const Algorithm &algorithm) {
  uint8_t bytes[sizeof algorithm];
  memcpy(bytes, &algorithm, sizeof algorithm);
  uint32_t sum = 2166136261u;
  for (size_t i = 0; i < sizeof bytes - 4; ++i) sum = (sum ^ bytes[i]) * 16777619u;
  return sum;
}

struct Row {
  int id, tile, stages, split, scheme, alignment;
  /** Whether it runs on Tensor Cores: not for f64 nor PEDANTIC f32. */
  bool tensor_cores;
  double slowness;
};

/** In the order in which heuristics propose them. */
constexpr Row rows[] = {
    {21, 15, 8, 6, SCHEME_INPLACE, 16, true, 0.5}, {21, 15, 8, 6, SCHEME_OUTPUT_TYPE, 16, true, 0.6},
    {66, 20, 35, 1, SCHEME_NONE, 16, true, 1.0},   {66, 18, 35, 4, SCHEME_COMPUTE_TYPE, 16, true, 0.9},
    {31, 20, 10, 1, SCHEME_NONE, 4, true, 1.5},    {31, 16, 10, 16, SCHEME_COMPUTE_TYPE, 4, true, 1.7},
    {13, 8, 0, 1, SCHEME_NONE, 1, false, 4.0},     {13, 8, 0, 8, SCHEME_COMPUTE_TYPE, 1, false, 3.5},
    {0, 1, 0, 1, SCHEME_NONE, 1, false, 9.0},
};

/** Whether a layout is possible at all. */
bool possible(const Layout &layout) {
  const int64_t least = layout.order == 0 ? layout.rows : layout.columns;
  return known_type(layout.type) && (layout.order == 0 || layout.order == 1) && layout.rows > 0 && layout.columns > 0 &&
         layout.leading >= least && layout.batch >= 1 && layout.batch_stride >= 0;
}

bool matches(const Problem &p) {
  const int64_t m = p.matmul.transpose_a ? p.a.columns : p.a.rows, n = p.matmul.transpose_b ? p.b.rows : p.b.columns;
  const int64_t inner = p.matmul.transpose_b ? p.b.columns : p.b.rows;
  return m == p.m() && n == p.n() && inner == p.k() && p.c.rows == p.m() && p.c.columns == p.n();
}

bool tensor_cores(const Problem &p) {
  return p.a.type == R_16F || p.a.type == R_16BF || p.matmul.compute == COMPUTE_32F_FAST_TF32;
}

/** Types that go together: operands of one type, results of it or of f32. */
bool supported_types(const Problem &p) {
  const int type = p.a.type, result = p.d.type;
  if (p.b.type != type || p.c.type != result) return false;
  if (type == R_64F) return result == R_64F && p.matmul.compute == COMPUTE_64F && p.matmul.scale == R_64F;
  if (type != R_32F && type != R_16F && type != R_16BF) return false;
  if (p.matmul.scale != R_32F) return false;
  if (p.matmul.compute == COMPUTE_32F_FAST_TF32) return type == R_32F && result == R_32F;
  if (p.matmul.compute != COMPUTE_32F && p.matmul.compute != COMPUTE_32F_PEDANTIC) return false;
  return result == type || (type != R_32F && result == R_32F);
}

bool supported_epilogue(const Problem &p) {
  const int which = p.matmul.epilogue;
  if (which != EPILOGUE_DEFAULT && which != EPILOGUE_RELU && which != EPILOGUE_BIAS && which != EPILOGUE_RELU_BIAS)
    return false;
  if (which == EPILOGUE_DEFAULT) return true;
  // Epilogues take column order, and a bias of the result's type.
  return p.d.order == 0 && (!(which & EPILOGUE_BIAS) || p.matmul.bias_type == -1 || p.matmul.bias_type == p.d.type);
}

/** The alignment that every matrix of a batch has, if the first has what the preference says. */
int64_t alignment_of(const Layout &layout, int64_t asked) {
  const int64_t bytes = (int64_t)simnum::bytes_of(number_type(layout.type));
  int64_t alignment = asked;
  while (alignment > 1 && (layout.leading * bytes % alignment != 0 ||
                           (layout.batch > 1 && layout.batch_stride * bytes % alignment != 0)))
    alignment /= 2;
  return alignment;
}

} // namespace

int64_t Layout::extent() const {
  const int64_t lines = order == 0 ? columns : rows, length = order == 0 ? rows : columns;
  return (batch - 1) * batch_stride + (lines - 1) * leading + length;
}

simnum::Type number_type(int type) {
  switch (type) {
    case R_64F: return simnum::Type::f64;
    case R_16F: return simnum::Type::f16;
    case R_16BF: return simnum::Type::bf16;
    case R_32I: return simnum::Type::i32;
    default: return simnum::Type::f32;
  }
}

bool known_type(int type) { return type == R_32F || number_type(type) != simnum::Type::f32; }

int check_problem(const Problem &p) {
  for (const Layout *layout : {&p.a, &p.b, &p.c, &p.d})
    if (!possible(*layout)) return INVALID_VALUE;
  if (p.matmul.transpose_a < 0 || p.matmul.transpose_a > 1 || p.matmul.transpose_b < 0 || p.matmul.transpose_b > 1)
    return INVALID_VALUE;
  if (!matches(p)) return INVALID_VALUE;
  for (const Layout *layout : {&p.a, &p.b, &p.c})
    if (layout->batch != p.d.batch) return INVALID_VALUE;
  if (p.matmul.pointer_mode != 0 || !supported_types(p) || !supported_epilogue(p)) return NOT_SUPPORTED;
  return SUCCESS;
}

std::vector<Algorithm> propose(const Problem &p, const Preference &preference) {
  std::vector<Algorithm> found;
  const int64_t alignment =
      std::min({alignment_of(p.a, preference.alignment_a), alignment_of(p.b, preference.alignment_b),
                alignment_of(p.c, preference.alignment_c), alignment_of(p.d, preference.alignment_d)});
  for (const Row &row : rows) {
    if (row.scheme != SCHEME_NONE && (preference.schemes & (uint32_t)row.scheme) == 0) continue;
    if (alignment % row.alignment != 0 || (row.tensor_cores && !tensor_cores(p)) || p.k() < row.split) continue;
    Algorithm algorithm;
    algorithm.magic = magic;
    algorithm.id = row.id;
    algorithm.tile = row.tile;
    algorithm.stages = row.stages;
    algorithm.split = row.split;
    algorithm.scheme = row.scheme;
    algorithm.type = p.a.type;
    algorithm.compute = p.matmul.compute;
    algorithm.alignment = row.alignment;
    algorithm.transposes = p.matmul.transpose_a * 2 + p.matmul.transpose_b;
    algorithm.seal = sealed(algorithm);
    if (workspace_of(p, algorithm) <= preference.workspace) found.push_back(algorithm);
  }
  return found;
}

int check_algorithm(const Problem &p, const Algorithm &algorithm) {
  if (algorithm.magic != magic || algorithm.seal != sealed(algorithm)) return INVALID_VALUE;
  if (algorithm.type != p.a.type || algorithm.compute != p.matmul.compute ||
      algorithm.transposes != p.matmul.transpose_a * 2 + p.matmul.transpose_b)
    return INVALID_VALUE;
  return p.k() < algorithm.split ? NOT_SUPPORTED : SUCCESS;
}

int64_t workspace_of(const Problem &p, const Algorithm &algorithm) {
  const int64_t results = p.m() * p.n() * p.batch();
  if (algorithm.split <= 1 || algorithm.scheme == SCHEME_INPLACE) return 0;
  const int64_t bytes = algorithm.scheme == SCHEME_OUTPUT_TYPE ? (int64_t)simnum::bytes_of(number_type(p.d.type)) : 4;
  return results * bytes * algorithm.split;
}

float waves_of(const Problem &p, const Algorithm &algorithm) {
  return (float)((p.m() + 127) / 128 * ((p.n() + 127) / 128) * p.batch() * algorithm.split) / 132.0f;
}

double microseconds_of(const Problem &p, const Algorithm &algorithm) {
  double slowness = 10;
  for (const Row &row : rows)
    if (row.id == algorithm.id && row.split == algorithm.split && row.scheme == algorithm.scheme)
      slowness = row.slowness;
  return 3 + slowness * (double)(p.m() * p.n() * p.batch()) * (double)p.k() / 1e8;
}

} // namespace simblas
