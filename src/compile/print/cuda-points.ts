// What printing the body of a CUDA kernel refers to, the places of its accesses, its nodes as statements, and the values that
// are hoisted out of a thread's units. The units themselves are the part of cuda-units.ts.
import type { DType } from '../../tensor/dtype.ts'
import { at, range } from '../../tensor/shape.ts'
import type { Kernel, KernelNode } from '../kernel.ts'
import type { CudaLevels } from './cuda-levels.ts'
import type { Width } from './cuda-map.ts'
import { type RegisterClass, classOf, printConstant, printExpression } from './expression.ts'
import { argumentsOf, closure } from './levels.ts'
import type { Lines } from './lines.ts'
import type { Nest, Placed } from './nest.ts'
import type { Numbers } from './numbers.ts'

export const cudaStorage: Readonly<Record<DType, string>> = {
  f32: 'float',
  f16: 'uint16_t',
  bf16: 'uint16_t',
  f64: 'double',
  i32: 'int32_t',
  u8: 'uint8_t',
  bool: 'uint8_t',
}

export const cudaRegisters: Readonly<Record<RegisterClass, string>> = {
  f: 'pbv_f',
  d: 'pbv_d',
  i: 'pbv_i',
  b: 'pbv_b',
}

/** An access with the names of its strides in the text; '' where the stride is 0. */
export interface CudaAccess {
  readonly name: string
  readonly placed: Placed
  readonly offset: string
  readonly map: readonly string[]
  readonly reduce: readonly string[]
  readonly row: string
  readonly column: string
}

/** All that printing a kernel's body refers to. */
export interface CudaScope {
  readonly kernel: Kernel
  readonly nest: Nest
  readonly levels: CudaLevels
  readonly width: Width
  /** The type of indices of threads and units. */
  readonly index: 'uint32_t' | 'uint64_t'
  readonly numbers: Numbers
  readonly lines: Lines
  readonly inputs: readonly CudaAccess[]
  readonly nodes: readonly (CudaAccess | undefined)[]
  readonly stores: readonly CudaAccess[]
  readonly reductions: readonly CudaAccess[]
  /** Of the partial results, where several blocks share sums. */
  readonly partials: readonly CudaAccess[] | undefined
  readonly epilogue: Pick<CudaScope, 'inputs' | 'nodes' | 'stores'>
  /** Which of a batch of units a vector that was read belongs to: '[j]', or '' outside of units. */
  readonly unit: '' | '[j]'
}

/** An access of points, with its type and, where it is a pointer, the argument it begins at. */
export interface PointAccess {
  readonly access: CudaAccess
  readonly type: string
  readonly source: string
}

/** Names the strides of an access as arguments. */
export function nameAccess(numbers: Numbers, name: string, placed: Placed): CudaAccess {
  const named = (suffix: string, stride: number): string =>
    stride === 0 ? '' : numbers.add(`${name}_${suffix}`, stride)
  return {
    name,
    placed,
    offset: numbers.add(`${name}_offset`, placed.offset),
    map: placed.map.map((stride, axis) => named(`map${axis}`, stride)),
    reduce: placed.reduce.map((stride, axis) => named(`reduce${axis}`, stride)),
    row: named('row', placed.row),
    column: placed.column === 1 ? '1' : named('column', placed.column),
  }
}

/** `index x stride` for every stride that is not 0. */
export function products(strides: readonly string[], index: (axis: number) => string): string[] {
  return strides.flatMap((stride, axis) => {
    if (stride === '') return []
    return stride === '1' ? [index(axis)] : [`${index(axis)} * ${stride}`]
  })
}

/** Names the extents of axes as arguments, all but that of the first, whose digit is what is left. */
export function nameExtents(numbers: Numbers, name: string, extents: readonly number[]): readonly string[] {
  const names = range(extents.length).map(() => '')
  for (const axis of range(extents.length).reverse())
    if (axis > 0) names[axis] = numbers.add(`${name}${axis}_extent`, at(extents, axis))
  return names
}

/** Declares the digits of q along axes of named extents, the last one fastest, as `${name}0`, ... */
export function printDigits({ lines, index }: CudaScope, name: string, extents: readonly string[]): void {
  for (const axis of range(extents.length).reverse()) {
    if (axis === 0) lines.add(`const int64_t ${name}0 = (int64_t)q;`)
    else {
      lines.add(`const int64_t ${name}${axis} = (int64_t)(q % (${index})${at(extents, axis)});`)
      lines.add(`q /= (${index})${at(extents, axis)};`)
    }
  }
}

/** All accesses of points, each with its pointer's type and argument; index nodes have neither. */
export function pointAccesses(scope: CudaScope): readonly PointAccess[] {
  const { kernel, inputs, stores } = scope
  return [
    ...inputs.map((access, i) => ({
      access,
      type: `const ${cudaStorage[at(kernel.inputs, i).dtype]} *`,
      source: `(const ${cudaStorage[at(kernel.inputs, i).dtype]} *)a.p[${i}] + `,
    })),
    ...stores.map((access, i) => ({
      access,
      type: `${cudaStorage[at(kernel.stores, i).dtype]} *`,
      source: `(${cudaStorage[at(kernel.stores, i).dtype]} *)a.p[${inputs.length + i}] + `,
    })),
    ...scope.nodes.flatMap((access) => (access === undefined ? [] : [{ access, type: 'int64_t ', source: '' }])),
  ]
}

/** Declares what is the same for all units of the thread, at the bases of accesses. */
export function printThreadValues(atUnit: CudaScope): void {
  const scope = atBases(atUnit)
  const { kernel, levels, lines, width } = scope
  printLevel(scope, 'thread')
  if (levels.held.length === 0) return
  for (const index of levels.held) lines.add(`${registerOf(scope, index)} b${index}[${width}];`)
  const nodes = closure(kernel, levels.held, (index) => levels.of[index] === 'thread')
  lines.block('', () => {
    printVectorLoads(scope, nodes)
    printColumns(scope, () => {
      for (const index of nodes) printNode(scope, index)
      for (const index of levels.held) lines.add(`b${index}[k] = v${index};`)
    })
  })
}

function atBases(scope: CudaScope): CudaScope {
  const atBase = (access: CudaAccess): CudaAccess => ({ ...access, name: `${access.name}_base` })
  const nodes = scope.nodes.map((access) => (access === undefined ? undefined : atBase(access)))
  return { ...scope, inputs: scope.inputs.map(atBase), nodes }
}

/** A loop over the thread's columns; k is the one at hand. */
export function printColumns({ lines, width }: CudaScope, body: () => void): void {
  lines.add('PB_UNROLL')
  lines.block(`for (int k = 0; k < ${width}; ++k)`, body)
}

/** The place of column k. */
export function lane(name: string, column: string): string {
  if (column === '') return name
  return column === '1' ? `${name} + k` : `${name} + k * ${column}`
}

/** Declares the nodes of a level that has no columns. */
export function printLevel(scope: CudaScope, level: 'thread' | 'unit'): void {
  scope.kernel.nodes.forEach((_node, index) => {
    if (scope.levels.of[index] === level) printNode(scope, index)
  })
}

/** Whether a node is read as a vector of neighbouring elements. */
export function isVectorLoad({ kernel, inputs }: CudaScope, index: number): boolean {
  const node = at(kernel.nodes, index)
  return node.op === 'load' && at(inputs, node.input).column === '1'
}

/** Reads the vectors of neighbouring elements that nodes need. */
function printVectorLoads(scope: CudaScope, nodes: readonly number[]): void {
  for (const index of nodes) {
    const node = at(scope.kernel.nodes, index)
    if (node.op !== 'load' || !isVectorLoad(scope, index)) continue
    scope.lines.add(`pb_vector<pb_${node.dtype}, ${scope.width}> l${index};`)
    scope.lines.add(`l${index}.read(${at(scope.inputs, node.input).name});`)
  }
}

/** The type of a node's register. */
export function registerOf({ kernel }: CudaScope, index: number): string {
  return cudaRegisters[classOf(at(kernel.nodes, index).dtype)]
}

/** Declares a node. */
export function printNode(scope: CudaScope, index: number): void {
  const node = at(scope.kernel.nodes, index)
  scope.lines.add(`const ${registerOf(scope, index)} v${index} = ${valueOf(scope, index, node)};`)
}

function valueOf(scope: CudaScope, index: number, node: KernelNode): string {
  if (node.op === 'constant') return printConstant(node.dtype, node.value, scope.numbers)
  if (node.op === 'load') {
    const { name, column } = at(scope.inputs, node.input)
    return column === '1' ? `l${index}${scope.unit}[k]` : `pb_get<pb_${node.dtype}>(${lane(name, column)})`
  }
  const own = scope.nodes[index]
  const place = own === undefined ? undefined : { base: lane(own.name, own.column), step: '0' }
  const args = argumentsOf(node).map((arg) => `v${arg}`)
  return printExpression(scope.kernel, node, args, place, scope.numbers)
}
