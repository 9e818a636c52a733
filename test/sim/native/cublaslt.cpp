// The entry points of the simulated cuBLASLt. Descriptors take any value of the right size, as the real ones do;
// heuristics and the product look at what they were told.
#include "cublaslt.h"

#include <cstring>
#include <functional>
#include <unordered_set>

#include "sim.h"

using namespace simblas;

namespace {

constexpr const char *handle_kind = "cuBLASLt handle", *matmul_kind = "cuBLASLt matmul descriptor",
                     *layout_kind = "cuBLASLt layout", *preference_kind = "cuBLASLt preference";

/** Objects of one kind; the opaque handles are their addresses. */
template <class T>
struct Objects {
  const char *const kind;
  std::unordered_set<T *> all;

  int create(const T &value, void **out) {
    if (out == nullptr) return INVALID_VALUE;
    T *const made = new T(value);
    all.insert(made);
    sim::born(kind, made);
    *out = made;
    return SUCCESS;
  }
  T *find(const void *handle, const char *call) {
    if (sim::alive(kind, handle)) return (T *)handle;
    if (handle != nullptr) sim::violation("%s got %p, which is no living %s", call, handle, kind);
    return nullptr;
  }
  int destroy(void *handle, const char *call) {
    if (!sim::dies(kind, handle)) {
      sim::violation("%s got %p, which is no living %s", call, handle, kind);
      return INVALID_VALUE;
    }
    all.erase((T *)handle);
    delete (T *)handle;
    return SUCCESS;
  }
  void forget() {
    for (T *object : all) delete object;
    all.clear();
  }
};

struct Handle {};
Objects<Handle> handles{handle_kind, {}};
Objects<Matmul> matmuls{matmul_kind, {}};
Objects<Layout> layouts{layout_kind, {}};
Objects<Preference> preferences{preference_kind, {}};

void forget() {
  handles.forget();
  matmuls.forget();
  layouts.forget();
  preferences.forget();
}

void remember_to_forget() {
  static const bool registered = (sim::on_reset(forget), true);
  (void)registered;
}

/** Where an attribute is kept, and its size; null where there is none of that number. */
struct Slot {
  void *at = nullptr;
  size_t bytes = 0;
};
template <class T>
Slot slot(T &field) {
  return {&field, sizeof field};
}

Slot matmul_slot(Matmul &m, int attribute) {
  switch (attribute) {
    case 0: return slot(m.compute);
    case 1: return slot(m.scale);
    case 2: return slot(m.pointer_mode);
    case 3: return slot(m.transpose_a);
    case 4: return slot(m.transpose_b);
    case 7: return slot(m.epilogue);
    case 8: return slot(m.bias);
    case 10: return slot(m.bias_stride);
    case 11: return slot(m.auxiliary);
    case 12: return slot(m.auxiliary_leading);
    case 26: return slot(m.bias_type);
    default: return {};
  }
}

Slot layout_slot(Layout &l, int attribute) {
  switch (attribute) {
    case 0: return slot(l.type);
    case 1: return slot(l.order);
    case 2: return slot(l.rows);
    case 3: return slot(l.columns);
    case 4: return slot(l.leading);
    case 5: return slot(l.batch);
    case 6: return slot(l.batch_stride);
    default: return {};
  }
}

Slot preference_slot(Preference &p, int attribute) {
  switch (attribute) {
    case 0: return slot(p.search);
    case 1: return slot(p.workspace);
    case 3: return slot(p.schemes);
    case 5: return slot(p.alignment_a);
    case 6: return slot(p.alignment_b);
    case 7: return slot(p.alignment_c);
    case 8: return slot(p.alignment_d);
    case 12: return slot(p.implementations);
    default: return {};
  }
}

Slot algorithm_slot(Algorithm &a, int attribute) {
  switch (attribute) {
    case 0: return slot(a.id);
    case 1: return slot(a.tile);
    case 2: return slot(a.split);
    case 3: return slot(a.scheme);
    case 4: return slot(a.swizzle);
    case 5: return slot(a.custom);
    case 6: return slot(a.stages);
    case 7: return slot(a.inner);
    case 8: return slot(a.cluster);
    default: return {};
  }
}

int set(const Slot &slot, const void *value, size_t bytes) {
  if (slot.at == nullptr || value == nullptr || bytes != slot.bytes) return INVALID_VALUE;
  memcpy(slot.at, value, bytes);
  return SUCCESS;
}

/** The descriptors of a call; false where one is not alive. */
bool gather(const char *call, const void *matmul, const void *const layout[4], Problem &problem) {
  const Matmul *const described = matmuls.find(matmul, call);
  if (described == nullptr) return false;
  problem.matmul = *described;
  Layout *const into[4] = {&problem.a, &problem.b, &problem.c, &problem.d};
  for (int i = 0; i < 4; ++i) {
    const Layout *const found = layouts.find(layout[i], call);
    if (found == nullptr) return false;
    *into[i] = *found;
  }
  return true;
}

/** cublasLtMatmulHeuristicResult_t. */
struct Result {
  Algorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Result) == 96, "cublasLtMatmulHeuristicResult_t has 96 bytes");

Result result_of(const Problem &problem, const Algorithm &algorithm) {
  return {algorithm, (size_t)workspace_of(problem, algorithm), SUCCESS, waves_of(problem, algorithm), {}};
}

double factor(const Problem &problem, const void *value) {
  return problem.matmul.scale == R_64F ? *(const double *)value : *(const float *)value;
}

} // namespace

SIM_EXPORT size_t cublasLtGetVersion() { return 130101; }
SIM_EXPORT size_t cublasLtGetCudartVersion() { return 13000; }

SIM_EXPORT const char *cublasLtGetStatusName(int status) {
  switch (status) {
    case SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS_UNKNOWN";
  }
}

SIM_EXPORT const char *cublasLtGetStatusString(int status) { return cublasLtGetStatusName(status); }

SIM_EXPORT int cublasLtCreate(void **handle) {
  if (const int status = sim::fail_now("cublasLtCreate")) return status;
  if (sim::context_status() != 0) return NOT_INITIALIZED;
  if (sim::illegal_during_capture(nullptr, "cublasLtCreate") != 0) return NOT_INITIALIZED;
  remember_to_forget();
  return handles.create({}, handle);
}

SIM_EXPORT int cublasLtDestroy(void *handle) {
  const int injected = sim::fail_now("cublasLtDestroy"), status = handles.destroy(handle, "cublasLtDestroy");
  return status ? status : injected;
}

SIM_EXPORT int cublasLtMatmulDescCreate(void **out, int compute, int scale) {
  if (const int status = sim::fail_now("cublasLtMatmulDescCreate")) return status;
  remember_to_forget();
  Matmul matmul;
  matmul.compute = compute;
  matmul.scale = scale;
  return matmuls.create(matmul, out);
}

SIM_EXPORT int cublasLtMatmulDescSetAttribute(void *matmul, int attribute, const void *value, size_t bytes) {
  if (const int status = sim::fail_now("cublasLtMatmulDescSetAttribute")) return status;
  Matmul *const found = matmuls.find(matmul, "cublasLtMatmulDescSetAttribute");
  return found ? set(matmul_slot(*found, attribute), value, bytes) : (int)INVALID_VALUE;
}

SIM_EXPORT int cublasLtMatmulDescDestroy(void *matmul) {
  const int injected = sim::fail_now("cublasLtMatmulDescDestroy"),
            status = matmuls.destroy(matmul, "cublasLtMatmulDescDestroy");
  return status ? status : injected;
}

SIM_EXPORT int cublasLtMatrixLayoutCreate(void **out, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  if (const int status = sim::fail_now("cublasLtMatrixLayoutCreate")) return status;
  remember_to_forget();
  Layout layout;
  layout.type = type;
  layout.rows = (int64_t)rows;
  layout.columns = (int64_t)columns;
  layout.leading = leading;
  return layouts.create(layout, out);
}

SIM_EXPORT int cublasLtMatrixLayoutSetAttribute(void *layout, int attribute, const void *value, size_t bytes) {
  if (const int status = sim::fail_now("cublasLtMatrixLayoutSetAttribute")) return status;
  Layout *const found = layouts.find(layout, "cublasLtMatrixLayoutSetAttribute");
  return found ? set(layout_slot(*found, attribute), value, bytes) : (int)INVALID_VALUE;
}

SIM_EXPORT int cublasLtMatrixLayoutDestroy(void *layout) {
  const int injected = sim::fail_now("cublasLtMatrixLayoutDestroy"),
            status = layouts.destroy(layout, "cublasLtMatrixLayoutDestroy");
  return status ? status : injected;
}

SIM_EXPORT int cublasLtMatmulPreferenceCreate(void **out) {
  if (const int status = sim::fail_now("cublasLtMatmulPreferenceCreate")) return status;
  remember_to_forget();
  return preferences.create({}, out);
}

SIM_EXPORT int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value, size_t bytes) {
  if (const int status = sim::fail_now("cublasLtMatmulPreferenceSetAttribute")) return status;
  Preference *const found = preferences.find(preference, "cublasLtMatmulPreferenceSetAttribute");
  return found ? set(preference_slot(*found, attribute), value, bytes) : (int)INVALID_VALUE;
}

SIM_EXPORT int cublasLtMatmulPreferenceDestroy(void *preference) {
  const int injected = sim::fail_now("cublasLtMatmulPreferenceDestroy"),
            status = preferences.destroy(preference, "cublasLtMatmulPreferenceDestroy");
  return status ? status : injected;
}

SIM_EXPORT int cublasLtMatmulAlgoGetHeuristic(void *handle, void *matmul, void *a, void *b, void *c, void *d,
                                              void *preference, int wanted, Result *results, int *found) {
  if (const int status = sim::fail_now("cublasLtMatmulAlgoGetHeuristic")) return status;
  const char *const call = "cublasLtMatmulAlgoGetHeuristic";
  if (handles.find(handle, call) == nullptr) return NOT_INITIALIZED;
  const void *const layout[4] = {a, b, c, d};
  Problem problem;
  const Preference *const wish = preferences.find(preference, call);
  if (!gather(call, matmul, layout, problem) || wish == nullptr || wanted <= 0 || results == nullptr ||
      found == nullptr)
    return INVALID_VALUE;
  *found = 0;
  if (const int status = check_problem(problem)) return status;
  for (const Algorithm &algorithm : propose(problem, *wish)) {
    if (*found == wanted) break;
    results[(*found)++] = result_of(problem, algorithm);
  }
  return *found > 0 ? SUCCESS : NOT_SUPPORTED;
}

SIM_EXPORT int cublasLtMatmulAlgoCheck(void *handle, void *matmul, void *a, void *b, void *c, void *d,
                                       const Algorithm *algorithm, Result *result) {
  if (const int status = sim::fail_now("cublasLtMatmulAlgoCheck")) return status;
  if (handles.find(handle, "cublasLtMatmulAlgoCheck") == nullptr) return NOT_INITIALIZED;
  const void *const layout[4] = {a, b, c, d};
  Problem problem;
  if (!gather("cublasLtMatmulAlgoCheck", matmul, layout, problem) || algorithm == nullptr || result == nullptr)
    return INVALID_VALUE;
  if (const int status = check_problem(problem)) return status;
  if (const int status = check_algorithm(problem, *algorithm)) return status;
  *result = result_of(problem, *algorithm);
  return SUCCESS;
}

SIM_EXPORT int cublasLtMatmulAlgoConfigGetAttribute(const Algorithm *algorithm, int attribute, void *value,
                                                    size_t bytes, size_t *written) {
  if (const int status = sim::fail_now("cublasLtMatmulAlgoConfigGetAttribute")) return status;
  if (algorithm == nullptr) return INVALID_VALUE;
  Algorithm copy = *algorithm;
  const Slot from = algorithm_slot(copy, attribute);
  if (from.at == nullptr || (bytes == 0 && written == nullptr) ||
      (bytes != 0 && (value == nullptr || bytes != from.bytes)))
    return INVALID_VALUE;
  if (bytes != 0) memcpy(value, from.at, bytes);
  if (written != nullptr) *written = from.bytes;
  return SUCCESS;
}

SIM_EXPORT int cublasLtMatmul(void *handle, void *matmul, const void *alpha, const void *a, void *a_layout,
                              const void *b, void *b_layout, const void *beta, const void *c, void *c_layout, void *d,
                              void *d_layout, const Algorithm *algorithm, void *workspace, size_t workspace_bytes,
                              void *stream) {
  if (const int status = sim::fail_now("cublasLtMatmul")) return status;
  if (handles.find(handle, "cublasLtMatmul") == nullptr) return NOT_INITIALIZED;
  const void *const layout[4] = {a_layout, b_layout, c_layout, d_layout};
  Problem problem;
  // The real one asks its heuristics where no algorithm is given; nothing here may leave that to chance.
  if (!gather("cublasLtMatmul", matmul, layout, problem) || alpha == nullptr || beta == nullptr || algorithm == nullptr)
    return INVALID_VALUE;
  const Operands operands = {factor(problem, alpha), factor(problem, beta), a, b, c, d};
  return launch(problem, *algorithm, operands, workspace, (int64_t)workspace_bytes, stream);
}
