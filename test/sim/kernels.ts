// Printed CUDA kernels on the host: the very text that NVRTC gets, compiled by g++ with the prelude's second bodies, many
// kernels at once. Memory is as the launches say; results begin as bytes of 0xa5, so that what is not written shows.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import koffi, { type LibraryHandle } from 'koffi'
import type { Kernel } from '../../src/compile/index.ts'
import { type PrintedKernel, cudaDialect, printKernel } from '../../src/compile/print/index.ts'
import { cudaPrelude } from '../../src/cuda/prelude.ts'
import { type DType, type StorageArray, bytesOf, storageArray } from '../../src/tensor/dtype.ts'
import { at } from '../../src/tensor/shape.ts'
import { launcher } from './launcher.ts'

/** One array of results. */
export interface SimResult {
  readonly dtype: DType
  readonly count: number
}

/** Kernels compiled for the host; close it when done. */
export class SimKernels {
  readonly #printed: Map<Kernel, PrintedKernel>
  readonly #numbers = new Map<string, number>()
  readonly #folder: string
  readonly #library: LibraryHandle

  constructor(kernels: readonly Kernel[], compiler = process.env['CXX'] ?? 'g++') {
    this.#printed = new Map(kernels.map((kernel) => [kernel, printKernel(kernel, cudaDialect)]))
    const sources = new Map<string, string>()
    for (const { launches } of this.#printed.values())
      for (const { source } of launches) sources.set(source.name, source.text)
    const names = [...sources.keys()]
    names.forEach((name, i) => this.#numbers.set(name, i))
    this.#folder = mkdtempSync(join(tmpdir(), 'pullback-sim-'))
    const [source, target] = [join(this.#folder, 'kernels.cpp'), join(this.#folder, 'kernels.so')]
    writeFileSync(source, [cudaPrelude, ...sources.values(), launcher(names)].join('\n'))
    const flags = [
      '-std=c++17',
      '-O1',
      '-w',
      '-ffp-contract=off',
      '-fno-strict-aliasing',
      '-fPIC',
      '-shared',
      '-Wl,-Bsymbolic',
    ]
    execFileSync(compiler, [...flags, source, '-o', target], { stdio: ['ignore', 'ignore', 'inherit'] })
    this.#library = koffi.load(target)
  }

  /** The results of a kernel. Seed 0 runs blocks and threads in their natural order, any other permutes both. */
  run(kernel: Kernel, inputs: readonly StorageArray[], outputs: readonly SimResult[], seed = 0): StorageArray[] {
    const { launches, scratchBytes } = this.#printed.get(kernel) ?? { launches: [], scratchBytes: 0 }
    const [alloc, free, copyIn, copyOut, launch] = this.#functions()
    const results = outputs.map(({ dtype, count }) => storageArray(dtype, count))
    const poison = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(0xa5)
    const contents = [
      ...inputs,
      ...outputs.map(({ dtype, count }) => poison(bytesOf(dtype) * count)),
      poison(scratchBytes),
    ]
    const blocks = contents.map((content) => {
      const block = alloc(content.byteLength) as bigint
      copyIn(block, content, content.byteLength)
      return block
    })
    for (const { source, parts, pointers, numbers } of launches) {
      const addresses = pointers.map((pointer) =>
        pointer.kind === 'operand'
          ? at(blocks, pointer.index)
          : at(blocks, contents.length - 1) + BigInt(pointer.offset),
      )
      const argument = BigInt64Array.from([...addresses, ...numbers.map(BigInt)])
      const number = this.#numbers.get(source.name) ?? -1
      const complaint = launch(number, argument, parts, 0, seed) as string | null
      if (complaint !== null) throw new Error(`${source.name}: ${complaint}`)
    }
    results.forEach((array, i) => {
      copyOut(array, at(blocks, inputs.length + i), array.byteLength)
    })
    for (const block of blocks) free(block)
    return results
  }

  close(): void {
    this.#library.unload()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #functions() {
    const library = this.#library
    return [
      library.func('void *pb_sim_alloc(uint64_t bytes)'),
      library.func('void pb_sim_free(void *p)'),
      library.func('void pb_sim_copy_in(void *to, const void *from, uint64_t bytes)'),
      library.func('void pb_sim_copy_out(void *to, const void *from, uint64_t bytes)'),
      library.func(
        'const char *pb_sim_launch(int kernel, const void *arguments, uint32_t blocks, uint32_t shared, uint32_t seed)',
      ),
    ] as const
  }
}
