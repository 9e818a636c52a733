// Kernels on their way from text to machine code of the host, two compilers at a time, kept in a folder by content.
#pragma once
#include <memory>
#include <string>

#include "source.h"

namespace sim {

struct Build;
using BuildRef = std::shared_ptr<Build>;

/** Starts to compile a text, unless it is built or on its way already. Returns at once. */
BuildRef start_build(const Source &source);

/** Waits for it. */
struct Built {
  bool good;
  /** The shared library. */
  std::string path;
  /** The compiler's words. */
  std::string log;
};
const Built &built(Build &build);

}  // namespace sim
