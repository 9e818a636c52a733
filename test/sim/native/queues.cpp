// The simulated driver's calls about streams and events. What waiting means is schedule.cpp's part, what recording means
// capture.cpp's.
#include <algorithm>

#include "world.h"

namespace sim {
namespace {

/** Makes the stream part of the capture the event was recorded in. */
int wait_in_capture(Queue &queue, const Event &event) {
  if (event.capture->ended) {
    if (queue.capture != nullptr) make_invalid(*queue.capture);
    return captured_event;
  }
  if (event.capture->invalid) return capture_invalidated;
  if (queue.capture != nullptr && queue.capture != event.capture) {
    make_invalid(*queue.capture);
    make_invalid(*event.capture);
    return capture_merge;
  }
  if (queue.capture == nullptr) {
    queue.capture = event.capture;
    queue.tail.clear();
    event.capture->members.push_back(&queue);
  }
  for (const uint32_t node : event.after)
    if (std::find(queue.tail.begin(), queue.tail.end(), node) == queue.tail.end()) queue.tail.push_back(node);
  return success;
}

/** What a query or a wait of the host must not be about: 900, 907 or 0. */
int unfit_for_host(const Event &event, const char *call) {
  if (event.capture != nullptr) {
    if (!event.capture->ended) make_invalid(*event.capture);
    return captured_event;
  }
  return forbidden_in_capture(call);
}

/** One step of polling: a piece of the work, and an answer that may come a little later than it could. */
int poll(const RecordRef &record) {
  const bool before = record->done;
  run_one_for(*record);
  if (world().sticky != success) return world().sticky;
  if (!record->done) return not_ready;
  return !before && chance(2) ? not_ready : success;
}

}  // namespace
}  // namespace sim

using namespace sim;

SIM_EXPORT int cuStreamCreateWithPriority(void **stream, unsigned flags, int) {
  if (const int status = enter("cuStreamCreateWithPriority", Needs::context)) return status;
  if (stream == nullptr || flags > 1) return invalid_value;
  if (flags != 1) violation("cuStreamCreateWithPriority: a stream that waits for the default stream is not simulated");
  const auto queue = std::make_shared<Queue>();
  world().queues.push_back(queue);
  *stream = world().streams.add(queue);
  return success;
}

SIM_EXPORT int cuStreamDestroy_v2(void *stream) {
  const LateEntry entry = enter_late("cuStreamDestroy_v2", Needs::context);
  if (entry.status != success) return entry.status;
  Queue *const queue = world().streams.get(stream);
  if (queue == nullptr) return invalid_handle;
  if (queue->capture != nullptr) return illegal_during_capture(stream, "cuStreamDestroy_v2");
  queue->destroyed = true;
  world().streams.remove(stream);
  return entry.injected;
}

SIM_EXPORT int cuStreamSynchronize(void *stream) {
  if (const int status = enter("cuStreamSynchronize", Needs::context)) return status;
  Queue *const queue = world().streams.get(stream);
  if (queue == nullptr) return invalid_handle;
  if (const int status = forbidden_in_capture("cuStreamSynchronize")) return status;
  return run_all(*queue);
}

SIM_EXPORT int cuStreamQuery(void *stream) {
  if (const int status = enter("cuStreamQuery", Needs::context)) return status;
  Queue *const queue = world().streams.get(stream);
  if (queue == nullptr) return invalid_handle;
  if (const int status = forbidden_in_capture("cuStreamQuery")) return status;
  if (queue->items.empty()) return success;
  Record last;
  last.queue = queue;
  run_one_for(last);
  if (world().sticky != success) return world().sticky;
  return queue->items.empty() ? success : not_ready;
}

SIM_EXPORT int cuStreamWaitEvent(void *stream, void *handle, unsigned flags) {
  if (const int status = enter("cuStreamWaitEvent", Needs::context)) return status;
  Queue *const queue = world().streams.get(stream);
  const Event *const event = world().events.get(handle);
  if (queue == nullptr || event == nullptr) return invalid_handle;
  if (flags != 0) return invalid_value;
  if (queue->capture != nullptr && queue->capture->invalid) return capture_invalidated;
  if (event->capture != nullptr) return wait_in_capture(*queue, *event);
  if (event->record == nullptr) {
    violation("cuStreamWaitEvent: a stream waits for an event that was never recorded, so for nothing");
    return success;
  }
  if (queue->capture != nullptr) {
    make_invalid(*queue->capture);
    return capture_isolation;
  }
  Item item;
  item.wait = event->record;
  push(*queue, std::move(item));
  return success;
}

SIM_EXPORT int cuEventCreate(void **event, unsigned flags) {
  if (const int status = enter("cuEventCreate", Needs::context)) return status;
  if (event == nullptr || flags > 3) return invalid_value;
  auto made = std::make_shared<Event>();
  made->timing = (flags & 2) == 0;
  *event = world().events.add(std::move(made));
  return success;
}

SIM_EXPORT int cuEventDestroy_v2(void *event) {
  const LateEntry entry = enter_late("cuEventDestroy_v2", Needs::context);
  if (entry.status != success) return entry.status;
  return world().events.remove(event) ? entry.injected : invalid_handle;
}

SIM_EXPORT int cuEventRecord(void *handle, void *stream) {
  if (const int status = enter("cuEventRecord", Needs::context)) return status;
  Queue *const queue = world().streams.get(stream);
  Event *const event = world().events.get(handle);
  if (queue == nullptr || event == nullptr) return invalid_handle;
  if (queue->capture != nullptr && queue->capture->invalid) return capture_invalidated;
  event->capture = queue->capture;
  event->after = queue->tail;
  event->record = nullptr;
  if (queue->capture != nullptr) return success;
  event->record = std::make_shared<Record>();
  event->record->queue = queue;
  Item item;
  item.record = event->record;
  push(*queue, std::move(item));
  return success;
}

SIM_EXPORT int cuEventQuery(void *handle) {
  if (const int status = enter("cuEventQuery", Needs::context)) return status;
  const Event *const event = world().events.get(handle);
  if (event == nullptr) return invalid_handle;
  if (const int status = unfit_for_host(*event, "cuEventQuery")) return status;
  return event->record == nullptr ? success : poll(event->record);
}

SIM_EXPORT int cuEventSynchronize(void *handle) {
  if (const int status = enter("cuEventSynchronize", Needs::context)) return status;
  const Event *const event = world().events.get(handle);
  if (event == nullptr) return invalid_handle;
  if (const int status = unfit_for_host(*event, "cuEventSynchronize")) return status;
  return event->record == nullptr ? success : run_until(event->record);
}

SIM_EXPORT int cuEventElapsedTime(float *milliseconds, void *from, void *to) {
  if (const int status = enter("cuEventElapsedTime", Needs::context)) return status;
  const Event *const first = world().events.get(from), *const last = world().events.get(to);
  if (first == nullptr || last == nullptr || !first->timing || !last->timing) return invalid_handle;
  if (milliseconds == nullptr) return invalid_value;
  if (first->capture != nullptr || last->capture != nullptr) return captured_event;
  if (first->record == nullptr || last->record == nullptr) return invalid_handle;
  if (!first->record->done || !last->record->done) return not_ready;
  *milliseconds = static_cast<float>((last->record->time - first->record->time) / 1000);
  return success;
}
