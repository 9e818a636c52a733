// Putting a product on a stream: what the call refuses, what a GPU would suffer in silence, and the work itself.
#include <cstring>
#include <string>

#include "cublaslt.h"
#include "sim.h"

namespace simblas {

namespace {

uint64_t runs = 0;

/** One operand's memory; complains of what is not alive. */
bool operand_is_live(const char *name, const void *memory, int64_t bytes, const char *when) {
  if (sim::device_range(memory, (size_t)bytes)) return true;
  sim::violation("cublasLtMatmul: %s at %p, %lld bytes, is not inside live device memory %s", name, memory,
                 (long long)bytes, when);
  return false;
}

int64_t bytes_of(const Layout &layout) { return layout.extent() * (int64_t)simnum::bytes_of(number_type(layout.type)); }

/** A product bound to addresses; owns all it needs but device memory. */
struct Bound {
  Problem problem;
  Algorithm algorithm;
  Operands operands;
  void *workspace;
  int64_t workspace_bytes;

  bool has_bias() const { return (problem.matmul.epilogue & EPILOGUE_BIAS) != 0; }
  int64_t bias_bytes() const {
    const int type = problem.matmul.bias_type < 0 ? problem.d.type : problem.matmul.bias_type;
    return ((problem.batch() - 1) * problem.matmul.bias_stride + problem.m()) *
           (int64_t)simnum::bytes_of(number_type(type));
  }
  bool is_live(const char *when) const {
    bool live = operand_is_live("A", operands.a, bytes_of(problem.a), when);
    live &= operand_is_live("B", operands.b, bytes_of(problem.b), when);
    live &= operand_is_live("D", operands.d, bytes_of(problem.d), when);
    if (operands.beta != 0) live &= operand_is_live("C", operands.c, bytes_of(problem.c), when);
    if (has_bias()) live &= operand_is_live("the bias", (const void *)problem.matmul.bias, bias_bytes(), when);
    if (workspace_bytes > 0) live &= operand_is_live("the workspace", workspace, workspace_bytes, when);
    return live;
  }
  /** D may be C, and shares memory with nothing else. */
  bool is_apart() const {
    const auto overlaps = [&](const void *other, int64_t bytes) {
      return (const char *)operands.d < (const char *)other + bytes &&
             (const char *)other < (const char *)operands.d + bytes_of(problem.d);
    };
    const bool shared = overlaps(operands.a, bytes_of(problem.a)) || overlaps(operands.b, bytes_of(problem.b)) ||
                        (has_bias() && overlaps((const void *)problem.matmul.bias, bias_bytes())) ||
                        (workspace_bytes > 0 && overlaps(workspace, workspace_bytes)) ||
                        (operands.beta != 0 && operands.c != operands.d && overlaps(operands.c, bytes_of(problem.c)));
    if (shared)
      sim::violation("cublasLtMatmul: D at %p shares memory with an operand, the bias or the workspace", operands.d);
    return !shared;
  }
};

void run(const Bound &bound) {
  if (!bound.is_live("when it runs")) return;
  sim::elapse(microseconds_of(bound.problem, bound.algorithm));
  if (bound.workspace_bytes > 0) memset(bound.workspace, 0xdb, (size_t)bound.workspace_bytes);
  multiply(bound.problem, bound.algorithm, bound.operands, runs++);
}

bool aligned(const void *pointer, int64_t alignment) { return (uintptr_t)pointer % (uintptr_t)alignment == 0; }

/** Vector access needs addresses, leading dimensions and batch strides that are multiples. */
bool is_aligned(const Bound &bound) {
  const int64_t needed = bound.algorithm.alignment;
  const Problem &p = bound.problem;
  if (needed <= 1) return true;
  for (const Layout *layout : {&p.a, &p.b, &p.c, &p.d}) {
    const int64_t bytes = (int64_t)simnum::bytes_of(number_type(layout->type));
    if (layout->leading * bytes % needed != 0 || (layout->batch > 1 && layout->batch_stride * bytes % needed != 0))
      return false;
  }
  return aligned(bound.operands.a, needed) && aligned(bound.operands.b, needed) && aligned(bound.operands.c, needed) &&
         aligned(bound.operands.d, needed);
}

} // namespace

int launch(const Problem &problem, const Algorithm &algorithm, const Operands &operands, void *workspace,
           int64_t given_bytes, void *stream) {
  Bound bound{problem, algorithm, operands, workspace, 0};
  if (const int status = check_problem(problem)) return status;
  if (const int status = check_algorithm(problem, algorithm)) return status;
  const Operands &o = operands;
  if (o.a == nullptr || o.b == nullptr || o.d == nullptr || (o.beta != 0 && o.c == nullptr)) return INVALID_VALUE;
  if (bound.has_bias() && bound.problem.matmul.bias == 0) return INVALID_VALUE;
  bound.workspace_bytes = workspace_of(bound.problem, bound.algorithm);
  if (given_bytes < bound.workspace_bytes || (bound.workspace_bytes > 0 && bound.workspace == nullptr))
    return INVALID_VALUE;
  // Workspaces are 16-byte aligned; so says the manual.
  if (bound.workspace_bytes > 0 && !aligned(bound.workspace, 16)) return INVALID_VALUE;
  if (!is_aligned(bound)) return NOT_SUPPORTED;
  if (!sim::stream_alive(stream)) return INVALID_VALUE;
  const bool live = bound.is_live("when it is called"), apart = bound.is_apart();
  if (!live || !apart) return EXECUTION_FAILED;
  const std::string name = "cublaslt algorithm " + std::to_string(bound.algorithm.id);
  return sim::enqueue(stream, name.c_str(), [bound] { run(bound); }) == 0 ? SUCCESS : EXECUTION_FAILED;
}

} // namespace simblas
