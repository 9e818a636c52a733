// The switches of the simulated libraries, which tests set through sim_library_option.
#include "cudnn-libraries.h"

#include "sim.h"

namespace simlib {

namespace {

constexpr int64_t defaults[OPTIONS] = {0, 46, 70};
int64_t options[OPTIONS] = {0, 46, 70};

void restore() {
  for (int i = 0; i < OPTIONS; ++i) options[i] = defaults[i];
}

} // namespace

int64_t option(Option which) { return options[which]; }

} // namespace simlib

/** Sets a switch until the next reset; answers its old value, or -2 where there is none of that number. */
SIM_EXPORT int64_t sim_library_option(int which, int64_t value) {
  using namespace simlib;
  static const bool registered = (sim::on_reset(restore), true);
  (void)registered;
  if (which < 0 || which >= OPTIONS) return -2;
  const int64_t old = options[which];
  options[which] = value;
  return old;
}
