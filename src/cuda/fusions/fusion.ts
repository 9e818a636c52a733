// A library step and the kernels behind it as one: what is computed, and the faster ways there may be. Where such steps are
// in a plan is recognize.ts's part, which way is taken the tuner's.
import { type Step, describeStep } from '../../compile/index.ts'
import type { TensorType } from '../../tensor/program.ts'
import type { Epilogue } from '../conv/index.ts'
import type { Contraction } from '../kernels/index.ts'
import type { Wire, WiredKernel } from '../wires.ts'

/** Batch norm and ReLU in front of a convolution: n(x) = max((x - mean) scale + shift, 0), the sum rounded to x's dtype. */
export interface WiredActivation {
  /** x. */
  readonly source: Wire
  /** Mean, scale and shift, each f32 [channels]. */
  readonly vectors: readonly [Wire, Wire, Wire]
  /** What the mean is of its vector. */
  readonly meanFactor: number
}

/** What can be done in the library's own pass. */
export type FusedWay =
  /** A convolution and, per channel, the sums of its results and of their squares, f32 [channels]. */
  | {
      readonly kind: 'statistics'
      readonly sum: Wire
      readonly squares: Wire
      /** What else is made of the sums. */
      readonly last: WiredKernel | undefined
      /** What the one kernel before the convolution makes its input of, where nobody else reads that. */
      readonly front: WiredActivation | undefined
    }
  /**
   * The input gradient of a grouped convolution and, per channel, two sums for the batch norm and ReLU in front of that, f32
   * [channels]: with g the gradient where n(source) > 0 and 0 elsewhere, those of g and of g times the source.
   */
  | ({
      readonly kind: 'masked'
      readonly sum: Wire
      readonly products: Wire
    } & WiredActivation)
  /** A convolution and a chain of pointwise operations; what the kernel reduces is reduced from what is stored. */
  | {
      readonly kind: 'chain'
      readonly epilogue: Epilogue
      readonly operands: readonly Wire[]
      readonly store: Wire
      readonly rest: WiredKernel | undefined
    }
  /** A product and the bias of its columns, of the result's dtype. */
  | {
      readonly kind: 'product'
      readonly epilogue: 'bias' | 'bias-relu'
      readonly bias: Wire
      readonly result: Wire
    }

/** Steps that are lowered as one. Plain data: equal fusions are equal problems. */
export interface Fusion {
  readonly contraction: { readonly equation: Contraction; readonly wires: readonly Wire[] }
  /** What makes its operands, where nothing is fused. */
  readonly before: readonly WiredKernel[]
  /** What is done with its result, in order, likewise. */
  readonly kernels: readonly WiredKernel[]
  readonly inputs: readonly TensorType[]
  readonly outputs: readonly TensorType[]
  /** What only the whole knows. */
  readonly inside: readonly TensorType[]
  readonly way: FusedWay
}

/** A step of the GPU's plan that stands for several of the compiler's. */
export interface FusedStep extends Pick<Step, 'inputs' | 'outputs' | 'after' | 'bytes' | 'flops' | 'label'> {
  readonly kind: 'fused'
  readonly fusion: Fusion
}

/** A step of the GPU's plan. */
export type CudaStep = Step | FusedStep

/** A step as text: what it computes, and its types. */
export function describeCudaStep(step: CudaStep): string {
  if (step.kind !== 'fused') return describeStep(step)
  const { inputs, outputs } = step.fusion
  return `${step.label} ${[...inputs, ...outputs].map(({ shape }) => shape.join('x')).join(' ')}`
}
