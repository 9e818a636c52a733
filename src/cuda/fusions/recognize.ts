// Which steps of a plan a library could do in one pass: a contraction, and the kernels that need its result. Whether they may
// stand together, and where, is arrange.ts's part.
import type { Kernel, KernelNode, KernelReduction, KernelStep, LibraryStep, Plan } from '../../compile/index.ts'
import type { DType } from '../../tensor/dtype.ts'
import type { TensorType } from '../../tensor/program.ts'
import { at, sizeOf } from '../../tensor/shape.ts'
import { supportedByCudnn } from '../conv/index.ts'
import { isGrouped } from '../kernels/grouped.ts'
import { type Chain, chainOf } from './chains.ts'
import { type Activation, activationOf, maskedSumsOf } from './masks.ts'
import { type Extents, extentsOf, walkOf } from './places.ts'
import { type Uses, kernelAt, soleMaker, usesOf } from './uses.ts'

/** Steps that could be one, and what their library could do of them. */
export interface Found {
  readonly library: LibraryStep
  /** Kernels in front of it. */
  readonly before?: readonly KernelStep[]
  readonly kernels: readonly KernelStep[]
  /** Their positions in the plan, the library step's first. */
  readonly members: readonly number[]
  readonly way: FoundWay
}

/** What a library could do, in terms of the plan's buffers. */
export type FoundWay =
  | {
      readonly kind: 'statistics'
      readonly sum: number
      readonly squares: number
      /** The step that has the sums, and may have an epilogue. */
      readonly of: KernelStep
      /** What the kernel in front computes, in terms of the plan's buffers. */
      readonly front?: Activation
    }
  | ({ readonly kind: 'masked'; readonly sum: number; readonly products: number } & Activation)
  | { readonly kind: 'chain'; readonly chain: Chain }
  | { readonly kind: 'product'; readonly epilogue: 'bias' | 'bias-relu'; readonly bias: number }

/** Every contraction with kernels behind it that could be done with it. */
export function findFusions(uses: Uses): readonly Found[] {
  return uses.plan.steps.flatMap((step, index) => {
    if (step.kind !== 'library' || !isContraction(step)) return []
    const found = statisticsOf(uses, step, index) ?? maskedOf(uses, step, index) ?? epilogueOf(uses, step, index)
    return found === undefined ? [] : [found]
  })
}

/** Products of matrices, and convolutions that cuDNN is asked for, without empty extents. */
function isContraction(step: LibraryStep): boolean {
  const { equation } = step
  const { dtype, shape } = typeOf(step)
  if (dtype !== 'f16' && dtype !== 'bf16' && dtype !== 'f32') return false
  switch (equation.primitive) {
    case 'dot':
      return shape.length === 2 && sizeOf(shape) > 0 && equation.params.batch[0].length === 0
    case 'conv2d':
    case 'conv2dInputGrad':
      return supportedByCudnn(equation)
    default:
      return false
  }
}

/** conv2d, then the sums per channel of its result and of its squares: at once, or per image first. */
function statisticsOf(uses: Uses, library: LibraryStep, index: number): Found | undefined {
  if (library.equation.primitive !== 'conv2d') return undefined
  const result = at(library.outputs, 0)
  const extents = extentsOf(typeOf(library).shape)
  for (const reader of at(uses.readers, result)) {
    const kernel = kernelAt(uses, reader)
    if (kernel?.inputs[0] !== result) continue
    const sums = sumsOf(kernel, extents)
    if (sums?.made.every((buffer) => soleMaker(uses, buffer)) !== true) continue
    const [sum, squares] = sums.made
    if (sums.per === 'channels') {
      const front = frontOf(uses, library)
      const way = { kind: 'statistics', sum, squares, of: kernel } as const
      if (front === undefined) return { library, kernels: [kernel], members: [index, reader], way }
      const { member, step, activation } = front
      const members = [index, reader, member]
      return { library, before: [step], kernels: [kernel], members, way: { ...way, front: activation } }
    }
    if (kernel.kernel.epilogue !== undefined) continue // nobody would make what it makes of the sums of images
    const totals = totalsOf(uses, [sum, squares], extents)
    if (totals === undefined) continue
    const { member, step: of } = totals
    const way = { kind: 'statistics', sum: totals.sum, squares: totals.squares, of } as const
    return { library, kernels: [kernel, of], members: [index, reader, member], way }
  }
  return undefined
}

/** The batch norm and ReLU in front of a grouped convolution that nobody else reads: a kernel of ours could read through them. */
function frontOf(
  uses: Uses,
  library: LibraryStep,
): { readonly member: number; readonly step: KernelStep; readonly activation: Activation } | undefined {
  const { equation, inputs } = library
  const read = at(inputs, 0)
  const [member, another] = at(uses.makers, read)
  const step = kernelAt(uses, member)
  if (member === undefined || another !== undefined || step === undefined || !isGrouped(equation)) return undefined
  if (at(uses.readers, read).length !== 1 || uses.outputs.has(read) || at(inputs, 1) === read) return undefined
  const { kernel, outputs } = step
  const [store] = kernel.stores
  const extents = extentsOf(at(equation.inputs, 0).type.shape)
  if (store === undefined || outputs.length !== 1 || kernel.inputs.length !== 4 || kernel.reductions.length > 0)
    return undefined
  const found = activationOf(kernel, store.node, extents)
  const whole = kernel.stores.length === 1 && walkOf(store, kernel.axes, extents) === 'all'
  const fits = whole && found !== undefined && store.dtype === at(kernel.inputs, found.source).dtype
  return fits ? { member, step, activation: buffersOf(found, step) } : undefined
}

/** An activation in terms of the plan's buffers. */
function buffersOf({ source, vectors: [mean, scale, shift], meanFactor }: Activation, step: KernelStep): Activation {
  const buffer = (input: number): number => at(step.inputs, input)
  return { source: buffer(source), vectors: [buffer(mean), buffer(scale), buffer(shift)], meanFactor }
}

/** An input gradient that a kernel of ours can compute with the sums that another kernel reduces from it. */
function maskedOf(uses: Uses, library: LibraryStep, index: number): Found | undefined {
  const { equation } = library
  if (equation.primitive !== 'conv2dInputGrad' || !isGrouped(equation)) return undefined
  const result = at(library.outputs, 0)
  for (const reader of at(uses.readers, result)) {
    const kernel = kernelAt(uses, reader)
    const sums = kernel && maskedSumsOf(kernel.kernel, kernel.inputs.indexOf(result), extentsOf(typeOf(library).shape))
    if (kernel === undefined || sums === undefined) continue
    if (![result, ...kernel.outputs].every((buffer) => soleMaker(uses, buffer))) continue
    const [sum, products] = [at(kernel.outputs, sums.sum), at(kernel.outputs, sums.products)]
    const way = { kind: 'masked', ...buffersOf(sums, kernel), sum, products } as const
    return { library, kernels: [kernel], members: [index, reader], way }
  }
  return undefined
}

/** What a contraction gives. */
function typeOf({ equation }: LibraryStep): TensorType {
  return at(equation.outputs, 0).type
}

/** The buffers of a kernel that sums all its one input and its squares, and nothing else. */
function sumsOf(
  { kernel, outputs }: KernelStep,
  extents: Extents,
): { readonly made: readonly [number, number]; readonly per: 'channels' | 'images' } | undefined {
  if (kernel.stores.length > 0 || kernel.inputs.length !== 1 || kernel.reductions.length !== 2) return undefined
  if (walkOf(at(kernel.inputs, 0), kernel.axes, extents) !== 'all') return undefined
  const plain = kernel.reductions.find(({ node }) => isValue(kernel, node))
  const square = kernel.reductions.find(({ node }) => isSquare(kernel, node))
  if (plain === undefined || square === undefined) return undefined
  const per = sumsPer(kernel, plain, extents)
  if (per === undefined || per !== sumsPer(kernel, square, extents)) return undefined
  return { made: [at(outputs, plain.output), at(outputs, square.output)], per }
}

/** What an f32 sum has one value for. */
function sumsPer(kernel: Kernel, reduction: KernelReduction, extents: Extents): 'channels' | 'images' | undefined {
  const walk = walkOf(reduction, kernel.axes, extents)
  const sums = reduction.op === 'sum' && reduction.dtype === 'f32'
  return sums && (walk === 'channels' || walk === 'images') ? walk : undefined
}

/** Whether a node is what a 16-bit or f32 element of the kernel's first input is, as f32. */
function isValue(kernel: Kernel, index: number): boolean {
  const node = at(kernel.nodes, index)
  if (node.op === 'cast' && node.dtype === 'f32') return at(kernel.nodes, at(node.args, 0)).op === 'load'
  return node.op === 'load' && node.dtype === 'f32'
}

function isSquare(kernel: Kernel, index: number): boolean {
  const node = at(kernel.nodes, index)
  return node.op === 'mul' && node.args.every((arg) => isValue(kernel, arg))
}

/** The kernel that adds up per-image sums which nobody else reads. */
function totalsOf(
  uses: Uses,
  perImage: readonly [number, number],
  { images, channels }: Extents,
): { readonly member: number; readonly step: KernelStep; readonly sum: number; readonly squares: number } | undefined {
  const [member, ...others] = [...new Set(perImage.flatMap((buffer) => at(uses.readers, buffer)))]
  const step = kernelAt(uses, member)
  if (member === undefined || others.length > 0 || step === undefined) return undefined
  const { kernel, inputs, outputs } = step
  if (kernel.reductions.length !== 2 || kernel.stores.length > 0 || kernel.inputs.length !== 2) return undefined
  const extents = { images, channels, pixels: 1 }
  const totalOf = (buffer: number): number | undefined => {
    const input = inputs.indexOf(buffer)
    const reduction = kernel.reductions.find(({ node }) => isLoad(kernel, node, input))
    if (uses.outputs.has(buffer) || inputs.lastIndexOf(buffer) !== input || reduction === undefined) return undefined
    if (walkOf(at(kernel.inputs, input), kernel.axes, extents) !== 'all') return undefined
    const made = at(outputs, reduction.output)
    return sumsPer(kernel, reduction, extents) === 'channels' && soleMaker(uses, made) ? made : undefined
  }
  const [sum, squares] = perImage.map(totalOf)
  return sum === undefined || squares === undefined ? undefined : { member, step, sum, squares }
}

/** A bias that a product could add itself if it were of the product's dtype. */
export interface BiasToCast {
  readonly buffer: number
  readonly dtype: 'f16' | 'bf16'
  /** The step that reads it, and which of its inputs it is. */
  readonly reader: number
  readonly input: number
}

/** The f32 inputs of a plan that kernels behind products of 16 bits round and add to each row. */
export function findBiases(plan: Plan): readonly BiasToCast[] {
  const uses = usesOf(plan)
  const given = new Set(plan.inputs)
  return plan.steps.flatMap((step, index) => {
    if (step.kind !== 'library' || step.equation.primitive !== 'dot' || !isContraction(step)) return []
    const { dtype } = typeOf(step)
    const found = epilogueOf(uses, step, index, false)
    if (found?.way.kind !== 'product' || (dtype !== 'f16' && dtype !== 'bf16')) return []
    const { bias } = found.way
    const [kernel] = found.kernels
    const input = kernel?.inputs.indexOf(bias) ?? -1
    const rounds = kernel?.kernel.nodes.every(
      (node) => !('args' in node) || !node.args.some((arg) => isLoad(kernel.kernel, arg, input)) || isCast(node, dtype),
    )
    if (!given.has(bias) || at(plan.buffers, bias).type.dtype !== 'f32' || rounds !== true) return []
    return [{ buffer: bias, dtype, reader: at(found.members, 1), input }]
  })
}

function isLoad(kernel: Kernel, index: number, input: number): boolean {
  const node = at(kernel.nodes, index)
  return node.op === 'load' && node.input === input
}

function isCast(node: KernelNode, dtype: DType): boolean {
  return node.op === 'cast' && node.dtype === dtype
}

/** A contraction whose result only one kernel reads, pointwise; `asIs` wants a product's bias in its dtype. */
function epilogueOf(uses: Uses, library: LibraryStep, index: number, asIs = true): Found | undefined {
  const result = at(library.outputs, 0)
  const [reader, another] = at(uses.readers, result)
  const step = kernelAt(uses, reader)
  if (reader === undefined || another !== undefined || step === undefined || uses.outputs.has(result)) return undefined
  if (!step.outputs.every((buffer) => soleMaker(uses, buffer)) || !soleMaker(uses, result)) return undefined
  const type = typeOf(library)
  const input = step.inputs.indexOf(result)
  // An epilogue that reads it does so behind the kernel's loops.
  if (input >= step.kernel.inputs.length || step.inputs.indexOf(result, input + 1) >= 0) return undefined
  const found = { library, kernels: [step], members: [index, reader] }
  if (library.equation.primitive === 'dot') {
    const product = productEpilogue(step.kernel, input, type, asIs)
    if (product === undefined) return undefined
    const { epilogue, bias } = product
    return { ...found, way: { kind: 'product', epilogue, bias: at(step.inputs, bias) } }
  }
  const chain = chainBehind(step.kernel, input, type)
  return chain === undefined ? undefined : { ...found, way: { kind: 'chain', chain } }
}

function chainBehind(kernel: Kernel, input: number, { shape, dtype }: TensorType): Chain | undefined {
  return chainOf(kernel, input, extentsOf(shape), { shape, dtype: chainDType(dtype) })
}

/** What a product can do itself: add one value a column, which is the kernel's input `bias`, and cut off below 0 or not. */
export interface ProductEpilogue {
  readonly epilogue: 'bias' | 'bias-relu'
  readonly bias: number
}

/** A kernel on its input that is a product's result; `asIs` wants the bias in the product's dtype. */
export function productEpilogue(
  kernel: Kernel,
  input: number,
  result: TensorType,
  asIs = true,
): ProductEpilogue | undefined {
  const chain = chainBehind(kernel, input, result)
  if (chain === undefined || chain.rest !== undefined) return undefined
  const { operands, steps } = chain.epilogue
  const [add, relu, more] = steps
  const [bias, another] = operands
  if (add?.mode !== 'ADD' || bias === undefined || another !== undefined) return undefined
  if (at(bias.shape, 0) !== 1 || !add.values.some((value) => value?.kind === 'result')) return undefined
  if (asIs && bias.dtype !== result.dtype) return undefined
  const added = at(chain.inputs, 0)
  if (relu === undefined) return { epilogue: 'bias', bias: added }
  return relu.mode === 'RELU_FWD' && more === undefined ? { epilogue: 'bias-relu', bias: added } : undefined
}

function chainDType(dtype: DType): 'f16' | 'bf16' | 'f32' {
  return dtype === 'f16' || dtype === 'bf16' ? dtype : 'f32'
}
