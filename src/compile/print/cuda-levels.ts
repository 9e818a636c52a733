// Where in a CUDA kernel each node is computed. One thread holds some columns and walks over units: rows, and whatever else
// is reduced, columns too where they are reduced.
import { at } from '../../tensor/shape.ts'
import type { Kernel } from '../kernel.ts'
import { argumentsOf, closure } from './levels.ts'
import type { Nest, Placed } from './nest.ts'

/**
 * - 'thread': once; one number.
 * - 'lanes': once; a number for each column of the thread.
 * - 'unit': for every unit; one number.
 * - 'point': for every unit and column.
 */
export type CudaLevel = 'thread' | 'lanes' | 'unit' | 'point'

/** The nodes by level. */
export interface CudaLevels {
  readonly of: readonly CudaLevel[]
  /** 'lanes' nodes that points or results use: kept in registers while the units pass. */
  readonly held: readonly number[]
}

/** The levels of a kernel's nodes. */
export function cudaLevelsOf(kernel: Kernel, nest: Nest): CudaLevels {
  const units: boolean[] = []
  const columns: boolean[] = []
  kernel.nodes.forEach((node, index) => {
    const own = node.op === 'load' ? nest.inputs[node.input] : nest.nodes[index]
    const args = argumentsOf(node)
    units.push((own !== undefined && variesByUnit(own, nest)) || args.some((arg) => at(units, arg)))
    columns.push((own !== undefined && own.column !== 0) || args.some((arg) => at(columns, arg)))
  })
  const once = nest.form === 'pointwise' && nest.row === 1
  const of = kernel.nodes.map((_node, index): CudaLevel => {
    if (at(columns, index)) return at(units, index) || once ? 'point' : 'lanes'
    return at(units, index) ? 'unit' : 'thread'
  })
  return { of, held: heldOf(kernel, of) }
}

function variesByUnit({ row, reduce, column }: Placed, nest: Nest): boolean {
  return row !== 0 || reduce.some((stride) => stride !== 0) || (nest.form === 'row' && column !== 0)
}

function heldOf(kernel: Kernel, of: readonly CudaLevel[]): number[] {
  const roots = [...kernel.stores, ...kernel.reductions].map(({ node }) => node)
  const computed = closure(kernel, roots, () => false).filter((index) => of[index] === 'point')
  const used = new Set([...roots, ...computed.flatMap((index) => [...argumentsOf(at(kernel.nodes, index))])])
  return [...used].filter((index) => of[index] === 'lanes').sort((a, b) => a - b)
}
