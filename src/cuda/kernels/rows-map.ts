// A pointwise step of a chain of rows as CUDA C: a thread has some neighbouring columns of two rows at a time, and computes
// every node as the kernel's own launch would. Where the values are is rows-plan.ts's part.
import type { KernelNode } from '../../compile/index.ts'
import { cudaRegisters, cudaStorage } from '../../compile/print/cuda-points.ts'
import { classOf, printCast, printConstant, printExpression } from '../../compile/print/expression.ts'
import { argumentsOf, closure } from '../../compile/print/levels.ts'
import type { Lines } from '../../compile/print/lines.ts'
import type { Numbers } from '../../compile/print/numbers.ts'
import { type DType, bytesOf } from '../../tensor/dtype.ts'
import { at, zip } from '../../tensor/shape.ts'
import type { RowAccess } from './rows-access.ts'
import type { MapStep, RowValue } from './rows-plan.ts'
import { blockRows, rowThreads } from './rows-text.ts'

/** What printing a chain adds to. */
export interface RowsScope {
  readonly lines: Lines
  readonly numbers: Numbers
  readonly values: readonly RowValue[]
}

/** Rows of a thread; they lie `rowLanes` apart. */
const threadRows = 2
const rowLanes = blockRows / threadRows
/** Elements that a thread holds of what it reads and stores, at most: registers are for the next product's matrix, too. */
const mostHeld = 64

/** Where an input comes from, and how a thread holds its vector, if it has one. */
interface Source {
  readonly dtype: DType
  /** 'both': a vector in each row; 'columns': one for all rows; 'single': element by element. */
  readonly held: 'both' | 'columns' | 'single'
  /** In shared memory, a value; else an operand by its strides. */
  readonly value: RowValue | undefined
  readonly operand: number
  readonly access: RowAccess
}

/** Prints a map; `place`, the block's rows, stands in front of it. */
export function printMap(scope: RowsScope, step: MapStep): void {
  const { lines, numbers } = scope
  const used = new Set(needed(step).flatMap((node) => (node.op === 'load' ? [node.input] : [])))
  const sources = step.inputs.map((_input, i) => (used.has(i) ? sourceOf(scope, step, i) : undefined))
  const width = widthOf(step, sources)
  lines.block('', () => {
    lines.add(
      `const int columns = (int)${numbers.add('map_columns', step.accesses.columns)}, vectors = columns / ${width};`,
    )
    lines.add('PB_ONE_BY_ONE')
    lines.block(`for (int unit = (int)pb_thread(); unit < ${rowLanes} * vectors; unit += ${rowThreads})`, () => {
      lines.add(`const int lane = unit / vectors, c = unit % vectors * ${width};`)
      sources.forEach((source, i) => {
        if (source !== undefined) printLoad(scope, source, i, width)
      })
      step.outputs.forEach((output, i) => {
        const { dtype } = at(scope.values, output)
        lines.add(`${cudaRegisters[classOf(dtype)]} y${i}[${threadRows}][${width}];`)
      })
      printNodes(scope, step, sources, width)
      step.outputs.forEach((output, i) => {
        printStore(scope, at(scope.values, output), i, width)
      })
    })
  })
}

function needed({ kernel }: MapStep): readonly KernelNode[] {
  return neededIndices(kernel).map((index) => at(kernel.nodes, index))
}

function neededIndices(kernel: MapStep['kernel']): readonly number[] {
  return closure(
    kernel,
    kernel.stores.map(({ node }) => node),
    () => false,
  )
}

function sourceOf({ values }: RowsScope, { kernel, inputs, accesses }: MapStep, i: number): Source {
  const [input, { dtype }, access] = [at(inputs, i), at(kernel.inputs, i), at(accesses.inputs, i)]
  if (input.kind === 'value') return { dtype, held: 'both', value: at(values, input.value), operand: -1, access }
  const held = access.column !== 1 ? 'single' : access.row === 0 ? 'columns' : 'both'
  return { dtype, held, value: undefined, operand: input.operand, access }
}

/** Columns of a thread: as many as every vector's alignment and the thread's registers allow. */
function widthOf({ accesses, outputs }: MapStep, sources: readonly (Source | undefined)[]): number {
  const all = sources.filter((source) => source !== undefined)
  const vectors = all.filter(({ held }) => held !== 'single')
  const held = vectors.reduce(
    (sum, source) => sum + (source.held === 'both' ? threadRows : 1),
    threadRows * outputs.length,
  )
  const fits = (width: number): boolean =>
    accesses.columns % width === 0 &&
    width * held <= mostHeld &&
    vectors.every(({ value, dtype, access: { offset, row } }) => {
      const together = Math.min(width, 16 / bytesOf(dtype))
      return value !== undefined || (offset % together === 0 && row % together === 0)
    })
  return [8, 4, 2].find(fits) ?? 1
}

/** Statements for each of a thread's rows, `r`, of which the block knows as \`lane + r * rowLanes\`. */
function forRows(lines: Lines, body: () => void): void {
  lines.add('PB_UNROLL')
  lines.block(`for (int r = 0; r < ${threadRows}; ++r)`, body)
}

const localRow = `(lane + r * ${rowLanes})`

/** Names the place of an operand's vector, or reads the vectors of a source. */
function printLoad(
  { lines, numbers }: RowsScope,
  { dtype, held, value, operand, access }: Source,
  i: number,
  width: number,
): void {
  const register = cudaRegisters[classOf(dtype)]
  if (value !== undefined) {
    lines.add(`${register} x${i}[${threadRows}][${width}];`)
    forRows(lines, () => {
      lines.add(`pb_rows_get<pb_${dtype}, ${width}>(${sharedAt({ numbers }, value)}, x${i}[r]);`)
    })
    return
  }
  const stride = (name: string, count: number, index: string): string[] =>
    count === 0 ? [] : [count === 1 ? index : `${index} * ${numbers.add(`x${i}_${name}`, count)}`]
  const offset = numbers.add(`x${i}_offset`, access.offset)
  const start = [`(const ${cudaStorage[dtype]} *)a.p[${operand}]`, offset, ...stride('column', access.column, 'c')]
  lines.add(`const ${cudaStorage[dtype]} *const p${i} = ${start.join(' + ')};`)
  if (access.row !== 0) lines.add(`const int64_t x${i}_next = ${numbers.add(`x${i}_row`, access.row)};`)
  if (held === 'single') return
  if (held === 'columns') {
    lines.add(`${register} x${i}[${width}];`, `pb_load<pb_${dtype}, ${width}>(p${i}, x${i});`)
    return
  }
  lines.add(`${register} x${i}[${threadRows}][${width}];`)
  forRows(lines, () => {
    lines.add(`pb_load<pb_${dtype}, ${width}>(p${i} + place.row${localRow} * x${i}_next, x${i}[r]);`)
  })
}

function sharedAt({ numbers }: Pick<RowsScope, 'numbers'>, { dtype, place }: RowValue): string {
  if (place === undefined) throw new RangeError('internal: a value without a place in shared memory')
  const [offset, pitch] = [numbers.add('shared_offset', place.offset), numbers.add('shared_pitch', place.pitch)]
  return `pb_dynamic_shared() + (int)${offset} + ${localRow} * (int)${pitch} + c * ${bytesOf(dtype)}`
}

/** Computes every node for each row and column. */
function printNodes(scope: RowsScope, step: MapStep, sources: readonly (Source | undefined)[], width: number): void {
  const { kernel } = step
  const { lines, values } = scope
  const before = neededIndices(kernel).map((index) => {
    const node = at(kernel.nodes, index)
    return `const ${cudaRegisters[classOf(node.dtype)]} v${index} = ${valueOf(scope, step, sources, index)};`
  })
  forRows(lines, () => {
    lines.add(`const int64_t row = place.row${localRow};`)
    lines.add('PB_UNROLL')
    lines.block(`for (int k = 0; k < ${width}; ++k)`, () => {
      lines.add(...before)
      zip(kernel.stores, step.outputs).forEach(([{ node }, output], i) => {
        const value = printCast(at(kernel.nodes, node).dtype, at(values, output).dtype, `v${node}`)
        lines.add(`y${i}[r][k] = ${value};`)
      })
    })
  })
}

function valueOf(
  { numbers }: RowsScope,
  step: MapStep,
  sources: readonly (Source | undefined)[],
  index: number,
): string {
  const { kernel, accesses } = step
  const node = at(kernel.nodes, index)
  if (node.op === 'constant') return printConstant(node.dtype, node.value, numbers)
  if (node.op === 'load') {
    const source = sources[node.input]
    if (source === undefined) throw new RangeError('internal: a load of nothing')
    return elementOf(numbers, source, node.input)
  }
  const own = accesses.nodes[index]
  const args = argumentsOf(node).map((arg) => `v${arg}`)
  return printExpression(
    kernel,
    node,
    args,
    own === undefined ? undefined : { base: indexOf(numbers, own), step: '0' },
    numbers,
  )
}

function elementOf(numbers: Numbers, { dtype, held, access }: Source, i: number): string {
  if (held === 'both') return `x${i}[r][k]`
  if (held === 'columns') return `x${i}[k]`
  const row = access.row === 0 ? '' : ` + row * x${i}_next`
  const column = access.column === 0 ? '' : ` + k * ${numbers.add(`x${i}_column`, access.column)}`
  return `pb_get<pb_${dtype}>(p${i}${row}${column})`
}

function indexOf(numbers: Numbers, { offset, row, column }: RowAccess): string {
  const terms = [
    numbers.add('index_offset', offset),
    `row * ${numbers.add('index_row', row)}`,
    `(c + k) * ${numbers.add('index_column', column)}`,
  ]
  return terms.join(' + ')
}

/** Stores a thread's vectors: in shared memory for later steps, in device memory if the whole gives them. */
function printStore(scope: RowsScope, value: RowValue, i: number, width: number): void {
  const { dtype, operand, place } = value
  const { lines } = scope
  forRows(lines, () => {
    if (place !== undefined) lines.add(`pb_rows_put<pb_${dtype}, ${width}>(${sharedAt(scope, value)}, y${i}[r]);`)
    if (operand === undefined) return
    const target = `(${cudaStorage[dtype]} *)a.p[${operand}] + (place.first + ${localRow}) * columns + c`
    lines.add(`if (place.has${localRow}) pb_store<pb_${dtype}, ${width}>(${target}, y${i}[r]);`)
  })
}
