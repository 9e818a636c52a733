// The product of the simulated cuBLASLt: operands as packed f64, rows of the result summed in ascending order, one
// rounding. Algorithms that split a sum carelessly give what careless sums give.
#include <algorithm>
#include <vector>

#include "cublaslt.h"
#include "cudnn-libraries.h"
#include "sim.h"

#pragma GCC optimize("O3")

namespace simblas {

namespace {

using Values = std::vector<double>;

/** Where element (row, column) lies. */
int64_t place(const Layout &layout, int64_t row, int64_t column) {
  return layout.order == 0 ? column * layout.leading + row : row * layout.leading + column;
}

/** One matrix of a batch as packed rows; transposed where asked. */
Values load(const Layout &layout, const void *memory, int64_t batch, bool transposed) {
  const simnum::Type type = number_type(layout.type);
  const int64_t bytes = (int64_t)simnum::bytes_of(type), rows = transposed ? layout.columns : layout.rows,
                columns = transposed ? layout.rows : layout.columns;
  const char *const first = (const char *)memory + batch * layout.batch_stride * bytes;
  const int64_t stride = (layout.order == 0) == transposed ? 1 : layout.leading;
  Values values((size_t)(rows * columns));
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = transposed ? place(layout, 0, row) : place(layout, row, 0);
    simnum::read(type, first + at * bytes, stride, values.data() + row * columns, columns);
  }
  return values;
}

void store(const Layout &layout, void *memory, int64_t batch, const Values &values) {
  const simnum::Type type = number_type(layout.type);
  const int64_t bytes = (int64_t)simnum::bytes_of(type), stride = layout.order == 0 ? layout.leading : 1;
  char *const first = (char *)memory + batch * layout.batch_stride * bytes;
  for (int64_t row = 0; row < layout.rows; ++row)
    simnum::write(type, first + place(layout, row, 0) * bytes, stride, values.data() + row * layout.columns,
                  layout.columns);
}

__attribute__((target_clones("avx2", "default"))) void add_scaled(double *y, double a, const double *x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] += a * x[i];
}

/** Rows times columns from `first` to `last` of the inner dimension. */
void sum(const Values &a, const Values &b, Values &d, int64_t m, int64_t n, int64_t k, int64_t first, int64_t last) {
  for (int64_t row = 0; row < m; ++row)
    for (int64_t inner = first; inner < last; ++inner) add_scaled(&d[row * n], a[row * k + inner], &b[inner * n], n);
}

/** Sums of parts, each rounded to the result's type, as a split without full precision adds them. */
void sum_in_parts(const Values &a, const Values &b, Values &d, const Problem &p, int split, bool shuffled,
                  uint64_t run) {
  const int64_t m = p.m(), n = p.n(), k = p.k();
  const simnum::Type type = number_type(p.d.type);
  for (int part = 0; part < split; ++part) {
    const int64_t which = shuffled ? (part + (int64_t)(run % (uint64_t)split)) % split : part;
    Values partial(d.size(), 0.0);
    sum(a, b, partial, m, n, k, k * which / split, k * (which + 1) / split);
    for (size_t i = 0; i < d.size(); ++i) d[i] = simnum::to(type, d[i] + simnum::to(type, partial[i]));
  }
  // Where rounding hides the order, two runs must differ nevertheless.
  if (shuffled && !d.empty()) d[0] = simnum::neighbour(type, d[0], run % 2 == 0);
}

void finish(const Problem &p, const Operands &operands, int64_t batch, Values &d) {
  if (operands.alpha != 1)
    for (double &value : d) value *= operands.alpha;
  if (operands.beta != 0) {
    const Values c = load(p.c, operands.c, batch, false);
    for (size_t i = 0; i < d.size(); ++i) d[i] += operands.beta * c[i];
  }
  if (p.matmul.epilogue & EPILOGUE_BIAS) {
    Values bias((size_t)p.m());
    const simnum::Type type = number_type(p.matmul.bias_type < 0 ? p.d.type : p.matmul.bias_type);
    simnum::read(type, (const char *)p.matmul.bias + batch * p.matmul.bias_stride * (int64_t)simnum::bytes_of(type), 1,
                 bias.data(), p.m());
    for (int64_t row = 0; row < p.m(); ++row)
      for (int64_t column = 0; column < p.n(); ++column) d[row * p.n() + column] += bias[row];
  }
  if (p.matmul.epilogue & EPILOGUE_RELU)
    for (double &value : d) value = value < 0 ? 0 : value;
}

} // namespace

void multiply(const Problem &p, const Algorithm &algorithm, const Operands &operands, uint64_t run) {
  const bool tf32 = p.a.type == R_32F && p.matmul.compute == COMPUTE_32F_FAST_TF32 && simlib::option(simlib::TF32) != 0;
  for (int64_t batch = 0; batch < p.batch(); ++batch) {
    Values a = load(p.a, operands.a, batch, p.matmul.transpose_a != 0),
           b = load(p.b, operands.b, batch, p.matmul.transpose_b != 0);
    if (tf32)
      for (Values *values : {&a, &b})
        for (double &value : *values) value = simnum::to_tf32(value);
    Values d((size_t)(p.m() * p.n()), 0.0);
    if (algorithm.scheme == SCHEME_INPLACE || algorithm.scheme == SCHEME_OUTPUT_TYPE)
      sum_in_parts(a, b, d, p, algorithm.split, algorithm.scheme == SCHEME_INPLACE, run);
    else sum(a, b, d, p.m(), p.n(), p.k(), 0, p.k());
    finish(p, operands, batch, d);
    store(p.d, operands.d, batch, d);
  }
}

} // namespace simblas
