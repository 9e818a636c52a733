// What the 32 lanes of a warp do together, and copies that run on their own: products of small matrices on Tensor Cores,
// their fragments from shared memory, shuffles. PTX of sm_80 and newer, each body with a second one in C++, which meets the
// other lanes through the simulation's hooks (test/sim/native/hooks.h).

/**
 * The head of a kernel of at most so many threads a block, of which so many blocks are to share a multiprocessor's registers;
 * and shared memory whose size the launch gives, aligned to 128 bytes: where it begins, and as an address that the functions
 * below take, which is 32 bits on a GPU and is not computed anew at each use.
 */
const launch = `
#ifdef __CUDACC__
#define PB_ONE_BY_ONE _Pragma("unroll 1")
#define PB_KERNEL_SHARING(name, pointers, numbers, threads, blocks) \\
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(const pb_arguments<pointers, numbers> a)
PB_INLINE uint8_t *pb_dynamic_shared() {
  extern __shared__ __align__(128) uint8_t pb_dynamic_bytes[];
  return pb_dynamic_bytes;
}
typedef uint32_t pb_shared_address;
PB_INLINE pb_shared_address pb_dynamic_address() {
  uint32_t y;
  asm volatile("mov.u32 %0, %1;" : "=r"(y) : "r"((uint32_t)__cvta_generic_to_shared(pb_dynamic_shared())));
  return y;
}
#else
#define PB_ONE_BY_ONE
#define PB_KERNEL_SHARING(name, pointers, numbers, threads, blocks) PB_KERNEL(name, pointers, numbers)
extern "C" {
const void *pb_sim_warp_gather(const void *mine, size_t bytes);
void *pb_sim_dynamic_shared(void);
void pb_sim_async_copy(void *to, const void *from, uint32_t bytes, uint32_t valid);
void pb_sim_async_commit(void);
void pb_sim_async_wait(uint32_t left);
}
PB_INLINE uint8_t *pb_dynamic_shared() { return (uint8_t *)pb_sim_dynamic_shared(); }
typedef uint8_t *pb_shared_address;
PB_INLINE pb_shared_address pb_dynamic_address() { return pb_dynamic_shared(); }
#endif
PB_INLINE uint32_t pb_lane() { return pb_thread() & 31u; }
`

/**
 * 16 bytes from device memory to shared memory, past the registers and the first cache; nothing where `wanted` is false,
 * zeros where `inside` is false, and then nothing is read. They are there when the thread has waited for their group;
 * others see them behind a barrier.
 */
const copies = `
#ifdef __CUDACC__
PB_INLINE void pb_async_copy_16(pb_shared_address to, const void *from, bool wanted, bool inside) {
  asm volatile("{.reg .pred p; setp.ne.b32 p, %3, 0; @p cp.async.cg.shared.global [%0], [%1], 16, %2;}"
    :: "r"(to), "l"(__cvta_generic_to_global(from)), "r"(inside ? 16 : 0), "r"((int)wanted) : "memory");
}
PB_INLINE void pb_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> PB_INLINE void pb_async_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(LEFT) : "memory"); }
#else
PB_INLINE void pb_async_copy_16(pb_shared_address to, const void *from, bool wanted, bool inside) {
  if (wanted) pb_sim_async_copy(to, from, 16, inside ? 16 : 0);
}
PB_INLINE void pb_async_commit() { pb_sim_async_commit(); }
template <int LEFT> PB_INLINE void pb_async_wait() { pb_sim_async_wait(LEFT); }
#endif
`

/** Asks for the line in which an address lies to come from device memory into the cache that all blocks share: a hint. */
const hints = `
#ifdef __CUDACC__
PB_INLINE void pb_prefetch(const void *p) {
  asm volatile("prefetch.global.L2 [%0];" :: "l"(__cvta_generic_to_global(p)));
}
#else
PB_INLINE void pb_prefetch(const void *p) { (void)*(const volatile uint8_t *)p; }
#endif
`

/**
 * 16 bytes of shared memory at an address that is a multiple of 16, and the larger of x and 0, NaN where x is NaN.
 */
const pieces = `
#ifdef __CUDACC__
PB_INLINE void pb_shared_read_16(pb_shared_address from, uint32_t *w) {
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
    : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "r"(from) : "memory");
}
PB_INLINE void pb_shared_write_16(pb_shared_address to, const uint32_t *w) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};"
    :: "r"(to), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]) : "memory");
}
PB_INLINE float pb_positive(float x) {
  float y;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(x));
  return y;
}
#else
PB_INLINE void pb_shared_read_16(pb_shared_address from, uint32_t *w) { pb_aligned(from, 16); memcpy(w, from, 16); }
PB_INLINE void pb_shared_write_16(pb_shared_address to, const uint32_t *w) { pb_aligned(to, 16); memcpy(to, w, 16); }
PB_INLINE float pb_positive(float x) { return x > 0.0f || x != x ? x : 0.0f; }
#endif
`

/** Of the lane whose number differs in the bits of \`mask\`; and words [lane][word] of four neighbouring lanes transposed. */
const shuffles = `
#ifdef __CUDACC__
PB_INLINE uint32_t pb_shuffle_xor(uint32_t x, uint32_t mask) {
  uint32_t y;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(y) : "r"(x), "r"(mask));
  return y;
}
#else
PB_INLINE uint32_t pb_shuffle_xor(uint32_t x, uint32_t mask) {
  return ((const uint32_t *)pb_sim_warp_gather(&x, 4))[pb_lane() ^ mask];
}
#endif
PB_INLINE void pb_quad_transpose(uint32_t *w) {
  const bool odd = pb_lane() & 1u, high = pb_lane() & 2u;
  PB_UNROLL
  for (int i = 0; i < 4; i += 2) {
    const uint32_t got = pb_shuffle_xor(odd ? w[i] : w[i + 1], 1);
    if (odd) w[i] = got;
    else w[i + 1] = got;
  }
  PB_UNROLL
  for (int i = 0; i < 2; ++i) {
    const uint32_t got = pb_shuffle_xor(high ? w[i] : w[i + 2], 2);
    if (high) w[i] = got;
    else w[i + 2] = got;
  }
}
`

/**
 * Four matrices of 8 rows of 8 16-bit elements from shared memory: lanes 8 m to 8 m + 7 give the rows' addresses of matrix
 * m, multiples of 16 bytes. A lane gets elements 2 (lane % 4) and the next of row lane / 4; transposed, of that column.
 */
const matrices = `
#ifdef __CUDACC__
PB_INLINE void pb_ldmatrix_x4(pb_shared_address row, uint32_t *r) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
    : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
}
PB_INLINE void pb_ldmatrix_x4_trans(pb_shared_address row, uint32_t *r) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
    : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
}
#else
PB_INLINE void pb_ldmatrix_x4(pb_shared_address row, uint32_t *r) {
  pb_aligned(row, 16);
  const uint16_t *const *const rows = (const uint16_t *const *)pb_sim_warp_gather(&row, sizeof row);
  const uint32_t lane = pb_lane();
  for (int m = 0; m < 4; ++m) memcpy(r + m, rows[8 * m + lane / 4] + 2 * (lane % 4), 4);
}
PB_INLINE void pb_ldmatrix_x4_trans(pb_shared_address row, uint32_t *r) {
  pb_aligned(row, 16);
  const uint16_t *const *const rows = (const uint16_t *const *)pb_sim_warp_gather(&row, sizeof row);
  const uint32_t lane = pb_lane(), at = 2 * (lane % 4);
  for (int m = 0; m < 4; ++m) r[m] = (uint32_t)rows[8 * m + at + 1][lane / 4] << 16 | rows[8 * m + at][lane / 4];
}
#endif
`

function product(dtype: 'f16' | 'bf16'): string {
  return `
#ifdef __CUDACC__
PB_INLINE void pb_mma_16816_${dtype}(float *c, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.${dtype}.${dtype}.f32 "
    "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
PB_INLINE void pb_mma_1688_${dtype}(float *c, uint32_t a0, uint32_t a1, uint32_t b0) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.${dtype}.${dtype}.f32 "
    "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(b0));
}
PB_INLINE uint32_t pb_pack_${dtype}(float low, float high) {
  uint32_t y;
  asm("cvt.rn.${dtype}x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
#else
PB_INLINE void pb_mma_16816_${dtype}(float *c, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  pb_sim_product<pb_float_of_${dtype}, 2>(c, {a0, a1, a2, a3}, {b0, b1});
}
PB_INLINE void pb_mma_1688_${dtype}(float *c, uint32_t a0, uint32_t a1, uint32_t b0) {
  pb_sim_product<pb_float_of_${dtype}, 1>(c, {a0, a1, 0, 0}, {b0, 0});
}
PB_INLINE uint32_t pb_pack_${dtype}(float low, float high) {
  return (uint32_t)pb_${dtype}_of_float(high) << 16 | pb_${dtype}_of_float(low);
}
#endif
template <> struct pb_matrix<pb_${dtype}> {
  PB_INLINE void k16(float *c, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    pb_mma_16816_${dtype}(c, a0, a1, a2, a3, b0, b1);
  }
  PB_INLINE void k8(float *c, uint32_t a0, uint32_t a1, uint32_t b0) { pb_mma_1688_${dtype}(c, a0, a1, b0); }
  PB_INLINE uint32_t pack(float low, float high) { return pb_pack_${dtype}(low, high); }
};
`
}

/**
 * c += a b with a of 16 rows and b of 8 columns, 16 or 8 deep, in f32. With g = lane / 4 and q = lane % 4, and two
 * neighbours in each word: a0 is row g and a1 row g + 8 of columns 2 q, a2 and a3 the same 8 columns on; b0 is column g of
 * rows 2 q, b1 8 rows on; c[0], c[1] are row g of columns 2 q, c[2], c[3] row g + 8. The second body adds exact products to c
 * in f64 and rounds once; the machine's sum is as wide as f32 but in an order and with cut-offs of its own.
 */
const products = `
template <class T> struct pb_matrix;
#ifndef __CUDACC__
struct pb_sim_fragments { float a[4][2], b[2][2]; };
template <float (*WIDE)(uint16_t), int HALVES> PB_INLINE void pb_sim_product(float *c, const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  pb_sim_fragments mine;
  for (int i = 0; i < 2 * HALVES; ++i)
    for (int k = 0; k < 2; ++k) mine.a[i][k] = WIDE((uint16_t)(a[i] >> 16 * k));
  for (int i = 0; i < HALVES; ++i)
    for (int k = 0; k < 2; ++k) mine.b[i][k] = WIDE((uint16_t)(b[i] >> 16 * k));
  const pb_sim_fragments *const all = (const pb_sim_fragments *)pb_sim_warp_gather(&mine, sizeof mine);
  const pb_sim_fragments *const row = all + pb_lane() / 4 * 4, *const column = all + pb_lane() % 4 * 8;
  for (int i = 0; i < 4; ++i) {
    double sum = c[i];
    for (int h = 0; h < HALVES; ++h)
      for (int q = 0; q < 4; ++q)
        for (int k = 0; k < 2; ++k) sum += (double)row[q].a[2 * h + i / 2][k] * (double)column[i % 2 * 4 + q].b[h][k];
    c[i] = (float)sum;
  }
}
#endif
${product('f16')}${product('bf16')}`

/** Behind the rest of the prelude, in front of the sources that need it; more than once is as good as once. */
export const warpPrelude = `#ifndef PB_WARPS
#define PB_WARPS
${[launch, copies, hints, pieces, shuffles, matrices, products].join('')}#endif
`
