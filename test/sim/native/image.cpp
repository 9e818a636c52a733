// Writes and reads simulated machine code.
#include "image.h"

#include <cstring>

#include "world.h"

namespace sim {
namespace {

constexpr char magic[16] = "pullback cubin\n";

struct Header {
  char magic[16];
  uint32_t architecture, contract;
  uint64_t name_bytes, text_bytes, sum;
};

}  // namespace

std::string image_of(const Source &source, int architecture) {
  const std::string body = source.name + source.text;
  Header header{};
  memcpy(header.magic, magic, sizeof magic);
  header.architecture = static_cast<uint32_t>(architecture);
  header.contract = source.contract ? 1 : 0;
  header.name_bytes = source.name.size();
  header.text_bytes = source.text.size();
  header.sum = hash_of(body);
  return std::string(reinterpret_cast<const char *>(&header), sizeof header) + body;
}

bool read_image(const void *bytes, Image &image) {
  if (memcmp(bytes, magic, 1) != 0 || strncmp(static_cast<const char *>(bytes), magic, sizeof magic) != 0) return false;
  Header header;
  memcpy(&header, bytes, sizeof header);
  constexpr uint64_t most = 16 << 20;
  if (header.name_bytes > most || header.text_bytes > most) return false;
  std::string body;
  const char *const begin = static_cast<const char *>(bytes) + sizeof header;
  const auto read = [&] { body.assign(begin, header.name_bytes + header.text_bytes); };
  if (guarded("cuModuleLoadData, reading its image,", read) != success || hash_of(body) != header.sum) return false;
  image.source = {body.substr(header.name_bytes), body.substr(0, header.name_bytes), header.contract != 0};
  image.architecture = static_cast<int>(header.architecture);
  return true;
}

}  // namespace sim
