// Execution of a plan: what the call checks at once, what it leaves to the stream, and what a GPU would suffer in
// silence.
#include <algorithm>
#include <cstring>

#include "cudnn.h"
#include "sim.h"

namespace simdnn {

namespace {

uint64_t runs = 0;

/** A plan bound to addresses; owns all it needs but device memory. */
struct Bound {
  std::shared_ptr<const Graph> graph;
  Config config;
  std::vector<void *> memory;
  void *workspace = nullptr;
  int64_t workspace_bytes = 0;
  std::string name;
};

int find_addresses(const Graph &graph, const Descriptor &pack, std::vector<void *> &memory) {
  const std::vector<int64_t> ids = pack.integers(VARIANT_PACK_UNIQUE_IDS),
                             pointers = pack.integers(VARIANT_PACK_DATA_POINTERS);
  for (size_t i = 0; i < ids.size(); ++i)
    if (std::count(ids.begin(), ids.end(), ids[i]) > 1)
      return fail(DUPLICATED_ENTRIES, "the id %lld comes twice", (long long)ids[i]);
  for (const Tensor &tensor : graph.tensors) {
    memory.push_back(nullptr);
    if (tensor.is_virtual) continue;
    const size_t where = (size_t)(std::find(ids.begin(), ids.end(), tensor.uid) - ids.begin());
    if (where == ids.size())
      return fail(BAD_PARAM, "tensor %lld has no address in the variant pack", (long long)tensor.uid);
    memory.back() = (void *)pointers[where];
    if (pointers[where] == 0) return fail(NULL_POINTER, "tensor %lld has no memory", (long long)tensor.uid);
    if (pointers[where] % tensor.alignment != 0)
      return fail(MISALIGNED_POINTER, "tensor %lld is not aligned to %lld bytes", (long long)tensor.uid,
                  (long long)tensor.alignment);
  }
  return SUCCESS;
}

bool apart(const void *a, int64_t a_bytes, const void *b, int64_t b_bytes) {
  return (const char *)a + a_bytes <= (const char *)b || (const char *)b + b_bytes <= (const char *)a;
}

/** Tells of memory that is not there for the whole tensor; at the call, and again when the work runs. */
bool memory_is_live(const Bound &bound, const char *when) {
  bool live = true;
  for (size_t i = 0; i < bound.memory.size(); ++i) {
    const Tensor &tensor = bound.graph->tensors[i];
    if (tensor.is_virtual || sim::device_range(bound.memory[i], (size_t)tensor.extent())) continue;
    sim::violation("%s: tensor %lld at %p, %lld bytes, is not inside live device memory %s", bound.name.c_str(),
                   (long long)tensor.uid, bound.memory[i], (long long)tensor.extent(), when);
    live = false;
  }
  if (bound.workspace_bytes > 0 && !sim::device_range(bound.workspace, (size_t)bound.workspace_bytes)) {
    sim::violation("%s: its workspace at %p, %lld bytes, is not inside live device memory %s", bound.name.c_str(),
                   bound.workspace, (long long)bound.workspace_bytes, when);
    live = false;
  }
  return live;
}

/** Results must share memory with nothing: cuDNN promises nothing for operands in place. */
bool results_are_apart(const Bound &bound) {
  bool fine = true;
  const std::vector<Tensor> &tensors = bound.graph->tensors;
  const auto complain = [&](size_t i, const char *with) {
    sim::violation("%s: the result %lld shares memory with %s", bound.name.c_str(), (long long)tensors[i].uid, with);
    fine = false;
  };
  std::vector<bool> result(tensors.size());
  for (const Node &node : bound.graph->nodes)
    for (int output : node.outputs()) result[output] = true;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].is_virtual) continue;
    if (bound.workspace_bytes > 0 &&
        !apart(bound.memory[i], tensors[i].extent(), bound.workspace, bound.workspace_bytes))
      complain(i, "the workspace");
    for (size_t j = 0; result[i] && j < tensors.size(); ++j)
      if (j != i && !tensors[j].is_virtual && !(result[j] && j < i) &&
          !apart(bound.memory[i], tensors[i].extent(), bound.memory[j], tensors[j].extent()))
        complain(i, ("tensor " + std::to_string(tensors[j].uid)).c_str());
  }
  return fine;
}

void run(const Bound &bound) {
  if (!memory_is_live(bound, "when it runs")) return;
  sim::elapse(microseconds_of(*bound.graph, bound.config));
  // Engines leave anything in their workspace; who keeps something there loses it.
  if (bound.workspace_bytes > 0) memset(bound.workspace, 0xdb, (size_t)bound.workspace_bytes);
  evaluate(*bound.graph, bound.config, bound.memory, runs++);
}

} // namespace

int execute(void *stream, const Descriptor &plan, const Descriptor &pack) {
  if (plan.kind != EXECUTION_PLAN || pack.kind != VARIANT_PACK)
    return fail(DESCRIPTOR_TYPE, "a plan and a variant pack are executed");
  if (!plan.finalized || !pack.finalized) return fail(NOT_FINALIZED, "the plan or the variant pack is not finalized");
  Bound bound{plan.graph,
              plan.config,
              {},
              pack.pointer(VARIANT_PACK_WORKSPACE),
              plan.workspace,
              "cudnn engine " + std::to_string(plan.config.engine)};
  const int status = find_addresses(*bound.graph, pack, bound.memory);
  if (status != SUCCESS) return status;
  if (bound.workspace_bytes > 0 && bound.workspace == nullptr)
    return fail(NULL_POINTER, "the plan needs a workspace of %lld bytes", (long long)bound.workspace_bytes);
  // The null stream is legal for the real one; here nothing may use it.
  if (!sim::stream_alive(stream)) return fail(STREAM_MISMATCH, "the handle's stream is not alive");
  if (bound.config.engine == uncapturable_engine() && sim::illegal_during_capture(stream, "cudnnBackendExecute") != 0)
    return fail(EXECUTION_FAILED_CUDA_DRIVER, "engine %d cannot be captured", bound.config.engine);
  const bool live = memory_is_live(bound, "when it is executed"), disjoint = results_are_apart(bound);
  if (!live || !disjoint) return fail(EXECUTION_FAILED, "see the violations");
  const std::string name = bound.name;
  if (sim::enqueue(stream, name.c_str(), [bound = std::move(bound)] { run(bound); }) != 0)
    return fail(EXECUTION_FAILED_CUDA_DRIVER, "the stream took no work");
  return SUCCESS;
}

} // namespace simdnn
