// The rules of descriptor attributes: whose they are, their types and counts, and what cuDNN 9.24 answers where a
// caller gets them wrong, which is not the same everywhere. The table of sequences in test/cuda/sequences holds the
// real answers.
#include "cudnn.h"

namespace simdnn {

namespace {

constexpr Count any = Count::any;
constexpr Count one = Count::one;

Rule scalar(int kind, int attribute, int type) { return {kind, attribute, type}; }

/** Rules of a convolution's operation whose attributes start at `first`; the three differ in what they answer. */
void add_convolution(std::vector<Rule> &rules, int kind, int first, int alpha_type, int input_type) {
  for (int offset : {0, 1}) {
    Rule rule = scalar(kind, first + offset, FLOAT);
    rule.also = DOUBLE;
    rule.wrong_type = alpha_type;
    rules.push_back(rule);
  }
  Rule convolution = scalar(kind, first + 2, BACKEND_DESCRIPTOR);
  convolution.child = CONVOLUTION;
  convolution.wrong_type = BAD_PARAM;
  convolution.wrong_count = NOT_SUPPORTED;
  rules.push_back(convolution);
  for (int offset : {3, 4, 5}) {
    Rule tensor = scalar(kind, first + offset, BACKEND_DESCRIPTOR);
    tensor.child = TENSOR;
    tensor.count = any;
    tensor.wrong_type = offset == 4 ? input_type : (int)BAD_PARAM;
    rules.push_back(tensor);
  }
}

Rule child(int kind, int attribute, int of, int wrong_type, int wrong_count, int get = SUCCESS) {
  return {kind, attribute, BACKEND_DESCRIPTOR, one, of, wrong_type, wrong_count, SUCCESS, get};
}

/** A rule whose every mistake has one status. */
Rule strict(int kind, int attribute, int type, int get = SUCCESS) {
  return {kind, attribute, type, one, -1, BAD_PARAM, BAD_PARAM, SUCCESS, get};
}

void add_operations(std::vector<Rule> &rules) {
  add_convolution(rules, OPERATION_CONVOLUTION_FORWARD, FORWARD_FIRST, NOT_SUPPORTED, BAD_PARAM);
  add_convolution(rules, OPERATION_CONVOLUTION_BACKWARD_DATA, BWD_DATA_FIRST, NOT_SUPPORTED, BAD_PARAM);
  add_convolution(rules, OPERATION_CONVOLUTION_BACKWARD_FILTER, BWD_FILTER_FIRST, BAD_PARAM, ATTRIBUTE_TYPE);
  rules.push_back(child(OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, POINTWISE, BAD_PARAM, BAD_PARAM));
  for (int attribute : {OPERATION_POINTWISE_XDESC, OPERATION_POINTWISE_BDESC, OPERATION_POINTWISE_YDESC,
                        OPERATION_POINTWISE_DXDESC, OPERATION_POINTWISE_DYDESC, OPERATION_POINTWISE_TDESC})
    rules.push_back(child(OPERATION_POINTWISE, attribute, TENSOR, BAD_PARAM, BAD_PARAM));
  for (int attribute : {OPERATION_POINTWISE_ALPHA1, OPERATION_POINTWISE_ALPHA2}) {
    rules.push_back(strict(OPERATION_POINTWISE, attribute, FLOAT));
    rules.back().also = DOUBLE;
  }
  rules.push_back(strict(OPERATION_GEN_STATS, OPERATION_GENSTATS_MODE, GENSTATS_MODE, NOT_SUPPORTED));
  rules.push_back(strict(OPERATION_GEN_STATS, OPERATION_GENSTATS_MATH_PREC, DATA_TYPE, NOT_SUPPORTED));
  for (int attribute : {OPERATION_GENSTATS_XDESC, OPERATION_GENSTATS_SUMDESC, OPERATION_GENSTATS_SQSUMDESC})
    rules.push_back(child(OPERATION_GEN_STATS, attribute, TENSOR, BAD_PARAM, BAD_PARAM, NOT_SUPPORTED));
  for (int attribute : {OPERATION_REDUCTION_XDESC, OPERATION_REDUCTION_YDESC, OPERATION_REDUCTION_DESC}) {
    const int of = attribute == OPERATION_REDUCTION_DESC ? REDUCTION : TENSOR;
    rules.push_back(child(OPERATION_REDUCTION, attribute, of, BAD_PARAM, BAD_PARAM));
    rules.back().count = any;
  }
}

void add_modes(std::vector<Rule> &rules) {
  rules.push_back(strict(POINTWISE, POINTWISE_MODE, POINTWISE_MODE_TYPE, NOT_SUPPORTED));
  rules.push_back(strict(POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, NOT_SUPPORTED));
  for (int attribute : {POINTWISE_RELU_LOWER_CLIP, POINTWISE_RELU_UPPER_CLIP}) {
    rules.push_back(strict(POINTWISE, attribute, DOUBLE, NOT_SUPPORTED));
    rules.back().also = FLOAT;
  }
  rules.push_back(strict(REDUCTION, REDUCTION_OPERATOR, REDUCTION_OPERATOR_TYPE));
  rules.push_back(strict(REDUCTION, REDUCTION_COMP_TYPE, DATA_TYPE));
  rules.push_back(scalar(CONVOLUTION, CONVOLUTION_COMP_TYPE, DATA_TYPE));
  rules.push_back(scalar(CONVOLUTION, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE));
  rules.push_back(scalar(CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, INT64));
  rules.back().wrong_type = BAD_PARAM;
  for (int attribute :
       {CONVOLUTION_DILATIONS, CONVOLUTION_FILTER_STRIDES, CONVOLUTION_PRE_PADDINGS, CONVOLUTION_POST_PADDINGS})
    rules.push_back({CONVOLUTION, attribute, INT64, any});
}

void add_tensor(std::vector<Rule> &rules) {
  rules.push_back(scalar(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE));
  rules.push_back({TENSOR, TENSOR_DIMENSIONS, INT64, any});
  rules.push_back({TENSOR, TENSOR_STRIDES, INT64, any});
  rules.push_back(scalar(TENSOR, TENSOR_UNIQUE_ID, INT64));
  rules.push_back(scalar(TENSOR, TENSOR_BYTE_ALIGNMENT, INT64));
  rules.back().get = NOT_SUPPORTED;
  rules.push_back(scalar(TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN));
  rules.push_back(scalar(TENSOR, TENSOR_IS_BY_VALUE, BOOLEAN));
}

/** What cuDNN computes cannot be set. */
Rule computed(int kind, int attribute, int type, Count count, int set, int of = -1) {
  return {kind, attribute, type, count, of, ATTRIBUTE_TYPE, BAD_PARAM, set, SUCCESS};
}

void add_plans(std::vector<Rule> &rules) {
  rules.push_back(scalar(OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE));
  rules.push_back({OPERATIONGRAPH, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, any});
  rules.back().get = NOT_SUPPORTED;
  rules.push_back(computed(OPERATIONGRAPH, OPERATIONGRAPH_ENGINE_GLOBAL_COUNT, INT64, one, NOT_SUPPORTED));
  rules.push_back(child(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, OPERATIONGRAPH, ATTRIBUTE_TYPE, BAD_PARAM, BAD_PARAM));
  rules.push_back(scalar(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE));
  rules.push_back(scalar(ENGINEHEUR, ENGINEHEUR_SM_COUNT_TARGET, INT32));
  rules.push_back(child(ENGINEHEUR, ENGINEHEUR_DEVICEPROP, DEVICEPROP, ATTRIBUTE_TYPE, NOT_SUPPORTED));
  rules.push_back(computed(ENGINEHEUR, ENGINEHEUR_RESULTS, BACKEND_DESCRIPTOR, any, BAD_PARAM, ENGINECFG));
  rules.push_back(child(ENGINE, ENGINE_OPERATION_GRAPH, OPERATIONGRAPH, ATTRIBUTE_TYPE, NOT_SUPPORTED));
  rules.push_back(strict(ENGINE, ENGINE_GLOBAL_INDEX, INT64));
  rules.push_back(child(ENGINE, ENGINE_DEVICEPROP, DEVICEPROP, ATTRIBUTE_TYPE, NOT_SUPPORTED));
  rules.push_back(computed(ENGINE, ENGINE_NUMERICAL_NOTE, NUMERICAL_NOTE, any, NOT_SUPPORTED));
  rules.push_back(computed(ENGINE, ENGINE_BEHAVIOR_NOTE, BEHAVIOR_NOTE, any, NOT_SUPPORTED));
  rules.push_back(child(ENGINECFG, ENGINECFG_ENGINE, ENGINE, ATTRIBUTE_TYPE, NOT_SUPPORTED));
  rules.push_back({ENGINECFG, ENGINECFG_KNOB_CHOICES, BACKEND_DESCRIPTOR, any, KNOB_CHOICE});
  rules.push_back(computed(ENGINECFG, ENGINECFG_WORKSPACE_SIZE, INT64, one, NOT_SUPPORTED));
  rules.push_back(scalar(KNOB_CHOICE, KNOB_CHOICE_KNOB_TYPE, KNOB_TYPE));
  rules.push_back(scalar(KNOB_CHOICE, KNOB_CHOICE_KNOB_VALUE, INT64));
  rules.push_back(scalar(EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE));
  rules.push_back(child(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, ENGINECFG, ATTRIBUTE_TYPE, NOT_SUPPORTED));
  rules.push_back(child(EXECUTION_PLAN, EXECUTION_PLAN_DEVICEPROP, DEVICEPROP, ATTRIBUTE_TYPE, NOT_SUPPORTED));
  rules.push_back(computed(EXECUTION_PLAN, EXECUTION_PLAN_WORKSPACE_SIZE, INT64, one, NOT_SUPPORTED));
  rules.push_back({EXECUTION_PLAN, EXECUTION_PLAN_JSON_REPRESENTATION, CHAR, any});
  rules.push_back({DEVICEPROP, DEVICEPROP_JSON_REPRESENTATION, CHAR, any});
  rules.push_back(scalar(DEVICEPROP, DEVICEPROP_DEVICE_ID, INT32));
  rules.push_back(scalar(DEVICEPROP, DEVICEPROP_HANDLE, HANDLE));
  rules.push_back(
      {VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, any, -1, NOT_SUPPORTED, BAD_PARAM, SUCCESS, NOT_SUPPORTED});
  rules.push_back(
      {VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, any, -1, NOT_SUPPORTED, BAD_PARAM, SUCCESS, NOT_SUPPORTED});
  rules.push_back({VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, one, -1, NOT_SUPPORTED, BAD_PARAM});
}

const std::vector<Rule> &rules() {
  static const std::vector<Rule> table = [] {
    std::vector<Rule> all;
    add_tensor(all);
    add_modes(all);
    add_operations(all);
    add_plans(all);
    return all;
  }();
  return table;
}

} // namespace

const Rule *rule_of(int kind, int attribute) {
  for (const Rule &rule : rules())
    if (rule.kind == kind && rule.attribute == attribute) return &rule;
  return nullptr;
}

} // namespace simdnn
