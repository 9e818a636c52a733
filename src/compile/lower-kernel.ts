// From a group of sinks to a Kernel: the expressions with their loads, and loop axes collapsed as far as they go.
import { isPointwise } from '../tensor/primitives.ts'
import type { Var } from '../tensor/program.ts'
import { type Shape, at, range, sizeOf, zip } from '../tensor/shape.ts'
import { ExpressionBuilder, type Load } from './expression.ts'
import { type Group, loadsOf } from './group.ts'
import type { Access, Epilogue, EpilogueInput, Kernel, KernelNode, LoopAxis } from './kernel.ts'
import type { Values } from './materialize.ts'
import type { Sink } from './sinks.ts'

/** A kernel and the values its inputs and outputs stand for. */
export interface LoweredKernel {
  readonly kernel: Kernel
  /** The value behind each distinct operand, in the order of the kernel's inputs. */
  readonly inputs: readonly Var[]
  readonly outputs: readonly Var[]
}

/** The kernel of a group. */
export function lowerKernel(group: Group, values: Values): LoweredKernel {
  const rank = group.domain.length
  const builder = new ExpressionBuilder(values, rank, inlineValues(group, values))
  const outputs: Var[] = []
  const outputOf = (sink: Sink): number => {
    const known = outputs.indexOf(sink.value)
    return known >= 0 ? known : outputs.push(sink.value) - 1
  }
  const results = group.sinks.map((sink) => ({ sink, node: builder.root(sink.expression), output: outputOf(sink) }))
  const reduced = new Set(group.sinks.flatMap((sink) => sink.reduce?.axes ?? []))
  const main: Kernel = {
    axes: group.domain.map((extent, axis) => ({ extent, role: reduced.has(axis) ? 'reduce' : 'map' })),
    inputs: builder.inputs,
    nodes: builder.nodes,
    stores: results.flatMap(({ sink, node, output }) =>
      sink.reduce === undefined ? [{ ...sink.access, node, dtype: sink.value.type.dtype, output }] : [],
    ),
    reductions: results.flatMap(({ sink, node, output }) =>
      sink.reduce === undefined
        ? []
        : [{ ...sink.access, op: sink.reduce.op, node, dtype: sink.value.type.dtype, output }],
    ),
  }
  const inputs = builder.loads.map((load) => load.storage)
  const end = lowerEpilogue(group, values, main.axes, outputOf)
  if (end === undefined) return { kernel: collapse(main), inputs, outputs }
  return { kernel: collapse({ ...main, epilogue: end.epilogue }), inputs: [...inputs, ...end.inputs], outputs }
}

/** The epilogue of a group, in terms of the kernel's axes, and the values that its operands stand for. */
function lowerEpilogue(
  group: Group,
  values: Values,
  axes: readonly LoopAxis[],
  outputOf: (sink: Sink) => number,
): { readonly epilogue: Epilogue; readonly inputs: readonly Var[] } | undefined {
  const [first] = group.epilogue
  if (first === undefined) return undefined
  const builder = new ExpressionBuilder(values, first.domain.length, new Set(group.epilogue.map(({ value }) => value)))
  const roots = group.epilogue.map((sink) => builder.root(sink.expression))
  const reductions = group.sinks.filter(({ reduce }) => reduce !== undefined).map(({ value }) => value)
  const spread = spreadOver(axes, first.domain)
  const isResult = ({ storage }: Load): boolean => reductions.includes(storage)
  const order = [...builder.loads.filter(isResult), ...builder.loads.filter((load) => !isResult(load))]
  const inputs = order.map((load): EpilogueInput => {
    const input = spread({ dtype: load.storage.type.dtype, ...load.access })
    return isResult(load) ? { ...input, reduction: reductions.indexOf(load.storage) } : input
  })
  const moved = (node: KernelNode): KernelNode => {
    if (node.op === 'load') return { ...node, input: order.indexOf(at(builder.loads, node.input)) }
    return 'access' in node ? { ...node, access: spread(node.access) } : node
  }
  const stores = zip(group.epilogue, roots).map(([sink, node]) => {
    return { ...spread(sink.access), node, dtype: sink.value.type.dtype, output: outputOf(sink) }
  })
  const operands = order.filter((load) => !isResult(load)).map(({ storage }) => storage)
  return { epilogue: { inputs, nodes: builder.nodes.map(moved), stores }, inputs: operands }
}

/** Moves an access over `domain` to a kernel's axes: those of one aside, the domain's are its 'map' axes in order. */
function spreadOver(axes: readonly LoopAxis[], domain: Shape): <A extends Access>(access: A) => A {
  const longer = range(domain.length).filter((axis) => domain[axis] !== 1)
  let next = 0
  const from = axes.map(({ extent, role }) => (role === 'map' && extent !== 1 ? longer[next++] : undefined))
  return (access) => ({ ...access, strides: from.map((axis) => (axis === undefined ? 0 : at(access.strides, axis))) })
}

/**
 * Values computed in this kernel though they have memory: those it makes itself, and those whose every full-size
 * operand it reads anyway (the mask of a ReLU comes from the raw convolution then, not from one more tensor).
 */
function inlineValues(group: Group, values: Values): ReadonlySet<Var> {
  const inline = new Set(group.sinks.flatMap((sink) => (sink.whole ? [sink.value] : [])))
  const domain = sizeOf(group.domain)
  const big = (v: Var): boolean => 2 * sizeOf(v.type.shape) >= domain
  for (const load of group.loads) {
    const v = load.storage
    const equation = values.definitions.get(v)
    if (equation === undefined || !big(v) || inline.has(v) || !isPointwise(equation.primitive)) continue
    if (
      v.type.shape.length !== group.domain.length ||
      v.type.shape.some((extent, axis) => extent !== group.domain[axis])
    )
      continue
    const whole: Sink = {
      value: v,
      expression: v,
      domain: group.domain,
      access: load.access,
      reduce: undefined,
      whole: true,
    }
    const needs = loadsOf(whole, values).filter((need) => big(need.storage))
    const others = group.loads.filter((other) => other.storage !== v)
    const known = needs.every((need) =>
      others.some(
        (other) => other.storage === need.storage && JSON.stringify(other.access) === JSON.stringify(need.access),
      ),
    )
    if (known && needs.length > 0) inline.add(v)
  }
  return inline
}

/** Merges neighbouring axes that every access walks through in one stride, and drops axes of extent 1. */
export function collapse(kernel: Kernel): Kernel {
  const keep = kernel.axes.flatMap((axis, index) => (axis.extent === 1 ? [] : [index]))
  let current = selectAxes(kernel, keep)
  for (let outer = current.axes.length - 2; outer >= 0; outer--) {
    const [a, b] = [at(current.axes, outer), at(current.axes, outer + 1)]
    const joins =
      a.role === b.role &&
      accessesOf(current).every(({ strides }) => at(strides, outer) === at(strides, outer + 1) * b.extent)
    if (!joins) continue
    const merged: LoopAxis = { extent: a.extent * b.extent, role: a.role }
    const others = range(current.axes.length).filter((axis) => axis !== outer)
    current = { ...selectAxes(current, others), axes: current.axes.toSpliced(outer, 2, merged) }
  }
  if (current.axes.length === 0) current = addAxis(current)
  return current.axes.some((axis) => axis.role === 'reduce') ? current : storeReductions(current)
}

/** Reductions over axes of extent 1 only are stores. */
function storeReductions(kernel: Kernel): Kernel {
  return { ...kernel, stores: [...kernel.stores, ...kernel.reductions], reductions: [] }
}

function accessesOf(kernel: Kernel): Access[] {
  const of = (part: Pick<Kernel, 'inputs' | 'nodes' | 'stores'>): Access[] => {
    const indices = part.nodes.flatMap((node) => ('access' in node ? [node.access] : []))
    return [...part.inputs, ...indices, ...part.stores]
  }
  return [...of(kernel), ...kernel.reductions, ...(kernel.epilogue === undefined ? [] : of(kernel.epilogue))]
}

function selectAxes(kernel: Kernel, axes: readonly number[]): Kernel {
  return mapAccesses({ ...kernel, axes: axes.map((axis) => at(kernel.axes, axis)) }, (strides) =>
    axes.map((axis) => at(strides, axis)),
  )
}

function addAxis(kernel: Kernel): Kernel {
  return mapAccesses({ ...kernel, axes: [{ extent: 1, role: 'map' }] }, () => [0])
}

function mapAccesses(kernel: Kernel, change: (strides: readonly number[]) => readonly number[]): Kernel {
  const apply = <A extends Access>(access: A): A => ({ ...access, strides: change(access.strides) })
  const node = (n: KernelNode): KernelNode => ('access' in n ? { ...n, access: apply(n.access) } : n)
  const mapped: Kernel = {
    axes: kernel.axes,
    inputs: kernel.inputs.map(apply),
    nodes: kernel.nodes.map(node),
    stores: kernel.stores.map(apply),
    reductions: kernel.reductions.map(apply),
  }
  if (kernel.epilogue === undefined) return mapped
  const { inputs, nodes, stores } = kernel.epilogue
  return { ...mapped, epilogue: { inputs: inputs.map(apply), nodes: nodes.map(node), stores: stores.map(apply) } }
}
