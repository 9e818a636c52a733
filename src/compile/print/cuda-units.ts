// The units of one thread of a CUDA kernel, a few at a time: the vectors of all of them are read before the first is computed,
// because a multiprocessor needs some tens of kilobytes under way to be served at full speed. Which units a thread has is the
// part of cuda.ts and cuda-reduce.ts.
import { bytesOf } from '../../tensor/dtype.ts'
import { InternalError } from '../../tensor/errors.ts'
import { at } from '../../tensor/shape.ts'
import {
  type CudaAccess,
  type CudaScope,
  type PointAccess,
  cudaRegisters,
  isVectorLoad,
  lane,
  pointAccesses,
  printColumns,
  printLevel,
  printNode,
  registerOf,
} from './cuda-points.ts'
import { classOf, printCast } from './expression.ts'
import { closure } from './levels.ts'

/** Bytes that a thread has under way, at most; they wait in registers, and a unit that has more by itself goes alone. */
const batchBytes = 96
/** Units of a batch, at most; a power of two, as all smaller ones are. */
const mostUnits = 8

/** How a thread walks over its units, `batch` of them at a time. */
export interface Walk {
  readonly batch: number
  /** Whether the thread has unit j of the batch at hand; it has the first. */
  readonly inside: string
  /** Declares where accesses are for unit j. */
  readonly place: (accesses: readonly PointAccess[]) => void
  /** Goes on to the next batch. */
  readonly advance: () => void
}

/** How many units are under way at once: a power of two, from dtypes and width alone. */
export function unitsAtOnce(scope: CudaScope): number {
  const bytes = vectorLoads(scope, pointNodes(scope)).reduce((sum, index) => {
    return sum + scope.width * bytesOf(at(scope.kernel.nodes, index).dtype)
  }, 0)
  if (bytes === 0) return 1
  return 2 ** Math.floor(Math.log2(Math.max(1, Math.min(mostUnits, batchBytes / bytes))))
}

interface Axis {
  readonly lanes: string
  readonly stride: (access: CudaAccess) => string
}

/** Every `lanes`-th unit along one axis, along which accesses have strides: their bases move on with the batches. */
export function straightWalk(
  scope: CudaScope,
  { batch, inside, lanes, stride }: Omit<Walk, 'place' | 'advance'> & Axis,
): Walk {
  const { lines } = scope
  const moving = unitAccesses(scope).filter(({ access }) => stride(access) !== '')
  for (const { access } of moving) lines.add(`const int64_t ${access.name}_step = ${stride(access)} * ${lanes};`)
  const place: Walk['place'] = (accesses) => {
    for (const { access, type } of accesses) {
      const ahead = stride(access) === '' ? '' : ` + j * ${access.name}_step`
      lines.add(`${type}const ${access.name} = ${access.name}_base${ahead};`)
    }
  }
  const advance: Walk['advance'] = () => {
    for (const { access } of moving) lines.add(`${access.name}_base += ${times(batch, `${access.name}_step`)};`)
  }
  return { batch, inside, place, advance }
}

/** Several times an expression. */
export function times(count: number, text: string): string {
  return count === 1 ? text : `${count} * ${text}`
}

/** Reads the units of a batch, then computes them in order: stores their points and lets `reduce` have their values. */
export function printUnits(scope: CudaScope, walk: Walk, reduce: () => void): void {
  const { kernel, lines, width } = scope
  const nodes = pointNodes(scope)
  const loads = vectorLoads(scope, nodes)
  const read = new Set(loads.map((index) => accessOf(scope, index)))
  const accesses = unitAccesses(scope)
  for (const index of loads)
    lines.add(`pb_vector<pb_${at(kernel.nodes, index).dtype}, ${width}> l${index}[${walk.batch}];`)
  if (loads.length > 0)
    printEach(scope, walk, () => {
      walk.place(accesses.filter(({ access }) => read.has(access)))
      for (const index of loads) lines.add(`l${index}[j].read(${accessOf(scope, index).name});`)
    })
  printEach(scope, walk, () => {
    walk.place(accesses.filter(({ access }) => !read.has(access)))
    printUnit({ ...scope, unit: '[j]' }, nodes, reduce)
  })
  walk.advance()
}

function printEach({ lines }: CudaScope, { batch, inside }: Walk, body: () => void): void {
  lines.add('PB_UNROLL')
  lines.block(`for (int j = 0; j < ${batch}; ++j)${batch === 1 ? '' : ` if (${inside})`}`, body)
}

/** The nodes that are computed for every unit and column. */
function pointNodes({ kernel, levels }: CudaScope): readonly number[] {
  const roots = [...kernel.stores, ...kernel.reductions].map(({ node }) => node)
  return closure(kernel, roots, (index) => levels.of[index] !== 'point')
}

function vectorLoads(scope: CudaScope, nodes: readonly number[]): readonly number[] {
  return nodes.filter((index) => isVectorLoad(scope, index))
}

function accessOf({ kernel, inputs }: CudaScope, index: number): CudaAccess {
  const node = at(kernel.nodes, index)
  if (node.op !== 'load') throw new InternalError('an access of a node that loads nothing')
  return at(inputs, node.input)
}

/** The accesses that units need: all but those of values that are the same for all of them. */
function unitAccesses(scope: CudaScope): readonly PointAccess[] {
  const { kernel, levels, inputs, nodes } = scope
  const fixed = kernel.nodes.map((node, index) => {
    const hoisted = levels.of[index] === 'thread' || levels.of[index] === 'lanes'
    return hoisted ? (node.op === 'load' ? at(inputs, node.input) : nodes[index]) : undefined
  })
  return pointAccesses(scope).filter(({ access }) => !fixed.includes(access))
}

function printUnit(scope: CudaScope, nodes: readonly number[], reduce: () => void): void {
  const { kernel, levels, lines, width } = scope
  printLevel(scope, 'unit')
  kernel.stores.forEach(({ dtype }, i) => {
    if (at(scope.stores, i).column === '1') lines.add(`${cudaRegisters[classOf(dtype)]} o${i}[${width}];`)
  })
  printColumns(scope, () => {
    for (const index of levels.held) lines.add(`const ${registerOf(scope, index)} v${index} = b${index}[k];`)
    for (const index of nodes) printNode(scope, index)
    kernel.stores.forEach(({ node, dtype }, i) => {
      const value = printCast(at(kernel.nodes, node).dtype, dtype, `v${node}`)
      const { name, column } = at(scope.stores, i)
      lines.add(column === '1' ? `o${i}[k] = ${value};` : `pb_put<pb_${dtype}>(${lane(name, column)}, ${value});`)
    })
    reduce()
  })
  kernel.stores.forEach(({ dtype }, i) => {
    const { name, column } = at(scope.stores, i)
    if (column === '1') lines.add(`pb_store<pb_${dtype}, ${width}>(${name}, o${i});`)
  })
}
