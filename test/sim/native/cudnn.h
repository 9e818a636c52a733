// What the files of the simulated cuDNN share: descriptors, the rules of their attributes, and the last error's words.
// cudnn-attributes.cpp is the rules, cudnn-finalize.cpp the checks, cudnn-plan.cpp engines and plans, cudnn-execute.cpp
// execution, cudnn.cpp the entry points.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cudnn-graph.h"
#include "cudnn-types.h"

namespace simdnn {

struct Descriptor;
/** A child as it was when it was set: what is done to the original afterwards does not reach it. */
using Child = std::shared_ptr<const Descriptor>;

/** An attribute's elements. */
struct Value {
  int64_t count = 0;
  std::vector<uint8_t> bytes;
  std::vector<Child> children;
};

/** A GPU, as its properties describe it. */
struct Device {
  std::string name;
  int64_t version = 0;
};

struct Descriptor {
  explicit Descriptor(int kind) : kind(kind) {}

  int kind;
  bool finalized = false;
  std::map<int, Value> values;

  // What finalizing made of the values.
  Tensor tensor;
  Convolution convolution;
  Node node;
  /** Tensors of an operation in the order of the node's. */
  std::vector<Tensor> operands;
  std::shared_ptr<const Graph> graph;
  std::shared_ptr<const Device> device;
  Config config;
  std::vector<Config> proposals;
  int64_t workspace = 0;
  std::string json;

  bool has(int attribute) const { return values.count(attribute) != 0; }
  int64_t integer(int attribute, int64_t otherwise) const;
  double number(int attribute, double otherwise) const;
  std::vector<int64_t> integers(int attribute) const;
  Child child(int attribute) const;
  void *pointer(int attribute) const;
};

/** How many elements an attribute takes: one, or any number from one. */
enum class Count { one, any };

/** What is allowed of an attribute, and the status where it is not. */
struct Rule {
  int kind, attribute, type;
  Count count = Count::one;
  /** The kind of descriptor it takes, for descriptors. */
  int child = -1;
  int wrong_type = ATTRIBUTE_TYPE;
  int wrong_count = BAD_PARAM;
  /** The status of setting (or reading) it at all. */
  int set = SUCCESS;
  int get = SUCCESS;
  /** Another type that does as well. */
  int also = -1;
};

const Rule *rule_of(int kind, int attribute);

/** Notes why, for cudnnGetLastErrorString, and gives the status back. */
int fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

const char *status_name(int status);
const char *kind_name(int kind);
bool is_kind(int kind);

int set_attribute(Descriptor &descriptor, int attribute, int type, int64_t count, const void *elements);
int get_attribute(const Descriptor &descriptor, int attribute, int type, int64_t room, int64_t *count, void *elements);
/** The living descriptor behind a handle, or null, which is a violation unless the handle is null. */
Descriptor *living(void *handle, const char *call);

int finalize(Descriptor &descriptor);
int finalize_graph(Descriptor &descriptor);
int finalize_device(Descriptor &descriptor);
int finalize_heuristics(Descriptor &descriptor);
int finalize_engine(Descriptor &descriptor);
int finalize_config(Descriptor &descriptor);
int finalize_plan(Descriptor &descriptor);

/** A configuration (or an engine, a knob's choice) that cuDNN filled, put into a descriptor made by the caller. */
void fill_config(Descriptor &into, const Config &config, std::shared_ptr<const Graph> graph,
                 std::shared_ptr<const Device> device);
void fill_engine(Descriptor &into, const Descriptor &config);
void fill_choice(Descriptor &into, const Config &config, size_t which);

/** The plan as text, and back; reading answers a status. */
std::string write_plan(const Graph &graph, const Config &config, const Device &device);
int read_plan(const std::string &text, Graph &graph, Config &config, int64_t &architecture);
/** Reads a device from its JSON; answers a status. */
int read_device(const std::string &text, Device &device);

/** Of the GPU in the current context, where there is one. */
std::shared_ptr<const Device> current_device();

int execute(void *stream, const Descriptor &plan, const Descriptor &pack);

constexpr int64_t library_version = 92400;

} // namespace simdnn
