// The fused kernel: one loop nest over an affine domain, an expression list evaluated at each point, results stored or
// reduced. It says what is computed, not how loops are spread over threads or vectors: that is the printers' part.
import type { DType } from '../tensor/dtype.ts'
import type { Comparison, PointwisePrimitive } from '../tensor/primitives.ts'
import { at } from '../tensor/shape.ts'

/** A loop axis; outermost first. Results of reductions do not vary along 'reduce' axes. */
export interface LoopAxis {
  readonly extent: number
  readonly role: 'map' | 'reduce'
}

/** Where an operand's element for a loop point is: offset + sum of index x stride, in elements. */
export interface Access {
  readonly strides: readonly number[]
  readonly offset: number
}

/** An operand that is read; `operand` is its position in the step's list of inputs. */
export interface KernelInput extends Access {
  readonly dtype: DType
}

/**
 * One value of the expression list; `args` are positions of earlier nodes. A node's value is that of its dtype: f16 and
 * bf16 nodes are rounded (held in f32 registers), so fused and unfused programs agree bit for bit pointwise.
 */
export type KernelNode =
  | { readonly op: 'load'; readonly dtype: DType; readonly input: number }
  | { readonly op: 'constant'; readonly dtype: DType; readonly value: number }
  /** offset + sum of loop index x stride, as a number of the dtype. */
  | { readonly op: 'index'; readonly dtype: DType; readonly access: Access }
  /** Philox4x32-10: args are key word 0, key word 1, offset; the element index is affine in the loop indices. */
  | {
      readonly op: 'philox'
      readonly dtype: 'i32'
      readonly args: readonly [number, number, number]
      readonly access: Access
      readonly bits: number
      readonly stream: number
    }
  | {
      readonly op: 'compare'
      readonly dtype: 'bool'
      readonly args: readonly [number, number]
      readonly comparison: Comparison
    }
  | {
      readonly op: Exclude<PointwisePrimitive, 'compare' | 'stopGradient'>
      readonly dtype: DType
      readonly args: readonly number[]
    }

/** A result stored at every loop point (all axes are 'map' for it; its strides cover every axis). */
export interface KernelStore extends Access {
  readonly node: number
  readonly dtype: DType
  /** Position in the step's list of outputs; several stores may fill parts of one output. */
  readonly output: number
}

/** A result reduced over the 'reduce' axes (strides are 0 there). Sums of 16-bit nodes are kept in f32, f64 in f64, integers in i32. */
export interface KernelReduction extends Access {
  readonly op: 'sum' | 'max' | 'min'
  readonly node: number
  readonly dtype: DType
  readonly output: number
}

/** What an epilogue reads: the result of a reduction, or an operand that comes behind the kernel's inputs. */
export interface EpilogueInput extends KernelInput {
  /** The position of the reduction; undefined for an operand. */
  readonly reduction?: number
}

/**
 * Pointwise work on finished results, such as a batch norm's scale and shift from its sums: once for each point of the
 * 'map' axes; all strides are 0 along the others. Results come first among its inputs, and `load` nodes name them there.
 */
export interface Epilogue {
  readonly inputs: readonly EpilogueInput[]
  readonly nodes: readonly KernelNode[]
  readonly stores: readonly KernelStore[]
}

/** A fused loop nest. Axes are already collapsed as far as the accesses allow. */
export interface Kernel {
  readonly axes: readonly LoopAxis[]
  readonly inputs: readonly KernelInput[]
  readonly nodes: readonly KernelNode[]
  readonly stores: readonly KernelStore[]
  readonly reductions: readonly KernelReduction[]
  readonly epilogue?: Epilogue
}

/** How many operands a kernel's step reads: its inputs, then the epilogue's. */
export function inputCount({ inputs, epilogue }: Kernel): number {
  return inputs.length + (epilogue?.inputs.filter(({ reduction }) => reduction === undefined).length ?? 0)
}

/** The kernel without its epilogue. */
export function withoutEpilogue({ axes, inputs, nodes, stores, reductions }: Kernel): Kernel {
  return { axes, inputs, nodes, stores, reductions }
}

/** The epilogue as a kernel of its own over the 'map' axes, and for each of its inputs the operand of the step that it is. */
export function epilogueAlone(
  kernel: Kernel,
): { readonly kernel: Kernel; readonly operands: readonly number[] } | undefined {
  const { epilogue, axes } = kernel
  if (epilogue === undefined) return undefined
  const pick = <A extends Access>(access: A): A => ({
    ...access,
    strides: access.strides.filter((_stride, axis) => axes[axis]?.role === 'map'),
  })
  const inputs = epilogue.inputs.map(({ dtype, strides, offset }) => pick({ dtype, strides, offset }))
  const nodes = epilogue.nodes.map((node) => ('access' in node ? { ...node, access: pick(node.access) } : node))
  const alone = { axes: axes.filter(({ role }) => role === 'map'), inputs, nodes, stores: epilogue.stores.map(pick) }
  let next = kernel.inputs.length
  const operands = epilogue.inputs.map(({ reduction }) =>
    reduction === undefined ? next++ : inputCount(kernel) + at(kernel.reductions, reduction).output,
  )
  return { kernel: { ...alone, reductions: [] }, operands }
}
