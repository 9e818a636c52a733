// Library steps by our own CUDA kernels on the host against the reference interpreter: many at once, each under three orders
// of blocks and threads.
import fc from 'fast-check'
import { expect } from 'vitest'
import type { LibraryEquation, LibraryPrimitive } from '../../src/compile/index.ts'
import type { PrintedSource } from '../../src/compile/print/index.ts'
import { lowerOwn } from '../../src/cuda/kernels/index.ts'
import type { KernelLaunch, Lowered } from '../../src/cuda/work.ts'
import { type DType, type StorageArray, isFloat } from '../../src/tensor/dtype.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import type { Pair, PrimitiveParams } from '../../src/tensor/primitives.ts'
import type { ReferenceValue } from '../../src/tensor/reference/value.ts'
import { at, sizeOf } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { type SimLaunch, SimSources } from '../sim/sources.ts'
import { programOf, run, value } from '../unit/reference-run.ts'

/** A library step with its operands. */
export interface OwnCase {
  /** What fast-check shows of it. */
  readonly [fc.toStringMethod]: () => string
  readonly name: string
  readonly equation: LibraryEquation
  readonly inputs: readonly ReferenceValue[]
  /** What the reference gives. */
  readonly expected: ReferenceValue
  /** What each element may be off by; equal bits where it is missing. */
  readonly tolerance?: (element: number) => number
}

/** A case of a primitive. */
export function ownCase<P extends LibraryPrimitive>(
  primitive: P,
  inputs: readonly ReferenceValue[],
  params: PrimitiveParams[P],
  tolerance?: OwnCase['tolerance'],
): OwnCase {
  const equation = at(programOf(primitive, inputs, params).equations, 0) as LibraryEquation
  const types = inputs.map(({ type }) => `${type.dtype}[${type.shape.join()}]`).join(' ')
  const name = `${primitive} ${types} ${JSON.stringify(params)}`
  const base = { [fc.toStringMethod]: () => name, name, equation, inputs }
  const expected = at(run(primitive, inputs, params), 0)
  return tolerance === undefined ? { ...base, expected } : { ...base, expected, tolerance }
}

/** The launches of a lowered step, which has nothing else. */
export function launchesOf({ works }: Lowered): KernelLaunch[] {
  return works.map((work) => {
    if (work.kind !== 'kernel') throw new Error(`${work.label} is no kernel`)
    expect(work.threads).toBe(256)
    expect(work.blocks).toBeGreaterThan(0)
    expect(work.sharedBytes).toBe(0)
    return work
  })
}

/** The distinct sources of steps. */
export function sourcesOf(all: readonly Lowered[]): PrintedSource[] {
  const sources = new Map<string, PrintedSource>()
  for (const { source } of all.flatMap(launchesOf)) sources.set(source.name, source)
  return [...sources.values()]
}

/** The floating dtypes. */
export const floats = ['f32', 'f16', 'bf16', 'f64'] as const

/** Two numbers in a range. */
export function pair(min: number, max: number): fc.Arbitrary<Pair> {
  return fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }))
}

/** Draws `count` cases, since the compiler takes many kernels at once, and expects their agreement. */
export function expectAlways(cases: fc.Arbitrary<OwnCase>, count: number): void {
  const lists = fc.array(cases, { minLength: count, maxLength: count })
  const property = fc.property(lists, (list) => expectAgreement(list))
  fc.assert(property, { numRuns: runs(1), endOnFailure: true })
}

/** Compiles the kernels of all cases together, runs each under the orders `seeds`, and compares. */
export function expectAgreement(cases: readonly OwnCase[], seeds: readonly number[] = [0, 7, 1234567]): void {
  const lowered = cases.map(({ equation }) => lowerOwn(equation))
  const sim = new SimSources(sourcesOf(lowered))
  try {
    cases.forEach((each, i) => {
      const step = at(lowered, i)
      const launches: SimLaunch[] = launchesOf(step)
      const { type } = each.expected
      const inputs = each.inputs.map((input) => encode(input.type.dtype, input.data))
      const outputs = [{ dtype: type.dtype, count: sizeOf(type.shape) }]
      const results = seeds.map((seed) => at(sim.run(launches, step.scratchBytes, inputs, outputs, seed), 0))
      for (const result of results)
        if (Buffer.compare(bytes(result), bytes(at(results, 0))) !== 0)
          expect.fail(`${each.name}: another order, other bits`)
      compare(each, decode(type.dtype, at(results, 0)))
    })
  } finally {
    sim.close()
  }
}

function bytes({ buffer, byteOffset, byteLength }: StorageArray): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}

function compare({ name, expected, tolerance }: OwnCase, got: ArrayLike<number>): void {
  expected.data.forEach((want, i) => {
    const actual = at(got, i)
    const close = tolerance !== undefined && Number.isFinite(want) && Math.abs(actual - want) <= tolerance(i)
    if (!close && !Object.is(actual, want)) expect.fail(`${name}: element ${i}: expected ${want}, got ${actual}`)
  })
}

const specials = [Number.NaN, Infinity, -Infinity, 0, -0]

/**
 * Small multiples of 1/8, whose sums and sums of products are exact in f32; with `special` also NaN, infinities and zeros
 * of both signs. Ties are frequent.
 */
export function exactValues(dtype: DType, shape: readonly number[], seed: number, special = false): ReferenceValue {
  const draw = (i: number): number => {
    const word = Math.imul(i + 1, 2654435761) ^ Math.imul(seed + 7, 40503 * 65537)
    const isSpecial = special && isFloat(dtype) && (word >>> 20) % 11 === 0
    return isSpecial ? at(specials, (word >>> 5) % 5) : roundTo(dtype, ((word >>> 9) % 33) / 8 - 2)
  }
  return value(
    dtype,
    shape,
    Float64Array.from({ length: sizeOf(shape) }, (_, i) => draw(i)),
  )
}
