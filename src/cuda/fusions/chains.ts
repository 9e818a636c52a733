// Kernels as chains of a library's pointwise operations: which expressions have one, and the kernel that is left where
// the same loops also reduce.
import { type Access, type Kernel, type KernelInput, type KernelNode, inputCount } from '../../compile/index.ts'
import { type DType, isFloat } from '../../tensor/dtype.ts'
import { at, range } from '../../tensor/shape.ts'
import type { Epilogue, EpilogueMode, EpilogueOperand, EpilogueStep, EpilogueValue } from '../conv/index.ts'
import { type Extents, type Walk, walkOf } from './places.ts'

/** A kernel's stored value as a chain on a result. */
export interface Chain {
  readonly epilogue: Epilogue
  /** The kernel's input that each operand of the chain is. */
  readonly inputs: readonly number[]
  /** The kernel's output that is stored. */
  readonly output: number
  /** What the kernel reduces, from what is stored; its inputs are some of the kernel's, and what is stored. */
  readonly rest: Rest | undefined
}

/** A kernel without what became a chain. */
export interface Rest {
  readonly kernel: Kernel
  /** For each of its inputs the kernel's input, or 'stored'. */
  readonly inputs: readonly (number | 'stored')[]
  /** For each of its outputs the kernel's output. */
  readonly outputs: readonly number[]
}

/** More operations than any fusion of ours needs; cuDNN compiles longer chains ever more slowly. */
const mostSteps = 12

/**
 * The chain of a kernel on its input `result`, which it must read whole and in order; undefined where there is none. The
 * roundings between the kernel's 16-bit nodes are left out.
 */
export function chainOf(kernel: Kernel, result: number, extents: Extents, shape: EpilogueOperand): Chain | undefined {
  const [store] = kernel.stores
  const given = at(kernel.inputs, result)
  if (store === undefined || kernel.stores.length > 1 || store.dtype !== shape.dtype) return undefined
  const whole = (access: Access): boolean => walkOf(access, kernel.axes, extents) === 'all'
  if (!whole(given) || !whole(store)) return undefined
  const translation = new Translation(kernel, result, extents, shape)
  const last = translation.value(store.node)
  if (last?.kind !== 'step' || last.index !== translation.steps.length - 1) return undefined
  const rest = restOf(kernel)
  if (rest?.inputs.includes(result) === true || translation.steps.length > mostSteps) return undefined
  const { steps, operands, inputs } = translation
  return { epilogue: { steps, operands }, inputs, output: store.output, rest }
}

/** Builds the operations of an expression, each once. */
class Translation {
  readonly steps: EpilogueStep[] = []
  readonly operands: EpilogueOperand[] = []
  readonly inputs: number[] = []
  readonly #known = new Map<number, EpilogueValue | undefined>()

  constructor(
    private readonly kernel: Kernel,
    private readonly result: number,
    private readonly extents: Extents,
    private readonly of: EpilogueOperand,
  ) {}

  /** The value of a node; undefined where a library has none for it. */
  value(index: number): EpilogueValue | undefined {
    if (!this.#known.has(index)) this.#known.set(index, this.#translate(at(this.kernel.nodes, index)))
    return this.#known.get(index)
  }

  #translate(node: KernelNode): EpilogueValue | undefined {
    if (!isFloat(node.dtype) || node.dtype === 'f64') return undefined
    switch (node.op) {
      case 'load':
        return node.input === this.result ? { kind: 'result' } : this.#operand(node.input)
      case 'cast':
        return isFloat(at(this.kernel.nodes, at(node.args, 0)).dtype) ? this.value(at(node.args, 0)) : undefined
      case 'add':
        return this.#step('ADD', node.args)
      case 'sub':
        return this.#step('SUB', node.args)
      case 'mul':
        return this.#step('MUL', node.args)
      case 'max':
        return isZero(this.kernel, at(node.args, 1)) ? this.#step('RELU_FWD', node.args.slice(0, 1)) : undefined
      case 'select':
        return this.#gate(node.args)
      default:
        return undefined
    }
  }

  #step(mode: EpilogueMode, args: readonly number[]): EpilogueValue | undefined {
    const [first, second] = args.map((arg) => this.value(arg))
    if (first === undefined || (args.length === 2 && second === undefined)) return undefined
    this.steps.push({ mode, values: second === undefined ? [first] : [first, second] })
    return { kind: 'step', index: this.steps.length - 1 }
  }

  /** `select(gt(mask, 0), x, 0)` for a mask that lies in memory: one computed anew might round to another side of 0. */
  #gate(args: readonly number[]): EpilogueValue | undefined {
    const [condition, chosen, otherwise] = [at(args, 0), at(args, 1), at(args, 2)]
    const compare = at(this.kernel.nodes, condition)
    if (compare.op !== 'compare' || compare.comparison !== 'gt' || !isZero(this.kernel, otherwise)) return undefined
    if (!isZero(this.kernel, compare.args[1])) return undefined
    const mask = this.value(compare.args[0])
    return mask?.kind === 'operand' ? this.#step('RELU_BWD', [chosen, compare.args[0]]) : undefined
  }

  #operand(input: number): EpilogueValue | undefined {
    const known = this.inputs.indexOf(input)
    if (known >= 0) return { kind: 'operand', index: known }
    const access = at(this.kernel.inputs, input)
    const walk = walkOf(access, this.kernel.axes, this.extents)
    if (walk === undefined || !isChainDType(access.dtype)) return undefined
    this.inputs.push(input)
    this.operands.push({ dtype: access.dtype, shape: walked(walk, this.of.shape) })
    return { kind: 'operand', index: this.operands.length - 1 }
  }
}

function isChainDType(dtype: DType): dtype is EpilogueOperand['dtype'] {
  return dtype === 'f16' || dtype === 'bf16' || dtype === 'f32'
}

function walked(walk: Walk, shape: readonly number[]): readonly number[] {
  const [images, channels] = [at(shape, 0), at(shape, shape.length - 1)]
  if (walk === 'all') return shape
  return [walk === 'images' ? images : 1, 1, 1, channels]
}

/** Whether a node is the constant 0. */
export function isZero(kernel: Kernel, index: number): boolean {
  const node = at(kernel.nodes, index)
  return node.op === 'constant' && node.value === 0
}

/** What a kernel reduces as a kernel of its own that reads what the first one stores; undefined where it reduces nothing. */
export function restOf(kernel: Kernel): Rest | undefined {
  const [store] = kernel.stores
  if (kernel.reductions.length === 0 || store === undefined) return undefined
  const stored: KernelInput = { dtype: store.dtype, strides: store.strides, offset: store.offset }
  const replaced = kernel.nodes.map(
    (node, index): KernelNode =>
      index === store.node ? { op: 'load', dtype: store.dtype, input: kernel.inputs.length } : node,
  )
  const reduced = kernel.reductions.map(({ node }) => node)
  const { nodes, inputs, numberOf } = pruned(replaced, reduced, kernel.inputs.length + 1)
  const { epilogue } = kernel
  const outputs = [...new Set([...kernel.reductions, ...(epilogue?.stores ?? [])].map(({ output }) => output))]
  const last = epilogue?.stores.map((made) => ({ ...made, output: outputs.indexOf(made.output) })) ?? []
  const operands = range(inputCount(kernel)).slice(kernel.inputs.length)
  return {
    kernel: {
      axes: kernel.axes,
      inputs: inputs.map((input) => kernel.inputs[input] ?? stored),
      nodes,
      stores: [],
      reductions: kernel.reductions.map((reduction) => ({
        ...reduction,
        node: numberOf(reduction.node),
        output: outputs.indexOf(reduction.output),
      })),
      ...(epilogue === undefined ? {} : { epilogue: { ...epilogue, stores: last } }),
    },
    inputs: [...inputs.map((input) => (input < kernel.inputs.length ? input : ('stored' as const))), ...operands],
    outputs,
  }
}

/** What a kernel stores at each point, without what it reduces; `inputs` and `outputs` are those of the kernel that are left. */
export function storesOf(kernel: Kernel): {
  readonly kernel: Kernel
  readonly inputs: readonly number[]
  readonly outputs: readonly number[]
} {
  const stored = kernel.stores.map(({ node }) => node)
  const { nodes, inputs, numberOf } = pruned(kernel.nodes, stored, kernel.inputs.length)
  const outputs = [...new Set(kernel.stores.map(({ output }) => output))]
  return {
    kernel: {
      axes: kernel.axes.map(({ extent }) => ({ extent, role: 'map' })),
      inputs: inputs.map((input) => at(kernel.inputs, input)),
      nodes,
      stores: kernel.stores.map((store) => ({
        ...store,
        node: numberOf(store.node),
        output: outputs.indexOf(store.output),
      })),
      reductions: [],
    },
    inputs,
    outputs,
  }
}

/** The nodes that some are made of, and which of `count` inputs they load, both renumbered. */
function pruned(
  all: readonly KernelNode[],
  from: readonly number[],
  count: number,
): {
  readonly nodes: readonly KernelNode[]
  readonly inputs: readonly number[]
  readonly numberOf: (index: number) => number
} {
  const kept = reachable(all, from)
  const inputs = range(count).filter((input) => kept.some((index) => isLoadOf(at(all, index), input)))
  const numberOf = (index: number): number => kept.indexOf(index)
  return {
    nodes: kept.map((index) => renumber(at(all, index), numberOf, (input) => inputs.indexOf(input))),
    inputs,
    numberOf,
  }
}

function isLoadOf(node: KernelNode, input: number): boolean {
  return node.op === 'load' && node.input === input
}

/** The nodes that others are made of, in order. */
function reachable(nodes: readonly KernelNode[], from: readonly number[]): readonly number[] {
  const seen = new Set<number>()
  const visit = (index: number): void => {
    if (seen.has(index)) return
    seen.add(index)
    const node = at(nodes, index)
    if ('args' in node) node.args.forEach(visit)
  }
  from.forEach(visit)
  return [...seen].sort((a, b) => a - b)
}

function renumber(node: KernelNode, ofNode: (index: number) => number, ofInput: (input: number) => number): KernelNode {
  if (node.op === 'load') return { ...node, input: ofInput(node.input) }
  return 'args' in node ? ({ ...node, args: node.args.map(ofNode) } as KernelNode) : node
}
