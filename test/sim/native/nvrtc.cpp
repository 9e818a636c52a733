// The simulated NVRTC. A "cubin" is the text with what it was compiled for, so that whoever keeps it keeps all there is to
// know; machine code of the host is made behind it (builds.cpp).
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>

#include "builds.h"
#include "image.h"
#include "world.h"

namespace sim {
namespace {

enum NvrtcStatus : int { good = 0, invalid_input = 3, invalid_program = 4, invalid_option = 5, compilation = 6 };

struct Program {
  Source source;
  bool compiled = false;
  std::string log, ptx, cubin;
};

std::map<const void *, std::shared_ptr<Program>> &programs() {
  static auto *const it = [] {
    on_reset([] { programs().clear(); });
    return new std::map<const void *, std::shared_ptr<Program>>;
  }();
  return *it;
}

Program *program_of(const void *handle) {
  const auto found = programs().find(handle);
  return found == programs().end() ? nullptr : found->second.get();
}

const int architectures[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};

/** What options say; `wrong` is the first one that NVRTC would not take. */
struct Options {
  int architecture = 75;
  bool real = false, contract = true;
  std::string wrong;
};

bool known_architecture(int number) {
  for (const int known : architectures)
    if (known == number) return true;
  return false;
}

void read_architecture(const std::string &value, Options &options, const std::string &option) {
  options.real = value.rfind("sm_", 0) == 0;
  if (!options.real && value.rfind("compute_", 0) != 0) options.wrong = option;
  options.architecture = atoi(value.c_str() + value.find('_') + 1);
  if (!known_architecture(options.architecture)) options.wrong = option;
}

bool is_switch(const std::string &value) { return value == "true" || value == "false"; }

void read_option(const std::string &option, Options &options) {
  const size_t sign = option.find('=');
  const std::string name = option.substr(0, sign), value = sign == std::string::npos ? "" : option.substr(sign + 1);
  static const std::set<std::string> switches = {"--ftz", "-ftz", "--prec-div", "-prec-div", "--prec-sqrt", "-prec-sqrt"};
  static const std::set<std::string> others = {"--ptxas-options", "--maxrregcount", "--generate-line-info", "-lineinfo"};
  if (name == "--gpu-architecture" || name == "-arch") return read_architecture(value, options, option);
  if (name == "--fmad" || name == "-fmad") {
    if (!is_switch(value)) options.wrong = option;
    options.contract = value == "true";
  } else if (name == "--std" || name == "-std") {
    if (value != "c++17" && value != "c++14" && value != "c++20") options.wrong = option;
  } else if (switches.count(name) > 0) {
    if (!is_switch(value)) options.wrong = option;
  } else if (others.count(name) == 0) options.wrong = option;
}

/**
 * Compilers run behind the calls. Whether nvrtcCompileProgram does not wait for them: a wrong text then shows when its kernel
 * is launched.
 */
bool &defers() {
  static bool it = [] {
    const char *const mode = getenv("PULLBACK_SIM_COMPILE");
    return mode != nullptr && strcmp(mode, "defer") == 0;
  }();
  return it;
}

int compile(Program &program, const Options &options) {
  program.source.contract = options.contract;
  program.log = refused_text(program.source);
  if (!program.log.empty()) return compilation;
  const BuildRef build = start_build(program.source);
  if (!defers()) {
    const Built &result = built(*build);
    program.log = result.log;
    if (!result.good) return compilation;
  }
  program.ptx = "// simulated PTX\n" + program.source.text;
  program.cubin = options.real ? image_of(program.source, options.architecture) : "";
  program.compiled = true;
  return good;
}

/** One of a program's results: its size or its bytes. */
int fetch(const char *call, const void *handle, std::string Program::*member, bool text, size_t *size, char *bytes) {
  if (const int injected = fail_now(call)) return injected;
  Program *const program = program_of(handle);
  if (program == nullptr) return invalid_program;
  if (size == nullptr && bytes == nullptr) return invalid_input;
  if (member != &Program::log && !program->compiled) return invalid_program;
  const std::string &value = program->*member;
  if (size != nullptr) *size = value.size() + (text ? 1 : 0);
  else memcpy(bytes, value.c_str(), value.size() + (text ? 1 : 0));
  return good;
}

}  // namespace
}  // namespace sim

using namespace sim;

/** Whether compiling does not wait for the compiler. */
SIM_EXPORT void sim_defer(int on) { defers() = on != 0; }

SIM_EXPORT const char *nvrtcGetErrorString(int status) {
  static const char *const names[] = {"NVRTC_SUCCESS", "NVRTC_ERROR_OUT_OF_MEMORY", "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
                                      "NVRTC_ERROR_INVALID_INPUT", "NVRTC_ERROR_INVALID_PROGRAM",
                                      "NVRTC_ERROR_INVALID_OPTION", "NVRTC_ERROR_COMPILATION",
                                      "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE"};
  if (status == 11) return "NVRTC_ERROR_INTERNAL_ERROR";
  return status >= 0 && status < 8 ? names[status] : "NVRTC_ERROR unknown";
}

SIM_EXPORT int nvrtcVersion(int *major, int *minor) {
  if (const int injected = fail_now("nvrtcVersion")) return injected;
  if (major == nullptr || minor == nullptr) return invalid_input;
  *major = 13;
  *minor = 0;
  return good;
}

SIM_EXPORT int nvrtcGetNumSupportedArchs(int *count) {
  if (const int injected = fail_now("nvrtcGetNumSupportedArchs")) return injected;
  if (count == nullptr) return invalid_input;
  *count = sizeof architectures / sizeof *architectures;
  return good;
}

SIM_EXPORT int nvrtcGetSupportedArchs(int *list) {
  if (const int injected = fail_now("nvrtcGetSupportedArchs")) return injected;
  if (list == nullptr) return invalid_input;
  memcpy(list, architectures, sizeof architectures);
  return good;
}

SIM_EXPORT int nvrtcCreateProgram(void **program, const char *text, const char *name, int headers, const char *const *,
                                  const char *const *) {
  if (const int injected = fail_now("nvrtcCreateProgram")) return injected;
  if (program == nullptr || text == nullptr || headers < 0) return invalid_input;
  if (headers != 0) violation("nvrtcCreateProgram: headers are not simulated");
  const auto made = std::make_shared<Program>();
  made->source = {text, name == nullptr ? "default_program" : name, true};
  *program = reinterpret_cast<void *>(0x5200'0000'0000ull + 16 * ++world().handles);
  programs()[*program] = made;
  born("nvrtc program", *program);
  return good;
}

SIM_EXPORT int nvrtcDestroyProgram(void **program) {
  const int injected = fail_now("nvrtcDestroyProgram");
  if (program == nullptr) return invalid_input;
  if (programs().erase(*program) == 0) return invalid_program;
  dies("nvrtc program", *program);
  *program = nullptr;
  return injected;
}

/** The one call that is made on several threads at once, as the real one may be. */
SIM_EXPORT int nvrtcCompileProgram(void *handle, int count, const char *const *list) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  if (const int injected = fail_now("nvrtcCompileProgram")) return injected;
  Program *const program = program_of(handle);
  if (program == nullptr) return invalid_program;
  if (count < 0 || (count > 0 && list == nullptr)) return invalid_input;
  Options options;
  for (int i = 0; i < count; ++i) read_option(list[i] == nullptr ? "" : list[i], options);
  program->compiled = false;
  if (options.wrong.empty()) return compile(*program, options);
  program->log = "nvrtc: error: invalid value for or unknown option '" + options.wrong + "'";
  return invalid_option;
}

SIM_EXPORT int nvrtcGetProgramLogSize(void *program, size_t *size) {
  return fetch("nvrtcGetProgramLogSize", program, &Program::log, true, size, nullptr);
}
SIM_EXPORT int nvrtcGetProgramLog(void *program, char *bytes) {
  return fetch("nvrtcGetProgramLog", program, &Program::log, true, nullptr, bytes);
}
SIM_EXPORT int nvrtcGetCUBINSize(void *program, size_t *size) {
  return fetch("nvrtcGetCUBINSize", program, &Program::cubin, false, size, nullptr);
}
SIM_EXPORT int nvrtcGetCUBIN(void *program, char *bytes) {
  return fetch("nvrtcGetCUBIN", program, &Program::cubin, false, nullptr, bytes);
}
SIM_EXPORT int nvrtcGetPTXSize(void *program, size_t *size) {
  return fetch("nvrtcGetPTXSize", program, &Program::ptx, true, size, nullptr);
}
SIM_EXPORT int nvrtcGetPTX(void *program, char *bytes) {
  return fetch("nvrtcGetPTX", program, &Program::ptx, true, nullptr, bytes);
}
