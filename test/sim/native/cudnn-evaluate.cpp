// Evaluation of an operation graph: tensors as packed f64 with the channels last, node by node, rounded once where a
// tensor has memory. What an engine's notes mean for its sums is here too; the convolutions' loops are
// cudnn-convolve.cpp.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cudnn-graph.h"
#include "cudnn-libraries.h"
#include "sim.h"

namespace simdnn {

namespace {

using Values = std::vector<double>;

/** The dimensions of [n, c, ...] in the order n, ..., c. */
std::vector<int> channels_last(size_t rank) {
  std::vector<int> order;
  if (rank > 0) order.push_back(0);
  for (size_t i = 2; i < rank; ++i) order.push_back((int)i);
  if (rank > 1) order.push_back(1);
  return order;
}

/** Calls with the memory offset and the packed offset of every row of the innermost dimension. */
template <class Visit>
void rows_of(const Tensor &tensor, const Visit &visit) {
  const std::vector<int> order = channels_last(tensor.dims.size());
  const int64_t last = tensor.dims[order.back()];
  const int64_t rows = last == 0 ? 0 : tensor.elements() / last;
  std::vector<int64_t> index(order.size(), 0);
  for (int64_t row = 0; row < rows; ++row) {
    int64_t offset = 0;
    for (size_t i = 0; i + 1 < order.size(); ++i) offset += index[i] * tensor.strides[order[i]];
    visit(offset, row * last, last, tensor.strides[order.back()]);
    for (size_t i = order.size() - 1; i-- > 0;) {
      if (++index[i] < tensor.dims[order[i]]) break;
      index[i] = 0;
    }
  }
}

Values load(const Tensor &tensor, const void *memory) {
  Values values(tensor.elements());
  const simnum::Type type = number_type(tensor.type);
  const size_t bytes = simnum::bytes_of(type);
  rows_of(tensor, [&](int64_t offset, int64_t packed, int64_t count, int64_t stride) {
    simnum::read(type, (const char *)memory + offset * bytes, stride, values.data() + packed, count);
  });
  return values;
}

void store(const Tensor &tensor, void *memory, const Values &values) {
  const simnum::Type type = number_type(tensor.type);
  const size_t bytes = simnum::bytes_of(type);
  rows_of(tensor, [&](int64_t offset, int64_t packed, int64_t count, int64_t stride) {
    simnum::write(type, (char *)memory + offset * bytes, stride, values.data() + packed, count);
  });
}

/** For each element of `to`, in packed order, where `from` (equal or 1 in each dimension) has its own. */
std::vector<int64_t> broadcast(const Tensor &from, const Tensor &to) {
  const std::vector<int> order = channels_last(to.dims.size());
  std::vector<int64_t> step(order.size());
  int64_t packed = 1;
  for (size_t i = order.size(); i-- > 0;) {
    step[i] = from.dims[order[i]] == 1 ? 0 : packed;
    packed *= from.dims[order[i]];
  }
  std::vector<int64_t> where(to.elements()), index(order.size(), 0);
  int64_t at = 0;
  for (int64_t &slot : where) {
    slot = at;
    for (size_t i = order.size(); i-- > 0;) {
      at += step[i];
      if (++index[i] < to.dims[order[i]]) break;
      at -= step[i] * to.dims[order[i]];
      index[i] = 0;
    }
  }
  return where;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/** A pointwise function of its inputs: x, b and t, or the cotangent and x. */
double apply(const Node &node, double x, double b, double t) {
  switch (node.mode) {
    case ADD: return node.alpha * x + node.alpha2 * b;
    case MUL: return node.alpha * x * (node.alpha2 * b);
    case MIN: return std::isnan(x) || x < b ? x : b;
    case MAX: return std::isnan(x) || x > b ? x : b;
    case DIV: return node.alpha * x / (node.alpha2 * b);
    case SUB: return node.alpha * x - node.alpha2 * b;
    case IDENTITY: return x;
    case RELU_FWD: return std::isnan(x) ? x : x <= node.lower ? node.lower : x >= node.upper ? node.upper : x;
    case RELU_BWD: return b > node.lower && b < node.upper ? x : 0;
    case SIGMOID_FWD: return sigmoid(x);
    case SIGMOID_BWD: return x * sigmoid(b) * (1 - sigmoid(b));
    case CMP_GT: return x > b ? 1 : 0;
    case BINARY_SELECT: return t != 0 ? x : b;
    default: return std::numeric_limits<double>::quiet_NaN();
  }
}

/** One execution of a graph by one engine. */
class Evaluation {
 public:
  Evaluation(const Graph &graph, const Config &config, const std::vector<void *> &memory, uint64_t run)
      : graph(graph), memory(memory), chosen(*engine(config.engine)), values(graph.tensors.size()), run(run) {}

  void execute() {
    for (const Node &node : graph.nodes) {
      for (int input : node.inputs())
        if (values[input].empty()) values[input] = load(graph.tensors[input], memory[input]);
      if (node.is_convolution()) convolution(node);
      else if (node.kind == OPERATION_POINTWISE) pointwise(node);
      else if (node.kind == OPERATION_REDUCTION) reduction(node);
      else statistics(node);
      for (int output : node.outputs()) finish(output, adds_at_random(node));
    }
  }

 private:
  const Graph &graph;
  const std::vector<void *> &memory;
  const Engine &chosen;
  std::vector<Values> values;
  uint64_t run;

  /** Kernels that are compiled for a graph add sums up with atomics, and no note of their engine says so. */
  bool adds_at_random(const Node &node) const {
    const auto &behavior = chosen.behavior;
    return (node.kind == OPERATION_GEN_STATS || node.kind == OPERATION_REDUCTION) &&
           std::find(behavior.begin(), behavior.end(), RUNTIME_COMPILATION) != behavior.end();
  }

  /** Rounds and stores a result that has memory; the nodes after it read what was stored. */
  void finish(int number, bool unsteady) {
    const Tensor &tensor = graph.tensors[number];
    if (tensor.is_virtual) return;
    for (double &value : values[number]) value = simnum::to(number_type(tensor.type), value);
    if (has_note(chosen, NONDETERMINISTIC) || unsteady) disturb(number);
    store(tensor, memory[number], values[number]);
  }

  /** What another order of additions would do: a third of the elements move to a neighbour, others in each run, and the
   * first one always, up and down in turn, so that two runs never agree. */
  void disturb(int number) {
    const simnum::Type type = number_type(graph.tensors[number].type);
    uint64_t state = sim::seed() * 0x9e3779b97f4a7c15u + run * 0xbf58476d1ce4e5b9u + (uint64_t)number;
    bool moved = false;
    for (double &value : values[number]) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const uint32_t draw = (uint32_t)(state >> 33) % 6;
      if (moved && draw > 1) continue;
      value = simnum::neighbour(type, value, moved ? draw == 0 : run % 2 == 0);
      moved = true;
    }
  }

  /** A convolution's operand as its engine reads it: of its own type also where it has no memory, as Tensor Cores need
   * it. */
  Values operand(int number) const {
    Values copy = values[number];
    const Tensor &tensor = graph.tensors[number];
    if (tensor.is_virtual)
      for (double &value : copy) value = simnum::to(number_type(tensor.type), value);
    if (tensor.type != DATA_FLOAT) return copy;
    if (has_note(chosen, DOWN_CONVERT_INPUTS))
      for (double &value : copy) value = simnum::to_f16(value);
    else if (has_note(chosen, TENSOR_CORE) && simlib::option(simlib::TF32) != 0)
      for (double &value : copy) value = simnum::to_tf32(value);
    return copy;
  }

  void convolution(const Node &node) {
    const Tensor &x = graph.tensors[node.tensors[0]], &w = graph.tensors[node.tensors[1]],
                 &y = graph.tensors[node.tensors[2]];
    const Convolution &c = node.convolution;
    const ConvolutionShape shape = {x.dims[0],
                                    x.dims[2],
                                    x.dims[3],
                                    x.dims[1],
                                    w.dims[0],
                                    w.dims[2],
                                    w.dims[3],
                                    y.dims[2],
                                    y.dims[3],
                                    x.dims[1] / w.dims[1],
                                    {c.stride[0], c.stride[1]},
                                    {c.dilation[0], c.dilation[1]},
                                    {c.before[0], c.before[1]}};
    const bool bf16 = x.type == DATA_BFLOAT16;
    const bool narrow = has_note(chosen, REDUCED_PRECISION_REDUCTION) || node.compute == DATA_HALF;
    const RoundSum round = !narrow ? nullptr : bf16 ? simnum::to_bf16 : simnum::to_f16;
    const int target = node.outputs()[0];
    Values result(graph.tensors[target].elements());
    if (target == node.tensors[2])
      convolve_forward(shape, operand(node.tensors[0]).data(), filter(node, operand(node.tensors[1])).data(),
                       result.data(), round);
    else if (target == node.tensors[0])
      convolve_data(shape, result.data(), filter(node, operand(node.tensors[1])).data(),
                    operand(node.tensors[2]).data(), round);
    else {
      convolve_filter(shape, operand(node.tensors[0]).data(), result.data(), operand(node.tensors[2]).data(), round);
      result = filter(node, std::move(result));
    }
    scale(node, target, std::move(result));
  }

  /** The taps of a filter in the other order where the mode says convolution, as they are for cross-correlation. */
  Values filter(const Node &node, Values taps) const {
    if (!node.convolution.flipped) return taps;
    const Tensor &w = graph.tensors[node.tensors[1]];
    const int64_t inner = w.dims[1], count = w.dims[2] * w.dims[3];
    Values turned(taps.size());
    for (int64_t k = 0; k < w.dims[0]; ++k)
      for (int64_t tap = 0; tap < count; ++tap)
        std::copy_n(taps.begin() + (k * count + tap) * inner, inner,
                    turned.begin() + (k * count + count - 1 - tap) * inner);
    return turned;
  }

  void scale(const Node &node, int target, Values result) {
    if (node.alpha != 1)
      for (double &value : result) value *= node.alpha;
    if (node.beta != 0) {
      const Values old = load(graph.tensors[target], memory[target]);
      for (size_t i = 0; i < result.size(); ++i) result[i] += node.beta * old[i];
    }
    values[target] = std::move(result);
  }

  void pointwise(const Node &node) {
    const std::vector<int> inputs = node.inputs();
    const int target = node.outputs()[0];
    const Tensor &to = graph.tensors[target];
    std::vector<std::vector<int64_t>> where;
    for (int input : inputs) where.push_back(broadcast(graph.tensors[input], to));
    Values result(to.elements());
    for (size_t i = 0; i < result.size(); ++i) {
      double arguments[3] = {};
      for (size_t j = 0; j < inputs.size() && j < 3; ++j) arguments[j] = values[inputs[j]][where[j][i]];
      result[i] = apply(node, arguments[0], arguments[1], arguments[2]);
    }
    values[target] = std::move(result);
  }

  void reduction(const Node &node) {
    const Tensor &from = graph.tensors[node.tensors[0]], &to = graph.tensors[node.tensors[1]];
    const std::vector<int64_t> where = broadcast(to, from);
    const double infinity = std::numeric_limits<double>::infinity();
    const double first = node.mode == REDUCE_MUL   ? 1
                         : node.mode == REDUCE_MIN ? infinity
                         : node.mode == REDUCE_MAX ? -infinity
                                                   : 0;
    Values result(to.elements(), first);
    const Values &source = values[node.tensors[0]];
    for (size_t i = 0; i < source.size(); ++i) {
      double &slot = result[where[i]];
      if (node.mode == REDUCE_MUL) slot *= source[i];
      else if (node.mode == REDUCE_MIN) slot = std::isnan(source[i]) || source[i] < slot ? source[i] : slot;
      else if (node.mode == REDUCE_MAX) slot = std::isnan(source[i]) || source[i] > slot ? source[i] : slot;
      else slot += source[i];
    }
    if (node.mode == REDUCE_AVG)
      for (double &value : result) value /= (double)from.elements() / (double)to.elements();
    values[node.tensors[1]] = std::move(result);
  }

  void statistics(const Node &node) {
    const Tensor &from = graph.tensors[node.tensors[0]], &to = graph.tensors[node.tensors[1]];
    const std::vector<int64_t> where = broadcast(to, from);
    Values sums(to.elements(), 0.0), squares(to.elements(), 0.0);
    const Values &source = values[node.tensors[0]];
    for (size_t i = 0; i < source.size(); ++i) {
      sums[where[i]] += source[i];
      squares[where[i]] += source[i] * source[i];
    }
    values[node.tensors[1]] = std::move(sums);
    values[node.tensors[2]] = std::move(squares);
  }
};

} // namespace

void evaluate(const Graph &graph, const Config &config, const std::vector<void *> &memory, uint64_t run) {
  Evaluation(graph, config, memory, run).execute();
}

} // namespace simdnn
