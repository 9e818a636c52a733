// Steps of a plan as one: a library step and the kernels behind it, or a chain over the same rows. What is computed, and the
// faster ways there may be; where such steps are in a plan is recognize.ts's and rows.ts's part, which way is taken the tuner's.
import { createHash } from 'node:crypto'
import { type Kernel, type Step, describeStep, equationKey, kernelKey } from '../../compile/index.ts'
import type { TensorType } from '../../tensor/program.ts'
import type { Epilogue } from '../conv/index.ts'
import type { Contraction } from '../kernels/index.ts'
import type { DotEquation } from '../matmul/index.ts'
import type { RowChain } from '../row-chain.ts'
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

/** A contraction and the kernels behind it, lowered as one. Plain data: equal fusions are equal problems. */
export interface Fusion {
  readonly kind: 'contraction'
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

/** Products that do not wait for each other; operands are inputs and outputs of the whole. Plain data likewise. */
export interface Products {
  readonly kind: 'products'
  readonly products: readonly { readonly equation: DotEquation; readonly wires: readonly Wire[] }[]
  readonly inputs: readonly TensorType[]
  readonly outputs: readonly TensorType[]
}

/** Steps that are lowered as one, of any kind. */
export type Fused = Fusion | RowChain | Products

/** A step of the GPU's plan that stands for several of the compiler's. */
export interface FusedStep extends Pick<Step, 'inputs' | 'outputs' | 'after' | 'bytes' | 'flops' | 'label'> {
  readonly kind: 'fused'
  readonly fusion: Fused
}

/** A step of the GPU's plan. */
export type CudaStep = Step | FusedStep

/** A step as text: what it computes, and its types. */
export function describeCudaStep(step: CudaStep): string {
  if (step.kind !== 'fused') return describeStep(step)
  const { kind, inputs, outputs } = step.fusion
  if (kind === 'products') return step.label
  return `${step.label} ${[...inputs, ...outputs].map(({ shape }) => shape.join('x')).join(' ')}`
}

/** Equal for what is lowered alike. */
export function fusedKey(fused: Fused): string {
  switch (fused.kind) {
    case 'contraction': {
      const { contraction, inside, way } = fused
      const kernels = [...fused.before, ...fused.kernels]
      const whole = [contraction.wires, kernels.map(({ wires }) => wires), inside, way.kind]
      return keyOf(whole, [equationKey(contraction.equation), ...kernels.map(({ kernel }) => kernelKey(kernel))])
    }
    case 'rows': {
      const { rows, parts, inside } = fused
      const steps = parts.map((part) => (part.kind === 'dot' ? equationKey(part.equation) : kernelKey(part.kernel)))
      return keyOf([rows, parts.map(({ kind, wires }) => [kind, wires]), inside], steps)
    }
    case 'products': {
      const { products } = fused
      const wires = products.map((product) => product.wires)
      return keyOf(
        wires,
        products.map(({ equation }) => equationKey(equation)),
      )
    }
    default:
      return fused satisfies never
  }
}

/** A digest of that, for keys that are kept. */
export function fusedDigest(fused: Fused): string {
  return createHash('sha256').update(fusedKey(fused)).digest('hex').slice(0, 12)
}

function keyOf(whole: readonly unknown[], members: readonly string[]): string {
  return `${JSON.stringify(whole)} ${members.join(' ')}`
}

/** The contractions that the separate way of it consists of. */
export function contractionsOf(fused: Fused): readonly Contraction[] {
  switch (fused.kind) {
    case 'contraction':
      return [fused.contraction.equation]
    case 'rows':
      return fused.parts.flatMap((part) => (part.kind === 'dot' ? [part.equation] : []))
    case 'products':
      return fused.products.map(({ equation }) => equation)
    default:
      return fused satisfies never
  }
}

/** The kernels that the separate way of it consists of besides. */
export function kernelsOf(fused: Fused): readonly Kernel[] {
  switch (fused.kind) {
    case 'contraction':
      return [...fused.before, ...fused.kernels].map(({ kernel }) => kernel)
    case 'rows':
      return fused.parts.flatMap((part) => (part.kind === 'map' ? [part.kernel] : []))
    case 'products':
      return []
    default:
      return fused satisfies never
  }
}
