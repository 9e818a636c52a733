// What the simulation tells: violations, live objects, counted calls, injected failures; and the seed behind every order.
// The functions tests call (sim_*) are here.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "world.h"

namespace sim {
namespace {

struct Report {
  std::vector<std::string> violations, refusals;
  std::map<std::string, std::set<const void *>> objects;
  std::map<std::string, int64_t> counts;
  int64_t calls = 0, fail_at = 0;
  int fail_status = 0;
  std::string fail_call, failed;
  uint64_t seed = 0, random = 0;
  std::vector<std::function<void()>> forget;
  std::string text;
};

/** Never destroyed: calls may come while the process ends. */
Report &report() {
  static Report *const it = new Report;
  return *it;
}

constexpr size_t most_violations = 50;

bool begins(const std::string &text, const char *with) { return text.rfind(with, 0) == 0; }

bool is_driver(const std::string &call) {
  return begins(call, "cu") && !begins(call, "cublasLt") && !begins(call, "cudnn");
}

/** What a call of this name fails with, typically. */
int typical_error(const std::string &call) {
  if (begins(call, "nvrtc")) return call == "nvrtcCreateProgram" || call == "nvrtcCompileProgram" ? 1 : 11;
  if (begins(call, "cublasLt")) return call == "cublasLtCreate" ? 3 : call == "cublasLtMatmul" ? 13 : 14;
  if (begins(call, "cudnn")) return call == "cudnnCreate" ? 4003 : call == "cudnnBackendExecute" ? 5000 : 4000;
  static const std::set<std::string> allocating = {
      "cuMemAlloc_v2",        "cuMemHostAlloc",   "cuStreamCreateWithPriority", "cuEventCreate",
      "cuGraphInstantiateWithFlags", "cuModuleLoadData", "cuDevicePrimaryCtxRetain"};
  return allocating.count(call) > 0 ? out_of_memory : unknown_error;
}

std::string quoted(const std::string &value) {
  std::string out = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') out += "\\n";
    else if (static_cast<unsigned char>(c) < 32) out += ' ';
    else out += c;
  }
  return out + '"';
}

std::string list(const std::vector<std::string> &values) {
  std::string out;
  for (const std::string &value : values) out += (out.empty() ? "" : ", ") + quoted(value);
  return "[" + out + "]";
}

template <class Values, class Show> std::string object(const Values &values, Show show) {
  std::string out;
  for (const auto &[name, value] : values) out += (out.empty() ? "" : ", ") + quoted(name) + ": " + show(value);
  return "{" + out + "}";
}

std::string report_text() {
  const Report &it = report();
  const MemoryUse use = memory_use();
  const auto number = [](auto value) { return std::to_string(value); };
  return "{\"violations\": " + list(it.violations) + ", \"refusals\": " + list(it.refusals) +
         ", \"memory\": " + list(live_memory()) + ", \"live\": " + object(live_objects(), number) +
         ", \"pending\": " + number(pending()) + ", \"retained\": " + number(world().retained) +
         ", \"sticky\": " + number(world().sticky) + ", \"used\": " + number(use.used) + ", \"peak\": " + number(use.peak) +
         ", \"calls\": " + number(it.calls) + ", \"counts\": " + object(it.counts, number) +
         ", \"failed\": " + quoted(it.failed) + "}";
}

/** PULLBACK_SIM_REPORT names a file that gets the report when the process ends. */
void write_at_exit() {
  const char *const path = getenv("PULLBACK_SIM_REPORT");
  if (path == nullptr) return;
  FILE *const file = fopen(path, "w");
  if (file == nullptr) return;
  fputs(report_text().c_str(), file);
  fclose(file);
}

uint64_t variable(const char *name) {
  const char *const value = getenv(name);
  return value == nullptr ? 0 : strtoull(value, nullptr, 10);
}

/** What a process that cannot call sim_* is told by its environment. */
__attribute__((constructor)) void read_environment() {
  report().seed = report().random = variable("PULLBACK_SIM_SEED");
  report().fail_at = static_cast<int64_t>(variable("PULLBACK_SIM_FAIL"));
  if (const uint64_t total = variable("PULLBACK_SIM_MEMORY")) memory_limit(total);
  align_right(static_cast<uint32_t>(variable("PULLBACK_SIM_ALIGN")));
  atexit(write_at_exit);
}

}  // namespace

World &world() {
  static World *const it = new World;
  return *it;
}

std::string text(const char *format, ...) {
  char buffer[2048];
  va_list values;
  va_start(values, format);
  vsnprintf(buffer, sizeof buffer, format, values);
  va_end(values);
  return buffer;
}

void violation(const char *format, ...) {
  char buffer[2048];
  va_list values;
  va_start(values, format);
  vsnprintf(buffer, sizeof buffer, format, values);
  va_end(values);
  if (report().violations.size() < most_violations) report().violations.push_back(buffer);
}

void refused(const char *call) { report().refusals.push_back(call); }

int fail_now(const char *call) {
  Report &it = report();
  const int64_t of_name = ++it.counts[call], of_all = ++it.calls;
  const bool named = !it.fail_call.empty();
  if ((named ? of_name : of_all) != it.fail_at || (named && it.fail_call != call)) return 0;
  it.failed = call;
  return it.fail_status != 0 && (named || is_driver(call)) ? it.fail_status : typical_error(call);
}

int enter(const char *call, Needs needs) {
  const LateEntry entry = enter_late(call, needs);
  return entry.injected != 0 ? entry.injected : entry.status;
}

LateEntry enter_late(const char *call, Needs needs) {
  const int injected = fail_now(call);
  if (needs == Needs::nothing) return {success, injected};
  if (!world().initialized) return {not_initialized, injected};
  return {needs == Needs::context ? context_status() : success, injected};
}

int context_status() {
  if (!world().initialized) return not_initialized;
  if (!world().current) return invalid_context;
  return world().sticky;
}

void born(const char *kind, const void *handle) { report().objects[kind].insert(handle); }
bool dies(const char *kind, const void *handle) { return report().objects[kind].erase(handle) > 0; }
bool alive(const char *kind, const void *handle) {
  const auto found = report().objects.find(kind);
  return found != report().objects.end() && found->second.count(handle) > 0;
}

std::map<std::string, size_t> live_objects() {
  std::map<std::string, size_t> counts;
  for (const auto &[kind, handles] : report().objects)
    if (!handles.empty()) counts[kind] = handles.size();
  return counts;
}

uint64_t seed() { return report().seed; }

uint32_t draw(uint32_t below) {
  if (below == 0 || report().seed == 0) return 0;
  uint64_t x = report().random += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return static_cast<uint32_t>(((x ^ (x >> 31)) >> 32) * below >> 32);
}

bool chance(uint32_t often) { return report().seed != 0 && draw(often) == 0; }

void on_reset(std::function<void()> forget) { report().forget.push_back(std::move(forget)); }

}  // namespace sim

using namespace sim;

/** Chooses the order of everything: 0 is natural and as late as can be, every other number another order. */
SIM_EXPORT void sim_seed(uint64_t value) { report().seed = report().random = value; }

/**
 * The n-th counted call from now fails, once; 0 takes that back. `status` is what it answers, if it is one of the driver's;
 * 0: what is typical. With `call` only calls of that name count, of whatever library.
 */
SIM_EXPORT void sim_fail(int64_t n, int status, const char *call) {
  Report &it = report();
  it.fail_call = call == nullptr ? "" : call;
  it.fail_status = status;
  it.fail_at = n <= 0 ? 0 : n + (it.fail_call.empty() ? it.calls : it.counts[it.fail_call]);
  it.failed.clear();
}

SIM_EXPORT int64_t sim_calls() { return report().calls; }

/** The bytes of the device's memory. */
SIM_EXPORT void sim_memory(uint64_t total) { memory_limit(total); }

/** Allocations end where a page ends, aligned to so many bytes; 0: they begin where a page begins. */
SIM_EXPORT void sim_align(uint32_t alignment) { align_right(alignment); }

/** Everything that can be told, as JSON; it lasts until the next call. */
SIM_EXPORT const char *sim_report() {
  report().text = report_text();
  return report().text.c_str();
}

/** Forgets everything: handles, memory, work, violations, counts. What was bound stays usable, from cuInit on. */
SIM_EXPORT void sim_reset() {
  World &it = world();
  it.queues.clear();
  it.captures.clear();
  it.streams.clear();
  it.events.clear();
  it.graphs.clear();
  it.executables.clear();
  forget_modules();
  for (const auto &forget : report().forget) forget();
  forget_memory();
  forget_peak();
  const uint64_t handles = it.handles;
  it.initialized = it.current = false;
  it.retained = it.sticky = 0;
  it.microseconds = 0;
  it.handles = handles;
  Report kept = std::move(report());
  report() = Report{};
  report().forget = std::move(kept.forget);
  report().seed = report().random = kept.seed;
}
