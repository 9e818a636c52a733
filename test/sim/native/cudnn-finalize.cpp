// What cuDNN checks when a descriptor that describes arithmetic is finalized: tensors, modes, operations. It checks
// less than one might think; where this simulation checks more, the comment says so.
#include <algorithm>
#include <cmath>

#include "cudnn.h"

namespace simdnn {

int64_t Descriptor::integer(int attribute, int64_t otherwise) const {
  const auto found = values.find(attribute);
  if (found == values.end()) return otherwise;
  const std::vector<uint8_t> &bytes = found->second.bytes;
  if (bytes.size() >= 8) return *(const int64_t *)bytes.data();
  return bytes.size() >= 4 ? *(const int32_t *)bytes.data() : bytes[0];
}

double Descriptor::number(int attribute, double otherwise) const {
  const auto found = values.find(attribute);
  if (found == values.end()) return otherwise;
  const std::vector<uint8_t> &bytes = found->second.bytes;
  return bytes.size() >= 8 ? *(const double *)bytes.data() : *(const float *)bytes.data();
}

std::vector<int64_t> Descriptor::integers(int attribute) const {
  const auto found = values.find(attribute);
  if (found == values.end()) return {};
  const int64_t *const first = (const int64_t *)found->second.bytes.data();
  return std::vector<int64_t>(first, first + found->second.count);
}

Child Descriptor::child(int attribute) const {
  const auto found = values.find(attribute);
  return found == values.end() ? nullptr : found->second.children[0];
}

void *Descriptor::pointer(int attribute) const { return (void *)integer(attribute, 0); }

int64_t Tensor::elements() const {
  int64_t count = 1;
  for (int64_t dim : dims) count *= dim;
  return count;
}

int64_t Tensor::extent() const {
  if (elements() == 0) return 0;
  int64_t last = 0;
  for (size_t i = 0; i < dims.size(); ++i) last += (dims[i] - 1) * strides[i];
  return (last + 1) * (int64_t)simnum::bytes_of(number_type(type));
}

bool Tensor::operator==(const Tensor &other) const {
  return uid == other.uid && type == other.type && dims == other.dims && strides == other.strides &&
         is_virtual == other.is_virtual;
}

simnum::Type number_type(int data_type) {
  switch (data_type) {
    case DATA_DOUBLE: return simnum::Type::f64;
    case DATA_HALF: return simnum::Type::f16;
    case 4: return simnum::Type::i32;
    case 6: return simnum::Type::u8;
    case DATA_BFLOAT16: return simnum::Type::bf16;
    case 10: return simnum::Type::i64;
    case 11: return simnum::Type::boolean;
    default: return simnum::Type::f32;
  }
}

bool is_number_type(int data_type) { return data_type == DATA_FLOAT || number_type(data_type) != simnum::Type::f32; }

bool Node::is_convolution() const {
  return kind == OPERATION_CONVOLUTION_FORWARD || kind == OPERATION_CONVOLUTION_BACKWARD_DATA ||
         kind == OPERATION_CONVOLUTION_BACKWARD_FILTER;
}

std::vector<int> Node::outputs() const {
  if (kind == OPERATION_CONVOLUTION_FORWARD) return {tensors[2]};
  if (kind == OPERATION_CONVOLUTION_BACKWARD_DATA) return {tensors[0]};
  if (kind == OPERATION_CONVOLUTION_BACKWARD_FILTER) return {tensors[1]};
  if (kind == OPERATION_POINTWISE) return {tensors.back()};
  return std::vector<int>(tensors.begin() + 1, tensors.end());
}

std::vector<int> Node::inputs() const {
  const std::vector<int> made = outputs();
  std::vector<int> read;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const bool result = is_convolution()
                            ? tensors[i] == made[0] && (int)i == (kind == OPERATION_CONVOLUTION_FORWARD         ? 2
                                                                  : kind == OPERATION_CONVOLUTION_BACKWARD_DATA ? 0
                                                                                                                : 1)
                        : kind == OPERATION_POINTWISE ? i + 1 == tensors.size()
                                                      : i > 0;
    if (!result) read.push_back(tensors[i]);
  }
  return read;
}

namespace {

constexpr size_t most_dimensions = 8;

int finalize_tensor(Descriptor &d) {
  Tensor &t = d.tensor;
  t.uid = d.integer(TENSOR_UNIQUE_ID, -1);
  t.type = (int)d.integer(TENSOR_DATA_TYPE, DATA_FLOAT);
  t.dims = d.integers(TENSOR_DIMENSIONS);
  t.strides = d.integers(TENSOR_STRIDES);
  t.alignment = d.integer(TENSOR_BYTE_ALIGNMENT, 1);
  t.is_virtual = d.integer(TENSOR_IS_VIRTUAL, 0) != 0;
  t.by_value = d.integer(TENSOR_IS_BY_VALUE, 0) != 0;
  if (t.type < 0 || t.type > DATA_LAST) return fail(BAD_PARAM, "no data type %d; the real one crashes", t.type);
  if (t.type == DATA_INT8x4) return fail(NOT_SUPPORTED, "data type %d", t.type);
  if (t.dims.empty() || t.dims.size() != t.strides.size())
    return fail(BAD_PARAM, "%zu dimensions and %zu strides", t.dims.size(), t.strides.size());
  if (t.dims.size() > most_dimensions) return fail(BAD_PARAM, "%zu dimensions are too many", t.dims.size());
  for (size_t i = 0; i < t.dims.size(); ++i)
    if (t.dims[i] < 0 || t.strides[i] < 0) return fail(BAD_PARAM, "dimension %zu or its stride is negative", i);
  const int64_t bytes = (int64_t)simnum::bytes_of(number_type(t.type));
  if (t.alignment <= 0 || t.alignment % bytes != 0)
    return fail(BAD_PARAM, "alignment %lld of elements of %lld bytes", (long long)t.alignment, (long long)bytes);
  if (t.by_value && t.dims.size() > 1) return fail(BAD_PARAM, "a tensor by value has one dimension");
  return SUCCESS;
}

int finalize_convolution(Descriptor &d) {
  Convolution &c = d.convolution;
  c.spatial = d.integer(CONVOLUTION_SPATIAL_DIMS, 0);
  c.dilation = d.integers(CONVOLUTION_DILATIONS);
  c.stride = d.integers(CONVOLUTION_FILTER_STRIDES);
  c.before = d.integers(CONVOLUTION_PRE_PADDINGS);
  c.after = d.integers(CONVOLUTION_POST_PADDINGS);
  c.compute = (int)d.integer(CONVOLUTION_COMP_TYPE, DATA_FLOAT);
  c.flipped = d.integer(CONVOLUTION_CONV_MODE, 0) == 0;
  const size_t spatial = (size_t)std::max<int64_t>(c.spatial, 0);
  if (c.before.empty()) c.before.resize(spatial);
  if (c.after.empty()) c.after.resize(spatial);
  if (spatial == 0) return fail(BAD_PARAM, "%lld spatial dimensions", (long long)c.spatial);
  for (const auto *list : {&c.dilation, &c.stride, &c.before, &c.after})
    if (list->size() != spatial)
      return fail(BAD_PARAM, "%zu numbers for %zu spatial dimensions", list->size(), spatial);
  for (size_t i = 0; i < spatial; ++i)
    if (c.dilation[i] <= 0 || c.stride[i] <= 0 || c.before[i] < 0 || c.after[i] < 0)
      return fail(BAD_PARAM, "a stride, dilation or padding is out of range");
  return SUCCESS;
}

/** Whether two elements share memory: in ascending order of strides, each stride must pass what lies below it. */
bool overlaps(const Tensor &tensor) {
  std::vector<std::pair<int64_t, int64_t>> axes;
  for (size_t i = 0; i < tensor.dims.size(); ++i)
    if (tensor.dims[i] > 1 && tensor.strides[i] > 0) axes.push_back({tensor.strides[i], tensor.dims[i]});
  std::sort(axes.begin(), axes.end());
  int64_t below = 0;
  for (const auto &[stride, dim] : axes) {
    if (stride <= below) return true;
    below += stride * (dim - 1);
  }
  return false;
}

bool packed(const Tensor &tensor) {
  return tensor.extent() == tensor.elements() * (int64_t)simnum::bytes_of(number_type(tensor.type));
}

int check_spatial(const Convolution &c, const Tensor &x, const Tensor &w, const Tensor &y) {
  for (int64_t i = 0; i < c.spatial; ++i) {
    const int64_t padded = x.dims[i + 2] + c.before[i] + c.after[i], window = (w.dims[i + 2] - 1) * c.dilation[i] + 1;
    if (padded < window || y.dims[i + 2] != (padded - window) / c.stride[i] + 1)
      return fail(BAD_PARAM,
                  "spatial dimension %lld of the output is %lld, which input, filter, padding and stride do not give",
                  (long long)i, (long long)y.dims[i + 2]);
  }
  return SUCCESS;
}

int check_convolution(const Convolution &c, const Tensor &x, const Tensor &w, const Tensor &y) {
  const size_t rank = x.dims.size();
  if (c.spatial > (int64_t)rank - 2 || w.dims.size() != rank || y.dims.size() != rank)
    return fail(BAD_PARAM, "ranks %zu, %zu, %zu", rank, w.dims.size(), y.dims.size());
  if ((int64_t)rank != c.spatial + 2)
    return fail(BAD_PARAM, "%zu dimensions for %lld spatial ones", rank, (long long)c.spatial);
  for (const Tensor *tensor : {&x, &w, &y})
    for (int64_t dim : tensor->dims)
      if (dim <= 0) return fail(BAD_PARAM, "a dimension of 0");
  if (x.dims[1] % w.dims[1] != 0)
    return fail(BAD_PARAM, "%lld channels for a filter of %lld", (long long)x.dims[1], (long long)w.dims[1]);
  if (w.dims[0] % (x.dims[1] / w.dims[1]) != 0)
    return fail(BAD_PARAM, "%lld outputs in %lld groups", (long long)w.dims[0], (long long)(x.dims[1] / w.dims[1]));
  if (y.dims[1] != w.dims[0] || y.dims[0] != x.dims[0])
    return fail(BAD_PARAM, "the output's batch or channels do not match");
  const int status = check_spatial(c, x, w, y);
  if (status != SUCCESS) return status;
  if (overlaps(x) || overlaps(y) || !packed(w)) return fail(BAD_PARAM, "elements overlap, or the filter is not packed");
  return SUCCESS;
}

int finalize_convolution_operation(Descriptor &d) {
  const int first = d.kind == OPERATION_CONVOLUTION_FORWARD         ? FORWARD_FIRST
                    : d.kind == OPERATION_CONVOLUTION_BACKWARD_DATA ? BWD_DATA_FIRST
                                                                    : BWD_FILTER_FIRST;
  const Child convolution = d.child(first + 2), w = d.child(first + 3), x = d.child(first + 4), y = d.child(first + 5);
  for (const Child &child : {convolution, w, x, y})
    if (child == nullptr || !child->finalized)
      return fail(BAD_PARAM, "a tensor or the convolution is missing or not finalized");
  d.operands = {x->tensor, w->tensor, y->tensor};
  d.node.convolution = convolution->convolution;
  d.node.compute = convolution->convolution.compute;
  d.node.alpha = d.number(first, 1);
  d.node.beta = d.number(first + 1, 0);
  return check_convolution(d.node.convolution, x->tensor, w->tensor, y->tensor);
}

/** Stricter than the real one, which takes any dimensions and reads past the end, or nonsense. */
int check_broadcast(const Tensor &from, const Tensor &to, const char *what) {
  if (from.dims.size() != to.dims.size()) return fail(BAD_PARAM, "%s has another rank", what);
  for (size_t i = 0; i < from.dims.size(); ++i)
    if (from.dims[i] != to.dims[i] && from.dims[i] != 1)
      return fail(BAD_PARAM, "%s does not broadcast in dimension %zu", what, i);
  return SUCCESS;
}

bool binary(int mode) {
  return mode == ADD || mode == MUL || mode == MIN || mode == MAX || mode == DIV || mode == SUB || mode == CMP_GT ||
         mode == BINARY_SELECT;
}

int finalize_pointwise_operation(Descriptor &d) {
  const Child mode = d.child(OPERATION_POINTWISE_PW_DESCRIPTOR);
  // Stricter: the real one takes an addition where the descriptor is missing or not finalized.
  if (mode == nullptr || !mode->finalized)
    return fail(BAD_PARAM, "the pointwise descriptor is missing or not finalized");
  d.node = mode->node;
  d.node.kind = OPERATION_POINTWISE;
  const bool backward = d.node.mode == RELU_BWD || d.node.mode == SIGMOID_BWD;
  std::vector<int> roles = {OPERATION_POINTWISE_XDESC};
  if (backward) roles = {OPERATION_POINTWISE_DYDESC, OPERATION_POINTWISE_XDESC};
  else if (binary(d.node.mode)) roles.push_back(OPERATION_POINTWISE_BDESC);
  if (d.node.mode == BINARY_SELECT) roles.push_back(OPERATION_POINTWISE_TDESC);
  const Child output = d.child(backward ? OPERATION_POINTWISE_DXDESC : OPERATION_POINTWISE_YDESC);
  for (int role : roles) {
    const Child input = d.child(role);
    // Stricter: the real one does not ask whether tensors are finalized.
    if (input == nullptr || !input->finalized || output == nullptr || !output->finalized)
      return fail(BAD_PARAM, "a tensor is missing or not finalized");
    const int status = check_broadcast(input->tensor, output->tensor, "an input");
    if (status != SUCCESS) return status;
    d.operands.push_back(input->tensor);
  }
  d.operands.push_back(output->tensor);
  d.node.alpha = d.number(OPERATION_POINTWISE_ALPHA1, 1);
  d.node.alpha2 = d.number(OPERATION_POINTWISE_ALPHA2, 1);
  return SUCCESS;
}

int finalize_reduction_operation(Descriptor &d) {
  const Child mode = d.child(OPERATION_REDUCTION_DESC), x = d.child(OPERATION_REDUCTION_XDESC),
              y = d.child(OPERATION_REDUCTION_YDESC);
  // Stricter in asking for the descriptor, and that all are finalized.
  for (const Child &child : {mode, x, y})
    if (child == nullptr || !child->finalized)
      return fail(BAD_PARAM, "a tensor or the reduction is missing or not finalized");
  d.node.mode = mode->node.mode;
  d.operands = {x->tensor, y->tensor};
  if (x->tensor.dims.size() != y->tensor.dims.size()) return fail(BAD_PARAM, "ranks differ");
  for (size_t i = 0; i < x->tensor.dims.size(); ++i)
    if (y->tensor.dims[i] == 0 || x->tensor.dims[i] % y->tensor.dims[i] != 0)
      return fail(BAD_PARAM, "dimension %zu is no part of the input's", i);
  return SUCCESS;
}

/** Stricter than the real one, which asks nothing of statistics. */
int finalize_statistics(Descriptor &d) {
  const Child x = d.child(OPERATION_GENSTATS_XDESC), sum = d.child(OPERATION_GENSTATS_SUMDESC),
              squares = d.child(OPERATION_GENSTATS_SQSUMDESC);
  for (const Child &child : {x, sum, squares})
    if (child == nullptr || !child->finalized)
      return fail(BAD_PARAM, "a tensor of the statistics is missing or not finalized");
  d.operands = {x->tensor, sum->tensor, squares->tensor};
  std::vector<int64_t> channels(x->tensor.dims.size(), 1);
  if (channels.size() > 1) channels[1] = x->tensor.dims[1];
  if (sum->tensor.dims != channels || squares->tensor.dims != channels)
    return fail(BAD_PARAM, "sums are [1, channels, 1, 1]");
  return SUCCESS;
}

int finalize_pointwise(Descriptor &d) {
  d.node.mode = (int)d.integer(POINTWISE_MODE, ADD);
  d.node.compute = (int)d.integer(POINTWISE_MATH_PREC, DATA_FLOAT);
  d.node.lower = d.number(POINTWISE_RELU_LOWER_CLIP, 0);
  d.node.upper = d.number(POINTWISE_RELU_UPPER_CLIP, INFINITY);
  return SUCCESS;
}

} // namespace

int finalize(Descriptor &d) {
  if (d.finalized) return fail(BAD_PARAM, "a %s is finalized once", kind_name(d.kind));
  d.node.kind = d.kind;
  d.operands.clear();
  switch (d.kind) {
    case TENSOR: return finalize_tensor(d);
    case CONVOLUTION: return finalize_convolution(d);
    case POINTWISE: return finalize_pointwise(d);
    case REDUCTION: d.node.mode = (int)d.integer(REDUCTION_OPERATOR, REDUCE_ADD); return SUCCESS;
    case OPERATION_CONVOLUTION_FORWARD:
    case OPERATION_CONVOLUTION_BACKWARD_DATA:
    case OPERATION_CONVOLUTION_BACKWARD_FILTER: return finalize_convolution_operation(d);
    case OPERATION_POINTWISE: return finalize_pointwise_operation(d);
    case OPERATION_REDUCTION: return finalize_reduction_operation(d);
    case OPERATION_GEN_STATS: return finalize_statistics(d);
    case OPERATIONGRAPH: return finalize_graph(d);
    case DEVICEPROP: return finalize_device(d);
    case ENGINEHEUR: return finalize_heuristics(d);
    case ENGINE: return finalize_engine(d);
    case ENGINECFG: return finalize_config(d);
    case EXECUTION_PLAN: return finalize_plan(d);
    case VARIANT_PACK:
      if (d.integers(VARIANT_PACK_UNIQUE_IDS).size() != d.integers(VARIANT_PACK_DATA_POINTERS).size())
        return fail(BAD_PARAM, "as many ids as pointers");
      return SUCCESS;
    default: return fail(NOT_SUPPORTED, "a %s is not finalized", kind_name(d.kind));
  }
}

} // namespace simdnn
