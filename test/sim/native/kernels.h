// Between modules and the launcher: one kernel's machine code and how it is to run.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sim {

/** What a built library says about itself: where its kernels look for their place, and its shared memory. */
struct KernelCode {
  void (*run)(const void *argument);
  void *const *places;
};

struct Shape {
  uint32_t blocks, threads;
  size_t shared;
};

/** Runs it; null, or what is wrong with it. */
const char *run_kernel(const KernelCode &code, const void *argument, const Shape &shape);

/** Bytes of the library's static shared memory. */
size_t static_shared(void *const *places);

}  // namespace sim
