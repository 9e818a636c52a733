// A kernel's text as g++ is to read it. What the text says about its kernels is read here, so that a module can be loaded
// before it is compiled.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace sim {

/** One `PB_KERNEL(name, pointers, numbers)` of a text. */
struct KernelText {
  std::string name, pointers, numbers;
  /** From __launch_bounds__. */
  int threads;
};

struct Source {
  std::string text, name;
  /** Whether products and sums may be contracted. */
  bool contract;
};

std::vector<KernelText> kernels_of(const std::string &text);

/** What an error in the text says before a compiler is asked: NVRTC has no headers. Empty mostly. */
std::string refused_text(const Source &source);

/** C++ for the host, and whether the precompiled prelude goes in front of it. */
struct HostText {
  std::string text;
  bool prelude;
};
HostText host_text(const Source &source);

/** The folder of this library, where the prelude and built kernels are. */
const std::string &own_folder();

uint64_t hash_of(const std::string &text);

}  // namespace sim
