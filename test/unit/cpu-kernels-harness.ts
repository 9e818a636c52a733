// Compiles printed CPU kernels and runs lowered steps on one thread, with guards around the scratch and the result.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import koffi from 'koffi'
import type { KernelSource, Lowered } from '../../src/cpu/kernels/launch.ts'
import { prelude } from '../../src/cpu/kernels/prelude.ts'

/** Memory operands live in: each on its own 64-byte boundary of one arena, with 64 guard bytes behind it. */
export type Storage = Float32Array | Float64Array | Uint16Array

const flags = ['-O3', '-march=native', '-ffp-contract=off', '-fno-math-errno', '-fno-trapping-math', '-shared', '-fPIC']

function driver(sources: readonly KernelSource[]): string {
  return `
typedef void (*kernel)(void *const *, const int64_t *, int64_t);
static const kernel kernels[] = {${sources.map(({ name }) => name).join(', ')}};
/* steps: kernel, parts, pointer count, offsets, number count, numbers; a kernel of -1 ends. Parts run backwards if odd. */
void drive(char *arena, const int64_t *steps, int backwards) {
  while (*steps >= 0) {
    const kernel run = kernels[steps[0]];
    const int64_t parts = steps[1], pointers = steps[2];
    void *p[8];
    for (int64_t i = 0; i < pointers; ++i) p[i] = arena + steps[3 + i];
    const int64_t *n = steps + 4 + pointers;
    for (int64_t i = 0; i < parts; ++i) run(p, n, backwards ? parts - 1 - i : i);
    steps = n + n[-1];
  }
}
`
}

/** A compiled set of kernels; `run` may only be given steps whose sources were in the set. */
export interface Kernels {
  run(lowered: Lowered, operands: readonly Storage[], backwards?: boolean): void
}

function align(bytes: number): number {
  return Math.ceil(bytes / 64) * 64
}

const guard = 64

/** Compiles the sources (equal names once) into one library. */
export function compileKernels(all: readonly KernelSource[], extra: readonly string[] = []): Kernels {
  const sources = [...new Map(all.map((source) => [source.name, source])).values()]
  for (const { name, text } of all) {
    if (sources.some((source) => source.name === name && source.text !== text))
      throw new Error(`two texts named ${name}`)
  }
  const folder = mkdtempSync(join(tmpdir(), 'pullback-kernels-'))
  const file = join(folder, 'kernels.c')
  const library = join(folder, 'kernels.so')
  writeFileSync(file, [prelude, ...sources.map(({ text }) => text), driver(sources)].join('\n'))
  execFileSync('cc', [
    ...flags,
    '-Wall',
    '-Wextra',
    '-Werror',
    '-Wno-unknown-pragmas',
    ...extra,
    '-o',
    library,
    file,
    '-lm',
  ])
  const drive = koffi.load(library).func('void drive(void *arena, void *steps, int backwards)')
  rmSync(folder, { recursive: true })
  const places = new Map(sources.map(({ name }, index) => [name, index]))
  return {
    run(lowered, operands, backwards = false) {
      const offsets: number[] = []
      let bytes = 0
      for (const { byteLength } of operands) {
        offsets.push(bytes)
        bytes += align(byteLength) + guard
      }
      const scratch = bytes
      const arena = new Uint8Array(scratch + align(lowered.scratchBytes) + guard).fill(0xff)
      operands.forEach((operand, i) => {
        arena.set(new Uint8Array(operand.buffer, operand.byteOffset, operand.byteLength), offsets[i])
      })
      const result = operands.at(-1)
      const target = offsets.at(-1)
      if (result === undefined || target === undefined) throw new Error('no operands')
      arena.fill(0xff, target, target + result.byteLength)
      const before = arena.slice()
      const steps: number[] = []
      for (const { source, parts, pointers, numbers } of lowered.launches) {
        const place = places.get(source.name)
        if (place === undefined) throw new Error(`${source.name} was not compiled`)
        const addresses = pointers.map((p) =>
          p.kind === 'operand' ? (offsets[p.index] ?? Number.NaN) : scratch + p.offset,
        )
        steps.push(place, parts, pointers.length, ...addresses, numbers.length, ...numbers)
      }
      drive(arena, BigInt64Array.from([...steps, -1], BigInt), backwards ? 1 : 0)
      const unchanged = (from: number, to: number) => {
        for (let i = from; i < to; i++)
          if (arena[i] !== before[i]) throw new Error(`byte ${i} outside the result was written`)
      }
      unchanged(0, target)
      unchanged(target + result.byteLength, scratch)
      unchanged(scratch + lowered.scratchBytes, arena.length)
      new Uint8Array(result.buffer, result.byteOffset, result.byteLength).set(
        arena.subarray(target, target + result.byteLength),
      )
    },
  }
}
