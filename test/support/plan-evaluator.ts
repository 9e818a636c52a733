// Runs a Plan in plain TypeScript, kernel by kernel, loop by loop: what a plan means, without any printer or device.
import type { Access, Kernel, KernelNode, Plan } from '../../src/compile/index.ts'
import { roundTo } from '../../src/tensor/half.ts'
import { randomBits } from '../../src/tensor/philox.ts'
import { type Equation, type TensorType, literal, variable } from '../../src/tensor/program.ts'
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

/** Runs one kernel: `read` and `write` are the arrays its inputs and outputs stand for. */
export function runKernel(kernel: Kernel, read: readonly number[][], write: readonly number[][]): void {
  const place = (access: Access, index: readonly number[]) => access.strides.reduce((sum, stride, axis) => sum + stride * at(index, axis), access.offset)
  for (const reduction of kernel.reductions) {
    const initial = reduction.op === 'sum' ? 0 : reduction.op === 'max' ? -Infinity : Infinity
    forEachPoint(kernel, (index) => (at(write, reduction.output)[place(reduction, index)] = initial), true)
  }
  const sums = kernel.reductions.map(() => new Map<number, number>())
  forEachPoint(kernel, (index) => {
    const values: number[] = []
    for (const node of kernel.nodes) values.push(evaluateNode(node, values, kernel, read, (access) => place(access, index)))
    for (const store of kernel.stores) at(write, store.output)[place(store, index)] = at(values, store.node)
    kernel.reductions.forEach((reduction, r) => {
      const where = place(reduction, index)
      const value = at(values, reduction.node)
      const before = at(sums, r).get(where)
      const combined = before === undefined ? value : reduction.op === 'sum' ? before + value : reduction.op === 'max' ? Math.max(before, value) : Math.min(before, value)
      at(sums, r).set(where, combined)
    })
  })
  kernel.reductions.forEach((reduction, r) => {
    for (const [where, value] of at(sums, r)) at(write, reduction.output)[where] = reduction.dtype === 'i32' ? value | 0 : roundTo(reduction.dtype, value)
  })
}

function forEachPoint(kernel: Kernel, visit: (index: readonly number[]) => void, onlyMap = false): void {
  const walk = (axis: number, index: number[]): void => {
    if (axis === kernel.axes.length) return visit(index)
    const { extent, role } = at(kernel.axes, axis)
    for (let i = 0; i < (onlyMap && role === 'reduce' ? 1 : extent); i++) walk(axis + 1, [...index, i])
  }
  walk(0, [])
}

function evaluateNode(node: KernelNode, values: readonly number[], kernel: Kernel, read: readonly number[][], place: (access: Access) => number): number {
  switch (node.op) {
    case 'load':
      return at(at(read, node.input), place(at(kernel.inputs, node.input)))
    case 'constant':
      return roundTo(node.dtype, node.value)
    case 'index':
      return roundTo(node.dtype, place(node.access))
    case 'philox': {
      const [k0, k1, offset] = node.args.map((arg) => at(values, arg)) as [number, number, number]
      const element = place(node.access)
      return at(randomBits([k0, k1], offset, node.stream, node.bits, element + 1), element)
    }
    default: {
      const args = node.args.map((arg): TensorType => ({ shape: [], dtype: at(kernel.nodes, arg).dtype }))
      const inputs = args.map((type, i) => literal(at(values, at(node.args, i)), type.dtype))
      const output = variable({ shape: [], dtype: node.dtype })
      const params = node.op === 'compare' ? { comparison: node.comparison } : node.op === 'cast' ? { dtype: node.dtype } : {}
      const equation = { primitive: node.op, inputs, params, outputs: [output] } as unknown as Equation
      const [value] = interpret({ inputs: [], equations: [equation], outputs: [output] }, [])
      return at(value?.data ?? [], 0)
    }
  }
}
