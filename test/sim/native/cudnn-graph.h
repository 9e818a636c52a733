// A finalized operation graph as plain values, what an engine does with it, and its evaluation in f64.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cudnn-numbers.h"
#include "cudnn-types.h"

namespace simdnn {

/** What a tensor descriptor says. */
struct Tensor {
  int64_t uid = 0;
  int type = DATA_FLOAT;
  std::vector<int64_t> dims, strides;
  int64_t alignment = 1;
  bool is_virtual = false, by_value = false;

  int64_t elements() const;
  /** Bytes from its first element to the end of its last. */
  int64_t extent() const;
  bool operator==(const Tensor &other) const;
};

simnum::Type number_type(int data_type);
/** Whether a type has the arithmetic of this simulation at all. */
bool is_number_type(int data_type);

/** What a convolution descriptor says. */
struct Convolution {
  int64_t spatial = 0;
  std::vector<int64_t> dilation, stride, before, after;
  int compute = DATA_FLOAT;
  bool flipped = false;
};

/**
 * An operation. `kind` is that of its descriptor. Tensors are numbers of the graph's: for convolutions {x, w, y} of the
 * forward pass, whichever is computed; for pointwise its inputs in order, then the output; for the others the input,
 * then the outputs.
 */
struct Node {
  int kind = 0;
  std::vector<int> tensors;
  Convolution convolution;
  int mode = 0;
  int compute = DATA_FLOAT;
  double alpha = 1, beta = 0, alpha2 = 1;
  double lower = 0, upper = __builtin_inf();

  bool is_convolution() const;
  std::vector<int> inputs() const;
  std::vector<int> outputs() const;
};

/** Operations in an order in which they can be computed. */
struct Graph {
  std::vector<Tensor> tensors;
  std::vector<Node> nodes;
  /** The device is known from a handle. */
  bool has_handle = false;
};

/** An engine and the values of its knobs, [type, value] ascending. */
struct Config {
  int engine = -1;
  std::vector<std::pair<int, int64_t>> knobs;
};

/** What an engine says of itself for a graph. */
struct Engine {
  int id;
  std::vector<int> notes, behavior;
  /** Of the time that arithmetic and memory would take at their best. */
  double slowness;
};

/** Engine numbers run from 0 to below this. */
constexpr int engine_count = 84;

/** The engines by number; null where there is none. */
const Engine *engine(int id);
bool has_note(const Engine &engine, int note);

/** Whether an engine computes a graph: 0, or the status of a refusal and why. */
int supports(const Graph &graph, int engine, std::string &why);

/** The configurations heuristics propose, best guess first. */
std::vector<Config> propose(const Graph &graph, int mode);

int64_t workspace_of(const Graph &graph, const Config &config);

/** The time a plan takes by the simulation's clock. */
double microseconds_of(const Graph &graph, const Config &config);

/** The engine that cannot be captured, and the one that refuses when its plan is finalized. */
int uncapturable_engine();
int refusing_engine();

/**
 * Computes a graph in f64, node by node, rounding once at each tensor that has memory. `memory` holds the addresses by
 * tensor number (null for virtual ones). `run` counts executions; only nondeterministic engines look at it.
 */
void evaluate(const Graph &graph, const Config &config, const std::vector<void *> &memory, uint64_t run);

/** Sums in f64 of convolutions in one fixed order, over packed NHWC (x, y) and [out, h, w, in / groups] (w). */
struct ConvolutionShape {
  int64_t n, h, w, c, k, r, s, oh, ow, groups;
  int64_t stride[2], dilation[2], before[2];
};
using RoundSum = double (*)(double);
/** `round` is applied after each addition, where the engine sums in 16 bits; null otherwise. */
void convolve_forward(const ConvolutionShape &shape, const double *x, const double *w, double *y, RoundSum round);
void convolve_data(const ConvolutionShape &shape, double *x, const double *w, const double *y, RoundSum round);
void convolve_filter(const ConvolutionShape &shape, const double *x, double *w, const double *y, RoundSum round);

} // namespace simdnn
