// Sources of CUDA kernels on the host: the very text that NVRTC gets, compiled by g++ with the prelude's second bodies, many
// at once. Results begin as bytes of 0xa5, so that what is not written shows; scratch memory and what lies around every
// array are bytes of 0xff (NaN), so that what is read there shows, and what is written there is an error.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import koffi, { type LibraryHandle } from 'koffi'
import type { PrintedPointer, PrintedSource } from '../../src/compile/print/index.ts'
import { cudaPrelude } from '../../src/cuda/prelude.ts'
import { type DType, type StorageArray, bytesOf, storageArray } from '../../src/tensor/dtype.ts'
import { at } from '../../src/tensor/shape.ts'
import { launcher } from './launcher.ts'

/** One array of results. */
export interface SimResult {
  readonly dtype: DType
  readonly count: number
}

/** One launch: a source that was compiled, its blocks, and its argument. */
export interface SimLaunch {
  readonly source: PrintedSource
  readonly blocks: number
  readonly pointers: readonly PrintedPointer[]
  readonly numbers: readonly number[]
}

/** Bytes around every array. */
const guard = 256

/** Sources compiled for the host; close it when done. */
export class SimSources {
  readonly #numbers = new Map<string, number>()
  readonly #folder: string
  readonly #library: LibraryHandle

  constructor(sources: Iterable<PrintedSource>, compiler = process.env['CXX'] ?? 'g++') {
    const texts = new Map<string, string>()
    for (const { name, text } of sources) texts.set(name, text)
    const names = [...texts.keys()]
    names.forEach((name, i) => this.#numbers.set(name, i))
    this.#folder = mkdtempSync(join(tmpdir(), 'pullback-sim-'))
    const [source, target] = [join(this.#folder, 'kernels.cpp'), join(this.#folder, 'kernels.so')]
    writeFileSync(source, [cudaPrelude, ...texts.values(), launcher(names)].join('\n'))
    const shared = ['-fPIC', '-shared', '-Wl,-Bsymbolic']
    const flags = ['-std=c++17', '-O1', '-w', '-ffp-contract=off', '-fno-strict-aliasing', ...shared]
    execFileSync(compiler, [...flags, source, '-o', target], { stdio: ['ignore', 'ignore', 'inherit'] })
    this.#library = koffi.load(target)
  }

  /** The results of launches in turn. Seed 0 runs blocks and threads in their natural order, any other permutes both. */
  run(
    launches: readonly SimLaunch[],
    scratchBytes: number,
    inputs: readonly StorageArray[],
    outputs: readonly SimResult[],
    seed = 0,
    counterBytes = 0,
  ): StorageArray[] {
    const [alloc, free, copyIn, copyOut, launch] = this.#functions()
    const results = outputs.map(({ dtype, count }) => storageArray(dtype, count))
    const operands = inputs.length + outputs.length
    const contents = [
      ...inputs.map((input) => new Uint8Array(input.buffer, input.byteOffset, input.byteLength)),
      ...outputs.map(({ dtype, count }) => new Uint8Array(bytesOf(dtype) * count).fill(0xa5)),
      new Uint8Array(scratchBytes).fill(0xff),
      new Uint8Array(counterBytes),
    ].map((content) => {
      const bytes = new Uint8Array(content.byteLength + 2 * guard).fill(0xff)
      bytes.set(content, guard)
      return bytes
    })
    const blocks = contents.map((content) => {
      const block = alloc(content.byteLength) as bigint
      copyIn(block, content, content.byteLength)
      return block + BigInt(guard)
    })
    for (const { source, blocks: count, pointers, numbers } of launches) {
      const addresses = pointers.map((pointer) =>
        pointer.kind === 'operand'
          ? at(blocks, pointer.index)
          : at(blocks, operands + (pointer.kind === 'scratch' ? 0 : 1)) + BigInt(pointer.offset),
      )
      const argument = BigInt64Array.from([...addresses, ...numbers.map(BigInt)])
      const number = this.#numbers.get(source.name) ?? -1
      const complaint = launch(number, argument, count, 0, seed) as string | null
      if (complaint !== null) throw new Error(`${source.name}: ${complaint}`)
    }
    contents.forEach((before, i) => {
      const after = new Uint8Array(before.byteLength)
      const block = at(blocks, i) - BigInt(guard)
      copyOut(after, block, after.byteLength)
      free(block)
      const written = i < inputs.length || i > operands ? 0 : before.byteLength - 2 * guard // counters are zero again
      expectUntouched(before, after, guard, guard + written, launches)
      const result = results[i - inputs.length]
      if (result !== undefined) new Uint8Array(result.buffer).set(after.subarray(guard, guard + result.byteLength))
    })
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

/** Only the bytes from `low` to `high` may differ. */
function expectUntouched(
  before: Uint8Array,
  after: Uint8Array,
  low: number,
  high: number,
  launches: readonly SimLaunch[],
): void {
  const same = (from: number, to: number): boolean =>
    Buffer.compare(before.subarray(from, to), after.subarray(from, to)) === 0
  if (!same(0, low) || !same(high, before.byteLength))
    throw new Error(`${launches.map(({ source }) => source.name).join(', ')}: bytes outside the results were written`)
}
