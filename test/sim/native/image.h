// The simulated machine code: a text with what it was compiled for, and a sum over both.
#pragma once
#include <string>

#include "source.h"

namespace sim {

std::string image_of(const Source &source, int architecture);

struct Image {
  Source source;
  int architecture;
};
/** Reads an image; false if it is none, or not whole. */
bool read_image(const void *bytes, Image &image);

}  // namespace sim
