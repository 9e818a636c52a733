// Faults of work while it runs: the signal becomes a violation that names the work and the address, and a sticky status as
// on a GPU. A fault of the host in freed or guarded memory is told on the error stream before the process dies of it.
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "world.h"

namespace sim {
namespace {

struct Fault {
  int signal;
  void *address;
};

sigjmp_buf outside;
volatile bool running = false;
Fault fault;
struct sigaction before[NSIG];
constexpr int watched[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

void on_fault(int signal, siginfo_t *info, void *) {
  const bool of_memory = signal == SIGSEGV || signal == SIGBUS;
  if (running) {
    fault = {signal, of_memory ? info->si_addr : nullptr};
    running = false;
    siglongjmp(outside, 1);
  }
  if (of_memory) {
    const std::string where = describe(info->si_addr);
    if (where.find("allocation ") != std::string::npos && where.find("no allocation") == std::string::npos)
      fprintf(stderr, "simulated CUDA: the host touched %s\n", where.c_str());
  }
  sigaction(signal, &before[signal], nullptr);
  if (signal == SIGABRT) raise(signal);
}

int told(const char *what) {
  const std::string place = kernel_place();
  const char *const in = place.c_str();
  switch (fault.signal) {
    case SIGABRT:
      violation("%s%s stopped itself: an address that its access must be aligned to, or a wrong hook", what, in);
      return misaligned_address;
    case SIGFPE:
      violation("%s%s divided an integer by zero", what, in);
      return launch_failed;
    case SIGILL:
      violation("%s%s ran into what is no instruction", what, in);
      return launch_failed;
    default:
      violation("%s%s touched %s", what, in, describe(fault.address).c_str());
      return illegal_address;
  }
}

}  // namespace

void watch_faults() {
  static bool watching = false;
  if (watching) return;
  watching = true;
  static char stack[65536];
  stack_t other{};
  if (sigaltstack(nullptr, &other) == 0 && (other.ss_flags & SS_DISABLE) != 0) {
    other.ss_sp = stack;
    other.ss_size = sizeof stack;
    other.ss_flags = 0;
    sigaltstack(&other, nullptr);
  }
  for (const int signal : watched) {
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(signal, &action, &before[signal]);
  }
}

int guarded(const char *what, const std::function<void()> &run) {
  watch_faults();
  if (sigsetjmp(outside, 1) != 0) {
    const int status = told(what);
    leave_kernel();
    return status;
  }
  running = true;
  run();
  running = false;
  return success;
}

}  // namespace sim
