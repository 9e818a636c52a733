// Streams that record instead of doing: captures in thread-local mode, the calls they forbid, and graphs and their replay.
#include <algorithm>

#include "world.h"

namespace sim {
namespace {

/** Everything a stream of the capture did is before the origin's last nodes. */
bool joined(const Capture &capture) {
  const auto &nodes = capture.recording->nodes;
  std::vector<bool> seen(nodes.size(), false);
  std::vector<uint32_t> open;
  for (const Queue *member : capture.members)
    if (member == world().streams.get(capture.origin)) open = member->tail;
  while (!open.empty()) {
    const uint32_t node = open.back();
    open.pop_back();
    if (seen[node]) continue;
    seen[node] = true;
    open.insert(open.end(), nodes[node].after.begin(), nodes[node].after.end());
  }
  return std::all_of(capture.members.begin(), capture.members.end(), [&](const Queue *member) {
    return std::all_of(member->tail.begin(), member->tail.end(), [&](uint32_t node) { return seen[node]; });
  });
}

/** The streams do again what they are told. */
void end(const std::shared_ptr<Capture> &capture) {
  capture->ended = true;
  for (Queue *member : capture->members) {
    member->capture = nullptr;
    member->tail.clear();
  }
  capture->members.clear();
  auto &captures = world().captures;
  captures.erase(std::remove(captures.begin(), captures.end(), capture), captures.end());
}

}  // namespace

void make_invalid(Capture &capture) { capture.invalid = true; }

bool capturing(void *stream) {
  const Queue *const queue = world().streams.get(stream);
  return queue != nullptr && queue->capture != nullptr;
}

int forbidden_in_capture(const char *call) {
  if (world().captures.empty()) return success;
  for (const auto &capture : world().captures) make_invalid(*capture);
  refused(call);
  return capture_unsupported;
}

int illegal_during_capture(void *stream, const char *call) {
  return stream == nullptr || capturing(stream) ? forbidden_in_capture(call) : success;
}

}  // namespace sim

using namespace sim;

SIM_EXPORT int cuStreamBeginCapture_v2(void *stream, int mode) {
  if (const int status = enter("cuStreamBeginCapture_v2", Needs::context)) return status;
  Queue *const queue = world().streams.get(stream);
  if (queue == nullptr) return invalid_handle;
  if (mode < 0 || mode > 2) return invalid_value;
  if (queue->capture != nullptr) return illegal_state;
  if (mode != 1) violation("cuStreamBeginCapture_v2: only the thread-local mode is simulated, got %d", mode);
  const auto capture = std::make_shared<Capture>();
  capture->origin = stream;
  capture->members = {queue};
  queue->capture = capture;
  queue->tail.clear();
  world().captures.push_back(capture);
  return success;
}

SIM_EXPORT int cuStreamEndCapture(void *stream, void **graph) {
  const LateEntry entry = enter_late("cuStreamEndCapture", Needs::context);
  if (entry.status != success) return entry.status;
  Queue *const queue = world().streams.get(stream);
  if (queue == nullptr) return invalid_handle;
  if (graph == nullptr) return invalid_value;
  *graph = nullptr;
  if (queue->capture == nullptr) return illegal_state;
  const auto capture = queue->capture;
  if (capture->origin != stream) {
    make_invalid(*capture);
    return capture_unmatched;
  }
  const bool whole = joined(*capture);
  end(capture);
  if (capture->invalid) return capture_invalidated;
  if (!whole) return capture_unjoined;
  if (entry.injected != success) return entry.injected;
  *graph = world().graphs.add(capture->recording);
  return success;
}

SIM_EXPORT int cuStreamIsCapturing(void *stream, int *status) {
  if (const int refusal = enter("cuStreamIsCapturing", Needs::context)) return refusal;
  const Queue *const queue = world().streams.get(stream);
  if (queue == nullptr) return invalid_handle;
  if (status == nullptr) return invalid_value;
  *status = queue->capture == nullptr ? 0 : queue->capture->invalid ? 2 : 1;
  return success;
}

SIM_EXPORT int cuGraphInstantiateWithFlags(void **executable, void *graph, uint64_t flags) {
  if (const int status = enter("cuGraphInstantiateWithFlags", Needs::context)) return status;
  if (const int status = forbidden_in_capture("cuGraphInstantiateWithFlags")) return status;
  const auto recording = world().graphs.share(graph);
  if (recording == nullptr || executable == nullptr || flags != 0) return invalid_value;
  auto made = std::make_shared<GraphExecutable>();
  made->recording = recording;
  *executable = world().executables.add(std::move(made));
  return success;
}

SIM_EXPORT int cuGraphUpload(void *executable, void *stream) {
  if (const int status = enter("cuGraphUpload", Needs::context)) return status;
  if (!stream_alive(stream)) return invalid_handle;
  if (const int status = illegal_during_capture(stream, "cuGraphUpload")) return status;
  return world().executables.get(executable) == nullptr ? invalid_value : success;
}

SIM_EXPORT int cuGraphLaunch(void *executable, void *stream) {
  if (const int status = enter("cuGraphLaunch", Needs::context)) return status;
  Queue *const queue = world().streams.get(stream);
  if (queue == nullptr) return invalid_handle;
  if (const int status = illegal_during_capture(stream, "cuGraphLaunch")) return status;
  GraphExecutable *const it = world().executables.get(executable);
  if (it == nullptr) return invalid_value;
  if (it->last != nullptr && !it->last->done) {
    Item behind;
    behind.wait = it->last;
    push(*queue, std::move(behind));
  }
  const size_t nodes = it->recording->nodes.size();
  Item item;
  item.what = "graph";
  item.replay = std::make_shared<Replay>(Replay{it->recording, std::vector<bool>(nodes, false), nodes});
  push(*queue, std::move(item));
  it->last = mark(*queue);
  return success;
}

SIM_EXPORT int cuGraphDestroy(void *graph) {
  const LateEntry entry = enter_late("cuGraphDestroy", Needs::initialization);
  if (entry.status != success) return entry.status;
  return world().graphs.remove(graph) ? entry.injected : invalid_value;
}

SIM_EXPORT int cuGraphExecDestroy(void *executable) {
  const LateEntry entry = enter_late("cuGraphExecDestroy", Needs::initialization);
  if (entry.status != success) return entry.status;
  return world().executables.remove(executable) ? entry.injected : invalid_value;
}

SIM_EXPORT int cuGraphGetNodes(void *graph, void **nodes, uint64_t *count) {
  if (const int status = enter("cuGraphGetNodes", Needs::initialization)) return status;
  const auto *const recording = world().graphs.get(graph);
  if (recording == nullptr || count == nullptr) return invalid_value;
  if (nodes != nullptr) violation("cuGraphGetNodes: only the number of nodes is simulated");
  *count = recording->nodes.size();
  return success;
}
