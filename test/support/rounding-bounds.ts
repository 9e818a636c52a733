// How far a device's result of one primitive may be from the reference's, which computes in f64 and rounds once: derived
// from how often it rounds, element by element.
import { type FloatDType, isFloat } from '../../src/tensor/dtype.ts'
import type { PrimitiveName } from '../../src/tensor/primitives.ts'
import type { Program } from '../../src/tensor/program.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import { at, zip } from '../../src/tensor/shape.ts'

/** Whether f32 operands of products may be cut to TF32. */
export type Precision = 'ieee' | 'tf32'

/** Half the distance of neighbours near 1, and the smallest number. */
const units: Readonly<Record<FloatDType, readonly [unit: number, least: number]>> = {
  f64: [2 ** -53, 2 ** -1074],
  f32: [2 ** -24, 2 ** -149],
  f16: [2 ** -11, 2 ** -24],
  bf16: [2 ** -8, 2 ** -133],
}

/** Functions that the machine's library approximates: CUDA states at most 4 units in the last place, composed ones twice that. */
const elementary: ReadonlySet<PrimitiveName> = new Set<PrimitiveName>([
  ...(['exp', 'log', 'rsqrt', 'sin', 'cos', 'tanh', 'sigmoid', 'erf', 'pow'] as const),
])

/** Products summed in f32. */
const contractions: ReadonlySet<PrimitiveName> = new Set<PrimitiveName>([
  ...(['dot', 'conv2d', 'conv2dInputGrad', 'conv2dFilterGrad'] as const),
])

/** Sums in f32, linear in the operands whose sizes bound them. */
const sums: ReadonlySet<PrimitiveName> = new Set<PrimitiveName>([
  ...contractions,
  ...(['reduceSum', 'avgPool2d', 'avgPool2dGrad', 'maxPool2dGrad', 'scatterAdd'] as const),
])

/** Whether a program has a product that may be computed in TF32. */
export function contracts({ equations }: Program): boolean {
  return equations.some(({ primitive }) => contractions.has(primitive))
}

/**
 * For each output a bound for each element; undefined where nothing but movement, comparison and correctly rounded
 * arithmetic happens, whose bits are the reference's.
 *
 * Elementary functions: each equation may end on the other side of a rounding (one unit in the last place of the result)
 * and is off by 8 units of f32. Sums of K terms in f32, in any order and cut off or rounded: K 2^-23 of the sum of the
 * absolute values, and one rounding to the result; TF32 cuts each factor off by up to 2^-10. A variance is a
 * difference of two such sums.
 */
export function roundingBounds(
  program: Program,
  operands: readonly Float64Array[],
  expected: readonly Float64Array[],
  precision: Precision,
): readonly ((element: number) => number)[] | undefined {
  const primitives = program.equations.map(({ primitive }) => primitive)
  const result = (output: number) => {
    const { dtype } = at(program.outputs, output).type
    return isFloat(dtype) ? units[dtype] : ([0, 0] as const)
  }
  const value = (output: number, i: number): number => Math.abs(at(at(expected, output), i))
  const terms = Math.max(...operands.map(({ length }) => length)) + 4
  if (primitives.includes('moments')) {
    const largest = Math.max(...operands.flatMap((data) => [...data.map(Math.abs)]))
    return [
      (i) => terms * 2 ** -23 * largest + 2 * result(0)[0] * value(0, i),
      (i) => terms * 2 ** -21 * largest ** 2 + 2 * result(1)[0] * value(1, i),
    ]
  }
  if (primitives.some((primitive) => sums.has(primitive))) {
    const cut = terms * 2 ** -23 + (precision === 'tf32' && contracts(program) ? 2 ** -9 : 0)
    return magnitudes(program, operands).map((size, output) => (i) => {
      const [unit, least] = result(output)
      return cut * at(size, i) + 2 * unit * value(output, i) + least
    })
  }
  if (!primitives.some((primitive) => elementary.has(primitive))) return undefined
  return expected.map((_, output) => (i) => {
    const [unit, least] = result(output)
    return primitives.length * (2 * unit + 8 * 2 ** -23) * value(output, i) + least
  })
}

/** What the sums are of the absolute values of what is summed. */
function magnitudes(program: Program, operands: readonly Float64Array[]): readonly Float64Array[] {
  const chooses = program.equations.some(({ primitive }) => primitive === 'maxPool2dGrad')
  const values = zip(program.inputs, operands).map(([{ type }, data], index) => {
    const signed = !isFloat(type.dtype) || (chooses && index === 0) // which element is the largest must stay
    return { type, data: signed ? data : data.map(Math.abs) }
  })
  return interpret(program, values, { round: false }).map(({ data }) => Float64Array.from(data))
}
