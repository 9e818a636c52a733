// The simulated driver's own calls: initialization, one device with an H200's figures, its primary context, errors in words.
#include <cstring>

#include "world.h"

namespace sim {
namespace {

constexpr int version = 13000;

/** CUdevice_attribute to its value, for the attributes there are bindings for. */
const std::map<int, int> attributes = {
    {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, {8, 49152}, {10, 32},
    {12, 65536}, {13, 1980000}, {16, 132}, {18, 0}, {20, 0}, {34, 0}, {35, 0}, {36, 3201000}, {37, 6144},
    {38, 62914560}, {39, 2048}, {75, 9}, {76, 0}, {81, 233472}, {82, 65536}, {95, 1}, {97, 232448}, {106, 32}, {111, 1024},
};

const std::map<int, std::pair<const char *, const char *>> errors = {
    {success, {"CUDA_SUCCESS", "no error"}},
    {invalid_value, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {out_of_memory, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {not_initialized, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
    {no_device, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {invalid_device, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {invalid_image, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
    {invalid_context, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {no_binary, {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"}},
    {invalid_handle, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {illegal_state, {"CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"}},
    {not_found, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {not_ready, {"CUDA_ERROR_NOT_READY", "device not ready"}},
    {illegal_address, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
    {misaligned_address, {"CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"}},
    {launch_failed, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
    {capture_unsupported,
     {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"}},
    {capture_invalidated,
     {"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"}},
    {capture_merge, {"CUDA_ERROR_STREAM_CAPTURE_MERGE", "operation would result in a merge of separate capture sequences"}},
    {capture_unmatched, {"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"}},
    {capture_unjoined, {"CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"}},
    {capture_isolation,
     {"CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"}},
    {captured_event,
     {"CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"}},
    {unknown_error, {"CUDA_ERROR_UNKNOWN", "unknown error"}},
};

/** The primary context ends: its work is done, as the driver does it, and what is left of it was leaked. */
void end_context() {
  World &it = world();
  if (run_everything() == success) {
    for (const std::string &line : live_memory()) violation("the context ended with a live %s", line.c_str());
    for (const auto &[kind, count] : live_objects())
      if (kind != "kernel") violation("the context ended with %zu live %s", count, (kind + (count > 1 ? "s" : "")).c_str());
  }
  it.captures.clear();
  it.queues.clear();
  it.streams.clear();
  it.events.clear();
  it.graphs.clear();
  it.executables.clear();
  forget_modules();
  forget_memory();
  it.current = false;
  it.sticky = success;
}

template <class T> int answer(T *out, T value) {
  if (out == nullptr) return invalid_value;
  *out = value;
  return success;
}

int explain(int status, const char **text, bool name) {
  if (text == nullptr) return invalid_value;
  const auto found = errors.find(status);
  *text = found == errors.end() ? nullptr : name ? found->second.first : found->second.second;
  return found == errors.end() ? invalid_value : success;
}

/** The simulated context's handle. */
void *const context = reinterpret_cast<void *>(0x5000'0000'0000ull);

}  // namespace
}  // namespace sim

using namespace sim;

SIM_EXPORT int cuGetErrorName(int status, const char **name) { return explain(status, name, true); }
SIM_EXPORT int cuGetErrorString(int status, const char **string) { return explain(status, string, false); }

SIM_EXPORT int cuInit(unsigned flags) {
  if (const int status = enter("cuInit", Needs::nothing)) return status;
  if (flags != 0) return invalid_value;
  watch_faults();
  world().initialized = true;
  return success;
}

SIM_EXPORT int cuDriverGetVersion(int *out) {
  if (const int status = enter("cuDriverGetVersion", Needs::nothing)) return status;
  return answer(out, version);
}

SIM_EXPORT int cuDeviceGetCount(int *out) {
  if (const int status = enter("cuDeviceGetCount", Needs::initialization)) return status;
  return answer(out, 1);
}

SIM_EXPORT int cuDeviceGet(int *out, int ordinal) {
  if (const int status = enter("cuDeviceGet", Needs::initialization)) return status;
  return ordinal == 0 ? answer(out, 0) : invalid_device;
}

SIM_EXPORT int cuDeviceGetName(char *name, int bytes, int device) {
  if (const int status = enter("cuDeviceGetName", Needs::initialization)) return status;
  if (device != 0) return invalid_device;
  if (name == nullptr || bytes <= 0) return invalid_value;
  strncpy(name, "Simulated H200", static_cast<size_t>(bytes));
  name[bytes - 1] = 0;
  return success;
}

SIM_EXPORT int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
  if (const int status = enter("cuDeviceGetUuid_v2", Needs::initialization)) return status;
  if (device != 0) return invalid_device;
  if (uuid == nullptr) return invalid_value;
  memcpy(uuid, "simulated device", 16);
  return success;
}

SIM_EXPORT int cuDeviceTotalMem_v2(size_t *out, int device) {
  if (const int status = enter("cuDeviceTotalMem_v2", Needs::initialization)) return status;
  return device == 0 ? answer(out, memory_use().total) : invalid_device;
}

SIM_EXPORT int cuDeviceGetAttribute(int *out, int attribute, int device) {
  if (const int status = enter("cuDeviceGetAttribute", Needs::initialization)) return status;
  if (device != 0) return invalid_device;
  const auto found = attributes.find(attribute);
  return found == attributes.end() ? invalid_value : answer(out, found->second);
}

SIM_EXPORT int cuDevicePrimaryCtxRetain(void **out, int device) {
  if (const int status = enter("cuDevicePrimaryCtxRetain", Needs::initialization)) return status;
  if (device != 0) return invalid_device;
  if (out == nullptr) return invalid_value;
  ++world().retained;
  return answer(out, context);
}

SIM_EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
  const LateEntry entry = enter_late("cuDevicePrimaryCtxRelease_v2", Needs::initialization);
  if (entry.status != success) return entry.status;
  if (device != 0) return invalid_device;
  if (world().retained == 0) return invalid_context;
  if (--world().retained == 0) end_context();
  return entry.injected;
}

SIM_EXPORT int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
  if (const int status = enter("cuDevicePrimaryCtxSetFlags_v2", Needs::initialization)) return status;
  if (device != 0) return invalid_device;
  return flags > 0x1f ? invalid_value : success;
}

SIM_EXPORT int cuCtxSetCurrent(void *wanted) {
  if (const int status = enter("cuCtxSetCurrent", Needs::initialization)) return status;
  if (wanted != nullptr && (wanted != context || world().retained == 0)) return invalid_context;
  world().current = wanted != nullptr;
  return success;
}

SIM_EXPORT int cuCtxSynchronize() {
  if (const int status = enter("cuCtxSynchronize", Needs::context)) return status;
  if (const int status = forbidden_in_capture("cuCtxSynchronize")) return status;
  return run_everything();
}
