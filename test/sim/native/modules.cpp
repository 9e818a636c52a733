// The simulated driver's calls about modules, kernels and launches. A module's code is needed when a kernel of it runs, and
// only then waited for.
#include <dlfcn.h>
#include <link.h>

#include <cstdlib>
#include <cstring>

#include "builds.h"
#include "image.h"
#include "kernels.h"
#include "world.h"

namespace sim {
namespace {

constexpr int default_shared = 49152, most_shared = 232448, architecture = 90;

struct Entry {
  void (*run)(const void *);
  uint64_t bytes;
};

struct Module {
  BuildRef build;
  std::vector<KernelText> kernels;
  std::map<std::string, void *> functions;
  std::vector<const void *> globals;
  bool live = true;
  void *library = nullptr;
  const Entry *entries = nullptr;
  void *const *places = nullptr;

  ~Module() {
    if (library != nullptr) dlclose(library);
  }
  bool ready();
};

struct Function {
  std::shared_ptr<Module> module;
  size_t index;
  int dynamic_limit = default_shared;
  bool raised = false;

  const KernelText &text() const { return module->kernels[index]; }
};

Handles<Module> &modules() {
  static auto *const it = new Handles<Module>{"module"};
  return *it;
}

Handles<Function> &functions() {
  static auto *const it = new Handles<Function>{"kernel"};
  return *it;
}

/** Kernels find the hooks in this library. */
void show_hooks() {
  static const bool shown = [] {
    Dl_info info{};
    return dladdr(reinterpret_cast<const void *>(&show_hooks), &info) != 0 &&
           dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD) != nullptr;
  }();
  (void)shown;
}

/** Waits for the code. False if there is none; why has been told. */
bool Module::ready() {
  if (places != nullptr) return true;
  const Built &result = built(*build);
  if (!result.good) {
    violation("a module's text does not compile: %.1500s", result.log.c_str());
    return false;
  }
  show_hooks();
  library = dlopen(result.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    violation("a module cannot be loaded: %s", dlerror());
    return false;
  }
  entries = static_cast<const Entry *>(dlsym(library, "pb_sim_entries"));
  places = static_cast<void *const *>(dlsym(library, "pb_sim_places"));
  return entries != nullptr && places != nullptr;
}

/** The bytes of a kernel's one argument: what the text says in digits, else what its code says. 0 if there is no code. */
size_t argument_bytes(const Function &function) {
  const auto number = [](const std::string &digits) {
    char *end = nullptr;
    const long value = strtol(digits.c_str(), &end, 10);
    return *end == 0 ? value : -1;
  };
  const long pointers = number(function.text().pointers), numbers = number(function.text().numbers);
  if (pointers > 0 && numbers > 0) return 8 * static_cast<size_t>(pointers + numbers);
  return function.module->ready() ? function.module->entries[function.index].bytes : 0;
}

size_t shared_of(const Function &function) {
  return function.module->ready() ? static_shared(function.module->places) : 0;
}

/** The bytes of a variable; 0 if the address is that of none. */
size_t symbol_bytes(void *address) {
  Dl_info info{};
  void *symbol = nullptr;
  const bool found = address != nullptr && dladdr1(address, &info, &symbol, RTLD_DL_SYMENT) != 0 && symbol != nullptr;
  return found ? static_cast<const ElfW(Sym) *>(symbol)->st_size : 0;
}

/** 0, or why the launch's shape is refused. */
int refused_shape(const Function &function, const uint32_t *grid, const uint32_t *block, uint32_t shared) {
  for (int axis = 0; axis < 3; ++axis)
    if (grid[axis] == 0 || block[axis] == 0 || block[axis] > (axis == 2 ? 64u : 1024u) ||
        grid[axis] > (axis == 0 ? 2147483647u : 65535u))
      return invalid_value;
  const uint64_t threads = uint64_t{block[0]} * block[1] * block[2];
  if (threads > 1024 || threads > static_cast<uint64_t>(function.text().threads)) return invalid_value;
  if (grid[1] * grid[2] * block[1] * block[2] != 1) {
    violation("%s: only launches of one dimension are simulated", function.text().name.c_str());
    return invalid_value;
  }
  if (shared > static_cast<uint32_t>(function.dynamic_limit)) return invalid_value;
  if (shared > 0 && !function.raised && shared + shared_of(function) > default_shared) return invalid_value;
  return success;
}

void launch(const Function &function, const std::vector<char> &argument, const Shape &shape) {
  const char *const name = function.text().name.c_str();
  if (!function.module->live) {
    violation("%s runs after its module was unloaded", name);
    return;
  }
  if (!function.module->ready()) {
    world().sticky = launch_failed;
    return;
  }
  if (shared_of(function) > default_shared) {
    violation("%s has %zu bytes of static shared memory, more than %d", name, shared_of(function), default_shared);
    world().sticky = launch_failed;
    return;
  }
  elapse(2 + shape.blocks / 1000.0);
  const KernelCode code = {function.module->entries[function.index].run, function.module->places};
  if (const char *const complaint = run_kernel(code, argument.data(), shape)) {
    violation("%s: %s", name, complaint);
    world().sticky = launch_failed;
  }
}

}  // namespace

void forget_modules() {
  functions().clear();
  modules().clear();
}

}  // namespace sim

using namespace sim;

SIM_EXPORT int cuModuleLoadData(void **handle, const void *bytes) {
  if (const int status = enter("cuModuleLoadData", Needs::context)) return status;
  if (const int status = forbidden_in_capture("cuModuleLoadData")) return status;
  if (handle == nullptr || bytes == nullptr) return invalid_value;
  Image image;
  if (!read_image(bytes, image)) return invalid_image;
  if (image.architecture / 10 != architecture / 10 || image.architecture > architecture) return no_binary;
  const auto module = std::make_shared<Module>();
  module->build = start_build(image.source);
  module->kernels = kernels_of(image.source.text);
  *handle = modules().add(module);
  return success;
}

SIM_EXPORT int cuModuleUnload(void *handle) {
  const LateEntry entry = enter_late("cuModuleUnload", Needs::context);
  if (entry.status != success) return entry.status;
  if (const int status = forbidden_in_capture("cuModuleUnload")) return status;
  Module *const module = modules().get(handle);
  if (module == nullptr) return invalid_handle;
  module->live = false;
  for (const auto &[name, function] : module->functions) functions().remove(function);
  for (const void *global : module->globals) drop_global(global);
  modules().remove(handle);
  return entry.injected;
}

SIM_EXPORT int cuModuleGetFunction(void **handle, void *of, const char *name) {
  if (const int status = enter("cuModuleGetFunction", Needs::context)) return status;
  const auto module = modules().share(of);
  if (module == nullptr) return invalid_handle;
  if (handle == nullptr || name == nullptr) return invalid_value;
  for (size_t i = 0; i < module->kernels.size(); ++i) {
    if (module->kernels[i].name != name) continue;
    void *&known = module->functions[name];
    if (known == nullptr) known = functions().add(std::make_shared<Function>(Function{module, i}));
    *handle = known;
    return success;
  }
  return not_found;
}

SIM_EXPORT int cuModuleGetGlobal_v2(void **address, size_t *bytes, void *of, const char *name) {
  if (const int status = enter("cuModuleGetGlobal_v2", Needs::context)) return status;
  Module *const module = modules().get(of);
  if (module == nullptr) return invalid_handle;
  if (name == nullptr || (address == nullptr && bytes == nullptr)) return invalid_value;
  void *const found = module->ready() ? dlsym(module->library, name) : nullptr;
  const size_t size = symbol_bytes(found);
  if (size == 0) return not_found;
  add_global(found, size);
  module->globals.push_back(found);
  if (address != nullptr) *address = found;
  if (bytes != nullptr) *bytes = size;
  return success;
}

SIM_EXPORT int cuFuncGetAttribute(int *out, int attribute, void *handle) {
  if (const int status = enter("cuFuncGetAttribute", Needs::context)) return status;
  const Function *const function = functions().get(handle);
  if (function == nullptr) return invalid_handle;
  if (out == nullptr) return invalid_value;
  switch (attribute) {
    case 0: *out = function->text().threads; return success;
    case 1: *out = static_cast<int>(shared_of(*function)); return success;
    case 3: *out = 0; return success;
    case 4: *out = 32; return success;
    case 6: *out = architecture; return success;
    case 8: *out = function->dynamic_limit; return success;
    case 9: *out = -1; return success;
    default: return invalid_value;
  }
}

SIM_EXPORT int cuFuncSetAttribute(void *handle, int attribute, int value) {
  if (const int status = enter("cuFuncSetAttribute", Needs::context)) return status;
  Function *const function = functions().get(handle);
  if (function == nullptr) return invalid_handle;
  if (attribute == 9) return value >= -1 && value <= 100 ? success : invalid_value;
  if (attribute != 8 || value < 0 || static_cast<size_t>(value) + shared_of(*function) > most_shared) return invalid_value;
  function->dynamic_limit = value;
  function->raised = true;
  return success;
}

SIM_EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *out, void *handle, int threads, size_t shared) {
  if (const int status = enter("cuOccupancyMaxActiveBlocksPerMultiprocessor", Needs::context)) return status;
  const Function *const function = functions().get(handle);
  if (function == nullptr) return invalid_handle;
  if (out == nullptr || threads <= 0) return invalid_value;
  const size_t each = shared + shared_of(*function) + 1024;
  const size_t by_shared = 233472 / each, by_threads = static_cast<size_t>(2048 / ((threads + 31) / 32 * 32));
  *out = threads > function->text().threads ? 0 : static_cast<int>(std::min<size_t>({32, by_shared, by_threads}));
  return success;
}

SIM_EXPORT int cuLaunchKernel(void *handle, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z, uint32_t block_x,
                              uint32_t block_y, uint32_t block_z, uint32_t shared, void *stream, void **parameters,
                              void **extra) {
  if (const int status = enter("cuLaunchKernel", Needs::context)) return status;
  const auto function = functions().share(handle);
  if (function == nullptr || !stream_alive(stream)) return invalid_handle;
  const uint32_t grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
  if (const int status = refused_shape(*function, grid, block, shared)) return status;
  if (parameters == nullptr || extra != nullptr) return invalid_value;
  std::vector<char> argument(argument_bytes(*function));
  const std::string reading = function->text().name + ", reading its argument,";
  if (guarded(reading.c_str(), [&] { memcpy(argument.data(), parameters[0], argument.size()); })) return invalid_value;
  const Shape shape = {grid_x, block_x, shared};
  return enqueue(stream, function->text().name.c_str(), [=] { launch(*function, argument, shape); });
}
