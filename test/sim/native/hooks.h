// What a kernel compiled for the host may ask of the simulation: the hooks behind the C++ bodies of the prelude. They are
// declared again where a prelude uses them (a kernel's text includes nothing), so this file is the place to look them up.
//
// The threads of a block are fibres of one thread. A thread runs until it meets others; who goes on then, and in which
// order, is drawn from the seed. A meeting that somebody does not come to ends the launch with a violation.
//
//   static uint32_t pb_sim_block, pb_sim_thread;   set before a thread goes on
//   static void (*pb_sim_barrier)(void);           all threads of the block meet; none may have ended
//
// These three are the kernel's own (prelude-device.ts has them); the functions below are the simulation's.
#pragma once
#include <stddef.h>
#include <stdint.h>

extern "C" {

/**
 * All 32 lanes of the warp meet, each with `bytes` bytes at `mine`: the same number in each lane. Gives 32 * bytes bytes,
 * lane i's at i * bytes. They stay as they are until this lane meets its warp again.
 *
 *   shuffle:   const float *all = (const float *)pb_sim_warp_gather(&x, 4); return all[lane ^ mask];
 *   mma:       gather the lane's fragments in one struct; each lane computes its own four results from all of them
 *   ldmatrix:  gather the row addresses; each lane reads what it gets from shared memory
 *   vote:      gather a bool
 *   syncwarp:  gather 0 bytes
 */
const void *pb_sim_warp_gather(const void *mine, size_t bytes);

/** The same, copied to `all`, which has 32 * bytes bytes. */
void pb_sim_warp_exchange(const void *mine, size_t bytes, void *all);

/** The block's dynamic shared memory: as many bytes as the launch says, aligned to 1024, poisoned before each block. */
void *pb_sim_dynamic_shared(void);

/**
 * Asynchronous copies of this thread, done as late as allowed: a copy happens when the thread waits for its group, not
 * before, and what was never waited for never happens. From `from` come the first `valid` bytes, the rest are 0.
 */
void pb_sim_async_copy(void *to, const void *from, uint32_t bytes, uint32_t valid);
void pb_sim_async_commit(void);
/** Returns when at most `left` of the newest groups are not done. */
void pb_sim_async_wait(uint32_t left);
}
