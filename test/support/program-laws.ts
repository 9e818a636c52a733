// The law of compiled programs, for any device: random programs, with and without their gradients, are what the reference
// makes of them. Many are joined into one, so that a device compiles once; a failure names the program it is in.
import fc from 'fast-check'
import { traceFlat } from '../../src/autograd/trace.ts'
import { vjp } from '../../src/autograd/vjp.ts'
import { type DType, isFloat } from '../../src/tensor/dtype.ts'
import { roundTo } from '../../src/tensor/half.ts'
import { onesLike } from '../../src/tensor/ops/index.ts'
import type { Program } from '../../src/tensor/program.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import { at, zip } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import type { Given } from './joined.ts'
import { type ProgramOptions, type RandomProgram, arbitraryProgram } from './programs.ts'

/** A kind of random programs, and how far their results may be from the reference's, relative to 1 and to the value. */
export interface ProgramLaw {
  readonly name: string
  readonly options: ProgramOptions
  readonly trace: (random: RandomProgram) => Program
  readonly tolerance: number
  /** How many programs are tried. */
  readonly count: number
}

const everyDType: readonly DType[] = ['f32', 'f16', 'bf16', 'f64', 'i32']

/** The laws. 16-bit results may differ by a rounding wherever a sum in f32 is another. */
export const programLaws: readonly ProgramLaw[] = [
  { name: 'random f32 programs', options: { kind: 'continuous' }, trace: traced, tolerance: 5e-5, count: 60 },
  {
    ...{ name: 'random programs of every dtype', options: { kind: 'continuous', dtypes: everyDType } },
    ...{ trace: traced, tolerance: 4e-2, count: 60 },
  },
  {
    ...{ name: 'values and gradients together', options: { kind: 'smooth', size: 6 } },
    ...{ trace: tracedGradient, tolerance: 2e-4, count: 40 },
  },
]

function traced(random: RandomProgram): Program {
  return traceFlat(random.f, random.inputs, 'random', { keepCalls: false }).program
}

/** The outputs, and the gradients of their sum by every floating input. */
function tracedGradient(random: RandomProgram): Program {
  const f = (inputs: readonly Tensor[]): readonly Tensor[] => {
    const [outputs, pullback] = vjp(
      (...tensors: Tensor[]) => random.f(tensors).filter((x) => isFloat(x.dtype)),
      ...inputs,
    )
    return [...outputs, ...pullback(outputs.map(onesLike))]
  }
  return traceFlat(f, random.inputs, 'random', { keepCalls: false }).program
}

/** So many programs of a law, with their operands. */
export function samplePrograms({ options, trace }: ProgramLaw, numRuns: number, seed: number): readonly Given[] {
  return fc.sample(arbitraryProgram(options), { numRuns, seed }).map((random) => {
    const program = trace(random)
    const operands = zip(random.inputs, program.inputs).map(([input, { type }]) =>
      Float64Array.from(input.values, (value) => roundTo(type.dtype, value)),
    )
    return { program, operands }
  })
}

/** An element in which a program's results are not the reference's. */
export interface WorstElement {
  /** Relative to the larger of 1 and the value. */
  readonly error: number
  readonly output: number
  readonly element: number
  readonly found: number
  readonly expected: number
}

/** The element that is farthest off. */
export function worstElement({ program, operands }: Given, found: readonly ArrayLike<number>[]): WorstElement {
  const values = zip(program.inputs, operands).map(([{ type }, data]) => ({ type, data }))
  let worst: WorstElement = { error: 0, output: 0, element: 0, found: 0, expected: 0 }
  interpret(program, values).forEach(({ data }, output) => {
    const got = at(found, output)
    data.forEach((expected, element) => {
      const mine = got[element] ?? Number.NaN
      if (Object.is(mine, expected) || mine === expected) return
      const error = Math.abs(mine - expected) / Math.max(1, Math.abs(expected))
      if (!(error <= worst.error))
        worst = { error: Number.isNaN(error) ? Infinity : error, output, element, found: mine, expected }
    })
  })
  return worst
}
