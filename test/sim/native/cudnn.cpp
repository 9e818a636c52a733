// The entry points of the simulated cuDNN: handles, descriptors, and the words for what was refused. It answers as
// cuDNN 9.24 does; where it is stricter on purpose, test/cuda/sequences/stricter.ts says so by name.
#include "cudnn.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <unordered_set>

#include "cudnn-libraries.h"
#include "sim.h"

namespace simdnn {

namespace {

char last_error[1024] = "";
std::unordered_set<Descriptor *> descriptors;

struct Handle {
  void *stream = nullptr;
};
std::unordered_set<Handle *> handles;

constexpr const char *handle_kind = "cudnn handle";
constexpr const char *descriptor_kind = "cudnn descriptor";

const std::map<int, const char *> &kinds() {
  static const std::map<int, const char *> names = {
      {POINTWISE, "pointwise mode"},
      {CONVOLUTION, "convolution"},
      {ENGINE, "engine"},
      {ENGINECFG, "engine configuration"},
      {ENGINEHEUR, "heuristics"},
      {EXECUTION_PLAN, "execution plan"},
      {KNOB_CHOICE, "knob choice"},
      {OPERATION_CONVOLUTION_FORWARD, "convolution operation"},
      {OPERATION_CONVOLUTION_BACKWARD_FILTER, "filter gradient operation"},
      {OPERATION_CONVOLUTION_BACKWARD_DATA, "data gradient operation"},
      {OPERATION_POINTWISE, "pointwise operation"},
      {OPERATION_GEN_STATS, "statistics operation"},
      {OPERATIONGRAPH, "operation graph"},
      {VARIANT_PACK, "variant pack"},
      {TENSOR, "tensor"},
      {REDUCTION, "reduction"},
      {OPERATION_REDUCTION, "reduction operation"},
      {DEVICEPROP, "device properties"}};
  return names;
}

void forget() {
  for (Descriptor *descriptor : descriptors) delete descriptor;
  descriptors.clear();
  for (Handle *handle : handles) delete handle;
  handles.clear();
  last_error[0] = 0;
}

Handle *living_handle(void *handle, const char *call) {
  if (sim::alive(handle_kind, handle)) return (Handle *)handle;
  if (handle != nullptr) sim::violation("%s got %p, which is no living cuDNN handle", call, handle);
  return nullptr;
}

/** Fault injection's status for a call, noted. */
int injected(const char *call) {
  const int status = sim::fail_now(call);
  return status == 0 ? 0 : fail(status, "injected");
}

} // namespace

int fail(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  return status;
}

const char *kind_name(int kind) {
  const auto found = kinds().find(kind);
  return found == kinds().end() ? "unknown descriptor" : found->second;
}

bool is_kind(int kind) { return kinds().count(kind) != 0; }

Descriptor *living(void *handle, const char *call) {
  if (sim::alive(descriptor_kind, handle)) return (Descriptor *)handle;
  if (handle != nullptr) sim::violation("%s got %p, which is no living cuDNN descriptor", call, handle);
  return nullptr;
}

const char *status_name(int status) {
  switch (status) {
    case SUCCESS: return "CUDNN_STATUS_SUCCESS";
    case NOT_INITIALIZED: return "CUDNN_STATUS_NOT_INITIALIZED";
    case SERIALIZATION_VERSION_MISMATCH: return "CUDNN_STATUS_SERIALIZATION_VERSION_MISMATCH";
    case BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case NULL_POINTER: return "CUDNN_STATUS_BAD_PARAM_NULL_POINTER";
    case MISALIGNED_POINTER: return "CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER";
    case NOT_FINALIZED: return "CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED";
    case SIZE_INSUFFICIENT: return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
    case STREAM_MISMATCH: return "CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH";
    case DUPLICATED_ENTRIES: return "CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES";
    case ATTRIBUTE_TYPE: return "CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE";
    case DESCRIPTOR_TYPE: return "CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE";
    case NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case ARCH_MISMATCH: return "CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH";
    case 4000: return "CUDNN_STATUS_INTERNAL_ERROR";
    case 4003: return "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED";
    case 4004: return "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED";
    case EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
    case EXECUTION_FAILED_CUDA_DRIVER: return "CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER";
    default: return "CUDNN_STATUS_UNKNOWN";
  }
}

} // namespace simdnn

using namespace simdnn;

SIM_EXPORT size_t cudnnGetVersion() { return (size_t)library_version; }
SIM_EXPORT size_t cudnnGetCudartVersion() { return 13000; }
SIM_EXPORT int cudnnGraphVersionCheck() { return injected("cudnnGraphVersionCheck"); }
SIM_EXPORT int cudnnOpsVersionCheck() { return injected("cudnnOpsVersionCheck"); }
SIM_EXPORT int cudnnCnnVersionCheck() { return injected("cudnnCnnVersionCheck"); }
SIM_EXPORT const char *cudnnGetErrorString(int status) { return status_name(status); }

/** Tells the last error once, as the real one does. */
SIM_EXPORT void cudnnGetLastErrorString(char *message, size_t size) {
  if (message == nullptr || size == 0) return;
  snprintf(message, size, "%s", last_error);
  last_error[0] = 0;
}

SIM_EXPORT int cudnnCreate(void **handle) {
  if (const int status = injected("cudnnCreate")) return status;
  if (handle == nullptr) return fail(NULL_POINTER, "no place for the handle");
  if (sim::context_status() != 0) return fail(NOT_INITIALIZED, "there is no usable context");
  if (sim::illegal_during_capture(nullptr, "cudnnCreate") != 0)
    return fail(NOT_INITIALIZED, "a handle cannot be made during a capture");
  static const bool registered = (sim::on_reset(forget), true);
  (void)registered;
  Handle *const made = new Handle;
  handles.insert(made);
  sim::born(handle_kind, made);
  *handle = made;
  return SUCCESS;
}

SIM_EXPORT int cudnnDestroy(void *handle) {
  const int status = injected("cudnnDestroy");
  if (!sim::dies(handle_kind, handle)) {
    sim::violation("cudnnDestroy got %p, which is no living cuDNN handle", handle);
    return fail(BAD_PARAM, "no handle");
  }
  handles.erase((Handle *)handle);
  delete (Handle *)handle;
  return status;
}

SIM_EXPORT int cudnnSetStream(void *handle, void *stream) {
  if (const int status = injected("cudnnSetStream")) return status;
  Handle *const living = living_handle(handle, "cudnnSetStream");
  if (living == nullptr) return fail(BAD_PARAM, "no handle");
  if (!sim::stream_alive(stream)) return fail(STREAM_MISMATCH, "no stream of this context");
  living->stream = stream;
  return SUCCESS;
}

SIM_EXPORT int cudnnBackendCreateDescriptor(int kind, void **descriptor) {
  if (const int status = injected("cudnnBackendCreateDescriptor")) return status;
  if (descriptor == nullptr) return fail(NULL_POINTER, "no place for the descriptor");
  if (!is_kind(kind)) return fail(NOT_SUPPORTED, "descriptors of kind %d are not simulated", kind);
  static const bool registered = (sim::on_reset(forget), true);
  (void)registered;
  Descriptor *const made = new Descriptor{kind};
  descriptors.insert(made);
  sim::born(descriptor_kind, made);
  *descriptor = made;
  return SUCCESS;
}

SIM_EXPORT int cudnnBackendDestroyDescriptor(void *descriptor) {
  const int status = injected("cudnnBackendDestroyDescriptor");
  if (!sim::dies(descriptor_kind, descriptor)) {
    sim::violation("cudnnBackendDestroyDescriptor got %p, which is no living cuDNN descriptor", descriptor);
    return fail(BAD_PARAM, "no descriptor");
  }
  descriptors.erase((Descriptor *)descriptor);
  delete (Descriptor *)descriptor;
  return status;
}

SIM_EXPORT int cudnnBackendSetAttribute(void *descriptor, int attribute, int type, int64_t count,
                                        const void *elements) {
  if (const int status = injected("cudnnBackendSetAttribute")) return status;
  Descriptor *const target = living(descriptor, "cudnnBackendSetAttribute");
  return target ? set_attribute(*target, attribute, type, count, elements) : fail(BAD_PARAM, "no descriptor");
}

SIM_EXPORT int cudnnBackendGetAttribute(void *descriptor, int attribute, int type, int64_t room, int64_t *count,
                                        void *elements) {
  if (const int status = injected("cudnnBackendGetAttribute")) return status;
  const Descriptor *const source = living(descriptor, "cudnnBackendGetAttribute");
  if (source == nullptr) return fail(BAD_PARAM, "no descriptor");
  int64_t unasked = 0;
  return get_attribute(*source, attribute, type, room, count ? count : &unasked, elements);
}

SIM_EXPORT int cudnnBackendFinalize(void *descriptor) {
  if (const int status = injected("cudnnBackendFinalize")) return status;
  Descriptor *const target = living(descriptor, "cudnnBackendFinalize");
  if (target == nullptr) return fail(BAD_PARAM, "no descriptor");
  const int status = finalize(*target);
  if (status == SUCCESS) target->finalized = true;
  return status;
}

SIM_EXPORT int cudnnBackendExecute(void *handle, void *plan, void *pack) {
  if (const int status = injected("cudnnBackendExecute")) return status;
  const Handle *const owner = living_handle(handle, "cudnnBackendExecute");
  const Descriptor *const what = living(plan, "cudnnBackendExecute"), *const with = living(pack, "cudnnBackendExecute");
  if (owner == nullptr || what == nullptr || with == nullptr) return fail(BAD_PARAM, "no handle, plan or variant pack");
  return execute(owner->stream, *what, *with);
}
