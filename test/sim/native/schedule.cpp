// Streams as queues. Nothing runs until somebody waits; then what he waits for runs, and with a seed now and then something
// else that may. Order between streams comes from events only.
#include <algorithm>

#include "world.h"

namespace sim {
namespace {

constexpr double launch_microseconds = 2;

/** Runs one operation under guard and lets its simulated time pass. */
void perform(const std::string &what, const std::function<void()> &run) {
  World &it = world();
  it.elapsed = -1;
  const int status = guarded(what.c_str(), run);
  it.microseconds += it.elapsed < 0 ? launch_microseconds : it.elapsed;
  if (status != success && it.sticky == success) it.sticky = status;
  check_ends(what.c_str());
}

bool ready(const Node &node, const std::vector<bool> &done) {
  return std::all_of(node.after.begin(), node.after.end(), [&](uint32_t other) { return done[other]; });
}

/** Runs one node of a graph, any that may run. */
void replay_one(Replay &replay) {
  const std::vector<Node> &nodes = replay.recording->nodes;
  std::vector<uint32_t> candidates;
  for (uint32_t i = 0; i < nodes.size() && (seed() != 0 || candidates.empty()); ++i)
    if (!replay.done[i] && ready(nodes[i], replay.done)) candidates.push_back(i);
  const uint32_t chosen = candidates.at(draw(static_cast<uint32_t>(candidates.size())));
  perform(nodes[chosen].what + " (in a graph)", nodes[chosen].run);
  replay.done[chosen] = true;
  --replay.left;
}

/** Whether the first thing on the queue could run now. */
bool runnable(const Queue &queue) {
  return !queue.items.empty() && (queue.items.front().wait == nullptr || queue.items.front().wait->done);
}

/** Runs a piece of the first thing on the queue. */
void step(Queue &queue) {
  Item &item = queue.items.front();
  if (item.replay != nullptr && item.replay->left > 0) {
    replay_one(*item.replay);
    if (item.replay->left > 0) return;
  }
  const Item done = std::move(item);
  queue.items.pop_front();
  if (done.run) perform(done.what, done.run);
  if (done.record != nullptr) {
    done.record->done = true;
    done.record->time = world().microseconds;
  }
}

/** The queue that has to go on so that this one can. */
Queue &needed(Queue &queue) {
  Queue *it = &queue;
  while (!runnable(*it)) it = it->items.front().wait->queue;
  return *it;
}

/** Some queue that may go on. */
Queue *any() {
  std::vector<Queue *> candidates;
  for (const auto &queue : world().queues)
    if (runnable(*queue)) candidates.push_back(queue.get());
  return candidates.empty() ? nullptr : candidates[draw(static_cast<uint32_t>(candidates.size()))];
}

/** A dead context does no more work. */
int drop_everything() {
  for (const auto &queue : world().queues) queue->items.clear();
  return world().sticky;
}

void forget_drained() {
  auto &queues = world().queues;
  const auto drained = [](const auto &queue) { return queue->destroyed && queue->items.empty(); };
  // A record may still name a queue that is gone; it is done then, and nobody follows it.
  queues.erase(std::remove_if(queues.begin(), queues.end(), drained), queues.end());
}

}  // namespace

void elapse(double microseconds) {
  double &elapsed = world().elapsed;
  elapsed = (elapsed < 0 ? 0 : elapsed) + microseconds;
}

void push(Queue &queue, Item item) { queue.items.push_back(std::move(item)); }

RecordRef mark(Queue &queue) {
  const auto record = std::make_shared<Record>();
  record->queue = &queue;
  if (queue.items.empty()) {
    record->done = true;
    record->time = world().microseconds;
  } else {
    Item item;
    item.record = record;
    push(queue, std::move(item));
  }
  return record;
}

void run_one_for(const Record &record) {
  if (record.done || world().sticky != success) return;
  step(needed(*record.queue));
  if (world().sticky != success) drop_everything();
}

int run_until(const RecordRef &record) {
  while (!record->done) {
    if (world().sticky != success) return drop_everything();
    Queue *const other = chance(4) ? any() : nullptr;
    step(other != nullptr ? *other : needed(*record->queue));
  }
  forget_drained();
  return world().sticky;
}

int run_all(Queue &queue) { return run_until(mark(queue)); }

int run_everything() {
  for (Queue *queue = any(); queue != nullptr; queue = any()) {
    step(*queue);
    if (world().sticky != success) return drop_everything();
  }
  forget_drained();
  return world().sticky;
}

size_t pending() {
  size_t items = 0;
  for (const auto &queue : world().queues) items += queue->items.size();
  return items;
}

bool stream_alive(void *stream) { return world().streams.get(stream) != nullptr; }

int enqueue(void *stream, const char *what, std::function<void()> work) {
  if (const int status = context_status()) return status;
  Queue *const queue = world().streams.get(stream);
  if (queue == nullptr) return invalid_handle;
  if (queue->capture == nullptr) {
    Item item;
    item.what = what;
    item.run = std::move(work);
    push(*queue, std::move(item));
    return success;
  }
  if (queue->capture->invalid) return capture_invalidated;
  auto &nodes = queue->capture->recording->nodes;
  nodes.push_back({what, std::move(work), queue->tail});
  queue->tail = {static_cast<uint32_t>(nodes.size() - 1)};
  return success;
}

}  // namespace sim
