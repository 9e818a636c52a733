// The engines of the simulated cuDNN: what each says of itself, which graphs it takes, what heuristics propose. Numbers
// and notes follow what cuDNN 9.24 answers for an H200, and engines that nobody should take come first, and are
// fastest.
#include <algorithm>
#include <map>

#include "cudnn-graph.h"
#include "cudnn-libraries.h"

namespace simdnn {

namespace {

/** `counted` graphs are dense convolutions with statistics: one engine has its kernels ready, and adds up in order. */
enum Which : int { plain = 1, fused = 2, counted = 4 };

/** A row of the table: for which graphs it is, and in which modes heuristics know it. */
struct Row {
  Engine engine;
  int which;
  /** CUDNN_DATA_* of the operands. */
  std::vector<int> types;
  /** OPERATION_CONVOLUTION_*, or -1 for graphs without a convolution. */
  std::vector<int> directions;
  bool in_a, in_fallback;
  std::vector<std::vector<std::pair<int, int64_t>>> knobs;
};

constexpr int forward = OPERATION_CONVOLUTION_FORWARD, data = OPERATION_CONVOLUTION_BACKWARD_DATA,
              filter = OPERATION_CONVOLUTION_BACKWARD_FILTER, none = -1;
/** CUDNN_KNOB_TYPE_SPLIT_K, TILE_SIZE and WORKSPACE. */
constexpr int split = 2, tile = 3;

const std::vector<int> halves = {DATA_HALF, DATA_BFLOAT16};
const std::vector<int> upto32 = {DATA_HALF, DATA_BFLOAT16, DATA_FLOAT};
const std::vector<int> floats = {DATA_HALF, DATA_BFLOAT16, DATA_FLOAT, DATA_DOUBLE};
const std::vector<int> all = {forward, data, filter};

/** In the order in which heuristics propose them. */
const std::vector<Row> &rows() {
  static const std::vector<Row> table = {
      {{25, {REDUCED_PRECISION_REDUCTION, NONDETERMINISTIC}, {}, 0.4}, plain, halves, all, true, false, {{}}},
      {{34, {TENSOR_CORE, DOWN_CONVERT_INPUTS}, {}, 0.5}, plain, {DATA_FLOAT}, all, true, false, {{}}},
      {{20, {NONDETERMINISTIC}, {}, 0.6}, plain, floats, all, true, false, {{}}},
      {{2, {}, {}, 1.1}, counted, {DATA_HALF}, {forward}, true, false, {{}}},
      {{62, {TENSOR_CORE}, {RUNTIME_COMPILATION}, 1.0},
       plain | fused,
       halves,
       {forward, none},
       true,
       false,
       {{{split, 1}, {tile, 5}}, {{split, 4}, {tile, 5}}}},
      {{67, {TENSOR_CORE}, {RUNTIME_COMPILATION}, 1.0},
       plain | fused,
       halves,
       {data},
       true,
       false,
       {{{split, 1}, {tile, 5}}, {{split, 4}, {tile, 5}}}},
      {{65, {TENSOR_CORE}, {RUNTIME_COMPILATION}, 1.0},
       plain | fused,
       halves,
       {filter},
       true,
       false,
       {{{split, 1}, {tile, 5}}, {{split, 4}, {tile, 5}}}},
      {{70, {TENSOR_CORE}, {}, 0.8}, plain | fused, upto32, {forward, data, filter, none}, true, false, {{}}},
      {{22, {TENSOR_CORE}, {}, 1.2}, plain, upto32, all, true, false, {{{tile, 3}}, {{tile, 6}}}},
      {{46, {TENSOR_CORE}, {}, 1.4}, plain, upto32, all, true, false, {{}}},
      {{45, {TENSOR_CORE}, {}, 1.5}, plain, upto32, all, true, false, {{}}},
      {{30, {FFT}, {}, 0.3}, plain, {DATA_HALF, DATA_FLOAT}, all, true, false, {{}}},
      {{63, {}, {RUNTIME_COMPILATION}, 2.0},
       fused,
       {DATA_FLOAT},
       {forward, data, filter, none},
       true,
       false,
       {{{tile, 5}}}},
      {{1, {}, {}, 3.0}, plain, upto32, all, true, true, {{}}},
      {{81, {}, {RUNTIME_COMPILATION}, 6.0}, fused, upto32, {forward, data, filter, none}, false, true, {{}}},
      {{0, {STRICT_NAN_PROP}, {}, 9.0}, plain, floats, all, true, true, {{}}},
  };
  return table;
}

const Row *row_of(int id) {
  for (const Row &row : rows())
    if (row.engine.id == id) return &row;
  return nullptr;
}

const Node *convolution_of(const Graph &graph) {
  for (const Node &node : graph.nodes)
    if (node.is_convolution()) return &node;
  return nullptr;
}

bool has(const std::vector<int> &list, int value) { return std::find(list.begin(), list.end(), value) != list.end(); }

/** What the graph computes on: the type of a convolution's operands, else of the first input in memory. */
int operand_type(const Graph &graph) {
  if (const Node *const node = convolution_of(graph)) {
    for (int input : node->inputs())
      if (!graph.tensors[input].is_virtual) return graph.tensors[input].type;
    return graph.tensors[node->inputs()[0]].type;
  }
  return graph.tensors[graph.nodes[0].inputs()[0]].type;
}

bool broadcast_stride(const Tensor &tensor) {
  for (size_t i = 0; i < tensor.dims.size(); ++i)
    if (tensor.strides[i] == 0 && tensor.dims[i] > 1) return true;
  return false;
}

/** Why no engine takes a convolution, or null. */
const char *convolution_refusal(const Graph &graph, const Node &node, bool fallback) {
  const Tensor &result = graph.tensors[node.outputs()[0]];
  const int type = operand_type(graph);
  if (node.convolution.spatial != 2) return "convolutions have two spatial dimensions here";
  if (type != DATA_HALF && type != DATA_BFLOAT16 && type != DATA_FLOAT && type != DATA_DOUBLE) return "element type";
  for (int number : node.tensors)
    if (broadcast_stride(graph.tensors[number])) return "a stride of 0";
  for (int input : node.inputs())
    if (graph.tensors[input].type != type && !graph.tensors[input].is_virtual) return "operands of different types";
  for (int number : node.tensors)
    if (!fallback && type != DATA_FLOAT && type != DATA_DOUBLE && !graph.tensors[number].is_virtual &&
        graph.tensors[number].alignment % 16 != 0)
      return "16-bit tensors that are not aligned to 16 bytes, outside of fallback";
  const bool wide = fallback && node.kind == filter && result.type == DATA_FLOAT;
  if (!result.is_virtual && result.type != type && !wide) return "a result of another type than the operands";
  const int compute = node.convolution.compute;
  if (type == DATA_DOUBLE ? compute != DATA_DOUBLE
                          : compute != DATA_FLOAT && !(compute == DATA_HALF && type == DATA_HALF))
    return "compute type";
  return nullptr;
}

/** Why no engine takes an operation that is not a convolution, or null. */
const char *pointwise_refusal(const Graph &graph, const Node &node) {
  static const std::vector<int> modes = {ADD,      MUL,      MIN,         MAX,         DIV,    SUB,          IDENTITY,
                                         RELU_FWD, RELU_BWD, SIGMOID_FWD, SIGMOID_BWD, CMP_GT, BINARY_SELECT};
  if (node.kind == OPERATION_POINTWISE) return has(modes, node.mode) ? nullptr : "pointwise mode";
  for (int number : node.outputs())
    if (graph.tensors[number].type != DATA_FLOAT) return "sums that are not f32";
  if (node.kind == OPERATION_GEN_STATS) return convolution_of(graph) ? nullptr : "statistics without a convolution";
  static const std::vector<int> operators = {REDUCE_ADD, REDUCE_MUL, REDUCE_MIN, REDUCE_MAX, REDUCE_AVG};
  if (!has(operators, node.mode)) return "reduction operator";
  const Tensor &from = graph.tensors[node.tensors[0]], &to = graph.tensors[node.tensors[1]];
  for (size_t i = 0; i < from.dims.size(); ++i)
    if (to.dims[i] != 1 && to.dims[i] != from.dims[i]) return "a reduction of a part of a dimension";
  return nullptr;
}

/** What is computed before the convolution, by its position: anything pointwise is a prologue. */
bool has_prologue(const Graph &graph) {
  return !graph.nodes.empty() && convolution_of(graph) && !graph.nodes[0].is_convolution();
}

/** Fusions that cuDNN 9.24 lists for no engine but the fallback's, or for none. */
const char *fusion_refusal(const Graph &graph, const Node *node, bool fallback) {
  if (node == nullptr || graph.nodes.size() == 1) return nullptr;
  const bool grouped = graph.tensors[node->tensors[0]].dims[1] != graph.tensors[node->tensors[1]].dims[1];
  const bool statistics =
      std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node &n) { return n.kind == OPERATION_GEN_STATS; });
  if (operand_type(graph) == DATA_DOUBLE) return "a fusion in f64";
  if (grouped && has_prologue(graph) && node->kind == filter) return "a prologue of a grouped filter gradient";
  if (grouped && (statistics || has_prologue(graph)) && !fallback)
    return "statistics or a prologue of a grouped convolution";
  return nullptr;
}

/** Why no engine takes a graph, or null. */
const char *refusal(const Graph &graph, bool fallback) {
  const Node *const node = convolution_of(graph);
  if (std::count_if(graph.nodes.begin(), graph.nodes.end(), [](const Node &n) { return n.is_convolution(); }) > 1)
    return "more than one convolution";
  for (const Node &each : graph.nodes) {
    const char *const why =
        each.is_convolution() ? convolution_refusal(graph, each, fallback) : pointwise_refusal(graph, each);
    if (why != nullptr) return why;
  }
  return fusion_refusal(graph, node, fallback);
}

int which_of(const Graph &graph, const Node *node) {
  if (node != nullptr && graph.nodes.size() == 1) return plain;
  const bool dense = node != nullptr && graph.tensors[node->tensors[0]].dims[1] == graph.tensors[node->tensors[1]].dims[1];
  return dense && graph.nodes.size() == 2 && graph.nodes[1].kind == OPERATION_GEN_STATS ? fused | counted : fused;
}

bool takes(const Row &row, const Graph &graph) {
  const Node *const node = convolution_of(graph);
  return (row.which & which_of(graph, node)) != 0 && has(row.types, operand_type(graph)) &&
         has(row.directions, node == nullptr ? none : node->kind);
}

/** Multiplications of the convolution, or elements touched where there is none. */
double work_of(const Graph &graph) {
  double elements = 0;
  for (const Tensor &tensor : graph.tensors)
    if (!tensor.is_virtual) elements += (double)tensor.elements();
  const Node *const node = convolution_of(graph);
  if (node == nullptr) return elements * 64;
  const Tensor &w = graph.tensors[node->tensors[1]], &y = graph.tensors[node->tensors[2]];
  return elements * 64 + (double)y.elements() * (double)(w.elements() / w.dims[0]);
}

} // namespace

const Engine *engine(int id) {
  const Row *const row = row_of(id);
  return row ? &row->engine : nullptr;
}

bool has_note(const Engine &engine, int note) { return has(engine.notes, note); }

int uncapturable_engine() { return (int)simlib::option(simlib::UNCAPTURABLE_ENGINE); }
int refusing_engine() { return (int)simlib::option(simlib::REFUSING_ENGINE); }

int supports(const Graph &graph, int id, std::string &why) {
  const Row *const row = row_of(id);
  const char *const refused = row == nullptr ? "no such engine" : refusal(graph, row->in_fallback);
  if (refused == nullptr && takes(*row, graph)) return SUCCESS;
  why = refused ? refused : "another kind of graph";
  return NOT_SUPPORTED;
}

std::vector<Config> propose(const Graph &graph, int mode) {
  std::vector<Config> found;
  const bool fallback = mode == FALLBACK;
  if (mode < INSTANT || mode > MODE_A || refusal(graph, fallback) != nullptr) return found;
  for (const Row &row : rows())
    if ((fallback ? row.in_fallback : row.in_a) && takes(row, graph))
      for (const auto &knobs : row.knobs) found.push_back({row.engine.id, knobs});
  return found;
}

int64_t workspace_of(const Graph &graph, const Config &config) {
  int64_t memory = 0, result = 0;
  for (const Tensor &tensor : graph.tensors)
    if (!tensor.is_virtual) memory += tensor.extent();
  for (int output : graph.nodes.back().outputs()) result += 4 * graph.tensors[output].elements();
  switch (config.engine) {
    case 25: return result;
    case 20: return result + 1552;
    case 30: return (int64_t(8) << 30) + memory;
    case 34: return memory / 2 + 512;
    case 45: return (memory + 255) / 256 * 256;
    case 46: return 1152;
    case 1: return 806400;
    case 2: return 2 * result + 16;
    case 62:
    case 65:
    case 67: {
      // Partial sums beside an odd number of bytes, as the real ones ask for.
      for (const auto &[type, value] : config.knobs)
        if (type == split && value > 1) return value * result + 131;
      return 131;
    }
    default: return 0;
  }
}

double microseconds_of(const Graph &graph, const Config &config) {
  const Engine *const chosen = engine(config.engine);
  double slowness = chosen ? chosen->slowness : 10;
  for (const auto &[type, value] : config.knobs)
    if ((type == split && value > 1) || (type == tile && value == 6)) slowness *= 1.25;
  return 3 + slowness * work_of(graph) / 1e8;
}

} // namespace simdnn
