// Reads kernels' texts, and turns one into C++ for the host: shared memory that can be found and poisoned, and a table of
// the kernels behind it.
#include "source.h"

#include <dlfcn.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace sim {
namespace {

const std::string &prelude() {
  static const std::string *const text = [] {
    std::ifstream file(own_folder() + "/prelude.h");
    std::stringstream content;
    content << file.rdbuf();
    return new std::string(content.str());
  }();
  return *text;
}

bool has_prelude(const std::string &text) { return !prelude().empty() && text.compare(0, prelude().size(), prelude()) == 0; }

std::string trimmed(const std::string &text) {
  const size_t from = text.find_first_not_of(" \t\n\\"), to = text.find_last_not_of(" \t\n\\");
  return from == std::string::npos ? "" : text.substr(from, to - from + 1);
}

/** What stands between the parenthesis at `open` and its end, split at commas. */
std::vector<std::string> arguments_at(const std::string &text, size_t open) {
  std::vector<std::string> list(1);
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '(' && ++depth == 1) continue;
    if (c == ')' && --depth == 0) break;
    if (c == ',' && depth == 1) list.emplace_back();
    else list.back() += c;
  }
  for (std::string &argument : list) argument = trimmed(argument);
  return list;
}

bool is_name(char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

std::string name_at(const std::string &text, size_t from) {
  size_t to = from;
  while (to < text.size() && is_name(text[to])) ++to;
  return text.substr(from, to - from);
}

/** The threads that the macro of a kernel allows: what its __launch_bounds__ says, maybe by one of its parameters. */
int bounds_of(const std::string &text, const std::string &macro, const std::vector<std::string> &values) {
  const size_t define = text.find("#define " + macro + "(");
  const size_t bounds = define == std::string::npos ? define : text.find("__launch_bounds__(", define);
  if (bounds == std::string::npos || text.find("#define ", define + 1) < bounds) return 1024;
  const std::string said = arguments_at(text, bounds + 17).front();
  const std::vector<std::string> parameters = arguments_at(text, define + 8 + macro.size());
  for (size_t i = 0; i < parameters.size() && i < values.size(); ++i)
    if (parameters[i] == said) return atoi(values[i].c_str());
  return atoi(said.c_str());
}

/** Where the first kernel stands, at the begin of its line. */
size_t next_kernel(const std::string &text, size_t from) {
  const size_t found = text.find("\nPB_KERNEL", from);
  return found == std::string::npos ? found : found + 1;
}

constexpr const char *shared = R"(
#undef PB_SHARED
#define PB_SHARED static __attribute__((section("pb_shared"), aligned(16)))
)";

constexpr const char *table_begin = R"(
extern "C" {
extern char __start_pb_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_pb_shared[] __attribute__((weak, visibility("hidden")));
extern void *const pb_sim_places[];
void *const pb_sim_places[] = {&pb_sim_block, &pb_sim_thread, (void *)&pb_sim_barrier, __start_pb_shared, __stop_pb_shared};
struct pb_sim_entry { void (*run)(const void *); uint64_t bytes; };
extern const pb_sim_entry pb_sim_entries[];
const pb_sim_entry pb_sim_entries[] = {
)";

}  // namespace

const std::string &own_folder() {
  static const std::string *const folder = [] {
    Dl_info info{};
    dladdr(reinterpret_cast<const void *>(&host_text), &info);
    const std::string path = info.dli_fname == nullptr ? "" : info.dli_fname;
    char *const real = realpath(path.c_str(), nullptr);
    const std::string whole = real == nullptr ? path : real;
    free(real);
    return new std::string(whole.substr(0, whole.rfind('/')));
  }();
  return *folder;
}

std::vector<KernelText> kernels_of(const std::string &text) {
  std::vector<KernelText> kernels;
  for (size_t at = next_kernel(text, 0); at != std::string::npos; at = next_kernel(text, at)) {
    const std::string macro = name_at(text, at);
    const std::vector<std::string> values = arguments_at(text, at + macro.size());
    if (values.size() >= 3) kernels.push_back({values[0], values[1], values[2], bounds_of(text, macro, values)});
  }
  return kernels;
}

std::string refused_text(const Source &source) {
  const size_t begin = has_prelude(source.text) ? prelude().size() : source.text.size();
  const size_t include = source.text.find("#include", begin);
  if (include == std::string::npos) return "";
  return source.name + ": catastrophic error: cannot open source file " + source.text.substr(include, 40);
}

HostText host_text(const Source &source) {
  const std::string &text = source.text;
  const bool known = has_prelude(text);
  const size_t first = next_kernel(text, 0);
  const size_t split = known ? prelude().size() : first == std::string::npos ? text.size() : first;
  std::string out = known ? "" : text.substr(0, split);
  out += shared;
  out += "#line 1 \"" + source.name + "\"\n" + text.substr(split) + table_begin;
  for (const KernelText &kernel : kernels_of(text))
    out += "{" + kernel.name + ", sizeof(pb_arguments<(" + kernel.pointers + "), (" + kernel.numbers + ")>)},\n";
  return {out + "{nullptr, 0}};\n}\n", known};
}

uint64_t hash_of(const std::string &text) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ull;
    hash ^= hash >> 29;
  }
  return hash;
}

}  // namespace sim
