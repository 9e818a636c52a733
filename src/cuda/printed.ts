// A fused kernel as launches of printed CUDA C.
import type { Kernel } from '../compile/index.ts'
import { blockThreads, cudaDialect, printKernel } from '../compile/print/index.ts'
import type { Lowered } from './work.ts'

/** The launches of a kernel; operands are its inputs, then its outputs. */
export function lowerKernel(kernel: Kernel): Lowered {
  const { launches, scratchBytes, counterBytes = 0 } = printKernel(kernel, cudaDialect)
  const works = launches.map(({ source, parts, pointers, numbers }) => {
    return { kind: 'kernel', source, blocks: parts, threads: blockThreads, sharedBytes: 0, pointers, numbers } as const
  })
  return { works, scratchBytes, counterBytes }
}
