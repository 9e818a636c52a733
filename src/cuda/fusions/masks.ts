// Batch norm and ReLU in front of a convolution as kernels compute them, and the sums that these want of its input gradient:
// which kernels these are. Who computes them with the convolution is kernels/'s part.
import { type Kernel, showNode } from '../../compile/index.ts'
import { at } from '../../tensor/shape.ts'
import { isZero } from './chains.ts'
import { type Extents, walkOf } from './places.ts'

/** Batch norm and ReLU in a kernel, by its inputs: n(x) = max((x - mean) scale + shift, 0), the sum rounded to x's type. */
export interface Activation {
  /** x. */
  readonly source: number
  /** Mean, scale and shift, each f32 [channels]. */
  readonly vectors: readonly [number, number, number]
  /** What the mean is of its vector. */
  readonly meanFactor: number
}

/** What a kernel sums, by its inputs and outputs: g and g x, where g is the gradient where n(x) > 0 and 0 elsewhere. */
export interface MaskedSums extends Activation {
  readonly sum: number
  readonly products: number
}

/** n(x), of which all but the sum is f32. The mean may be a sum times a number. */
const activation =
  /^max\((?<dtype>b?f16)\(add\(mul\(sub\(f32\(\$(?<source>\d)\), (?:mul\()?\$(?<mean>\d)(?:, (?<factor>[-+\d.e]+)\))?\), \$(?<scale>\d)\), \$(?<shift>\d)\)\), 0\)$/

/** What a node is n(x) of, where x is read whole and in order; undefined where it is nothing like that. */
export function activationOf(kernel: Kernel, node: number, extents: Extents): Activation | undefined {
  const parts = activation.exec(showNode(kernel, node))?.groups
  if (parts === undefined) return undefined
  const input = (name: string): number => Number(parts[name])
  const [source, vectors] = [input('source'), [input('mean'), input('scale'), input('shift')] as const]
  const { dtype, strides, offset } = at(kernel.inputs, source)
  const whole = dtype === parts['dtype'] && walkOf({ strides, offset }, kernel.axes, extents) === 'all'
  const fits = whole && vectors.every((vector) => isVector(kernel, vector, extents))
  return fits ? { source, vectors, meanFactor: Number(parts['factor'] ?? '1') } : undefined
}

/** Those of a kernel that reads the gradient as its input `result`; undefined where it computes anything else in its loops. */
export function maskedSumsOf(kernel: Kernel, result: number, extents: Extents): MaskedSums | undefined {
  const { inputs, stores, reductions, axes } = kernel
  if (stores.length > 0 || reductions.length !== 2 || inputs.length !== 5) return undefined
  const perChannel = reductions.every(
    (each) => each.op === 'sum' && each.dtype === 'f32' && walkOf(each, axes, extents) === 'channels',
  )
  const sum = reductions.find(({ node }) => maskOf(kernel, node, result) !== undefined)
  const mask = sum === undefined ? undefined : maskOf(kernel, sum.node, result)
  const found = mask === undefined ? undefined : activationOf(kernel, mask, extents)
  if (!perChannel || sum === undefined || found === undefined) return undefined
  const products = reductions.find(({ node }) => isProduct(kernel, node, sum.node, found.source))
  const gradient = at(inputs, result)
  const fits = gradient.dtype === at(inputs, found.source).dtype && walkOf(gradient, axes, extents) === 'all'
  return products === undefined || !fits ? undefined : { ...found, sum: sum.output, products: products.output }
}

function isVector({ inputs, axes }: Kernel, input: number, extents: Extents): boolean {
  const access = at(inputs, input)
  return access.dtype === 'f32' && walkOf(access, axes, extents) === 'channels'
}

/** The node `m` of `f32(select(gt(m, 0), result, 0))`. */
function maskOf(kernel: Kernel, index: number, result: number): number | undefined {
  const node = (of: number | undefined) => (of === undefined ? undefined : at(kernel.nodes, of))
  const wide = node(index)
  if (wide?.op !== 'cast' || wide.dtype !== 'f32') return undefined
  const choice = node(wide.args[0])
  if (choice?.op !== 'select') return undefined
  const [compare, chosen] = [node(choice.args[0]), node(choice.args[1])]
  if (compare?.op !== 'compare' || compare.comparison !== 'gt' || chosen?.op !== 'load') return undefined
  const zeros = [at(choice.args, 2), compare.args[1]].every((of) => isZero(kernel, of))
  return zeros && chosen.input === result ? compare.args[0] : undefined
}

/** Whether a node is the gated gradient times the source, both f32. */
function isProduct(kernel: Kernel, index: number, gated: number, source: number): boolean {
  const node = at(kernel.nodes, index)
  if (node.op !== 'mul') return false
  const [first, second] = node.args
  return [
    [first, second],
    [second, first],
  ].some(([a, b]) => a === gated && b !== undefined && showNode(kernel, b) === `f32($${source})`)
}
