// Grouped convolutions for tests: equations of all three directions, operands, and what their results should be.
import { abstractEvaluate } from '../../src/tensor/abstract.ts'
import type { LibraryEquation } from '../../src/compile/plan.ts'
import { decode, encode } from '../../src/tensor/half.ts'
import type { ConvParams } from '../../src/tensor/primitives.ts'
import { type Program, type Var, variable } from '../../src/tensor/program.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import { type Shape, at, range, sizeOf, zip } from '../../src/tensor/shape.ts'

export const groupWidths = [4, 8, 16, 32] as const
export const strides = [1, 2] as const
export const directions = ['conv2d', 'conv2dInputGrad', 'conv2dFilterGrad'] as const
export const halves = ['f16', 'bf16'] as const

export interface Geometry {
  readonly direction: (typeof directions)[number]
  readonly dtype: 'f16' | 'bf16' | 'f32'
  readonly width: number
  readonly stride: 1 | 2
  readonly groups: number
  /** [n, h, w] */
  readonly images: readonly [number, number, number]
}

/** The equation, its parameters changed by `change`. */
export function equationOf(geometry: Geometry, change: Partial<ConvParams> = {}): LibraryEquation {
  const { direction, dtype, width, stride, groups, images } = geometry
  const params: ConvParams = {
    stride: [stride, stride],
    padding: [
      [1, 1],
      [1, 1],
    ],
    dilation: [1, 1],
    groups,
    ...change,
  }
  const typed = (shape: Shape): Var => variable({ shape, dtype })
  const x = typed([...images, groups * width])
  const filter = typed([groups * width, 3, 3, width])
  const [result] = abstractEvaluate('conv2d', [x.type, filter.type], params)
  const y = typed(result?.shape ?? [])
  switch (direction) {
    case 'conv2d':
      return { primitive: direction, inputs: [x, filter], outputs: [y], params }
    case 'conv2dInputGrad':
      return {
        primitive: direction,
        inputs: [y, filter],
        outputs: [x],
        params: { ...params, inputShape: x.type.shape },
      }
    case 'conv2dFilterGrad':
      return {
        primitive: direction,
        inputs: [x, y],
        outputs: [filter],
        params: { ...params, filterShape: filter.type.shape },
      }
  }
}

/** One array for each operand, of the values that `draw` gives. */
export function operandsOf(equation: LibraryEquation, draw: () => number): Uint16Array[] {
  return equation.inputs.map(({ type: { shape, dtype } }) => {
    const stored = encode(dtype, range(sizeOf(shape)).map(draw))
    if (!(stored instanceof Uint16Array)) throw new Error(`expected a 16-bit type, got ${dtype}`)
    return stored
  })
}

/** Whole numbers from -most to most; sums of their products are exact in f32. */
export function integers(next: () => number, most: number): () => number {
  return () => Math.floor(next() * (2 * most + 1)) - most + 0
}

/** Numbers from 0 to 1, the same for the same seed. */
export function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    const mixed = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d)
    return ((mixed ^ (mixed >>> 13)) >>> 0) / 2 ** 32
  }
}

/** What the reference gives, rounded to the dtype or in float64; `magnitude` takes the operands' absolute values. */
export function expected(
  equation: LibraryEquation,
  operands: readonly Uint16Array[],
  { round = true, magnitude = false } = {},
): Float64Array {
  const inputs = equation.inputs.filter((input) => input.kind === 'var')
  const program: Program = { inputs, equations: [equation], outputs: equation.outputs }
  const values = zip(inputs, operands).map(([{ type }, stored]) => {
    const data = Float64Array.from(decode(type.dtype, stored))
    return { type, data: magnitude ? data.map(Math.abs) : data }
  })
  return Float64Array.from(at(interpret(program, values, { round }), 0).data)
}

/** How far a result in f32, summed in any order and rounded once, may be from the exact one: for each element. */
export function bounds(equation: LibraryEquation, operands: readonly Uint16Array[]): Float64Array {
  const exact = expected(equation, operands, { round: false })
  const magnitude = expected(equation, operands, { round: false, magnitude: true })
  const terms = termsOf(equation)
  const [unit, least] = at(equation.outputs, 0).type.dtype === 'f16' ? [2 ** -11, 2 ** -25] : [2 ** -8, 2 ** -134]
  return exact.map((value, i) => {
    const summing = terms * 2 ** -23 * at(magnitude, i) // any order, each sum cut off rather than rounded
    return summing + unit * (Math.abs(value) + summing) + least
  })
}

function termsOf({ primitive, inputs, params }: LibraryEquation): number {
  const shape = at(inputs, 1).type.shape
  if (primitive === 'conv2dFilterGrad') return at(shape, 0) * at(shape, 1) * at(shape, 2) + 64
  return 9 * (at(shape, 0) / ('groups' in params ? params.groups : 1))
}
