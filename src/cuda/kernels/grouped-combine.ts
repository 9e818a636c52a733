// The filter gradient of a grouped convolution from what its blocks have of it, added in their order by a kernel of its own.
import type { PrintedPointer } from '../../compile/print/index.ts'
import { nameOf } from '../../compile/print/name.ts'
import type { KernelLaunch } from '../work.ts'
import { fullBlocks, scratch } from './launch.ts'

/** `across` elements a block: the other threads share the partials of one by turns, and the first adds what they have. */
const combine = `
template <class T> PB_INLINE void pb_grouped_combine(const void *partials, void *results, const int64_t *n) {
  PB_SHARED float shared[256];
  const int across = (int)n[2], depth = 256 / across, part = (int)pb_thread() / across;
  const int64_t elements = n[0], element = (int64_t)pb_block() * across + (int)pb_thread() % across;
  const int splits = (int)n[1];
  float sum = 0.0f;
  if (element < elements) {
    PB_UNROLL_4
    for (int split = part; split < splits; split += depth) sum += ((const float *)partials)[split * elements + element];
  }
  shared[pb_thread()] = sum;
  pb_barrier();
  if (part != 0 || element >= elements) return;
  for (int i = 1; i < depth; ++i) sum += shared[(int)pb_thread() + across * i];
  pb_put<T>((typename T::bits *)results + element, sum);
}
`

/** Adds the partials [part, element], f32 at the beginning of scratch memory, to a result of `elements`. */
export function combineLaunch(
  dtype: 'f16' | 'bf16',
  elements: number,
  parts: number,
  result: PrintedPointer,
): KernelLaunch {
  // Few elements would leave most of a GPU idle, and each of their threads with a long sum.
  const across = elements > 32 * fullBlocks ? 32 : 8
  const source = nameOf('grouped_combine', (symbol) => {
    const body = `pb_grouped_combine<pb_${dtype}>(a.p[0], a.p[1], a.n);`
    return `#ifndef PB_GROUPED_COMBINE
#define PB_GROUPED_COMBINE
${combine}#endif
PB_KERNEL(${symbol}, 2, 3) { ${body} }
`
  })
  return {
    kind: 'kernel',
    source,
    blocks: Math.ceil(elements / across),
    threads: 256,
    sharedBytes: 0,
    pointers: [scratch(0), result],
    numbers: [elements, parts, across],
  }
}
