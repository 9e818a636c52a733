// What printed CUDA C takes from the machine: types without headers, indices, barriers, 16-byte access, 16-bit conversions.
// The only PTX of fused kernels is here; each body has a second one in C++, by which g++ compiles the same kernels for tests.

/** Types, the place in the launch, and the head of a kernel, whose one argument is pointers and int64 numbers by value. */
const launch = `
#ifdef __CUDACC__
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define PB_INLINE static __device__ __forceinline__
#define PB_MEMBER __device__ __forceinline__
#define PB_SHARED __shared__
#define PB_UNROLL _Pragma("unroll")
#define PB_KERNEL(name, pointers, numbers) \\
  extern "C" __global__ void __launch_bounds__(256) name(const pb_arguments<pointers, numbers> a)
#define PB_ENTRY_MANY(name, pointers, numbers) \\
  extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ pb_arguments<pointers, numbers> a)
#else
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#define PB_INLINE static inline
#define PB_MEMBER inline
#define PB_SHARED static
#define PB_UNROLL
#define PB_KERNEL(name, pointers, numbers) \\
  static void name##_body(const pb_arguments<pointers, numbers> &a); \\
  extern "C" void name(const void *a) { name##_body(*(const pb_arguments<pointers, numbers> *)a); } \\
  static void name##_body(const pb_arguments<pointers, numbers> &a)
#define PB_ENTRY_MANY(name, pointers, numbers) PB_KERNEL(name, pointers, numbers)
/* The simulation sets the place of the thread that runs, and what a barrier does. */
static uint32_t pb_sim_block, pb_sim_thread;
static void (*pb_sim_barrier)(void);
#endif
#define PB_MIN(a, b) ((a) < (b) ? (a) : (b))
#define PB_INT32_MAX 2147483647
#define PB_INT32_MIN (-2147483647 - 1)
template <int P, int N> struct pb_arguments {
  void *p[P];
  int64_t n[N];
};
#ifdef __CUDACC__
PB_INLINE uint32_t pb_block() { return blockIdx.x; }
PB_INLINE uint32_t pb_thread() { return threadIdx.x; }
PB_INLINE void pb_barrier() { __syncthreads(); }
#else
PB_INLINE uint32_t pb_block() { return pb_sim_block; }
PB_INLINE uint32_t pb_thread() { return pb_sim_thread; }
PB_INLINE void pb_barrier() { pb_sim_barrier(); }
#endif
/* Up to "most" (a power of two) launches of one kernel as one: all their pointers, all their numbers, and their first blocks. */
struct pb_view {
  void *const *p;
  const int64_t *n;
};
struct pb_place {
  uint32_t block;
  PB_MEMBER uint32_t operator()() const { return block; }
};
#define PB_KERNEL_MANY(name, all_pointers, all_numbers, pointers, numbers, most) \\
  PB_INLINE void name##_one(const pb_view a, const pb_place pb_block); \\
  PB_ENTRY_MANY(name, all_pointers, all_numbers) { \\
    const int64_t *const first = a.n + numbers * most; \\
    uint32_t i = 0; \\
    for (uint32_t step = most / 2; step > 0; step /= 2) i += pb_block() >= first[i + step] ? step : 0; \\
    name##_one({a.p + pointers * i, a.n + numbers * i}, {pb_block() - (uint32_t)first[i]}); \\
  } \\
  PB_INLINE void name##_one(const pb_view a, const pb_place pb_block)
/* Launches of several kernels as one: each is a function, and a block belongs to the last launch whose first block, in the low
   half of its word, is not behind it. */
#define PB_KERNEL_MIXED(name, pointers, numbers) PB_ENTRY_MANY(name, pointers, numbers)
#define PB_PART(name) PB_INLINE void name(const pb_view a, const pb_place pb_block)
template <int COUNT> PB_INLINE uint32_t pb_member(const int64_t *heads, uint32_t block) {
  uint32_t i = 0;
  PB_UNROLL
  for (uint32_t step = 1u << 30; step != 0; step /= 2)
    if (i + step < (uint32_t)COUNT && block >= (uint32_t)heads[i + step]) i += step;
  return i;
}
`

/** Bits of floating-point numbers. */
const bits = `
#ifdef __CUDACC__
PB_INLINE float pb_float_of_bits(uint32_t x) { return __uint_as_float(x); }
PB_INLINE uint32_t pb_bits_of_float(float x) { return __float_as_uint(x); }
PB_INLINE double pb_double_of_bits(uint64_t x) { return __longlong_as_double((int64_t)x); }
PB_INLINE uint64_t pb_bits_of_double(double x) { return (uint64_t)__double_as_longlong(x); }
#else
PB_INLINE float pb_float_of_bits(uint32_t x) { float y; memcpy(&y, &x, 4); return y; }
PB_INLINE uint32_t pb_bits_of_float(float x) { uint32_t y; memcpy(&y, &x, 4); return y; }
PB_INLINE double pb_double_of_bits(uint64_t x) { double y; memcpy(&y, &x, 8); return y; }
PB_INLINE uint64_t pb_bits_of_double(double x) { uint64_t y; memcpy(&y, &x, 8); return y; }
#endif
`

/** 16, 8 and 4 bytes at once, at addresses that are multiples of their size; the second bodies abort at any other. */
const access = `
#ifdef __CUDACC__
PB_INLINE void pb_read_16(const void *p, uint32_t *w) {
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
    : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "l"(__cvta_generic_to_global(p)) : "memory");
}
PB_INLINE void pb_read_8(const void *p, uint32_t *w) {
  asm volatile("ld.global.v2.u32 {%0, %1}, [%2];"
    : "=r"(w[0]), "=r"(w[1]) : "l"(__cvta_generic_to_global(p)) : "memory");
}
PB_INLINE void pb_read_4(const void *p, uint32_t *w) {
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(w[0]) : "l"(__cvta_generic_to_global(p)) : "memory");
}
PB_INLINE void pb_write_16(void *p, const uint32_t *w) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
    :: "l"(__cvta_generic_to_global(p)), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]) : "memory");
}
PB_INLINE void pb_write_8(void *p, const uint32_t *w) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};"
    :: "l"(__cvta_generic_to_global(p)), "r"(w[0]), "r"(w[1]) : "memory");
}
PB_INLINE void pb_write_4(void *p, const uint32_t *w) {
  asm volatile("st.global.u32 [%0], %1;" :: "l"(__cvta_generic_to_global(p)), "r"(w[0]) : "memory");
}
#else
PB_INLINE void pb_aligned(const void *p, unsigned bytes) { if ((uintptr_t)p % bytes != 0) abort(); }
PB_INLINE void pb_read_16(const void *p, uint32_t *w) { pb_aligned(p, 16); memcpy(w, p, 16); }
PB_INLINE void pb_read_8(const void *p, uint32_t *w) { pb_aligned(p, 8); memcpy(w, p, 8); }
PB_INLINE void pb_read_4(const void *p, uint32_t *w) { pb_aligned(p, 4); memcpy(w, p, 4); }
PB_INLINE void pb_write_16(void *p, const uint32_t *w) { pb_aligned(p, 16); memcpy(p, w, 16); }
PB_INLINE void pb_write_8(void *p, const uint32_t *w) { pb_aligned(p, 8); memcpy(p, w, 8); }
PB_INLINE void pb_write_4(void *p, const uint32_t *w) { pb_aligned(p, 4); memcpy(p, w, 4); }
#endif
`

/** Between the blocks of a launch: what the others wrote, past the cache of one multiprocessor; order, and counting. */
const sharing = `
#ifdef __CUDACC__
PB_INLINE void pb_read_shared_16(const void *p, uint32_t *w) {
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
    : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "l"(__cvta_generic_to_global(p)) : "memory");
}
PB_INLINE void pb_read_shared_8(const void *p, uint32_t *w) {
  asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];"
    : "=r"(w[0]), "=r"(w[1]) : "l"(__cvta_generic_to_global(p)) : "memory");
}
PB_INLINE void pb_read_shared_4(const void *p, uint32_t *w) {
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(w[0]) : "l"(__cvta_generic_to_global(p)) : "memory");
}
PB_INLINE void pb_fence() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
PB_INLINE uint32_t pb_increment(uint32_t *p) {
  uint32_t before;
  asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], 1;"
    : "=r"(before) : "l"(__cvta_generic_to_global(p)) : "memory");
  return before;
}
#else
/* Blocks run one after the other here, and memory is never late: what is checked is that a fence lies on both sides. */
static bool pb_sim_fenced;
PB_INLINE void pb_expect_fence() { if (!pb_sim_fenced) abort(); }
PB_INLINE void pb_read_shared_16(const void *p, uint32_t *w) { pb_expect_fence(); pb_read_16(p, w); }
PB_INLINE void pb_read_shared_8(const void *p, uint32_t *w) { pb_expect_fence(); pb_read_8(p, w); }
PB_INLINE void pb_read_shared_4(const void *p, uint32_t *w) { pb_expect_fence(); pb_read_4(p, w); }
PB_INLINE void pb_fence() { pb_sim_fenced = true; }
PB_INLINE uint32_t pb_increment(uint32_t *p) {
  pb_expect_fence();
  pb_sim_fenced = false;
  return (*p)++;
}
#endif
`

/** Between f32 and the 16-bit formats, rounded to nearest even. */
const halves = `
#ifdef __CUDACC__
PB_INLINE uint16_t pb_f16_of_float(float x) {
  uint16_t y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}
PB_INLINE float pb_float_of_f16(uint16_t x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
}
PB_INLINE uint16_t pb_bf16_of_float(float x) {
  uint16_t y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}
#else
PB_INLINE uint16_t pb_f16_of_float(float x) {
  const uint32_t all = pb_bits_of_float(x), sign = all >> 16 & 0x8000u, magnitude = all & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
  if (magnitude < 0x38800000u) /* units of 2^-24 are the last place of numbers from 0.5 */
    return (uint16_t)(sign | (pb_bits_of_float(pb_float_of_bits(magnitude) + 0.5f) - 0x3f000000u));
  return (uint16_t)(sign | ((magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13));
}
PB_INLINE float pb_float_of_f16(uint16_t x) {
  const uint32_t sign = (uint32_t)(x & 0x8000u) << 16, magnitude = x & 0x7fffu;
  if (magnitude >= 0x7c00u) return pb_float_of_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x400u) return pb_float_of_bits(sign | ((magnitude << 13) + 0x38000000u));
  return pb_float_of_bits(sign | pb_bits_of_float((float)magnitude * 0x1p-24f));
}
PB_INLINE uint16_t pb_bf16_of_float(float x) {
  const uint32_t all = pb_bits_of_float(x);
  if ((all & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
  return (uint16_t)((all + 0x7fffu + (all >> 16 & 1u)) >> 16);
}
#endif
PB_INLINE float pb_float_of_bf16(uint16_t x) { return pb_float_of_bits((uint32_t)x << 16); }
`

/** Everything with two bodies. */
export const devicePrelude: string = [launch, bits, access, sharing, halves].join('')
