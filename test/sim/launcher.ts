// The C++ that runs printed CUDA kernels on the host: blocks one after the other, the threads of a block as fibres that change
// at barriers, both in an order that a seed gives. A barrier that only some threads reach is an error.

/** Goes behind the prelude and the kernels; `names` are the kernels by number. */
export function launcher(names: readonly string[]): string {
  return `
#include <ucontext.h>
namespace {
void (*const kernels[])(const void *) = {${names.join(', ')}};
constexpr uint32_t threads = 256;
constexpr size_t stackBytes = 65536;
ucontext_t home, fibres[threads];
bool finished[threads];
char *stacks;
void (*running)(const void *);
const void *argument;
uint32_t state;

uint32_t draw(uint32_t below) {
  state = state * 1664525u + 1013904223u;
  return (uint32_t)(((uint64_t)state * below) >> 32);
}
void order(uint32_t *list, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) list[i] = i;
  for (uint32_t i = count; state != 0 && i > 1; --i) {
    const uint32_t j = draw(i), kept = list[i - 1];
    list[i - 1] = list[j];
    list[j] = kept;
  }
}
void yield() {
  const uint32_t self = pb_sim_thread;
  swapcontext(&fibres[self], &home);
  pb_sim_thread = self;
}
void enter() {
  running(argument);
  finished[pb_sim_thread] = true;
}
/* Every round takes each fibre to its next barrier or to its end. */
int run_block() {
  uint32_t list[threads];
  for (uint32_t t = 0; t < threads; ++t) {
    getcontext(&fibres[t]);
    fibres[t].uc_stack.ss_sp = stacks + t * stackBytes;
    fibres[t].uc_stack.ss_size = stackBytes;
    fibres[t].uc_link = &home;
    finished[t] = false;
    makecontext(&fibres[t], enter, 0);
  }
  for (;;) {
    uint32_t ended = 0;
    order(list, threads);
    for (uint32_t i = 0; i < threads; ++i) {
      pb_sim_thread = list[i];
      swapcontext(&home, &fibres[list[i]]);
    }
    for (uint32_t t = 0; t < threads; ++t) ended += finished[t];
    if (ended == threads) return 0;
    if (ended != 0) return 1;
  }
}
}
/* 0, or 1 if a barrier was not reached by all threads of a block. Seed 0 keeps the natural order. */
extern "C" int pb_sim_launch(int kernel, const void *arguments, uint32_t blocks, int barriers, uint32_t seed) {
  uint32_t *const list = (uint32_t *)malloc(sizeof(uint32_t) * (blocks + 1));
  if (stacks == nullptr) stacks = (char *)malloc(threads * stackBytes);
  running = kernels[kernel];
  argument = arguments;
  state = seed;
  pb_sim_barrier = yield;
  order(list, blocks);
  int status = 0;
  for (uint32_t b = 0; b < blocks && status == 0; ++b) {
    pb_sim_block = list[b];
    if (barriers) status = run_block();
    else {
      uint32_t turn[threads];
      order(turn, threads);
      for (uint32_t t = 0; t < threads; ++t) {
        pb_sim_thread = turn[t];
        running(arguments);
      }
    }
  }
  free(list);
  return status;
}
extern "C" void *pb_sim_alloc(uint64_t bytes) { return aligned_alloc(256, (bytes + 511) / 256 * 256); }
extern "C" void pb_sim_free(void *p) { free(p); }
extern "C" void pb_sim_copy_in(void *to, const void *from, uint64_t bytes) { memcpy(to, from, bytes); }
extern "C" void pb_sim_copy_out(void *to, const void *from, uint64_t bytes) { memcpy(to, from, bytes); }
`
}
