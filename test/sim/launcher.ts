// The C++ behind kernels that tests build into one library and run without the simulated driver: launches by number, and
// memory. How threads take turns is native/launch.h's part.
import { fileURLToPath } from 'node:url'

/** Where the launcher's headers are. */
const native = fileURLToPath(new URL('native/', import.meta.url))

/** Goes behind the prelude and the kernels; `names` are the kernels by number. Launches are of 256 threads. */
export function launcher(names: readonly string[]): string {
  return `
#include "${native}launch.h"
namespace {
void (*const kernels[])(const void *) = {${names.join(', ')}};
}
/* Null, or what is wrong with the launch. Seed 0 keeps the natural order. */
extern "C" const char *pb_sim_launch(int kernel, const void *arguments, uint32_t blocks, uint32_t shared, uint32_t seed) {
  const sim_launch::Kernel it = {kernels[kernel], &pb_sim_block, &pb_sim_thread, &pb_sim_barrier, nullptr, nullptr};
  return sim_launch::run(it, {arguments, blocks, 256, shared, seed});
}
extern "C" void *pb_sim_alloc(uint64_t bytes) { return aligned_alloc(256, (bytes + 511) / 256 * 256); }
extern "C" void pb_sim_free(void *p) { free(p); }
extern "C" void pb_sim_copy_in(void *to, const void *from, uint64_t bytes) { memcpy(to, from, bytes); }
extern "C" void pb_sim_copy_out(void *to, const void *from, uint64_t bytes) { memcpy(to, from, bytes); }
`
}
