// The partial sums of a grouped convolution's blocks, added in their order by a kernel of their own: the filter gradient's, and
// the sums over the results that batch norm wants.
import type { PrintedPointer } from '../../compile/print/index.ts'
import { nameOf } from '../../compile/print/name.ts'
import type { KernelLaunch } from '../work.ts'
import { scratch } from './launch.ts'

/** 32 elements a block: eight threads sum every eighth partial of one, and the first adds the eight. */
const combine = `
template <class T> PB_INLINE void pb_grouped_combine(const void *partials, void *results, void *others, const int64_t *n) {
  PB_SHARED float shared[256];
  const int64_t elements = n[0], element = (int64_t)pb_block() * 32 + (pb_thread() & 31);
  const int splits = (int)n[1], part = (int)(pb_thread() >> 5);
  float sum = 0.0f;
  if (element < elements)
    for (int split = part; split < splits; split += 8) sum += ((const float *)partials)[split * elements + element];
  shared[pb_thread()] = sum;
  pb_barrier();
  if (part != 0 || element >= elements) return;
  for (int i = 1; i < 8; ++i) sum += shared[pb_thread() + 32 * i];
  pb_put<T>(element < n[2] ? (typename T::bits *)results + element : (typename T::bits *)others + (element - n[2]), sum);
}
`

/** Adds the partials [part, result, element], f32 at the beginning of scratch memory, to one or two results of `elements`. */
export function combineLaunch(
  dtype: 'f16' | 'bf16' | 'f32',
  elements: number,
  parts: number,
  results: readonly [PrintedPointer, PrintedPointer?],
): KernelLaunch {
  const [first, second = first] = results
  const all = elements * results.length
  const source = nameOf('grouped_combine', (symbol) => {
    const body = `pb_grouped_combine<pb_${dtype}>(a.p[0], a.p[1], a.p[2], a.n);`
    return `#ifndef PB_GROUPED_COMBINE
#define PB_GROUPED_COMBINE
${combine}#endif
PB_KERNEL(${symbol}, 3, 3) { ${body} }
`
  })
  return {
    kind: 'kernel',
    source,
    blocks: Math.ceil(all / 32),
    threads: 256,
    sharedBytes: 0,
    pointers: [scratch(0), first, second],
    numbers: [all, parts, elements],
  }
}
