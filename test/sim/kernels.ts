// Fused kernels on the host, as the CUDA dialect prints them; compiling and running the sources is sources.ts's part.
import type { Kernel } from '../../src/compile/index.ts'
import { type PrintedKernel, cudaDialect, printKernel } from '../../src/compile/print/index.ts'
import type { StorageArray } from '../../src/tensor/dtype.ts'
import { type SimResult, SimSources } from './sources.ts'

export type { SimResult } from './sources.ts'

/** Kernels compiled for the host; close it when done. */
export class SimKernels {
  readonly #printed: Map<Kernel, PrintedKernel>
  readonly #sources: SimSources

  constructor(kernels: readonly Kernel[], compiler?: string) {
    this.#printed = new Map(kernels.map((kernel) => [kernel, printKernel(kernel, cudaDialect)]))
    const printed = [...this.#printed.values()].flatMap(({ launches }) => launches.map(({ source }) => source))
    this.#sources = new SimSources(printed, compiler)
  }

  /** The results of a kernel. Seed 0 runs blocks and threads in their natural order, any other permutes both. */
  run(kernel: Kernel, inputs: readonly StorageArray[], outputs: readonly SimResult[], seed = 0): StorageArray[] {
    const printed = this.#printed.get(kernel) ?? { launches: [], scratchBytes: 0 }
    const { launches, scratchBytes, counterBytes } = printed
    const started = launches.map((launch) => ({ ...launch, blocks: launch.parts }))
    return this.#sources.run(started, scratchBytes, inputs, outputs, seed, counterBytes)
  }

  close(): void {
    this.#sources.close()
  }
}
