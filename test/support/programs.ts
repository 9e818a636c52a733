// Random well-typed tensor programs for property tests: a function built from public operations over a few inputs, and
// the inputs' values. Programs are decoded from plain numbers, so fast-check can shrink them step by step.
import fc from 'fast-check'
import { traceFlat } from '../../src/autograd/trace.ts'
import { type DType, isFloat } from '../../src/tensor/dtype.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import { showProgram } from '../../src/tensor/program.ts'
import { randomBits } from '../../src/tensor/philox.ts'
import { type Shape, at, sizeOf } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type Pick, type StepKind, type StepName, type Value, stepNames, steps } from './steps.ts'

export interface ProgramOptions {
  /** Dtypes of the inputs and of casts between; f32 alone by default. */
  readonly dtypes?: readonly DType[]
  /** The most operations; 8 by default. */
  readonly size?: number
  /**
   * Which operations: 'smooth' for derivatives by differences, 'continuous' where results are compared that may differ
   * by rounding, 'any' (the default) where they may not.
   */
  readonly kind?: StepKind
}

/** An input of a random program. Values are multiples of 1/64 in [-2, 2), exact in every floating dtype. */
export interface HostArray {
  readonly shape: Shape
  readonly dtype: DType
  readonly values: Float64Array
}

export interface RandomProgram {
  readonly inputs: readonly HostArray[]
  /** Values stay within about +-16 whatever the inputs in [-2, 2). */
  readonly f: (inputs: readonly Tensor[]) => Tensor[]
  /** The program as text, for counterexamples. */
  toString(): string
}

/** One operation, undecoded: which one, of which values, how. */
interface Code {
  readonly step: number
  readonly choices: readonly number[]
}

/** Uploads an input to the default device, as another dtype if one is given. */
export function upload(array: HostArray, dtype: DType = array.dtype): Tensor {
  return ops.tensor(array.values, { shape: array.shape, dtype })
}

/** A random program: inputs, a function of them, and at least one output. */
export function arbitraryProgram(options: ProgramOptions = {}): fc.Arbitrary<RandomProgram> {
  const { dtypes = ['f32'], size = 8, kind = 'any' } = options
  const names = stepNames[kind]
  const input = fc.record({
    shape: fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 3 }),
    dtype: fc.constantFrom(...dtypes),
    seed: fc.nat(1 << 20),
  })
  const code = fc.record({
    step: fc.nat(names.length - 1),
    choices: fc.array(fc.nat(1 << 10), { minLength: 6, maxLength: 6 }),
  })
  return fc
    .record({
      inputs: fc.array(input, { minLength: 1, maxLength: 3 }),
      codes: fc.array(code, { minLength: 1, maxLength: size }),
      outputs: fc.array(fc.nat(1 << 10), { maxLength: 2 }),
    })
    .map(({ inputs, codes, outputs }) => ({
      inputs: inputs.map(hostArray),
      f: (values: readonly Tensor[]) => decode(names, dtypes, codes, outputs, values),
      toString() {
        const { program } = traceFlat(this.f, this.inputs, 'random program', { keepCalls: false })
        return showProgram(program)
      },
    }))
}

function hostArray({ shape, dtype, seed }: { shape: number[]; dtype: DType; seed: number }): HostArray {
  const words = randomBits([seed, 0], 0, 0, 8, sizeOf(shape))
  const scale = isFloat(dtype) ? 64 : 32 // integers from -4 to 3
  const values = Float64Array.from(words, (word) =>
    isFloat(dtype) ? (word - 128) / scale : Math.floor((word - 128) / scale),
  )
  return { shape, dtype, values: dtype === 'bool' || dtype === 'u8' ? values.map((v) => (v > 0 ? 1 : 0)) : values }
}

/** Applies the codes one after the other; every result joins the pool from which later ones choose. */
function decode(
  names: readonly StepName[],
  dtypes: readonly DType[],
  codes: readonly Code[],
  outputs: readonly number[],
  inputs: readonly Tensor[],
): Tensor[] {
  const pool: Value[] = inputs.map((x) => ({ x, bound: isFloat(x.dtype) ? 2 : 4 }))
  for (const { step, choices } of codes) {
    let next = 0
    const choose = (count: number): number => at(choices, next++ % choices.length) % count
    const recent = (index: number): number => pool.length - 1 - index // small choices take late values: long chains
    const pick: Pick = {
      value: () => at(pool, recent(choose(pool.length))),
      float: () => toFloat(at(pool, recent(choose(pool.length))), dtypes),
      choose,
      dtypes,
    }
    pool.push(tame(steps[at(names, step)](pick)))
  }
  const last = at(pool, pool.length - 1).x
  return [last, ...outputs.map((index) => at(pool, index % pool.length).x)]
}

/** A value as a float: integers and bools are cast to the first floating dtype there is. */
function toFloat(value: Value, dtypes: readonly DType[]): Value {
  if (isFloat(value.x.dtype)) return value
  return { ...value, x: ops.cast(value.x, dtypes.find(isFloat) ?? 'f32') }
}

/** Keeps results small in number and in size, so that no program overflows f16 or takes long. */
function tame({ x, bound }: Value): Value {
  if (x.size > 256) return tame({ x: ops.mean(toFloat({ x, bound }, [x.dtype]).x, { axes: 0 }), bound })
  if (!isFloat(x.dtype)) return { x, bound }
  if (bound <= 16) return { x, bound }
  const scale = 2 ** -Math.ceil(Math.log2(bound / 8))
  return { x: ops.mul(x, scale), bound: bound * scale }
}
