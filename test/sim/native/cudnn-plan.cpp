// From operations to plans: the graph put in order and checked, heuristics, engines, configurations, execution plans.
#include <algorithm>
#include <map>

#include "cudnn.h"
#include "sim.h"

namespace simdnn {

namespace {

/** Tensors of a graph by id; two that share one must be the same tensor. */
class Builder {
 public:
  Graph graph;

  int add(const std::vector<Child> &operations) {
    for (const Child &operation : operations) {
      Node node = operation->node;
      for (const Tensor &tensor : operation->operands) {
        const int status = number(tensor);
        if (status != SUCCESS) return status;
        node.tensors.push_back(last);
      }
      graph.nodes.push_back(std::move(node));
    }
    return order();
  }

 private:
  std::map<int64_t, int> numbers;
  int last = 0;

  /** Stricter than the real one, which lets two different tensors have one id. */
  int number(const Tensor &tensor) {
    const auto found = numbers.find(tensor.uid);
    if (found == numbers.end()) {
      last = numbers[tensor.uid] = (int)graph.tensors.size();
      graph.tensors.push_back(tensor);
      return SUCCESS;
    }
    last = found->second;
    return graph.tensors[last] == tensor ? SUCCESS
                                         : fail(BAD_PARAM, "two tensors have the id %lld", (long long)tensor.uid);
  }

  int order() {
    std::vector<int> producers(graph.tensors.size(), 0);
    for (const Node &node : graph.nodes)
      for (int output : node.outputs())
        if (++producers[output] > 1) return fail(BAD_PARAM, "a tensor is computed twice");
    std::vector<bool> ready(graph.tensors.size());
    for (size_t i = 0; i < ready.size(); ++i) ready[i] = producers[i] == 0;
    // Stricter: the real one does not ask who makes what has no memory.
    for (size_t i = 0; i < ready.size(); ++i)
      if (ready[i] && graph.tensors[i].is_virtual)
        return fail(BAD_PARAM, "nobody computes the virtual tensor %lld", (long long)graph.tensors[i].uid);
    std::vector<Node> waiting = std::move(graph.nodes), sorted;
    while (!waiting.empty()) {
      const auto next = std::find_if(waiting.begin(), waiting.end(), [&](const Node &node) {
        const std::vector<int> inputs = node.inputs();
        return std::all_of(inputs.begin(), inputs.end(), [&](int input) { return ready[input]; });
      });
      if (next == waiting.end()) return fail(BAD_PARAM, "the operations depend on each other in a circle");
      for (int output : next->outputs()) ready[output] = true;
      sorted.push_back(*next);
      waiting.erase(next);
    }
    graph.nodes = std::move(sorted);
    return check_uses();
  }

  /** Stricter: a virtual tensor that nobody reads is computed for nothing. */
  int check_uses() const {
    std::vector<bool> read(graph.tensors.size());
    for (const Node &node : graph.nodes)
      for (int input : node.inputs()) read[input] = true;
    for (size_t i = 0; i < read.size(); ++i)
      if (!read[i] && graph.tensors[i].is_virtual)
        return fail(BAD_PARAM, "nobody reads the virtual tensor %lld", (long long)graph.tensors[i].uid);
    return SUCCESS;
  }
};

/** The device a descriptor is told: by properties, by a handle, or through its graph's handle; null where by none. */
std::shared_ptr<const Device> device_of(const Descriptor &d, int properties, int handle, const Graph *graph) {
  const Child told = d.child(properties);
  if (told != nullptr) return told->finalized ? told->device : nullptr;
  if ((handle >= 0 && d.pointer(handle) != nullptr) || (graph != nullptr && graph->has_handle)) return current_device();
  return nullptr;
}

bool handle_is_dead(const Descriptor &d, int attribute) {
  return d.has(attribute) && !sim::alive("cudnn handle", d.pointer(attribute));
}

} // namespace

int finalize_graph(Descriptor &d) {
  const auto operations = d.values.find(OPERATIONGRAPH_OPS);
  if (operations == d.values.end()) return fail(BAD_PARAM, "a graph of no operations");
  if (handle_is_dead(d, OPERATIONGRAPH_HANDLE)) return fail(BAD_PARAM, "the handle is none");
  Builder builder;
  builder.graph.has_handle = d.has(OPERATIONGRAPH_HANDLE);
  const int status = builder.add(operations->second.children);
  if (status != SUCCESS) return status;
  d.graph = std::make_shared<Graph>(std::move(builder.graph));
  return SUCCESS;
}

int finalize_device(Descriptor &d) {
  if (!d.has(DEVICEPROP_JSON_REPRESENTATION)) {
    d.device = current_device();
    return d.device ? SUCCESS : fail(NOT_INITIALIZED, "there is no device to describe");
  }
  const std::vector<uint8_t> &bytes = d.values[DEVICEPROP_JSON_REPRESENTATION].bytes;
  d.json.assign(bytes.begin(), std::find(bytes.begin(), bytes.end(), 0));
  auto device = std::make_shared<Device>();
  const int status = read_device(d.json, *device);
  d.device = device;
  return status;
}

int finalize_heuristics(Descriptor &d) {
  const Child graph = d.child(ENGINEHEUR_OPERATION_GRAPH);
  if (graph == nullptr) return fail(BAD_PARAM, "heuristics of no graph");
  if (!graph->finalized) return fail(NOT_FINALIZED, "the graph is not finalized");
  d.graph = graph->graph;
  d.device = device_of(d, ENGINEHEUR_DEVICEPROP, -1, d.graph.get());
  d.proposals.clear();
  // Without a mode or a device the real one succeeds and proposes nothing.
  if (d.has(ENGINEHEUR_MODE) && d.device != nullptr)
    d.proposals = propose(*d.graph, (int)d.integer(ENGINEHEUR_MODE, 0));
  return SUCCESS;
}

int finalize_engine(Descriptor &d) {
  const Child graph = d.child(ENGINE_OPERATION_GRAPH), properties = d.child(ENGINE_DEVICEPROP);
  if (graph == nullptr) return fail(NULL_POINTER, "an engine of no graph");
  if (!graph->finalized) return fail(NOT_FINALIZED, "the graph is not finalized");
  if (properties != nullptr && !properties->finalized)
    return fail(NOT_FINALIZED, "the device's properties are not finalized");
  const int64_t index = d.integer(ENGINE_GLOBAL_INDEX, -1);
  if (index < 0 || index >= engine_count) return fail(NOT_SUPPORTED, "there is no engine %lld", (long long)index);
  d.config = {(int)index, {}};
  d.graph = graph->graph;
  d.device = device_of(d, ENGINE_DEVICEPROP, -1, d.graph.get());
  return SUCCESS;
}

int finalize_config(Descriptor &d) {
  const Child chosen = d.child(ENGINECFG_ENGINE);
  // The real one crashes where there is no engine.
  if (chosen == nullptr) return fail(NULL_POINTER, "a configuration of no engine");
  if (!chosen->finalized) return fail(NOT_FINALIZED, "the engine is not finalized");
  if (chosen->device == nullptr) return fail(NOT_SUPPORTED, "the engine knows no device");
  std::string why;
  if (supports(*chosen->graph, chosen->config.engine, why) != SUCCESS)
    return fail(NOT_SUPPORTED, "engine %d: %s", chosen->config.engine, why.c_str());
  d.config = chosen->config;
  const auto choices = d.values.find(ENGINECFG_KNOB_CHOICES);
  if (choices != d.values.end())
    for (const Child &choice : choices->second.children)
      d.config.knobs.push_back(
          {(int)choice->integer(KNOB_CHOICE_KNOB_TYPE, 0), choice->integer(KNOB_CHOICE_KNOB_VALUE, 0)});
  std::sort(d.config.knobs.begin(), d.config.knobs.end());
  d.graph = chosen->graph;
  d.device = chosen->device;
  d.workspace = workspace_of(*d.graph, d.config);
  return SUCCESS;
}

int finalize_plan(Descriptor &d) {
  if (handle_is_dead(d, EXECUTION_PLAN_HANDLE)) return fail(BAD_PARAM, "the handle is none");
  const Child config = d.child(EXECUTION_PLAN_ENGINE_CONFIG);
  int64_t architecture = 0;
  if (config != nullptr) {
    if (!config->finalized) return fail(NOT_FINALIZED, "the configuration is not finalized");
    d.graph = config->graph;
    d.config = config->config;
    d.device = device_of(d, EXECUTION_PLAN_DEVICEPROP, EXECUTION_PLAN_HANDLE, d.graph.get());
    if (d.device == nullptr) d.device = config->device;
  } else {
    // The real one crashes where there is neither a configuration nor a text, and where a text comes without a device.
    if (!d.has(EXECUTION_PLAN_JSON_REPRESENTATION)) return fail(NULL_POINTER, "a plan of nothing");
    const std::vector<uint8_t> &bytes = d.values[EXECUTION_PLAN_JSON_REPRESENTATION].bytes;
    auto graph = std::make_shared<Graph>();
    const int status =
        read_plan(std::string(bytes.begin(), std::find(bytes.begin(), bytes.end(), 0)), *graph, d.config, architecture);
    if (status != SUCCESS) return status;
    d.graph = graph;
    d.device = device_of(d, EXECUTION_PLAN_DEVICEPROP, EXECUTION_PLAN_HANDLE, nullptr);
  }
  if (d.device == nullptr) return fail(NULL_POINTER, "a plan for no device");
  if (architecture != 0 && architecture != d.device->version)
    return fail(ARCH_MISMATCH, "a plan for architecture %lld", (long long)architecture);
  std::string why;
  if (supports(*d.graph, d.config.engine, why) != SUCCESS)
    return fail(NOT_SUPPORTED, "engine %d: %s", d.config.engine, why.c_str());
  if (d.config.engine == refusing_engine())
    return fail(NOT_SUPPORTED, "engine %d does not take this layout after all", d.config.engine);
  d.workspace = workspace_of(*d.graph, d.config);
  d.json = write_plan(*d.graph, d.config, *d.device);
  return SUCCESS;
}

void fill_config(Descriptor &into, const Config &config, std::shared_ptr<const Graph> graph,
                 std::shared_ptr<const Device> device) {
  into = Descriptor{ENGINECFG};
  into.finalized = true;
  into.config = config;
  into.workspace = workspace_of(*graph, config);
  into.graph = std::move(graph);
  into.device = std::move(device);
}

void fill_engine(Descriptor &into, const Descriptor &config) {
  into = Descriptor{ENGINE};
  into.finalized = true;
  into.config = {config.config.engine, {}};
  into.graph = config.graph;
  into.device = config.device;
}

void fill_choice(Descriptor &into, const Config &config, size_t which) {
  into = Descriptor{KNOB_CHOICE};
  into.finalized = true;
  const auto &[type, value] = config.knobs[which];
  const auto put = [&](int attribute, const void *from, size_t bytes) {
    into.values[attribute] = {1, std::vector<uint8_t>((const uint8_t *)from, (const uint8_t *)from + bytes), {}};
  };
  put(KNOB_CHOICE_KNOB_TYPE, &type, sizeof type);
  put(KNOB_CHOICE_KNOB_VALUE, &value, sizeof value);
}

std::shared_ptr<const Device> current_device() {
  if (sim::context_status() != 0) return nullptr;
  return std::make_shared<Device>(Device{"Simulated H200", 900});
}

} // namespace simdnn
