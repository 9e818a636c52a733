// The contract between the parts of the simulated CUDA: the driver and NVRTC (driver*.cpp, nvrtc.cpp) on one side, the
// libraries that put work on streams (cudnn*.cpp, cublaslt*.cpp) on the other. All calls come on one thread. Statuses are
// the driver's (CUresult as an int); 0 is success. Device addresses are host addresses.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

/** What a library exports; everything else stays hidden. */
#define SIM_EXPORT extern "C" __attribute__((visibility("default")))

namespace sim {

/**
 * Puts work on a stream: it runs when somebody waits for it, after everything that was put there before, and never before
 * this call returns. While the stream is captured, the work becomes a node of the graph instead, and runs once in each
 * launch, so it must own (by value) all it needs but device memory. `what` names it in reports: "cudnn convolution engine 3".
 * Answers 0, 400 (not a live stream), 901 (its capture was made invalid), or a context's sticky error.
 */
int enqueue(void *stream, const char *what, std::function<void()> work);

/**
 * Inside running work only: adds to the simulated GPU time that events measure. Work that does not say takes 2 microseconds.
 * So what a tuner finds fastest is what the simulation says, on every run.
 */
void elapse(double microseconds);

/** Whether [p, p + bytes) lies inside one live device allocation (or a module's global). `bytes` may be 0. */
bool device_range(const void *p, size_t bytes);

/** Whether it is a live stream. The null stream is none. */
bool stream_alive(void *stream);

/** Whether the stream is being captured (or its capture has been made invalid and not ended). */
bool capturing(void *stream);

/**
 * For calls a library must not make while a stream is captured on this thread (allocating, synchronizing, loading code):
 * where one is, makes the capture invalid, notes `call` in the report and answers 900; otherwise 0. `stream` is the one at
 * hand, or null where any capture on this thread forbids the call.
 */
int illegal_during_capture(void *stream, const char *call);

/**
 * Records a violation: a bug that a real GPU would suffer in silence (what it refuses with a status is no violation). Tests
 * fail on any. printf-like; the text says who did what to what.
 */
void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

/**
 * To be asked first by every exported call that answers with a status: counts it, and answers the status to fail with, 0
 * mostly. The n-th call after sim_fail gets the status it was told, or the typical error of its library: memory for what
 * allocates, else an internal one. A call that destroys something destroys it and then answers the status, as a late error would come.
 */
int fail_now(const char *call);

/** Whether the driver was initialized and has a current context, without a sticky error; else the status, 3, 201, 700... */
int context_status();

/**
 * Objects of a library by kind ("cudnn descriptor"), so that what is never destroyed shows in the report, and a handle
 * that is none is refused. `dies` answers false for what is not alive.
 */
void born(const char *kind, const void *handle);
bool dies(const char *kind, const void *handle);
bool alive(const char *kind, const void *handle);

/** The seed of this run's orders (0: natural order), and a number from it: each call gives the next, below `below`. */
uint64_t seed();
uint32_t draw(uint32_t below);

/** Called by sim_reset after all work and handles of the driver are gone; a library registers what it has to forget. */
void on_reset(std::function<void()> forget);

}  // namespace sim
