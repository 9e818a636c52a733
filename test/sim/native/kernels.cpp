// Runs kernels with the launcher of launch.h, in an order drawn from the seed.
#include "kernels.h"

#include "launch.h"
#include "world.h"

namespace sim {
namespace {
bool inside = false;
}

const char *run_kernel(const KernelCode &code, const void *argument, const Shape &shape) {
  void *const *const places = code.places;
  const sim_launch::Kernel kernel = {code.run,
                                     static_cast<uint32_t *>(places[0]),
                                     static_cast<uint32_t *>(places[1]),
                                     reinterpret_cast<void (**)()>(places[2]),
                                     static_cast<char *>(places[3]),
                                     static_cast<char *>(places[4])};
  const uint32_t order = seed() == 0 ? 0 : 1 + draw(0x7fffffff);
  inside = true;
  const char *const complaint = sim_launch::run(kernel, {argument, shape.blocks, shape.threads, shape.shared, order});
  inside = false;
  return complaint;
}

size_t static_shared(void *const *places) {
  return static_cast<size_t>(static_cast<const char *>(places[4]) - static_cast<const char *>(places[3]));
}

std::string kernel_place() {
  if (!inside) return "";
  return text(" (block %u, thread %u)", sim_launch::block.index, sim_launch::block.current);
}

void leave_kernel() {
  if (inside) sim_launch::abandon();
  inside = false;
}

}  // namespace sim
