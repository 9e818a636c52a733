// Runs a kernel compiled for the host: blocks one after the other, the threads of a block as fibres that change where they
// meet, both in an order that a seed gives. A header that stands alone, because tests also build it into single kernels.
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fibre.h"
#include "hooks.h"

namespace sim_launch {
namespace {

constexpr uint32_t most_threads = 1024, lanes = 32, most_gathered = 256;

/** A kernel, and the variables of its own by which it knows its place. */
struct Kernel {
  void (*run)(const void *argument);
  uint32_t *block, *thread;
  void (**barrier)(void);
  /** Its static shared memory. */
  char *shared_begin, *shared_end;
};

struct Launch {
  const void *argument;
  uint32_t blocks, threads;
  size_t shared;
  /** 0 keeps the natural order. */
  uint32_t seed;
};

enum class State : uint8_t { waiting, running, barrier, warp, ended };

struct Copy {
  void *to;
  const void *from;
  uint32_t bytes, valid, group;
};

/** One thread of a block. */
struct Thread {
  State state;
  Fibre *fibre;
  const void *mine;
  size_t bytes;
  Copy *copies;
  uint32_t copy_count, copy_room, group;
};

/** One block at a time: everything about the one that runs. */
struct Block {
  Kernel kernel;
  Launch launch;
  Thread threads[most_threads];
  uint32_t order[most_threads], warp_order[most_threads / lanes];
  uint32_t next, current, index, random;
  Fibre *free_fibres;
  StackPointer home;
  char gathered[most_threads / lanes][lanes * most_gathered];
  char *dynamic_shared, *shared_pages;
  size_t shared_bytes;
  char complaint[256];
};

Block block;

uint32_t draw(uint32_t below) {
  block.random = block.random * 1664525u + 1013904223u;
  return (uint32_t)(((uint64_t)block.random * below) >> 32);
}

/** The numbers below `count`, in natural order if the seed is 0. */
void shuffled(uint32_t *list, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) list[i] = i;
  for (uint32_t i = count; block.launch.seed != 0 && i > 1; --i) {
    const uint32_t j = draw(i), kept = list[i - 1];
    list[i - 1] = list[j];
    list[j] = kept;
  }
}

template <class... Values> void complain(const char *format, Values... values) {
  if (block.complaint[0] == 0) snprintf(block.complaint, sizeof block.complaint, format, values...);
}

/** Takes threads that have not begun, until one of them has to wait on this fibre and comes back to end, and so on. */
void work() {
  for (;;) {
    while (block.next < block.launch.threads) {
      const uint32_t t = block.order[block.next++];
      Thread &thread = block.threads[t];
      thread.state = State::running;
      block.current = *block.kernel.thread = t;
      block.kernel.run(block.launch.argument);
      block.threads[block.current].state = State::ended;
    }
    Fibre *const self = running_fibre;
    self->next = block.free_fibres;
    block.free_fibres = self;
    change_stack(&self->stack_pointer, block.home);
  }
}

/** Gives the processor to a fibre until it has to wait. */
void go_on(Fibre *fibre) {
  running_fibre = fibre;
  change_stack(&block.home, fibre->stack_pointer);
}

/** The running thread waits for others in `state`. */
void wait_as(State state) {
  const uint32_t self = block.current;
  Thread &thread = block.threads[self];
  thread.state = state;
  thread.fibre = running_fibre;
  change_stack(&thread.fibre->stack_pointer, block.home);
  thread.state = State::running;
  block.current = *block.kernel.thread = self;
}

void barrier() { wait_as(State::barrier); }

uint32_t count(State state) {
  uint32_t found = 0;
  for (uint32_t t = 0; t < block.launch.threads; ++t) found += block.threads[t].state == state;
  return found;
}

/** Lets the threads [first, first + size) go on, in an order. */
void release(uint32_t first, uint32_t size) {
  uint32_t list[most_threads];
  shuffled(list, size);
  for (uint32_t i = 0; i < size; ++i) go_on(block.threads[first + list[i]].fibre);
}

/** Whether the whole warp has met; if so, its data lie together. */
bool met(uint32_t warp) {
  const Thread *const lane = block.threads + warp * lanes;
  for (uint32_t i = 0; i < lanes; ++i)
    if (warp * lanes + i >= block.launch.threads || lane[i].state != State::warp) return false;
  for (uint32_t i = 0; i < lanes; ++i) {
    if (lane[i].bytes != lane[0].bytes) {
      complain("lanes of warp %u of block %u meet in different exchanges, of %zu and of %zu bytes", warp, block.index,
               lane[0].bytes, lane[i].bytes);
      return false;
    }
    if (lane[i].bytes > 0) memcpy(block.gathered[warp] + i * lane[i].bytes, lane[i].mine, lane[i].bytes);
  }
  return true;
}

/**
 * Lets warps whose lanes have met go on: all of them by turns if the seed is 0. Else only the first in the block's order, so
 * that a warp is as far ahead of the others as barriers allow, and what should have waited for one shows.
 */
bool release_warps() {
  const uint32_t warps = (block.launch.threads + lanes - 1) / lanes;
  bool any = false;
  for (uint32_t i = 0; i < warps && (block.launch.seed == 0 || !any); ++i) {
    if (!met(block.warp_order[i])) continue;
    release(block.warp_order[i] * lanes, lanes);
    any = true;
  }
  return any;
}

void complain_of_waiting() {
  const uint32_t at_barrier = count(State::barrier), at_warp = count(State::warp), ended = count(State::ended);
  complain("%s in block %u not reached by all its threads: %u wait at a barrier, %u for their warp, %u have ended",
           at_warp > 0 ? "a warp exchange" : "a barrier", block.index, at_barrier, at_warp, ended);
}

void poison_shared() {
  if (block.kernel.shared_end > block.kernel.shared_begin)
    memset(block.kernel.shared_begin, 0xff, (size_t)(block.kernel.shared_end - block.kernel.shared_begin));
  if (block.launch.shared > 0) memset(block.dynamic_shared, 0xff, block.launch.shared);
}

/** Dynamic shared memory that ends at a page which faults, as far as its alignment lets it. */
void take_shared(size_t bytes) {
  if (block.shared_pages != nullptr && bytes != block.shared_bytes) {
    munmap(block.shared_pages - page_bytes, whole_pages(block.shared_bytes) + 2 * page_bytes);
    block.shared_pages = nullptr;
  }
  if (bytes > 0 && block.shared_pages == nullptr) block.shared_pages = guarded_pages(bytes);
  block.shared_bytes = bytes;
  const size_t slack = (page_bytes - bytes % page_bytes) % page_bytes / 1024 * 1024;
  block.dynamic_shared = block.shared_pages == nullptr ? nullptr : block.shared_pages + slack;
}

/** One block, from its first thread's begin to its last one's end. */
bool run_block(uint32_t index) {
  const uint32_t threads = block.launch.threads;
  block.index = *block.kernel.block = index;
  block.next = 0;
  for (uint32_t t = 0; t < threads; ++t) {
    Thread &thread = block.threads[t];
    thread.state = State::waiting;
    thread.copy_count = thread.group = 0;
  }
  poison_shared();
  shuffled(block.order, threads);
  shuffled(block.warp_order, (threads + lanes - 1) / lanes);
  while (block.next < threads) {
    Fibre *const fibre = block.free_fibres != nullptr ? block.free_fibres : new_fibre(work);
    block.free_fibres = fibre->next;
    fibre->next = nullptr;
    go_on(fibre);
  }
  for (;;) {
    const uint32_t ended = count(State::ended);
    if (ended == threads) return true;
    if (count(State::barrier) == threads) release(0, threads);
    else if (!release_warps()) {
      complain_of_waiting();
      return false;
    }
  }
}

/** Forgets fibres that were left in the middle: after a complaint or a fault. */
void abandon() { block.free_fibres = all_fibres_again(work); }

/** Runs a launch; null, or what is wrong with it. */
const char *run(const Kernel &kernel, const Launch &launch) {
  block.kernel = kernel;
  block.launch = launch;
  block.complaint[0] = 0;
  block.random = launch.seed;
  *kernel.barrier = barrier;
  if (launch.threads > most_threads) return "more than 1024 threads in a block";
  take_shared(launch.shared);
  uint32_t *const list = (uint32_t *)malloc(sizeof(uint32_t) * ((size_t)launch.blocks + 1));
  shuffled(list, launch.blocks);
  bool whole = true;
  for (uint32_t b = 0; b < launch.blocks && whole; ++b) whole = run_block(list[b]);
  free(list);
  if (!whole) abandon();
  return whole ? nullptr : block.complaint;
}

/** The copies of the running thread's groups that are older than the newest `left`. */
void copy_older(uint32_t left) {
  Thread &thread = block.threads[block.current];
  uint32_t kept = 0;
  for (uint32_t i = 0; i < thread.copy_count; ++i) {
    const Copy &copy = thread.copies[i];
    if (copy.group + left < thread.group) {
      memcpy(copy.to, copy.from, copy.valid);
      memset((char *)copy.to + copy.valid, 0, copy.bytes - copy.valid);
    } else thread.copies[kept++] = copy;
  }
  thread.copy_count = kept;
}

}  // namespace
}  // namespace sim_launch

#define PB_SIM_HOOK extern "C" __attribute__((visibility("default")))

PB_SIM_HOOK const void *pb_sim_warp_gather(const void *mine, size_t bytes) {
  using namespace sim_launch;
  if (bytes > most_gathered) abort();
  Thread &thread = block.threads[block.current];
  thread.mine = mine;
  thread.bytes = bytes;
  wait_as(State::warp);
  return block.gathered[block.current / lanes];
}

PB_SIM_HOOK void pb_sim_warp_exchange(const void *mine, size_t bytes, void *all) {
  memcpy(all, pb_sim_warp_gather(mine, bytes), sim_launch::lanes * bytes);
}

PB_SIM_HOOK void *pb_sim_dynamic_shared(void) { return sim_launch::block.dynamic_shared; }

PB_SIM_HOOK void pb_sim_async_copy(void *to, const void *from, uint32_t bytes, uint32_t valid) {
  using namespace sim_launch;
  if ((bytes != 4 && bytes != 8 && bytes != 16) || valid > bytes || (uintptr_t)to % bytes != 0 ||
      (valid > 0 && (uintptr_t)from % bytes != 0))
    abort();
  Thread &thread = block.threads[block.current];
  if (thread.copy_count == thread.copy_room) {
    thread.copy_room = 2 * thread.copy_room + 8;
    thread.copies = (Copy *)realloc(thread.copies, thread.copy_room * sizeof(Copy));
  }
  thread.copies[thread.copy_count++] = {to, from, bytes, valid, thread.group};
}

PB_SIM_HOOK void pb_sim_async_commit(void) { ++sim_launch::block.threads[sim_launch::block.current].group; }

PB_SIM_HOOK void pb_sim_async_wait(uint32_t left) { sim_launch::copy_older(left); }
