// The prelude's conversions of f16 and bf16, by hardware and in portable C, against tensor/half.ts: every pattern widens
// exactly; narrowing rounds to nearest even on every value, tie and neighbour of a tie; NaNs stay NaNs of the same sign.
import { beforeAll, describe, expect, it } from 'vitest'
import { type Lowered, operand } from '../../src/cpu/kernels/launch.ts'
import { decodeBF16, decodeF16, encodeBF16, encodeF16 } from '../../src/tensor/half.ts'
import { type Kernels, compileKernels } from './cpu-kernels-harness.ts'

const types = {
  f16: { decode: decodeF16, encode: encodeF16 },
  bf16: { decode: decodeBF16, encode: encodeBF16 },
} as const
type Half = keyof typeof types

function convert(way: 'widen' | 'narrow', type: Half, count: number): Lowered {
  const [to, from] = way === 'widen' ? ['float', 'uint16_t'] : ['uint16_t', 'float']
  const name = `convert_${way}_${type}`
  const text = `void ${name}(void *const *p, const int64_t *n, int64_t part) { (void)part; pb_${way}_${type}((${to} *)p[1], (const ${from} *)p[0], n[0]); }`
  return {
    launches: [{ source: { name, text }, parts: 1, pointers: [operand(0), operand(1)], numbers: [count] }],
    scratchBytes: 0,
  }
}

const patterns = Uint16Array.from({ length: 65536 }, (_, pattern) => pattern)

/** Every finite value, the midpoint to the next one, and the floats on either side of both; then what overflows. */
function roundingCases(type: Half): Float32Array {
  const bits = new Uint32Array(1)
  const float = new Float32Array(bits.buffer)
  const cases: number[] = [Infinity, -Infinity, 65519.99, 65520, 3.4e38, -3.4e38, 1e-45, -1e-45]
  for (let pattern = 0; pattern < 0x7fff; pattern++) {
    const value = types[type].decode(pattern)
    const next = types[type].decode(pattern + 1)
    if (!Number.isFinite(value) || !Number.isFinite(next)) continue
    for (const center of [value, (value + next) / 2]) {
      float[0] = center
      const middle = bits[0] ?? 0
      for (const neighbour of [Math.max(0, middle - 1), middle, middle + 1]) {
        bits[0] = neighbour
        cases.push(float[0], -float[0])
      }
    }
  }
  return Float32Array.from(cases)
}

describe.each([
  { build: 'this machine', flags: [] },
  { build: 'portable C', flags: ['-march=x86-64'] },
])('conversions for $build', ({ flags }) => {
  let kernels: Kernels
  beforeAll(() => {
    const all = (['f16', 'bf16'] as const).flatMap((type) => [convert('widen', type, 1), convert('narrow', type, 1)])
    kernels = compileKernels(
      all.flatMap(({ launches }) => launches.map(({ source }) => source)),
      flags,
    )
  })

  for (const type of ['f16', 'bf16'] as const) {
    it(`${type} widens exactly`, () => {
      for (const count of [65536, 65531]) {
        const wide = new Float32Array(count)
        kernels.run(convert('widen', type, count), [patterns.slice(0, count), wide])
        expect(wide).toEqual(Float32Array.from(patterns.slice(0, count), types[type].decode))
      }
    })

    it(`${type} narrows to the nearest, ties to even`, () => {
      const cases = roundingCases(type)
      const narrow = new Uint16Array(cases.length)
      kernels.run(convert('narrow', type, cases.length), [cases, narrow])
      const wrong = cases.findIndex((value, index) => narrow[index] !== types[type].encode(value))
      expect(wrong, `${cases[wrong]} became ${narrow[wrong]}`).toBe(-1)
    })

    it(`${type} keeps NaNs, their sign and upper payload`, () => {
      const nans = Uint32Array.from([
        0x7fc00000, 0xffc00000, 0x7f800001, 0xff800001, 0x7fffffff, 0x7fe00000, 0x7f802000,
      ])
      const source = Float32Array.from({ length: nans.length })
      new Uint32Array(source.buffer).set(nans)
      const narrow = new Uint16Array(nans.length)
      kernels.run(convert('narrow', type, nans.length), [source, narrow])
      const expected = {
        f16: [0x7e00, 0xfe00, 0x7e00, 0xfe00, 0x7fff, 0x7f00, 0x7e01],
        bf16: [0x7fc0, 0xffc0, 0x7fc0, 0xffc0, 0x7fff, 0x7fe0, 0x7fc0],
      }
      expect([...narrow]).toEqual(expected[type])
    })
  }
})
