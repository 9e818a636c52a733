// Stacks that take turns: one fibre for each thread of a block that waits. Each stack has a guard page, so that a kernel
// that needs more than its share faults instead of writing over its neighbour.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace sim_launch {
namespace {

#ifdef __x86_64__
using StackPointer = void *;
#else
using StackPointer = ucontext_t *;
#endif

constexpr size_t stack_bytes = 256 * 1024, page_bytes = 4096;

struct Fibre {
  StackPointer stack_pointer;
  char *stack;
  Fibre *next;
  /** All fibres ever made. */
  Fibre *older;
};

Fibre *running_fibre, *newest_fibre;

size_t whole_pages(size_t bytes) { return (bytes + page_bytes - 1) / page_bytes * page_bytes; }

/** Zeroed pages between two that fault; null if there is no memory. */
char *guarded_pages(size_t bytes) {
  const size_t whole = whole_pages(bytes);
  void *const area = mmap(nullptr, whole + 2 * page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return nullptr;
  mprotect((char *)area + page_bytes, whole, PROT_READ | PROT_WRITE);
  return (char *)area + page_bytes;
}

#ifdef __x86_64__
/* Saves what a call must keep, and returns to where the other stack saved it. */
extern "C" void pb_sim_change_stack(void **kept, void *other) __attribute__((visibility("hidden")));
asm(R"(
  .text
  .globl pb_sim_change_stack
  .hidden pb_sim_change_stack
  .type pb_sim_change_stack, @function
pb_sim_change_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size pb_sim_change_stack, .-pb_sim_change_stack
)");
void change_stack(StackPointer *kept, StackPointer other) { pb_sim_change_stack(kept, other); }

/** Makes a fibre begin with `enter`, which never returns. */
void begin_at(Fibre *fibre, void (*enter)()) {
  void **top = (void **)(fibre->stack + stack_bytes);
  *--top = nullptr;         /* where `enter` would return: the stack is aligned as at a call */
  *--top = (void *)enter;
  for (int kept = 0; kept < 6; ++kept) *--top = nullptr;
  fibre->stack_pointer = top;
}
#else
void change_stack(StackPointer *kept, StackPointer other) {
  ucontext_t here;
  *kept = &here;
  swapcontext(&here, other);
}
void begin_at(Fibre *fibre, void (*enter)()) {
  ucontext_t *const context = (ucontext_t *)fibre->stack;
  getcontext(context);
  context->uc_stack.ss_sp = fibre->stack + sizeof(ucontext_t);
  context->uc_stack.ss_size = stack_bytes - sizeof(ucontext_t);
  context->uc_link = nullptr;
  makecontext(context, enter, 0);
  fibre->stack_pointer = context;
}
#endif

Fibre *new_fibre(void (*enter)()) {
  Fibre *const fibre = (Fibre *)calloc(1, sizeof(Fibre));
  fibre->stack = guarded_pages(stack_bytes);
  if (fibre->stack == nullptr) {
    fputs("the simulation has no memory for stacks\n", stderr);
    abort();
  }
  fibre->older = newest_fibre;
  newest_fibre = fibre;
  begin_at(fibre, enter);
  return fibre;
}

/** All fibres as new ones, linked by `next`. */
Fibre *all_fibres_again(void (*enter)()) {
  Fibre *list = nullptr;
  for (Fibre *fibre = newest_fibre; fibre != nullptr; fibre = fibre->older) {
    begin_at(fibre, enter);
    fibre->next = list;
    list = fibre;
  }
  return list;
}

}  // namespace
}  // namespace sim_launch
