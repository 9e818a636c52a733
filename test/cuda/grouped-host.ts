// Lowered steps on the host: the very texts that NVRTC gets, compiled by g++ with the prelude's second bodies into one
// library, and launched with blocks, warps and threads in an order that a seed gives.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import koffi, { type LibraryHandle } from 'koffi'
import { cudaPrelude } from '../../src/cuda/prelude.ts'
import type { KernelLaunch, Lowered } from '../../src/cuda/work.ts'
import { at, zip } from '../../src/tensor/shape.ts'

const native = fileURLToPath(new URL('../sim/native/', import.meta.url))

const entry = (names: readonly string[]): string => `
#include "${native}launch.h"
static void (*const entries[])(const void *) = {${names.join(', ')}};
extern "C" const char *host_launch(int kernel, const void *a, uint32_t blocks, uint32_t threads, uint32_t shared, uint32_t seed) {
  const sim_launch::Kernel it = {entries[kernel], &pb_sim_block, &pb_sim_thread, &pb_sim_barrier, nullptr, nullptr};
  return sim_launch::run(it, {a, blocks, threads, shared, seed});
}
/* Memory that ends where a page begins that faults: what is read or written past its end is seen. */
extern "C" void *host_alloc(uint64_t bytes) {
  const uint64_t room = (bytes + 15) / 16 * 16, pages = (room + 4095) / 4096 * 4096;
  char *const area = (char *)mmap(nullptr, pages + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(area + pages, 4096, PROT_NONE);
  return area + pages - room;
}
extern "C" void host_free(void *p, uint64_t bytes) {
  const uint64_t room = (bytes + 15) / 16 * 16, pages = (room + 4095) / 4096 * 4096;
  munmap((char *)p + room - pages, pages + 4096);
}
extern "C" void host_copy_in(void *to, const void *from, uint64_t bytes) { memcpy(to, from, bytes); }
extern "C" void host_copy_out(void *to, const void *from, uint64_t bytes) { memcpy(to, from, bytes); }
`

/** Kernels compiled for the host; close it when done. */
export class HostKernels {
  readonly #names: readonly string[]
  readonly #folder: string
  readonly #library: LibraryHandle
  readonly #call: Readonly<
    Record<'launch' | 'alloc' | 'free' | 'copyIn' | 'copyOut', ReturnType<LibraryHandle['func']>>
  >

  constructor(lowered: readonly Lowered[], compiler = process.env['CXX'] ?? 'g++') {
    const sources = new Map(lowered.flatMap(kernelsOf).map(({ source }) => [source.name, source.text]))
    this.#names = [...sources.keys()]
    this.#folder = mkdtempSync(join(tmpdir(), 'pullback-grouped-'))
    const [source, target] = [join(this.#folder, 'kernels.cpp'), join(this.#folder, 'kernels.so')]
    writeFileSync(source, [cudaPrelude, ...sources.values(), entry(this.#names)].join('\n'))
    const flags = ['-std=c++17', '-O1', '-w', '-ffp-contract=off', '-fno-strict-aliasing', '-fPIC', '-shared']
    execFileSync(compiler, [...flags, '-Wl,-Bsymbolic', source, '-o', target], {
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    this.#library = koffi.load(target)
    const library = this.#library
    this.#call = {
      launch: library.func('host_launch', 'const char *', [
        'int',
        'void *',
        'uint32_t',
        'uint32_t',
        'uint32_t',
        'uint32_t',
      ]),
      alloc: library.func('host_alloc', 'void *', ['uint64_t']),
      free: library.func('host_free', 'void', ['void *', 'uint64_t']),
      copyIn: library.func('host_copy_in', 'void', ['void *', 'void *', 'uint64_t']),
      copyOut: library.func('host_copy_out', 'void', ['void *', 'void *', 'uint64_t']),
    }
  }

  /** The one result, of `count` 16-bit elements. Seed 0 runs blocks and threads in their natural order. */
  run(lowered: Lowered, inputs: readonly (Uint16Array | Float32Array)[], count: number, seed = 0): Uint16Array {
    const [result] = this.runAll(lowered, inputs, [2 * count], seed)
    return new Uint16Array(result?.buffer ?? new ArrayBuffer(0))
  }

  /** All results, of so many bytes each. */
  runAll(
    lowered: Lowered,
    inputs: readonly (Uint16Array | Float32Array)[],
    resultBytes: readonly number[],
    seed = 0,
  ): readonly Uint8Array[] {
    const { launch, alloc, free, copyIn, copyOut } = this.#call
    const poison = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(0xff)
    const contents = [...inputs, ...resultBytes.map(poison), poison(lowered.scratchBytes)]
    const places = contents.map((content) => {
      const place = alloc(content.byteLength) as bigint
      copyIn(place, content, content.byteLength)
      return place
    })
    for (const { source, blocks, threads, sharedBytes, pointers, numbers } of kernelsOf(lowered)) {
      const addresses = pointers.map((pointer) =>
        pointer.kind === 'operand' ? at(places, pointer.index) : at(places, places.length - 1) + BigInt(pointer.offset),
      )
      const argument = BigInt64Array.from([...addresses, ...numbers.map(BigInt)])
      const number = this.#names.indexOf(source.name)
      const complaint = launch(number, argument, blocks, threads, sharedBytes, seed) as string | null
      if (complaint !== null) throw new Error(`${source.name}: ${complaint}`)
    }
    const results = resultBytes.map((bytes, i) => {
      const result = new Uint8Array(bytes)
      copyOut(result, at(places, inputs.length + i), bytes)
      return result
    })
    for (const [place, content] of zip(places, contents)) free(place, content.byteLength)
    return results
  }

  close(): void {
    this.#library.unload()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** The kernels of a lowered step, all of whose works they are. */
export function kernelsOf({ works }: Lowered): KernelLaunch[] {
  return works.map((work) => {
    if (work.kind !== 'kernel') throw new Error(`a library's call: ${work.label}`)
    return work
  })
}
