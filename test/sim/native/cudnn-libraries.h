// What tests may change about the simulated cuDNN and cuBLASLt, and how both say why they refused.
#pragma once
#include <cstdint>

namespace simlib {

enum Option : int {
  /** Not 0: f32 operands of engines and algorithms on Tensor Cores are rounded to TF32 first. 0 after a reset. */
  TF32 = 0,
  /** The cuDNN engine that cannot be captured: 46 after a reset, -1 for none. */
  UNCAPTURABLE_ENGINE = 1,
  /** The cuDNN engine whose plans are refused when they are finalized: 70 after a reset, -1 for none. */
  REFUSING_ENGINE = 2,
  OPTIONS = 3,
};

int64_t option(Option which);

} // namespace simlib
