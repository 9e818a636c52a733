// A chain of pointwise operations on a convolution's result, as data: what kernels around a convolution become for cuDNN.
// The graph of it is graph.ts's part; which kernels are such chains is fusion/'s.
import type { pointwiseModes } from '../ffi/cudnn-constants.ts'
import type { Shape } from '../../tensor/shape.ts'
import type { ConvDType } from './problem.ts'

/** The operations that a chain may use. `RELU_BWD` passes its first operand on where the second is above 0. */
export type EpilogueMode = Extract<keyof typeof pointwiseModes, 'ADD' | 'SUB' | 'MUL' | 'RELU_FWD' | 'RELU_BWD'>

/** What an operation takes: the convolution's result, an operand in memory, or what an earlier operation gave. */
export type EpilogueValue =
  | { readonly kind: 'result' }
  | { readonly kind: 'operand'; readonly index: number }
  | { readonly kind: 'step'; readonly index: number }

/** One operation; what it gives has the convolution's extents and stays f32 inside the engine. */
export interface EpilogueStep {
  readonly mode: EpilogueMode
  readonly values: readonly [EpilogueValue, EpilogueValue?]
}

/** An operand in memory. */
export interface EpilogueOperand {
  readonly dtype: ConvDType
  /** [n, h, w, c] with the convolution's extents, or 1 along axes where it does not vary. */
  readonly shape: Shape
}

/** A chain; the last operation's value is what is stored, rounded to the convolution's dtype. */
export interface Epilogue {
  readonly operands: readonly EpilogueOperand[]
  readonly steps: readonly EpilogueStep[]
}

/** A chain as text, equal for equal ones: `SUB(y, a0) MUL(s0, a1) RELU_FWD(s1) of f32 1x1x1x64, ...` */
export function showEpilogue({ operands, steps }: Epilogue): string {
  const value = (of: EpilogueValue): string =>
    of.kind === 'result' ? 'y' : `${of.kind === 'step' ? 's' : 'a'}${of.index}`
  const shown = steps.map(({ mode, values: [first, second] }) =>
    second === undefined ? `${mode}(${value(first)})` : `${mode}(${value(first)}, ${value(second)})`,
  )
  const types = operands.map(({ dtype, shape }) => `${dtype} ${shape.join('x')}`)
  return `${shown.join(' ')}${types.length === 0 ? '' : ` of ${types.join(', ')}`}`
}
