// Steps of a plan as parts of a chain over the same rows: a product with a matrix that all rows share, or what a kernel stores
// of rows. Which of them hang together is rows.ts's part.
import {
  type KernelStep,
  type LibraryStep,
  type PlanBuffer,
  dotExtents,
  kernelBytes,
  kernelFlops,
} from '../../compile/index.ts'
import { isHalf } from '../../tensor/dtype.ts'
import { at, sizeOf } from '../../tensor/shape.ts'
import { restOf, storesOf } from './chains.ts'
import type { Unplaced } from './group.ts'
import { rowWalkOf } from './places.ts'

/** Chains are for small tensors: with more rows, or a larger matrix, a product is worth a launch of its own. */
const mostRows = 4096
const mostMatrixBytes = 2 ** 20
const mostValueBytes = 2 ** 24

/** A step as a part of a chain. */
export interface RowStep {
  readonly step: Unplaced
  /** What it reduces, as a step that reads what it stores. */
  readonly rest: Unplaced | undefined
  /** The buffers of which it reads the row that it makes. */
  readonly along: readonly number[]
  /** The buffers of which all rows read the same. */
  readonly shared: readonly number[]
}

/** How many rows a product has that could be in a chain; undefined where it could not. */
export function rowsOf(step: LibraryStep): number | undefined {
  const { equation } = step
  if (equation.primitive !== 'dot' || step.inputs.length !== 2) return undefined
  const [a, b] = [at(equation.inputs, 0).type, at(equation.inputs, 1).type]
  const { m, n, k, transposeA } = dotExtents(equation)
  const matrices = a.shape.length === 2 && b.shape.length === 2 && equation.params.contract[0].length === 1
  if (!matrices || transposeA || !isHalf(a.dtype) || m * n * k === 0 || m > mostRows) return undefined
  return 2 * n * k <= mostMatrixBytes && 4 * m * Math.max(n, k) <= mostValueBytes ? m : undefined
}

/** A step as a part of a chain over so many rows; undefined where it is none. */
export function rowStepOf(
  step: KernelStep | LibraryStep,
  rows: number,
  buffers: readonly PlanBuffer[],
): RowStep | undefined {
  if (step.kind === 'kernel') return rowKernel(step, rows, buffers)
  if (rowsOf(step) !== rows) return undefined
  return { step, rest: undefined, along: step.inputs.slice(0, 1), shared: step.inputs.slice(1) }
}

/** A kernel that stores [rows, columns], or what it stores of them where it also reduces. */
function rowKernel(given: KernelStep, rows: number, buffers: readonly PlanBuffer[]): RowStep | undefined {
  if (given.kernel.stores.length === 0) return undefined
  const step = given.kernel.reductions.length === 0 ? given : storing(given)
  const { kernel, inputs, outputs } = step
  const elements = sizeOf(kernel.axes.map(({ extent }) => extent))
  const { shape } = at(buffers, at(outputs, 0)).type
  const columns = elements / rows
  if (shape[0] !== rows || !Number.isInteger(columns) || 8 * elements > mostValueBytes) return undefined
  const isWhole = (buffer: number): boolean => sizeOf(at(buffers, buffer).type.shape) === elements
  const whole = kernel.stores.every((store) => rowWalkOf(store, kernel.axes, rows, columns) === 'all')
  if (elements === 0 || !whole || !outputs.every(isWhole)) return undefined
  const along: number[] = []
  const shared: number[] = []
  for (const [index, input] of kernel.inputs.entries()) {
    const buffer = at(inputs, index)
    const walk = rowWalkOf(input, kernel.axes, rows, columns)
    if (walk === undefined || (walk === 'all' && !isWhole(buffer))) return undefined
    const list = walk === 'all' ? along : shared
    list.push(buffer)
  }
  return { step, rest: reducing(given), along, shared }
}

/** What a step stores at each point, as a step. */
function storing(step: KernelStep): Omit<KernelStep, 'after'> {
  const { kernel, inputs, outputs } = storesOf(step.kernel)
  return {
    ...withCost(step, kernel),
    inputs: inputs.map((input) => at(step.inputs, input)),
    outputs: outputs.map((output) => at(step.outputs, output)),
    label: 'map',
  }
}

/** What a step reduces, as a step that reads what it stores; undefined where it reduces nothing. */
function reducing(step: KernelStep): Omit<KernelStep, 'after'> | undefined {
  const rest = restOf(step.kernel)
  if (rest === undefined) return undefined
  const stored = at(step.outputs, at(step.kernel.stores, 0).output)
  return {
    ...withCost(step, rest.kernel),
    inputs: rest.inputs.map((input) => (input === 'stored' ? stored : at(step.inputs, input))),
    outputs: rest.outputs.map((output) => at(step.outputs, output)),
  }
}

function withCost({ label }: KernelStep, kernel: KernelStep['kernel']) {
  return { kind: 'kernel' as const, kernel, bytes: kernelBytes(kernel), flops: kernelFlops(kernel), label }
}
