// Setting and reading of descriptor attributes by the rules of cudnn-attributes.cpp. What is computed comes from where
// it was computed: finalizing fills the descriptor's own fields.
#include <algorithm>
#include <cstring>

#include "cudnn.h"
#include "sim.h"

namespace simdnn {

namespace {

/** Elements of a ValueType, in bytes. */
size_t width(int type) {
  switch (type) {
    case INT64:
    case DOUBLE:
    case VOID_PTR:
    case HANDLE:
    case BACKEND_DESCRIPTOR: return 8;
    case BOOLEAN:
    case CHAR: return 1;
    default: return 4;
  }
}

/** What the reading of an attribute that a descriptor's kind does not have answers. */
int foreign(int kind, bool setting) {
  if (setting) return kind == OPERATION_CONVOLUTION_BACKWARD_FILTER ? NOT_SUPPORTED : BAD_PARAM;
  return kind == OPERATION_GEN_STATS || kind == POINTWISE ? NOT_SUPPORTED : BAD_PARAM;
}

bool is_operation(int kind) { return kind >= OPERATION_CONVOLUTION_FORWARD && kind <= OPERATION_GEN_STATS; }

int set_children(const Rule &rule, int64_t count, const void *elements, Value &value) {
  for (int64_t i = 0; i < count; ++i) {
    Descriptor *const given = living(((void *const *)elements)[i], "cudnnBackendSetAttribute");
    if (given == nullptr) return fail(BAD_PARAM, "a child is no living descriptor");
    const bool fits = rule.attribute == OPERATIONGRAPH_OPS
                          ? is_operation(given->kind) || given->kind == OPERATION_REDUCTION
                          : given->kind == rule.child;
    if (!fits)
      return fail(DESCRIPTOR_TYPE, "a %s is no child for attribute %d", kind_name(given->kind), rule.attribute);
    if (rule.attribute == OPERATIONGRAPH_OPS && !given->finalized)
      return fail(NOT_FINALIZED, "an operation is not finalized");
    value.children.push_back(std::make_shared<Descriptor>(*given));
  }
  return SUCCESS;
}

} // namespace

int set_attribute(Descriptor &descriptor, int attribute, int type, int64_t count, const void *elements) {
  if (descriptor.finalized) return fail(BAD_PARAM, "a finalized %s cannot be changed", kind_name(descriptor.kind));
  const Rule *const rule = rule_of(descriptor.kind, attribute);
  if (rule == nullptr)
    return fail(foreign(descriptor.kind, true), "a %s has no attribute %d", kind_name(descriptor.kind), attribute);
  if (type != rule->type && type != rule->also)
    return fail(rule->wrong_type, "attribute %d is not of type %d", attribute, type);
  if (rule->set != SUCCESS) return fail(rule->set, "attribute %d is computed", attribute);
  if (elements == nullptr || count <= 0 || (rule->count == Count::one && count != 1))
    return fail(rule->wrong_count, "attribute %d got %lld elements", attribute, (long long)count);
  Value value;
  value.count = count;
  if (type == BACKEND_DESCRIPTOR) {
    const int status = set_children(*rule, count, elements, value);
    if (status != SUCCESS) return status;
  }
  // A number given as the rule's other type is kept as its own.
  if (type != rule->type) {
    const double wide = type == FLOAT ? *(const float *)elements : *(const double *)elements;
    const float narrow = (float)wide;
    const void *const kept = rule->type == FLOAT ? (const void *)&narrow : (const void *)&wide;
    value.bytes.assign((const uint8_t *)kept, (const uint8_t *)kept + width(rule->type));
  } else {
    value.bytes.assign((const uint8_t *)elements, (const uint8_t *)elements + count * width(type));
  }
  descriptor.values[attribute] = std::move(value);
  return SUCCESS;
}

namespace {

int give(const void *from, int64_t have, int64_t bytes, int64_t room, int64_t *count, void *elements) {
  if (elements != nullptr && room > 0) memcpy(elements, from, std::min(have, room) * bytes);
  *count = room > 0 ? std::min(have, room) : have;
  return SUCCESS;
}

int give_text(const std::string &text, int64_t room, int64_t *count, void *elements) {
  const int64_t length = (int64_t)text.size() + 1;
  *count = length;
  if (elements == nullptr || room == 0) return SUCCESS;
  if (room < length) return fail(SIZE_INSUFFICIENT, "the text has %lld characters", (long long)length);
  memcpy(elements, text.c_str(), length);
  return SUCCESS;
}

/** Fills descriptors that the caller made. */
template <class Fill>
int give_descriptors(int kind, int64_t have, int64_t room, int64_t *count, void *elements, const Fill &fill) {
  *count = room > 0 ? std::min(have, room) : have;
  for (int64_t i = 0; elements != nullptr && i < std::min(have, room); ++i) {
    Descriptor *const into = living(((void *const *)elements)[i], "cudnnBackendGetAttribute");
    if (into == nullptr || into->kind != kind) return fail(BAD_PARAM, "a %s cannot be read into it", kind_name(kind));
    fill(*into, (size_t)i);
  }
  return SUCCESS;
}

/** What cuDNN computed; false where the attribute is one that was set. */
bool give_computed(const Descriptor &d, int attribute, int64_t room, int64_t *count, void *elements, int &status) {
  const Engine *const chosen = engine(d.config.engine);
  const auto notes = [&](const std::vector<int> &list) {
    return give(list.data(), (int64_t)list.size(), 4, room, count, elements);
  };
  const int64_t index = d.config.engine, engines = engine_count;
  switch (attribute) {
    case EXECUTION_PLAN_JSON_REPRESENTATION:
    case DEVICEPROP_JSON_REPRESENTATION: status = give_text(d.json, room, count, elements); return true;
    case EXECUTION_PLAN_WORKSPACE_SIZE:
    case ENGINECFG_WORKSPACE_SIZE: status = give(&d.workspace, 1, 8, room, count, elements); return true;
    case OPERATIONGRAPH_ENGINE_GLOBAL_COUNT: status = give(&engines, 1, 8, room, count, elements); return true;
    case ENGINE_GLOBAL_INDEX: status = give(&index, 1, 8, room, count, elements); return true;
    case ENGINE_NUMERICAL_NOTE: status = notes(chosen ? chosen->notes : std::vector<int>()); return true;
    case ENGINE_BEHAVIOR_NOTE: status = notes(chosen ? chosen->behavior : std::vector<int>()); return true;
    case ENGINEHEUR_RESULTS:
      status =
          give_descriptors(ENGINECFG, (int64_t)d.proposals.size(), room, count, elements,
                           [&](Descriptor &into, size_t i) { fill_config(into, d.proposals[i], d.graph, d.device); });
      return true;
    case EXECUTION_PLAN_ENGINE_CONFIG:
      status = give_descriptors(ENGINECFG, 1, room, count, elements,
                                [&](Descriptor &into, size_t) { fill_config(into, d.config, d.graph, d.device); });
      return true;
    case ENGINECFG_ENGINE:
      if (room > 1) status = fail(NOT_SUPPORTED, "a configuration has one engine");
      else
        status =
            give_descriptors(ENGINE, 1, room, count, elements, [&](Descriptor &into, size_t) { fill_engine(into, d); });
      return true;
    case ENGINECFG_KNOB_CHOICES:
      status = give_descriptors(KNOB_CHOICE, (int64_t)d.config.knobs.size(), room, count, elements,
                                [&](Descriptor &into, size_t i) { fill_choice(into, d.config, i); });
      return true;
    default: return false;
  }
}

} // namespace

int get_attribute(const Descriptor &d, int attribute, int type, int64_t room, int64_t *count, void *elements) {
  if (!d.finalized) return fail(NOT_INITIALIZED, "a %s is read before it is finalized", kind_name(d.kind));
  const Rule *const rule = rule_of(d.kind, attribute);
  if (rule == nullptr) return fail(foreign(d.kind, false), "a %s has no attribute %d", kind_name(d.kind), attribute);
  const bool text = rule->type == CHAR;
  if (rule->get != SUCCESS) return fail(rule->get, "attribute %d cannot be read", attribute);
  const int wrong_type = d.kind == CONVOLUTION ? (int)ATTRIBUTE_TYPE : rule->wrong_type;
  if (!text && type != rule->type && type != rule->also)
    return fail(wrong_type, "attribute %d is not of type %d", attribute, type);
  if (rule->count == Count::one && rule->type != BACKEND_DESCRIPTOR && room > 1)
    return fail(BAD_PARAM, "attribute %d is one element", attribute);
  int status = SUCCESS;
  if (give_computed(d, attribute, room, count, elements, status)) return status;
  const auto found = d.values.find(attribute);
  const uint8_t zeros[8] = {};
  if (rule->type == BACKEND_DESCRIPTOR) {
    // The real one reads an operation's tensors only one at a time.
    if (room != 1 || found == d.values.end())
      return fail(NOT_INITIALIZED, "attribute %d is read one at a time", attribute);
    return give_descriptors(rule->child, 1, room, count, elements,
                            [&](Descriptor &into, size_t) { into = *found->second.children[0]; });
  }
  if (found == d.values.end()) return give(zeros, 1, (int64_t)width(rule->type), room, count, elements);
  return give(found->second.bytes.data(), found->second.count, (int64_t)width(rule->type), room, count, elements);
}

} // namespace simdnn
