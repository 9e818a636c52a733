// The simulated driver's calls about memory: allocations, copies and fills. Pinned host memory is read and written when a
// copy runs; any other is read at the call, and written before the call returns.
#include <cstring>

#include "world.h"

namespace sim {
namespace {

const char *at(uint64_t address) { return reinterpret_cast<const char *>(address); }
char *to_write(uint64_t address) { return reinterpret_cast<char *>(address); }

/** 0, or why the device's side of a transfer is refused. */
int refused_range(uint64_t address, size_t bytes) {
  return bytes == 0 || device_range(at(address), bytes) ? success : invalid_value;
}

bool overlap(uint64_t a, uint64_t b, size_t bytes) { return a < b + bytes && b < a + bytes; }

template <class Word> int fill(const char *call, uint64_t to, Word value, size_t words, void *stream) {
  if (!stream_alive(stream)) return invalid_handle;
  if (to % sizeof(Word) != 0) return invalid_value;
  if (const int status = refused_range(to, words * sizeof(Word))) return status;
  if (words == 0) return success;
  return enqueue(stream, text("%s of %zu bytes", call, words * sizeof(Word)).c_str(), [=] {
    auto *const target = reinterpret_cast<Word *>(to);
    for (size_t i = 0; i < words; ++i) target[i] = value;
  });
}

int new_memory(const char *call, Place place, void **address, size_t bytes) {
  if (const int status = enter(call, Needs::context)) return status;
  if (const int status = forbidden_in_capture(call)) return status;
  if (address == nullptr || bytes == 0) return invalid_value;
  *address = allocate(place, bytes);
  return *address == nullptr ? out_of_memory : success;
}

int free_memory(const char *call, Place place, void *address) {
  const LateEntry entry = enter_late(call, Needs::context);
  if (entry.status != success) return entry.status;
  if (const int status = forbidden_in_capture(call)) return status;
  if (address == nullptr) return success;
  return release(place, address) ? entry.injected : invalid_value;
}

}  // namespace
}  // namespace sim

using namespace sim;

SIM_EXPORT int cuMemAlloc_v2(void **address, size_t bytes) {
  return new_memory("cuMemAlloc_v2", Place::device, address, bytes);
}

/** Does not wait for work that uses the memory: the driver only may. */
SIM_EXPORT int cuMemFree_v2(uint64_t address) { return free_memory("cuMemFree_v2", Place::device, to_write(address)); }

SIM_EXPORT int cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
  if (flags > 7) return invalid_value;
  return new_memory("cuMemHostAlloc", Place::host, address, bytes);
}

SIM_EXPORT int cuMemFreeHost(void *address) {
  const int status = free_memory("cuMemFreeHost", Place::host, address);
  return address == nullptr && status == success ? invalid_value : status;
}

SIM_EXPORT int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  if (const int status = enter("cuMemGetInfo_v2", Needs::context)) return status;
  if (free_bytes == nullptr || total == nullptr) return invalid_value;
  const MemoryUse use = memory_use();
  *free_bytes = use.total > use.used ? use.total - use.used : 0;
  *total = use.total;
  return success;
}

SIM_EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
  if (const int status = enter("cuMemcpyHtoDAsync_v2", Needs::context)) return status;
  if (!stream_alive(stream)) return invalid_handle;
  if (from == nullptr || device_range(from, 0)) return invalid_value;
  if (const int status = refused_range(to, bytes)) return status;
  if (bytes == 0) return success;
  const std::string what = text("copy of %zu bytes to the device", bytes);
  if (pinned_range(from, bytes))
    return enqueue(stream, what.c_str(), [=] { memcpy(to_write(to), from, bytes); });
  if (const int status = illegal_during_capture(stream, "cuMemcpyHtoDAsync_v2 of pageable memory")) return status;
  auto kept = std::make_shared<std::vector<char>>(bytes);
  if (guarded((what + ", reading the host").c_str(), [&] { memcpy(kept->data(), from, bytes); })) return invalid_value;
  return enqueue(stream, what.c_str(), [=] { memcpy(to_write(to), kept->data(), bytes); });
}

SIM_EXPORT int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
  if (const int status = enter("cuMemcpyDtoHAsync_v2", Needs::context)) return status;
  if (!stream_alive(stream)) return invalid_handle;
  if (to == nullptr || device_range(to, 0)) return invalid_value;
  if (const int status = refused_range(from, bytes)) return status;
  if (bytes == 0) return success;
  const bool pinned = pinned_range(to, bytes);
  if (!pinned)
    if (const int status = illegal_during_capture(stream, "cuMemcpyDtoHAsync_v2 to pageable memory")) return status;
  const std::string what = text("copy of %zu bytes to the host", bytes);
  const int status = enqueue(stream, what.c_str(), [=] { memcpy(to, at(from), bytes); });
  return status != success || pinned ? status : run_all(*world().streams.get(stream));
}

SIM_EXPORT int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
  if (const int status = enter("cuMemcpyDtoDAsync_v2", Needs::context)) return status;
  if (!stream_alive(stream)) return invalid_handle;
  if (const int status = refused_range(from, bytes)) return status;
  if (const int status = refused_range(to, bytes)) return status;
  if (bytes == 0) return success;
  if (overlap(to, from, bytes)) violation("cuMemcpyDtoDAsync_v2: the %zu bytes copied overlap their copy", bytes);
  return enqueue(stream, text("copy of %zu bytes on the device", bytes).c_str(),
                 [=] { memmove(to_write(to), at(from), bytes); });
}

SIM_EXPORT int cuMemsetD8Async(uint64_t to, uint8_t value, size_t bytes, void *stream) {
  if (const int status = enter("cuMemsetD8Async", Needs::context)) return status;
  return fill("fill8", to, value, bytes, stream);
}

SIM_EXPORT int cuMemsetD32Async(uint64_t to, unsigned value, size_t words, void *stream) {
  if (const int status = enter("cuMemsetD32Async", Needs::context)) return status;
  return fill("fill32", to, static_cast<uint32_t>(value), words, stream);
}
