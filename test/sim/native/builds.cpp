// Runs g++ over kernels' texts. A library is kept under the hash of its text and flags, with what was compiled of it behind
// the prelude, and only taken for that; both get their names when they are whole, so several processes may share the folder.
#include "builds.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>
#include <vector>

#include "world.h"

extern char **environ;

namespace sim {

struct Build {
  HostText host;
  bool contract;
  std::string stem;
  bool done = false;
  Built result;
};

namespace {

constexpr int compilers = 2;

struct Jobs {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<BuildRef> waiting;
  std::map<std::string, BuildRef> known;
  int started = 0;
};

/** Never destroyed: compilers may run while the process ends. */
Jobs &jobs() {
  static Jobs *const it = new Jobs;
  return *it;
}

std::string content(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream all;
  all << file.rdbuf();
  return all.str();
}

std::string folder() {
  const char *const named = getenv("PULLBACK_SIM_CACHE");
  const std::string path = named != nullptr && *named != 0 ? named : own_folder() + "/../kernels";
  mkdir(path.c_str(), 0700);
  return path;
}

/** The exit status of a program; its words go to the file `log`. */
int run(const std::vector<std::string> &words, const std::string &log) {
  std::vector<char *> arguments;
  for (const std::string &word : words) arguments.push_back(const_cast<char *>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&files, 2, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, arguments[0], &files, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (failed != 0) {
    std::ofstream(log) << words[0] << ": " << strerror(failed) << "\n";
    return -1;
  }
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

/** The compiler and its flags. A kernel's own names go before those of the process, whatever it is called. */
std::vector<std::string> command(bool contract) {
  const char *const compiler = getenv("CXX");
  std::vector<std::string> words = {compiler != nullptr && *compiler != 0 ? compiler : "g++",
                                    "-std=c++17", "-O1", "-w", "-fno-strict-aliasing", "-fPIC", "-shared", "-nostdlib",
                                    "-Wl,-Bsymbolic"};
  words.push_back(contract ? "-ffp-contract=fast" : "-ffp-contract=off");
  if (contract && __builtin_cpu_supports("fma")) words.push_back("-mfma");
  return words;
}

std::string key_of(const Source &source) {
  std::string key;
  for (const std::string &word : command(source.contract)) key += word + "\n";
  return key + source.text;
}

void compile(Build &build) {
  const std::string unique = build.stem + "." + std::to_string(getpid());
  const std::string text = unique + ".cpp", library = unique + ".so", log = unique + ".log";
  std::ofstream(text) << build.host.text;
  std::vector<std::string> words = command(build.contract);
  if (build.host.prelude) words.insert(words.end(), {"-include", own_folder() + "/prelude.h"});
  words.insert(words.end(), {text, "-o", library});
  const int status = run(words, log);
  build.result = {status == 0, build.stem + ".so", content(log)};
  unlink(log.c_str());
  if (status == 0) {
    rename(library.c_str(), build.result.path.c_str());
    rename(text.c_str(), (build.stem + ".cpp").c_str());
  } else unlink(text.c_str());
}

void work() {
  Jobs &it = jobs();
  std::unique_lock<std::mutex> lock(it.mutex);
  for (;;) {
    it.changed.wait(lock, [&] { return !it.waiting.empty(); });
    const BuildRef build = it.waiting.front();
    it.waiting.pop_front();
    lock.unlock();
    compile(*build);
    lock.lock();
    build->done = true;
    it.changed.notify_all();
  }
}

}  // namespace

BuildRef start_build(const Source &source) {
  Jobs &it = jobs();
  const std::string key = key_of(source);
  const std::lock_guard<std::mutex> lock(it.mutex);
  BuildRef &build = it.known[key];
  if (build != nullptr) return build;
  build = std::make_shared<Build>();
  build->host = host_text(source);
  build->contract = source.contract;
  build->stem = folder() + "/" + text("%016llx", static_cast<unsigned long long>(hash_of(key)));
  if (content(build->stem + ".cpp") == build->host.text && access((build->stem + ".so").c_str(), R_OK) == 0) {
    build->result = {true, build->stem + ".so", ""};
    build->done = true;
    return build;
  }
  it.waiting.push_back(build);
  if (it.started < compilers) {
    ++it.started;
    std::thread(work).detach();
  }
  it.changed.notify_all();
  return build;
}

const Built &built(Build &build) {
  Jobs &it = jobs();
  std::unique_lock<std::mutex> lock(it.mutex);
  it.changed.wait(lock, [&] { return build.done; });
  return build.result;
}

}  // namespace sim
