// Where in the loops each node is computed: no deeper than what it depends on makes necessary.
import { at } from '../../tensor/shape.ts'
import type { Kernel, KernelNode } from '../kernel.ts'
import type { Nest, Placed } from './nest.ts'

/**
 * - 'tile': the same for every row and column of a tile.
 * - 'row': the same along a row.
 * - 'column': the same for every row; kept in a buffer if it is dear and there are several rows.
 * - 'point': computed for every element.
 */
export type Level = 'tile' | 'row' | 'column' | 'point'

/** The nodes by the level at which they are computed. */
export interface Levels {
  readonly of: readonly Level[]
  /** 'column' nodes that inner nodes use and that are worth a buffer. */
  readonly buffered: ReadonlySet<number>
}

/** The levels of a kernel's nodes. */
export function levelsOf(kernel: Kernel, nest: Nest): Levels {
  const rows: boolean[] = []
  const columns: boolean[] = []
  kernel.nodes.forEach((node, index) => {
    const own = node.op === 'load' ? nest.inputs[node.input] : nest.nodes[index]
    const args = 'args' in node ? node.args : []
    rows.push(varies(own, 'row') || args.some((arg) => rows[arg] === true))
    columns.push(varies(own, 'column') || args.some((arg) => columns[arg] === true))
  })
  const of = kernel.nodes.map((_node, index): Level => {
    if (columns[index] !== true) return rows[index] === true ? 'row' : 'tile'
    return rows[index] === true || nest.row === 1 ? 'point' : 'column'
  })
  const repeats = (node: KernelNode): boolean => node.op === 'load' && (nest.inputs[node.input]?.period ?? 0) > 0
  return { of, buffered: bufferedOf(kernel, of, (node) => isPlain(node) && !repeats(node)) }
}

function varies(placed: Placed | undefined, along: 'row' | 'column'): boolean {
  return placed !== undefined && placed[along] !== 0
}

function bufferedOf(kernel: Kernel, of: readonly Level[], isCheap: (node: KernelNode) => boolean): Set<number> {
  const buffered = new Set<number>()
  const visit = (index: number): void => {
    const node = at(kernel.nodes, index)
    if (of[index] !== 'column' || buffered.has(index)) return
    if (isCheap(node)) for (const arg of argumentsOf(node)) visit(arg)
    else buffered.add(index)
  }
  kernel.nodes.forEach((node, index) => {
    if (of[index] === 'point') for (const arg of argumentsOf(node)) visit(arg)
  })
  for (const { node } of [...kernel.stores, ...kernel.reductions]) visit(node)
  return buffered
}

/** Nodes that cost no more than reading a buffer. */
function isPlain(node: KernelNode): boolean {
  return node.op === 'load' || node.op === 'constant' || node.op === 'index' || node.op === 'cast'
}

/** The positions of a node's arguments. */
export function argumentsOf(node: KernelNode): readonly number[] {
  return 'args' in node ? node.args : []
}

/** All nodes that `roots` need, in order, not looking past those in `known`. */
export function closure(kernel: Kernel, roots: readonly number[], known: (index: number) => boolean): number[] {
  const needed = new Set<number>()
  const visit = (index: number): void => {
    if (needed.has(index) || known(index)) return
    needed.add(index)
    for (const arg of argumentsOf(at(kernel.nodes, index))) visit(arg)
  }
  for (const root of roots) visit(root)
  return [...needed].sort((a, b) => a - b)
}
