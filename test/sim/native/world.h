// What the files of the simulated driver share: the statuses, and the state behind its handles. Who changes what: memory.cpp
// the allocations, schedule.cpp the queues, capture.cpp the recordings, modules.cpp the kernels, report.cpp what is told.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "sim.h"

namespace sim {

/** CUresult, as far as it is answered. */
enum Status : int {
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialized = 3,
  no_device = 100,
  invalid_device = 101,
  invalid_image = 200,
  invalid_context = 201,
  no_binary = 209,
  invalid_handle = 400,
  illegal_state = 401,
  not_found = 500,
  not_ready = 600,
  illegal_address = 700,
  launch_failed = 719,
  misaligned_address = 716,
  capture_unsupported = 900,
  capture_invalidated = 901,
  capture_merge = 902,
  capture_unmatched = 903,
  capture_unjoined = 904,
  capture_isolation = 905,
  captured_event = 907,
  unknown_error = 999,
};

std::string text(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Orders, report.cpp

/** Whether the run takes the other way here: never for seed 0, else once in `often`. */
bool chance(uint32_t often);
/** Shows in the report: a call that was refused because of a capture. */
void refused(const char *call);
/** How many objects of each kind live. */
std::map<std::string, size_t> live_objects();

// Memory, memory.cpp

enum class Place { device, host };

/** Poisoned memory between pages that fault; null if the limit is reached. */
void *allocate(Place place, size_t bytes);
/** False if it is not the begin of a live allocation there. */
bool release(Place place, void *address);
/** Inside one live pinned allocation. */
bool pinned_range(const void *p, size_t bytes);
/** Where an address lies, in words. */
std::string describe(const void *p);
/** Notes writes past the ends of allocations; `what` ran last. */
void check_ends(const char *what);
void add_global(const void *address, size_t bytes);
void drop_global(const void *address);
struct MemoryUse {
  size_t total, used, peak;
};
MemoryUse memory_use();
void memory_limit(size_t total);
void align_right(uint32_t alignment);
void forget_memory();
void forget_peak();
/** One line for each live allocation. */
std::vector<std::string> live_memory();

// Faults, faults.cpp

/** Takes the signals of faults, once. */
void watch_faults();
/** Runs it; a fault in it is a violation and gives 700, 716 or 719. */
int guarded(const char *what, const std::function<void()> &run);
/** Where in a kernel the processor is, for reports; empty outside. */
std::string kernel_place();
/** Makes the launcher ready again after a fault inside a kernel. */
void leave_kernel();

// Queues, schedule.cpp

/** What an event's record promises: that everything before it has run. */
struct Record {
  bool done = false;
  double time = 0;
  struct Queue *queue = nullptr;
};
using RecordRef = std::shared_ptr<Record>;

/** One operation of a graph; it runs behind those with the numbers in `after`. */
struct Node {
  std::string what;
  std::function<void()> run;
  std::vector<uint32_t> after;
};

struct Recording {
  std::vector<Node> nodes;
};

/** A launch of a graph on its way. */
struct Replay {
  std::shared_ptr<const Recording> recording;
  std::vector<bool> done;
  size_t left;
};

/** Something a stream does, in its turn: exactly one of these is set. */
struct Item {
  std::string what;
  std::function<void()> run;
  RecordRef record, wait;
  std::shared_ptr<Replay> replay;
};

struct Capture {
  std::shared_ptr<Recording> recording = std::make_shared<Recording>();
  void *origin = nullptr;
  bool invalid = false, ended = false;
  std::vector<struct Queue *> members;
};

struct Queue {
  std::deque<Item> items;
  std::shared_ptr<Capture> capture;
  /** The nodes that the next one of this stream runs behind. */
  std::vector<uint32_t> tail;
  bool destroyed = false;
};

struct Event {
  RecordRef record;
  bool timing = true;
  /** Where it was recorded last, if that was in a capture. */
  std::shared_ptr<Capture> capture;
  std::vector<uint32_t> after;
};

struct GraphExecutable {
  std::shared_ptr<const Recording> recording;
  RecordRef last;
};

/** Live objects by handle; a handle is never given twice. */
template <class T> class Handles {
 public:
  explicit Handles(const char *kind) : kind_(kind) {}
  void *add(std::shared_ptr<T> object);
  T *get(const void *handle) const {
    const auto found = live_.find(handle);
    return found == live_.end() ? nullptr : found->second.get();
  }
  std::shared_ptr<T> share(const void *handle) const {
    const auto found = live_.find(handle);
    return found == live_.end() ? nullptr : found->second;
  }
  bool remove(const void *handle);
  void clear();

 private:
  const char *kind_;
  std::unordered_map<const void *, std::shared_ptr<T>> live_;
};

struct World {
  bool initialized = false;
  int retained = 0;
  bool current = false;
  /** The status every call answers after a fault. */
  int sticky = 0;
  double microseconds = 0, elapsed = -1;
  uint64_t handles = 0;
  std::vector<std::shared_ptr<Queue>> queues;
  std::vector<std::shared_ptr<Capture>> captures;
  Handles<Queue> streams{"stream"};
  Handles<Event> events{"event"};
  Handles<const Recording> graphs{"graph"};
  Handles<GraphExecutable> executables{"graph executable"};
};
World &world();

template <class T> void *Handles<T>::add(std::shared_ptr<T> object) {
  void *const handle = reinterpret_cast<void *>(0x5100'0000'0000ull + 16 * ++world().handles);
  live_.emplace(handle, std::move(object));
  born(kind_, handle);
  return handle;
}
template <class T> bool Handles<T>::remove(const void *handle) { return live_.erase(handle) > 0 && dies(kind_, handle); }
template <class T> void Handles<T>::clear() {
  for (const auto &[handle, object] : live_) dies(kind_, handle);
  live_.clear();
}

/** Runs work until the record is done. Answers 0 or the context's sticky error. */
int run_until(const RecordRef &record);
/** Runs everything on the stream, or on all streams. */
int run_all(Queue &queue);
int run_everything();
/** Runs one piece of what the record waits for. */
void run_one_for(const Record &record);
void push(Queue &queue, Item item);
size_t pending();
/** A record behind everything on the queue now; it is done if the queue is empty. */
RecordRef mark(Queue &queue);

// Captures, capture.cpp

void make_invalid(Capture &capture);
/** 900 and an invalid capture if this thread captures anything. */
int forbidden_in_capture(const char *call);

// Modules, modules.cpp

void forget_modules();

// Entry: what every call asks first

enum class Needs { nothing, initialization, context };

/** Counts the call and answers what keeps it from going on: 3, 201, a sticky error, an injected one. */
int enter(const char *call, Needs needs);

/** The same for what destroys: an injected error is answered after the deed. */
struct LateEntry {
  int status, injected;
};
LateEntry enter_late(const char *call, Needs needs);

}  // namespace sim
