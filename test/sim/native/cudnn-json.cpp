// JSON as cuDNN writes it: plans to text and back, devices from text. A text that is not a plan of this version is
// refused with the status the real one gives.
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>

#include "cudnn.h"

namespace simdnn {

namespace {

/** A JSON value: a number, a text, a list or an object, by what is not empty. */
struct Json {
  enum Kind { null, boolean, number, string, list, object } kind = null;
  double value = 0;
  std::string text;
  std::vector<Json> items;
  std::map<std::string, Json> members;

  const Json *member(const std::string &name) const {
    const auto found = members.find(name);
    return found == members.end() ? nullptr : &found->second;
  }
};

class Reader {
 public:
  explicit Reader(const std::string &text) : at(text.c_str()) {}

  bool whole(Json &into) {
    if (!value(into, 0)) return false;
    space();
    return *at == 0;
  }

 private:
  const char *at;

  void space() {
    while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r') ++at;
  }
  bool take(char wanted) {
    space();
    if (*at != wanted) return false;
    ++at;
    return true;
  }
  bool word(const char *wanted, Json &into, Json::Kind kind, double value) {
    const size_t length = strlen(wanted);
    if (strncmp(at, wanted, length) != 0) return false;
    at += length;
    into.kind = kind;
    into.value = value;
    return true;
  }
  bool quoted(std::string &into) {
    if (!take('"')) return false;
    for (; *at != 0 && *at != '"'; ++at) {
      if (*at == '\\' && at[1] != 0) ++at;
      into += *at;
    }
    return *at != 0 && *at++ == '"';
  }
  bool items(Json &into, int depth) {
    into.kind = Json::list;
    if (take(']')) return true;
    do {
      into.items.emplace_back();
      if (!value(into.items.back(), depth)) return false;
    } while (take(','));
    return take(']');
  }
  bool members(Json &into, int depth) {
    into.kind = Json::object;
    if (take('}')) return true;
    do {
      std::string name;
      Json member;
      if (!quoted(name) || !take(':') || !value(member, depth)) return false;
      into.members[name] = std::move(member);
    } while (take(','));
    return take('}');
  }
  bool value(Json &into, int depth) {
    if (depth > 64) return false;
    if (take('{')) return members(into, depth + 1);
    if (take('[')) return items(into, depth + 1);
    space();
    if (*at == '"') return into.kind = Json::string, quoted(into.text);
    if (word("true", into, Json::boolean, 1) || word("false", into, Json::boolean, 0) ||
        word("null", into, Json::null, 0))
      return true;
    char *end;
    into.value = strtod(at, &end);
    into.kind = Json::number;
    if (end == at) return false;
    at = end;
    return true;
  }
};

const std::map<int, const char *> &operation_names() {
  static const std::map<int, const char *> names = {
      {OPERATION_CONVOLUTION_FORWARD, "CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR"},
      {OPERATION_CONVOLUTION_BACKWARD_DATA, "CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR"},
      {OPERATION_CONVOLUTION_BACKWARD_FILTER, "CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR"},
      {OPERATION_POINTWISE, "CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR"},
      {OPERATION_REDUCTION, "CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR"},
      {OPERATION_GEN_STATS, "CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR"},
  };
  return names;
}

std::string list_of(const std::vector<int64_t> &values) {
  std::string text = "[";
  for (size_t i = 0; i < values.size(); ++i) text += (i ? "," : "") + std::to_string(values[i]);
  return text + "]";
}

/** A double that reads back as itself. */
std::string exact(double value) {
  if (std::isinf(value)) return value > 0 ? "1e999" : "-1e999";
  char text[40];
  snprintf(text, sizeof text, "%.17g", value);
  return text;
}

std::string write_tensor(const Tensor &t) {
  std::ostringstream out;
  out << "{\"name\":\"" << t.uid << "\",\"dataType\":" << t.type << ",\"dim\":" << list_of(t.dims)
      << ",\"stride\":" << list_of(t.strides) << ",\"isVirtual\":" << (t.is_virtual ? "true" : "false")
      << ",\"isByValue\":" << (t.by_value ? "true" : "false") << ",\"ptrAlignment\":" << t.alignment << "}";
  return out.str();
}

std::string write_node(const Node &n) {
  std::ostringstream out;
  const Convolution &c = n.convolution;
  out << "{\"operation\":\"" << operation_names().at(n.kind) << "\",\"mode\":" << n.mode
      << ",\"mathPrec\":" << n.compute << ",\"alpha\":" << exact(n.alpha) << ",\"beta\":" << exact(n.beta)
      << ",\"alpha2\":" << exact(n.alpha2) << ",\"lowerClip\":" << exact(n.lower) << ",\"upperClip\":" << exact(n.upper)
      << ",\"flipped\":" << c.flipped << ",\"prePad\":" << list_of(c.before) << ",\"postPad\":" << list_of(c.after)
      << ",\"stride\":" << list_of(c.stride) << ",\"dilation\":" << list_of(c.dilation)
      << ",\"tensors\":" << list_of(std::vector<int64_t>(n.tensors.begin(), n.tensors.end())) << "}";
  return out.str();
}

std::vector<int64_t> integers(const Json *json) {
  std::vector<int64_t> values;
  if (json != nullptr)
    for (const Json &item : json->items) values.push_back((int64_t)item.value);
  return values;
}

double number(const Json &json, const char *name) {
  const Json *const member = json.member(name);
  return member ? member->value : 0;
}

bool read_tensor(const Json &json, Tensor &t) {
  const Json *const name = json.member("name");
  if (name == nullptr) return false;
  t.uid = strtoll(name->text.c_str(), nullptr, 10);
  t.type = (int)number(json, "dataType");
  t.dims = integers(json.member("dim"));
  t.strides = integers(json.member("stride"));
  t.is_virtual = number(json, "isVirtual") != 0;
  t.by_value = number(json, "isByValue") != 0;
  t.alignment = (int64_t)number(json, "ptrAlignment");
  return !t.dims.empty() && t.dims.size() == t.strides.size();
}

bool read_node(const Json &json, size_t tensors, Node &n) {
  const Json *const name = json.member("operation");
  for (const auto &[kind, text] : operation_names())
    if (name != nullptr && name->text == text) n.kind = kind;
  n.mode = (int)number(json, "mode");
  n.compute = n.convolution.compute = (int)number(json, "mathPrec");
  n.alpha = number(json, "alpha");
  n.beta = number(json, "beta");
  n.alpha2 = number(json, "alpha2");
  n.lower = number(json, "lowerClip");
  n.upper = number(json, "upperClip");
  n.convolution.flipped = number(json, "flipped") != 0;
  n.convolution.before = integers(json.member("prePad"));
  n.convolution.after = integers(json.member("postPad"));
  n.convolution.stride = integers(json.member("stride"));
  n.convolution.dilation = integers(json.member("dilation"));
  n.convolution.spatial = (int64_t)n.convolution.stride.size();
  for (int64_t tensor : integers(json.member("tensors"))) {
    if (tensor < 0 || tensor >= (int64_t)tensors) return false;
    n.tensors.push_back((int)tensor);
  }
  return n.kind != 0 && n.tensors.size() >= 2;
}

bool read_graph(const Json &json, Graph &graph) {
  const Json *const tensors = json.member("tensors"), *const nodes = json.member("nodes");
  if (tensors == nullptr || nodes == nullptr || nodes->items.empty()) return false;
  for (const Json &item : tensors->items) {
    graph.tensors.emplace_back();
    if (!read_tensor(item, graph.tensors.back())) return false;
  }
  for (const Json &item : nodes->items) {
    graph.nodes.emplace_back();
    if (!read_node(item, graph.tensors.size(), graph.nodes.back())) return false;
  }
  return true;
}

} // namespace

std::string write_plan(const Graph &graph, const Config &config, const Device &device) {
  std::ostringstream out;
  out << "{\"cudnnVersion\":" << library_version << ",\"schemaVersion\":4,\"operationGraph\":{\"tensors\":[";
  for (size_t i = 0; i < graph.tensors.size(); ++i) out << (i ? "," : "") << write_tensor(graph.tensors[i]);
  out << "],\"nodes\":[";
  for (size_t i = 0; i < graph.nodes.size(); ++i) out << (i ? "," : "") << write_node(graph.nodes[i]);
  out << "]},\"GPUProfile\":{\"deviceVer\":" << device.version << ",\"deviceName\":\"" << device.name
      << "\"},\"engine\":{\"engineId\":" << config.engine << ",\"smVersion\":" << device.version
      << ",\"knobChoices\":{";
  for (size_t i = 0; i < config.knobs.size(); ++i)
    out << (i ? "," : "") << '"' << config.knobs[i].first << "\":" << config.knobs[i].second;
  out << "}}}";
  return out.str();
}

int read_plan(const std::string &text, Graph &graph, Config &config, int64_t &architecture) {
  Json json;
  if (!Reader(text).whole(json) || json.kind != Json::object) return fail(BAD_PARAM, "a plan's text is no JSON object");
  const Json *const version = json.member("cudnnVersion"), *const operations = json.member("operationGraph"),
                    *const engine = json.member("engine");
  if (version == nullptr || operations == nullptr || engine == nullptr)
    return fail(BAD_PARAM, "a plan's text lacks a member");
  if ((int64_t)version->value != library_version)
    return fail(SERIALIZATION_VERSION_MISMATCH, "a plan of cuDNN %lld", (long long)version->value);
  const Json *const id = engine->member("engineId"), *const knobs = engine->member("knobChoices");
  if (id == nullptr || knobs == nullptr || !read_graph(*operations, graph))
    return fail(BAD_PARAM, "a plan's text lacks a member");
  config.engine = (int)id->value;
  for (const auto &[type, value] : knobs->members) config.knobs.push_back({atoi(type.c_str()), (int64_t)value.value});
  architecture = (int64_t)number(*engine, "smVersion");
  return SUCCESS;
}

int read_device(const std::string &text, Device &device) {
  static const char *const needed[] = {"deviceName",
                                       "cudaDeviceId",
                                       "deviceVer",
                                       "driverVer",
                                       "maxGridSize",
                                       "maxBlockSize",
                                       "maxThreadsPerBlock",
                                       "maxThreadsPerSM",
                                       "maxCtasPerSM",
                                       "maxRegistersPerSM",
                                       "regsPerBlock",
                                       "warpSize",
                                       "maxSharedMemoryPerBlock",
                                       "maxSharedMemoryPerBlockOptin",
                                       "reservedSharedMemoryPerBlock",
                                       "multiProcessorCount",
                                       "totalGlobalMem",
                                       "smClockRateKHz",
                                       "memClockRateKHz",
                                       "l2CacheSize",
                                       "isTccDriver",
                                       "pciDeviceId",
                                       "supportCoopLaunch"};
  Json json;
  if (!Reader(text).whole(json) || json.kind != Json::object)
    return fail(BAD_PARAM, "a device's text is no JSON object");
  for (const char *name : needed)
    if (json.member(name) == nullptr) return fail(BAD_PARAM, "a device's text lacks %s", name);
  device.name = json.member("deviceName")->text;
  device.version = (int64_t)number(json, "deviceVer");
  return SUCCESS;
}

} // namespace simdnn
