// One primitive through the reference interpreter, for the tests of its rules.
import { abstractEvaluate } from '../../src/tensor/abstract.ts'
import type { DType } from '../../src/tensor/dtype.ts'
import type { PrimitiveName, PrimitiveParams } from '../../src/tensor/primitives.ts'
import { type Equation, type Program, variable } from '../../src/tensor/program.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import type { InterpretOptions, ReferenceValue } from '../../src/tensor/reference/value.ts'
import { sizeOf } from '../../src/tensor/shape.ts'
import { verifyProgram } from '../../src/tensor/verify.ts'

/** A value of the given type. */
export function value(dtype: DType, shape: readonly number[], data: Iterable<number>): ReferenceValue {
  return { type: { shape, dtype }, data: Float64Array.from(data) }
}

/** A vector. */
export function vector(dtype: DType, ...data: readonly number[]): ReferenceValue {
  return value(dtype, [data.length], data)
}

/** The program of one equation. */
export function programOf<P extends PrimitiveName>(
  primitive: P,
  inputs: readonly ReferenceValue[],
  params: PrimitiveParams[P],
): Program {
  const variables = inputs.map(({ type }) => variable(type))
  const outputs = abstractEvaluate(
    primitive,
    inputs.map(({ type }) => type),
    params,
  ).map((type) => variable(type))
  const equation = { primitive, inputs: variables, params, outputs } as unknown as Equation
  return verifyProgram({ inputs: variables, equations: [equation], outputs }, 'the test')
}

/** The results of one primitive. */
export function run<P extends PrimitiveName>(
  primitive: P,
  inputs: readonly ReferenceValue[],
  params: PrimitiveParams[P],
  options?: InterpretOptions,
): readonly ReferenceValue[] {
  return interpret(programOf(primitive, inputs, params), inputs, options)
}

/** The elements of the only result. */
export function elements<P extends PrimitiveName>(
  primitive: P,
  inputs: readonly ReferenceValue[],
  params: PrimitiveParams[P],
  options?: InterpretOptions,
): number[] {
  const results = run(primitive, inputs, params, options)
  const [only] = results
  if (only === undefined || results.length !== 1) throw new Error(`${primitive} gave ${results.length} results`)
  return [...only.data]
}

/** 1, 2, 3, ... of a shape. */
export function counting(dtype: DType, shape: readonly number[]): ReferenceValue {
  return value(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, (_, index) => index + 1),
  )
}

/** The sum of products of two values' elements. */
export function innerOf(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`inner product of ${a.length} and ${b.length}`)
  return Array.from(a).reduce((sum, x, index) => sum + x * (b[index] ?? Number.NaN), 0)
}
