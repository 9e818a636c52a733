// The elementary functions of printed kernels in f32: at most 2 ulp from the double-precision value everywhere, and what
// IEEE 754 wants of zeros, infinities and NaN. Inputs are f32 patterns at even steps, so every exponent is met.
import { afterAll, describe, expect, it } from 'vitest'
import type { Kernel } from '../../src/compile/index.ts'
import { erf } from '../../src/tensor/reference/erf.ts'
import { NativeKernels } from './cpu-native.ts'

const native = new NativeKernels()
afterAll(() => native.close())

type Unary = 'exp' | 'log' | 'sqrt' | 'rsqrt' | 'sin' | 'cos' | 'tanh' | 'sigmoid' | 'erf'

function apply(op: Unary, x: Float32Array): Float32Array {
  const kernel: Kernel = {
    axes: [{ extent: x.length, role: 'map' }],
    inputs: [{ dtype: 'f32', strides: [1], offset: 0 }],
    nodes: [
      { op: 'load', dtype: 'f32', input: 0 },
      { op, dtype: 'f32', args: [0] },
    ],
    stores: [{ node: 1, dtype: 'f32', output: 0, strides: [1], offset: 0 }],
    reductions: [],
  }
  return native.run(kernel, [x], [{ dtype: 'f32', count: x.length }])[0] as Float32Array
}

/** All finite and infinite f32 whose pattern is a multiple of `step`. */
function patterns(step: number): Float32Array {
  const count = Math.floor(2 ** 32 / step)
  const words = Uint32Array.from({ length: count }, (_, i) => i * step)
  return new Float32Array(words.buffer).filter((x) => !Number.isNaN(x))
}

/** The distance of an f32 from the exact value in units of the last place there. */
function ulps(actual: number, exact: number): number {
  if (Object.is(actual, Math.fround(exact)) || (Number.isNaN(actual) && Number.isNaN(exact))) return 0
  if (!Number.isFinite(actual)) return Math.abs(exact) > 3.40282e38 ? 1 : Infinity
  const exponent = Math.max(-126, Math.floor(Math.log2(Math.max(Math.abs(exact), 2 ** -140))))
  return Math.abs(actual - exact) / 2 ** (exponent - 23)
}

const exact: Readonly<Record<Unary, (x: number) => number>> = {
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
  sigmoid: (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x))),
  erf,
}

describe('within 2 ulp', () => {
  const names = Object.keys(exact) as Unary[]
  it.each(names)('%s', (op) => {
    // near zero and one, where functions bend, by fine steps; elsewhere by coarse ones
    const fine = Float32Array.from({ length: 400_000 }, (_, i) => (i - 200_000) * 0.0000457)
    const wide = Float32Array.from({ length: 200_000 }, (_, i) => (i - 100_000) * 0.00113)
    let worst = { error: 0, x: 0, got: 0 }
    for (const inputs of [patterns(9973), fine, wide]) {
      const results = apply(op, inputs)
      inputs.forEach((x, i) => {
        const error = ulps(results[i]!, exact[op](x))
        if (error > worst.error) worst = { error, x, got: results[i]! }
      })
    }
    console.log(`${op}: at most ${worst.error.toFixed(3)} ulp, at ${worst.x}`)
    expect(worst.error, `at ${worst.x}: got ${worst.got}`).toBeLessThanOrEqual(2)
  })
})

it('keeps the special values', () => {
  const at = (op: Unary, ...x: readonly number[]): number[] => [...apply(op, Float32Array.from(x))]
  const [inf, nan] = [Infinity, Number.NaN]
  expect(at('exp', -inf, inf, nan, 0, -0, 88.8, -104)).toEqual([0, inf, nan, 1, 1, inf, 0])
  expect(at('log', 0, -0, -1, inf, nan, 1)).toEqual([-inf, -inf, nan, inf, nan, 0])
  expect(at('sqrt', -0, -1, inf, nan)).toEqual([-0, nan, inf, nan])
  expect(at('rsqrt', 0, inf, -1)).toEqual([inf, 0, nan])
  expect(at('tanh', -inf, inf, nan, -0, 20)).toEqual([-1, 1, nan, -0, 1])
  expect(at('sigmoid', -inf, inf, nan, 0)).toEqual([0, 1, nan, 0.5])
  expect(at('erf', -inf, inf, nan, -0, 5)).toEqual([-1, 1, nan, -0, 1])
  expect(at('sin', inf, nan, -0)).toEqual([nan, nan, -0])
  expect(at('cos', inf, nan, 0)).toEqual([nan, nan, 1])
})
