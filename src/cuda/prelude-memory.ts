// How elements of every dtype get from memory into registers and back, V neighbours at once, and how the threads of a block
// combine their sums. Machine access is prelude-device.ts's part.
import { type DType, dtypes } from '../tensor/dtype.ts'

interface Element {
  /** The unsigned integer of an element's size. */
  readonly bits: string
  readonly register: string
  readonly wide: string
  readonly narrow: string
}

const elements: Readonly<Record<DType, Element>> = {
  f32: { bits: 'uint32_t', register: 'pbv_f', wide: 'pb_float_of_bits(x)', narrow: 'pb_bits_of_float(x)' },
  f64: { bits: 'uint64_t', register: 'pbv_d', wide: 'pb_double_of_bits(x)', narrow: 'pb_bits_of_double(x)' },
  i32: { bits: 'uint32_t', register: 'pbv_i', wide: '(pbv_i)x', narrow: '(uint32_t)x' },
  f16: { bits: 'uint16_t', register: 'pbv_f', wide: 'pb_float_of_f16(x)', narrow: 'pb_f16_of_float(x)' },
  bf16: { bits: 'uint16_t', register: 'pbv_f', wide: 'pb_float_of_bf16(x)', narrow: 'pb_bf16_of_float(x)' },
  u8: { bits: 'uint8_t', register: 'pbv_i', wide: '(pbv_i)x', narrow: '(uint8_t)x' },
  bool: { bits: 'uint8_t', register: 'pbv_b', wide: 'x != 0', narrow: '(uint8_t)(x ? 1 : 0)' },
}

const types = dtypes
  .map((dtype) => {
    const { bits, register, wide, narrow } = elements[dtype]
    return `struct pb_${dtype} {
  typedef ${bits} bits;
  typedef ${register} value;
  PB_INLINE value wide(bits x) { return ${wide}; }
  PB_INLINE bits narrow(value x) { return ${narrow}; }
};
`
  })
  .join('')

/** Elements lie in words from the low end. V elements of 4 bytes and more go as whole words, at most four at once. */
const vectors = `
template <int W> PB_INLINE void pb_read(const void *p, uint32_t *w) {
  if constexpr (W == 1) pb_read_4(p, w);
  else if constexpr (W == 2) pb_read_8(p, w);
  else {
    PB_UNROLL
    for (int i = 0; i < W; i += 4) pb_read_16((const uint32_t *)p + i, w + i);
  }
}
template <int W> PB_INLINE void pb_write(void *p, const uint32_t *w) {
  if constexpr (W == 1) pb_write_4(p, w);
  else if constexpr (W == 2) pb_write_8(p, w);
  else {
    PB_UNROLL
    for (int i = 0; i < W; i += 4) pb_write_16((uint32_t *)p + i, w + i);
  }
}
template <int W> PB_INLINE void pb_read_shared(const void *p, uint32_t *w) {
  if constexpr (W == 1) pb_read_shared_4(p, w);
  else if constexpr (W == 2) pb_read_shared_8(p, w);
  else {
    PB_UNROLL
    for (int i = 0; i < W; i += 4) pb_read_shared_16((const uint32_t *)p + i, w + i);
  }
}
template <class T> PB_INLINE typename T::value pb_get(const void *p) { return T::wide(*(const typename T::bits *)p); }
template <class T> PB_INLINE void pb_put(void *p, typename T::value x) { *(typename T::bits *)p = T::narrow(x); }
/* V elements as they lie in memory: what was read and is not needed yet takes no more registers than that. */
template <class T, int V> struct pb_vector {
  typedef typename T::bits element;
  static constexpr int size = sizeof(element), words = V == 1 || V * size < 4 ? 0 : V * size / 4;
  uint32_t w[words == 0 ? 1 : words];
  element e[words == 0 ? V : 1];
  PB_MEMBER void read(const void *p) {
    if constexpr (words == 0) {
      PB_UNROLL
      for (int k = 0; k < V; ++k) e[k] = ((const element *)p)[k];
    } else pb_read<words>(p, w);
  }
  PB_MEMBER typename T::value operator[](int k) const {
    if constexpr (words == 0) return T::wide(e[k]);
    else if constexpr (size == 8) return T::wide((element)((uint64_t)w[2 * k + 1] << 32 | w[2 * k]));
    else return T::wide((element)(w[k * size / 4] >> k * size % 4 * 8));
  }
};
template <class T, int V> PB_INLINE void pb_load(const void *p, typename T::value *x) {
  pb_vector<T, V> v;
  v.read(p);
  PB_UNROLL
  for (int k = 0; k < V; ++k) x[k] = v[k];
}
template <class T, int V> PB_INLINE void pb_store(void *p, const typename T::value *x) {
  constexpr int size = sizeof(typename T::bits);
  if constexpr (V == 1 || V * size < 4) {
    PB_UNROLL
    for (int k = 0; k < V; ++k) pb_put<T>((typename T::bits *)p + k, x[k]);
  } else {
    uint32_t w[V * size / 4] = {0};
    PB_UNROLL
    for (int k = 0; k < V; ++k) {
      const typename T::bits e = T::narrow(x[k]);
      if constexpr (size == 8) {
        w[2 * k] = (uint32_t)e;
        w[2 * k + 1] = (uint32_t)((uint64_t)e >> 32);
      } else w[k * size / 4] |= (uint32_t)e << k * size % 4 * 8;
    }
    pb_write<V * size / 4>(p, w);
  }
}
`

/**
 * Reductions: their operations by class, the lanes of one thread in a fixed order, and the same lane of `depth` threads
 * that lie `stride` apart, halving. The sum is that of the first; every thread of the block must call.
 */
const reducing = `
${['f', 'd', 'i'].flatMap((s) => ['add', 'max', 'min'].map((op) => `struct pb_${op}_${s} { PB_INLINE pbv_${s} of(pbv_${s} a, pbv_${s} b) { return pbv_${op}_${s}(a, b); } };\n`)).join('')}
template <class Op, int V, class R> PB_INLINE R pb_fold(const R *x) {
  R y[V];
  PB_UNROLL
  for (int k = 0; k < V; ++k) y[k] = x[k];
  PB_UNROLL
  for (int half = V / 2; half > 0; half /= 2) {
    PB_UNROLL
    for (int k = 0; k < half; ++k) y[k] = Op::of(y[k], y[k + half]);
  }
  return y[0];
}
template <class Op, int V, class R>
PB_INLINE void pb_combine(void *shared, R *x, uint32_t place, uint32_t depth, uint32_t stride) {
  R *const s = (R *)shared;
  const uint32_t t = pb_thread();
  PB_UNROLL
  for (int k = 0; k < V; ++k) s[k * 256 + t] = x[k];
  pb_barrier();
  for (uint32_t half = depth / 2; half > 0; half /= 2) {
    if (place < half) {
      PB_UNROLL
      for (int k = 0; k < V; ++k) s[k * 256 + t] = Op::of(s[k * 256 + t], s[k * 256 + t + half * stride]);
    }
    pb_barrier();
  }
  PB_UNROLL
  for (int k = 0; k < V; ++k) x[k] = s[k * 256 + t];
  pb_barrier();
}
`

/** What blocks of one launch tell each other: numbers of 4 and 8 bytes, and who of them is the last. */
const sharing = `
/* Reads what other blocks of this launch have written before pb_last_block. */
template <class T, int V> PB_INLINE void pb_load_shared(const void *p, typename T::value *x) {
  constexpr int words = sizeof(typename T::bits) / 4;
  uint32_t w[V * words];
  pb_read_shared<V * words>(p, w);
  PB_UNROLL
  for (int k = 0; k < V; ++k) {
    if constexpr (words == 2) x[k] = T::wide((typename T::bits)((uint64_t)w[2 * k + 1] << 32 | w[2 * k]));
    else x[k] = T::wide((typename T::bits)w[k]);
  }
}
/* Whether this block is the last of \`count\` to call, all threads of each; what the others wrote before can be read then.
   The counter is zero before the first and after the last. */
PB_INLINE bool pb_last_block(uint32_t *counter, uint32_t count) {
  PB_SHARED uint32_t last;
  pb_barrier();
  if (pb_thread() == 0) {
    pb_fence();
    last = pb_increment(counter) + 1 == count;
    if (last != 0) *counter = 0;
    pb_fence();
  }
  pb_barrier();
  return last != 0;
}
`

/** Memory and reductions; behind the registers. */
export const memoryPrelude: string = [types, vectors, reducing, sharing].join('')
