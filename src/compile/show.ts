// Plans as stable text: steps with bytes and flops, the arena, where inputs and outputs are.
import { showParams, showType } from '../tensor/program.ts'
import { at } from '../tensor/shape.ts'
import { type Kernel, type KernelNode, epilogueAlone } from './kernel.ts'
import type { Plan, Step } from './plan.ts'

/** The whole plan, a line a step. */
export function showPlan(plan: Plan): string {
  const total = (key: 'bytes' | 'flops'): number => plan.steps.reduce((sum, step) => sum + step[key], 0)
  const kernels = plan.steps.filter((step) => step.kind === 'kernel').length
  const head = `plan: ${plan.steps.length} steps (${kernels} kernels, ${plan.steps.length - kernels} library calls), arena ${megabytes(plan.arenaBytes)}, moves ${megabytes(total('bytes'))}, ${showCount(total('flops'))}flop`
  return [
    head,
    ...plan.steps.map((step, index) => showStep(plan, step, index)),
    `outputs: ${plan.outputs.map((buffer) => showBuffer(plan, buffer)).join(' ')}`,
  ].join('\n')
}

function showStep(plan: Plan, step: Step, index: number): string {
  const list = (buffers: readonly number[]): string => buffers.map((buffer) => showBuffer(plan, buffer)).join(' ')
  const what =
    step.kind === 'kernel' ? showKernel(step.kernel) : `${step.equation.primitive}${showParams(step.equation)}`
  return `${String(index).padStart(4)}  ${list(step.outputs)} = ${what} ${list(step.inputs)}  [${showCount(step.bytes)}B, ${showCount(step.flops)}flop]`
}

function showBuffer(plan: Plan, index: number): string {
  const { type, place } = at(plan.buffers, index)
  const where = place.kind === 'arena' ? '' : place.kind === 'input' ? `in${place.index}:` : `out${place.index}:`
  return `${where}%${index}:${showType(type)}`
}

/** A kernel in one line: loops, what is stored and reduced in them, and then what is made of the results r0, r1, ... */
export function showKernel(kernel: Kernel): string {
  const axes = kernel.axes.map((axis) => `${axis.role === 'reduce' ? '+' : ''}${axis.extent}`).join(' x ')
  const stores = kernel.stores.map((store) => `store ${showNode(kernel, store.node)}`)
  const reductions = kernel.reductions.map((reduction) => `${reduction.op} ${showNode(kernel, reduction.node)}`)
  const body = `for ${axes} { ${[...stores, ...reductions].join('; ')} }`
  const end = epilogueAlone(kernel)
  if (end === undefined) return body
  const name = (input: number): string => {
    const reduction = kernel.epilogue?.inputs[input]?.reduction
    return reduction === undefined ? `$${end.operands[input]}` : `r${reduction}`
  }
  const last = end.kernel.stores.map((store) => `store ${showNode(end.kernel, store.node, 0, name)}`)
  return `${body} then { ${last.join('; ')} }`
}

/** A node as an expression; parts shared by several uses are written out each time, deep ones are cut. */
export function showNode(kernel: Kernel, index: number, depth = 0, name = (input: number) => `$${input}`): string {
  const node: KernelNode = at(kernel.nodes, index)
  const below = (arg: number): string => (depth > 6 ? '..' : showNode(kernel, arg, depth + 1, name))
  switch (node.op) {
    case 'load':
      return name(node.input)
    case 'constant':
      return String(node.value)
    case 'index':
      return 'index'
    case 'philox':
      return `philox(${node.args.map(below).join(', ')})`
    case 'compare':
      return `${node.comparison}(${node.args.map(below).join(', ')})`
    case 'cast':
      return `${node.dtype}(${node.args.map(below).join(', ')})`
    default:
      return `${node.op}(${node.args.map(below).join(', ')})`
  }
}

function showCount(value: number): string {
  const units = ['', 'k', 'M', 'G', 'T']
  let scaled = value
  let unit = 0
  while (scaled >= 1000 && unit < units.length - 1) {
    scaled /= 1000
    unit++
  }
  return `${unit === 0 ? scaled : scaled.toFixed(1)} ${units[unit] ?? ''}`
}

function megabytes(bytes: number): string {
  return `${showCount(bytes)}B`
}
