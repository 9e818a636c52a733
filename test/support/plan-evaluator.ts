// Runs a Plan in plain TypeScript, kernel by kernel, loop by loop: what a plan means, without any printer or device.
import type { Access, Kernel, KernelNode, Plan } from '../../src/compile/index.ts'
import { epilogueAlone, inputCount } from '../../src/compile/kernel.ts'
import { roundTo } from '../../src/tensor/half.ts'
import { randomBits } from '../../src/tensor/philox.ts'
import { type Equation, variable } from '../../src/tensor/program.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import { at, sizeOf } from '../../src/tensor/shape.ts'

/** The outputs of a plan for the given inputs (elements as numbers). Donated inputs share memory as the plan says. */
export function evaluatePlan(plan: Plan, inputs: readonly (readonly number[])[]): number[][] {
  const byInput = new Map<number, number[]>()
  const memory = plan.buffers.map((buffer) => {
    if (buffer.place.kind !== 'input') return new Array<number>(sizeOf(buffer.type.shape)).fill(Number.NaN)
    const { index } = buffer.place
    const shared = byInput.get(index) ?? [...at(inputs, index)]
    byInput.set(index, shared)
    return shared
  })
  for (const step of plan.steps) {
    const read = step.inputs.map((buffer) => at(memory, buffer))
    const write = step.outputs.map((buffer) => at(memory, buffer))
    if (step.kind === 'kernel') runKernel(step.kernel, read, write)
    else runLibrary(step.equation, read, write)
  }
  return plan.outputs.map((buffer) => at(memory, buffer))
}

function runLibrary(equation: Equation, read: readonly number[][], write: readonly number[][]): void {
  const inputs = equation.inputs.map((atom) => variable(atom.type))
  const program = { inputs, equations: [{ ...equation, inputs } as Equation], outputs: equation.outputs }
  const values = interpret(
    program,
    inputs.map((input, i) => ({ type: input.type, data: Float64Array.from(at(read, i)) })),
  )
  values.forEach((value, i) => value.data.forEach((element, j) => (at(write, i)[j] = element)))
}

/** Runs one kernel: `read` and `write` are the arrays its inputs and outputs stand for. Every node is a vector over all loop points. */
export function runKernel(kernel: Kernel, read: readonly number[][], write: readonly number[][]): void {
  const points = loopPoints(kernel.axes.map((axis) => axis.extent))
  const places = (access: Access) =>
    points.map((index) => access.strides.reduce((sum, stride, axis) => sum + stride * at(index, axis), access.offset))
  const values: (readonly number[])[] = []
  for (const node of kernel.nodes) values.push(evaluateNode(node, values, kernel, read, places, points.length))
  for (const store of kernel.stores)
    places(store).forEach((place, point) => (at(write, store.output)[place] = at(at(values, store.node), point)))
  for (const reduction of kernel.reductions) {
    const initial = reduction.op === 'sum' ? 0 : reduction.op === 'max' ? -Infinity : Infinity
    const combine =
      reduction.op === 'sum' ? (a: number, b: number) => a + b : reduction.op === 'max' ? Math.max : Math.min
    const results = new Map<number, number>()
    const corners = loopPoints(kernel.axes.map((axis) => (axis.role === 'reduce' ? 1 : axis.extent)))
    for (const corner of corners)
      results.set(
        reduction.strides.reduce((sum, stride, axis) => sum + stride * at(corner, axis), reduction.offset),
        initial,
      )
    places(reduction).forEach((place, point) =>
      results.set(place, combine(results.get(place) ?? initial, at(at(values, reduction.node), point))),
    )
    for (const [place, value] of results)
      at(write, reduction.output)[place] = reduction.dtype === 'i32' ? value | 0 : roundTo(reduction.dtype, value)
  }
  const end = epilogueAlone(kernel)
  if (end === undefined) return
  const count = inputCount(kernel)
  const operands = end.operands.map((operand) => (operand < count ? at(read, operand) : at(write, operand - count)))
  runKernel(end.kernel, operands, write)
}

function loopPoints(extents: readonly number[]): number[][] {
  return extents.reduce<number[][]>(
    (points, extent) => points.flatMap((point) => Array.from({ length: extent }, (_, i) => [...point, i])),
    [[]],
  )
}

function evaluateNode(
  node: KernelNode,
  values: readonly (readonly number[])[],
  kernel: Kernel,
  read: readonly number[][],
  places: (access: Access) => number[],
  count: number,
): readonly number[] {
  switch (node.op) {
    case 'load': {
      const source = at(read, node.input)
      return places(at(kernel.inputs, node.input)).map((place) => at(source, place))
    }
    case 'constant':
      return new Array<number>(count).fill(roundTo(node.dtype, node.value))
    case 'index':
      return places(node.access).map((place) => roundTo(node.dtype, place))
    case 'philox': {
      const keys = node.args.map((arg) => at(values, arg))
      return places(node.access).map((element, point) => {
        const [k0, k1, offset] = keys.map((key) => at(key, point)) as [number, number, number]
        return at(randomBits([k0, k1], offset, node.stream, node.bits, element + 1), element)
      })
    }
    default: {
      const inputs = node.args.map((arg) => variable({ shape: [count], dtype: at(kernel.nodes, arg).dtype }))
      const output = variable({ shape: [count], dtype: node.dtype })
      const params =
        node.op === 'compare' ? { comparison: node.comparison } : node.op === 'cast' ? { dtype: node.dtype } : {}
      const equation = { primitive: node.op, inputs, params, outputs: [output] } as unknown as Equation
      const operands = inputs.map((input, i) => ({
        type: input.type,
        data: Float64Array.from(at(values, at(node.args, i))),
      }))
      const [value] = interpret({ inputs, equations: [equation], outputs: [output] }, operands)
      return [...(value?.data ?? [])]
    }
  }
}
