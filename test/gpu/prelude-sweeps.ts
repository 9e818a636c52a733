// Kernels that count, over bit patterns, where a device function and its second body in C++ differ. What they count is told
// by prelude.ts.
import type { PrintedSource } from '../../src/compile/print/index.ts'
import { nameOf } from '../../src/compile/print/name.ts'
import { cudaPrelude } from '../../src/cuda/prelude.ts'
import { warpPrelude } from '../../src/cuda/prelude-warps.ts'
import { prefix, secondBodies } from './second-bodies.ts'

/** A function of 32 bits, `x`, and what it is compared with. */
export interface Sweep {
  readonly name: string
  readonly source: PrintedSource
  /** How many patterns of `x` there are. */
  readonly patterns: number
}

/** The functions with a second body that a GPU can run: those that meet no other thread. */
const functions = [
  ...['pb_float_of_bits', 'pb_bits_of_float', 'pb_double_of_bits', 'pb_bits_of_double'],
  ...['pb_f16_of_float', 'pb_float_of_f16', 'pb_bf16_of_float', 'pb_pack_f16', 'pb_pack_bf16'],
]

interface Pair {
  readonly name: string
  readonly patterns: number
  /** The expression, where F stands for the function's name and ( begins its arguments. */
  readonly type: string
  readonly got: string
  readonly want: string
  /** Whether two results are one, as an expression of `got` and `want`; equal bits by default. */
  readonly same?: string
}

const both = (expression: string): Pick<Pair, 'got' | 'want'> => ({
  got: expression,
  want: functions.reduce((text, name) => text.replaceAll(new RegExp(`\\b${name}\\b`, 'g'), prefix + name), expression),
})

/** NaN is NaN: its payload and sign are free, as PTX gives 0x7fff where the C++ bodies keep a sign. */
const nan = {
  f16: (x: string): string => `((${x}) & 0x7fffu) > 0x7c00u`,
  bf16: (x: string): string => `((${x}) & 0x7fffu) > 0x7f80u`,
  f32: (x: string): string => `((${x}) & 0x7fffffffu) > 0x7f800000u`,
}
const alike = (is: (x: string) => string): string => `got == want || (${is('got')} && ${is('want')})`
/** The same for the two halves of a word. */
const alikeHalves = (is: (x: string) => string): string =>
  ['0', '16']
    .map(
      (shift) => `((got ^ want) >> ${shift} & 0xffffu) == 0 || (${is(`got >> ${shift}`)} && ${is(`want >> ${shift}`)})`,
    )
    .map((half) => `(${half})`)
    .join(' && ')

const all = 2 ** 32
const rotated = 'pb_float_of_bits(x << 16 | x >> 16)'

const pairs: readonly Pair[] = [
  {
    ...{ name: 'f32 to f16', patterns: all, type: 'uint32_t', same: alike(nan.f16) },
    ...both('pb_f16_of_float(pb_float_of_bits(x))'),
  },
  {
    ...{ name: 'f32 to bf16', patterns: all, type: 'uint32_t', same: alike(nan.bf16) },
    ...both('pb_bf16_of_float(pb_float_of_bits(x))'),
  },
  {
    ...{ name: 'f16 to f32', patterns: 65536, type: 'uint32_t', same: alike(nan.f32) },
    ...both('pb_bits_of_float(pb_float_of_f16((uint16_t)x))'),
  },
  {
    ...{ name: 'two f32 to a word of f16', patterns: all, type: 'uint32_t', same: alikeHalves(nan.f16) },
    ...both(`pb_pack_f16(pb_float_of_bits(x), ${rotated})`),
  },
  {
    ...{ name: 'two f32 to a word of bf16', patterns: all, type: 'uint32_t', same: alikeHalves(nan.bf16) },
    ...both(`pb_pack_bf16(pb_float_of_bits(x), ${rotated})`),
  },
  {
    ...{ name: 'bits of f32 and back', patterns: all, type: 'uint32_t' },
    ...{ got: 'pb_bits_of_float(pb_float_of_bits(x))', want: 'x' },
  },
  {
    ...{ name: 'bits of f64 and back', patterns: all, type: 'uint64_t' },
    ...{ got: 'pb_bits_of_double(pb_double_of_bits(wide))', want: 'wide' },
  },
]

/** Every thread takes every `threads`-th of `count` patterns, `step` apart, and leaves how many differ and the first. */
function sweep(bodies: string, { type, got, want, same = 'got == want' }: Pair): PrintedSource {
  return nameOf(
    'pb_check_sweep',
    (symbol) => `${warpPrelude}${bodies}
PB_KERNEL(${symbol}, 2, 3) {
  const uint64_t count = (uint64_t)a.n[0], threads = (uint64_t)a.n[2];
  const uint64_t thread = (uint64_t)pb_block() * 256 + pb_thread();
  uint32_t differing = 0, first = 0;
  for (uint64_t i = thread; i < count; i += threads) {
    const uint32_t x = (uint32_t)i * (uint32_t)a.n[1];
    const uint64_t wide = (uint64_t)x * 0x9e3779b97f4a7c15ull;
    (void)wide;
    const ${type} got = ${got}, want = ${want};
    if (!(${same})) {
      if (differing == 0) first = x;
      differing += 1;
    }
  }
  ((uint32_t *)a.p[0])[thread] = differing;
  ((uint32_t *)a.p[1])[thread] = first;
}
`,
  )
}

/** The sweeps, with second bodies from the prelude or from a text in its place. */
export function preludeSweeps(prelude = cudaPrelude + warpPrelude): readonly Sweep[] {
  const bodies = secondBodies(prelude, functions)
  return pairs.map((pair) => ({ name: pair.name, patterns: pair.patterns, source: sweep(bodies, pair) }))
}
