// Results whose sums several blocks share: how many shares there are, and the kernel that adds up their partial results in
// order and rounds once. There are no floating-point atomics, so the same input gives the same bits.
import { type FloatDType, accumulationType, bytesOf } from '../../tensor/dtype.ts'
import type { KernelLaunch } from '../work.ts'
import { ceilDiv, fullBlocks, indexFor, mapLaunch, operand, scratch, widthOf } from './launch.ts'

/** How a sum is cut: `count` shares of `size` terms, the last one perhaps shorter. */
export interface Shares {
  readonly count: number
  readonly size: number
}

/**
 * Shares of sums over `terms`, where `blocks` blocks would each sum all of them: more than one if those are few. Each has
 * a multiple of `step` terms and at least `least`.
 */
export function sharesOf(terms: number, blocks: number, step: number, least: number): Shares {
  const wanted = blocks * 2 > fullBlocks ? 1 : Math.min(ceilDiv(fullBlocks, blocks), Math.floor(terms / least))
  const size = Math.max(step, ceilDiv(terms, Math.max(1, wanted) * step) * step)
  return { count: Math.max(1, ceilDiv(terms, size)), size }
}

/** Bytes of scratch memory for the partial results of `total` elements. */
export function partialBytes(dtype: FloatDType, total: number, shares: Shares): number {
  return shares.count === 1 ? 0 : shares.count * total * bytesOf(accumulationType(dtype))
}

/** Adds the partial results, [share, element] from the beginning of scratch memory, to the operand `output`. */
export function addPartials(dtype: FloatDType, total: number, shares: Shares, output: number): KernelLaunch {
  const sums = accumulationType(dtype)
  const width = widthOf(sums, total)
  const index = indexFor(total * shares.count)
  const t = `pb_${sums}`
  const body = `
  const ${t}::bits *from = (const ${t}::bits *)a.p[0] + thread * ${width};
  ${t}::value total[${width}] = {0};
  for (${index} s = 0; s < shares; ++s, from += elements) {
    ${t}::value x[${width}];
    pb_load<${t}, ${width}>(from, x);
    PB_UNROLL
    for (int k = 0; k < ${width}; ++k) total[k] += x[k];
  }
  pb_store<pb_${dtype}, ${width}>((pb_${dtype}::bits *)a.p[1] + thread * ${width}, total);`
  const numbers = { shares: shares.count, elements: total }
  const pointers = [scratch(0), operand(output)]
  return mapLaunch({ name: `addPartials_${dtype}`, index, pointers, numbers, body }, total / width)
}
