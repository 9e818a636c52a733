// The C dialect: a kernel as one function over tiles, vectors along the columns, accumulators for the reductions. Which
// thread runs which part is the runtime's choice; what a part is comes from partition.ts.
import type { DType } from '../../tensor/dtype.ts'
import { at, range } from '../../tensor/shape.ts'
import type { Kernel, KernelReduction } from '../kernel.ts'
import {
  type Named,
  type Scope,
  elementTypes,
  lanes,
  printBuffers,
  printColumns,
  printHoisted,
  printPoints,
  printStore,
  registerTypes,
  storageTypes,
} from './c-columns.ts'
import type { Dialect } from './dialect.ts'
import { printCast } from './expression.ts'
import type { PlainPointer, PrintedKernel, PrintedLaunch } from './launch.ts'
import { levelsOf } from './levels.ts'
import { Lines } from './lines.ts'
import { nameOf } from './name.ts'
import { type Nest, type Placed, arrange } from './nest.ts'
import { Numbers } from './numbers.ts'
import { type Partials, accumulator, combining, layPartials, partialType, pointersOf, rebind } from './partials.ts'
import { type Partition, cachedColumns, partition } from './partition.ts'

/** C with the vector extensions of GCC and clang. */
export const cDialect: Dialect<PlainPointer> = {
  name: 'c',
  storage: storageTypes,
  registers: registerTypes,
  joinsRows: true,
  printsEpilogues: false,
  print: printKernelInC,
}

const opNames = { sum: 'add', max: 'max', min: 'min' } as const

function printKernelInC(kernel: Kernel, nest: Nest): PrintedKernel<PlainPointer> {
  const levels = levelsOf(kernel, nest)
  const cut = partition(nest, levels.buffered.size > 0)
  const partials = cut.splits > 1 ? layPartials(kernel, nest, cut.splits) : undefined
  const numbers = new Numbers()
  const lines = new Lines()
  const name = namer(numbers)
  const results = partials?.places ?? nest.reductions.map((placed) => ({ ...placed, reduce: [] }))
  const scope: Scope = {
    kernel,
    nest,
    levels,
    numbers,
    lines,
    inputs: nest.inputs.map((placed, i) => name(`x${i}`, placed)),
    nodes: nest.nodes.map((placed, i) => (placed === undefined ? undefined : name(`k${i}`, placed))),
    stores: nest.stores.map((placed, i) => name(`y${i}`, placed)),
    reductions: results.map((placed, i) => name(`z${i}`, placed)),
  }
  const types = kernel.reductions.map((reduction) =>
    partials === undefined ? reduction.dtype : partialType(kernel, reduction),
  )
  printParts(scope, cut, types)
  const text = [...numbers.declarations().map((line) => `  ${line}\n`), lines.toString()].join('')
  const launch: PrintedLaunch<PlainPointer> = {
    source: nameOf('pbk', (symbol) => `void ${symbol}(void *const *p, const int64_t *n, int64_t part) {\n${text}}\n`),
    parts: cut.parts,
    pointers: pointersOf(kernel, partials),
    numbers: numbers.values,
  }
  if (partials === undefined) return { launches: [launch], scratchBytes: 0 }
  return { launches: [launch, combine(kernel, nest, cut.splits, partials)], scratchBytes: partials.bytes }
}

/** The launch that reduces the partial results of all splits, itself a kernel: the splits are its reduced axis. */
function combine(kernel: Kernel, nest: Nest, splits: number, partials: Partials): PrintedLaunch<PlainPointer> {
  const sums = combining(kernel, nest, splits, partials)
  const { launches } = printKernelInC(sums, arrange(sums, true))
  const [launch] = launches
  if (launch === undefined || launches.length > 1) throw new RangeError('internal: partial results of partial results')
  return rebind(launch, kernel, partials)
}

/** Names the strides of an access as arguments; strides of 0 along rows and columns stay unnamed. */
function namer(numbers: Numbers) {
  return (name: string, placed: Placed): Named => ({
    name,
    placed,
    offset: numbers.add(`${name}_offset`, placed.offset),
    map: placed.map.map((stride, axis) => numbers.add(`${name}_map${axis}`, stride)),
    reduce: placed.reduce.map((stride, axis) => numbers.add(`${name}_reduce${axis}`, stride)),
    row: placed.row === 0 ? '' : numbers.add(`${name}_row`, placed.row),
    column: placed.column === 0 ? '' : numbers.add(`${name}_column`, placed.column),
    period: placed.period === 0 ? '' : numbers.add(`${name}_period`, placed.period),
  })
}

/** The loop over a part's groups. */
function printParts(scope: Scope, cut: Partition, types: readonly DType[]): void {
  const { lines, numbers, nest } = scope
  const number = (key: keyof Partition): string => numbers.add(key, cut[key])
  const [groups, perPart, splits] = [number('groups'), number('groupsPerPart'), number('splits')]
  numbers.add('columns', nest.column)
  lines.add(
    `const int64_t split = part % ${splits}, g0 = part / ${splits} * ${perPart}, g1 = PB_MIN(${groups}, g0 + ${perPart});`,
  )
  lines.add('int64_t at; (void)at; (void)split; (void)columns;')
  lines.block('for (int64_t g = g0; g < g1; ++g)', () => {
    lines.add('int64_t q = g;')
    if (nest.form !== 'row') printColumnChunk(scope, number('columnChunk'), number('columnChunks'))
    if (nest.form === 'pointwise') printRowChunk(scope, number('rowChunk'), number('rowChunks'))
    printDigits(scope, 'i', nest.map)
    if (nest.form === 'pointwise') printTile(scope, cut)
    else printReduced(scope, cut, types, number)
  })
}

function printColumnChunk({ lines }: Scope, chunk: string, chunks: string): void {
  lines.add(`const int64_t c0 = q % ${chunks} * ${chunk}, cn = PB_MIN(${chunk}, columns - c0); q /= ${chunks};`)
}

function printRowChunk({ lines, numbers, nest }: Scope, chunk: string, chunks: string): void {
  const rows = numbers.add('rows', nest.row)
  lines.add(`const int64_t r0 = q % ${chunks} * ${chunk}, rn = PB_MIN(${chunk}, ${rows} - r0); q /= ${chunks};`)
}

/** Splits q into indices along axes, the last one fastest. */
function printDigits({ lines, numbers }: Scope, name: string, extents: readonly number[]): void {
  for (const axis of range(extents.length).reverse()) {
    if (axis === 0) lines.add(`const int64_t ${name}0 = q;`)
    else {
      const extent = numbers.add(`${name}${axis}_extent`, at(extents, axis))
      lines.add(`const int64_t ${name}${axis} = q % ${extent}; q /= ${extent};`)
    }
  }
}

/** Everything in a tile: pointers, values that do not vary in it, buffers, rows of columns. */
function printTile(
  scope: Scope,
  cut: Partition,
  unroll = 1,
  reduce: Parameters<typeof printPoints>[2] = () => undefined,
): void {
  const { lines, nest } = scope
  scope.inputs.forEach((input, i) => {
    printPlace(scope, input, `const ${storageTypes[at(scope.kernel.inputs, i).dtype]} *`, `p[${i}]`)
  })
  scope.stores.forEach((store, i) => {
    printPlace(scope, store, `${storageTypes[at(scope.kernel.stores, i).dtype]} *`, `p[${scope.inputs.length + i}]`)
  })
  for (const node of scope.nodes) if (node !== undefined) printPlace(scope, node, 'int64_t ', undefined)
  printHoisted(scope, 'tile')
  printBuffers(scope, cachedColumns)
  if (nest.row === 1) {
    printPoints(scope, unroll, reduce)
    return
  }
  lines.block('for (int64_t r = 0; r < rn; ++r)', () => {
    printHoisted(scope, 'row')
    printPoints(scope, unroll, reduce)
    const moving = [...scope.inputs, ...scope.stores, ...scope.nodes].filter(
      (named) => named !== undefined && named.row !== '',
    )
    for (const named of moving) if (named !== undefined) lines.add(`${named.name} += ${named.row};`)
  })
}

/** Declares the pointer (or, without one, the index) of an access at the first row and column of the tile. */
function printPlace({ lines, nest }: Scope, access: Named, type: string, pointer: string | undefined): void {
  const terms = [
    access.offset,
    ...access.map.map((stride, axis) => `i${axis} * ${stride}`),
    ...access.reduce.map((stride, axis) => `j${axis} * ${stride}`),
    ...(access.row === '' || nest.row === 1 ? [] : [`r0 * ${access.row}`]),
    ...(access.column === '' || access.period !== '' ? [] : [`c0 * ${access.column}`]),
  ]
  const base = pointer === undefined ? '' : `(${type.trim()})${pointer} + `
  lines.add(`${type}${access.name} = ${base}${terms.join(' + ')};`)
}

/** A group of results: accumulators, the units of this split, and what becomes of the sums. */
function printReduced(
  scope: Scope,
  cut: Partition,
  types: readonly DType[],
  number: (key: keyof Partition) => string,
): void {
  const { kernel, lines, nest } = scope
  const inColumns = nest.form === 'column'
  const unroll = !inColumns && kernel.nodes.length <= 12 ? 4 : 1
  const [units, perSplit] = [number('units'), number('unitsPerSplit')]
  kernel.reductions.forEach((reduction, i) => {
    printAccumulator(scope, reduction, `a${i}`, inColumns ? cachedColumns : 0)
  })
  lines.block(`for (int64_t u = split * ${perSplit}; u < PB_MIN(${units}, (split + 1) * ${perSplit}); ++u)`, () => {
    lines.add('int64_t q = u;')
    if (inColumns) printRowChunk(scope, number('rowChunk'), number('rowChunks'))
    else printColumnChunk(scope, number('columnChunk'), number('columnChunks'))
    printDigits(scope, 'j', nest.reduce)
    kernel.reductions.forEach((reduction, i) => {
      printAccumulator(scope, reduction, `s${i}`, inColumns ? cachedColumns : -unroll)
    })
    printTile(scope, cut, unroll, (span) => {
      kernel.reductions.forEach((reduction, i) => {
        lines.add(inColumns ? addInColumn(kernel, reduction, i) : addInRow(kernel, reduction, i, span))
      })
    })
    kernel.reductions.forEach((reduction, i) => {
      lines.add(inColumns ? totalColumns(kernel, reduction, i) : totalRow(kernel, reduction, i, unroll))
    })
  })
  printResults(scope, types)
}

function identity(kernel: Kernel, reduction: KernelReduction): string {
  if (reduction.op === 'sum') return '0'
  const infinite = accumulator(kernel, reduction) === 'i' ? 'INT32_MAX' : '__builtin_inff()'
  return reduction.op === 'min' ? infinite : infinite === 'INT32_MAX' ? 'INT32_MIN' : `-${infinite}`
}

/** An accumulator at the identity: `size` columns in memory, one register (0), or -size registers. */
function printAccumulator({ kernel, lines }: Scope, reduction: KernelReduction, name: string, size: number): void {
  const register = accumulator(kernel, reduction)
  const start = `pbv_splat_${register}(${identity(kernel, reduction)})`
  if (size === 0) {
    lines.add(`${registerTypes[register]} ${name} = ${start};`)
    return
  }
  if (size < 0) {
    lines.add(
      `${registerTypes[register]} ${name}[${-size}] = {${Array.from({ length: -size }, () => start).join(', ')}};`,
    )
    return
  }
  lines.add(`${elementTypes[register]} ${name}[${size}] __attribute__((aligned(64)));`)
  lines.add(`for (int64_t c = 0; c < cn; c += ${lanes}) pbv_poke_${register}(${name} + c, ${start});`)
}

function reducedValue(kernel: Kernel, { node }: KernelReduction): string {
  return at(kernel.nodes, node).dtype === 'bool' ? `pbv_i_of_b(v${node})` : `v${node}`
}

function addInColumn(kernel: Kernel, reduction: KernelReduction, i: number): string {
  const register = accumulator(kernel, reduction)
  const sum = `pbv_${opNames[reduction.op]}_${register}(pbv_peek_${register}(s${i} + c), ${reducedValue(kernel, reduction)})`
  return `pbv_poke_${register}(s${i} + c, ${sum});`
}

function addInRow(kernel: Kernel, reduction: KernelReduction, i: number, span: 'whole' | 'rest'): string {
  const register = accumulator(kernel, reduction)
  const value = reducedValue(kernel, reduction)
  const kept = span === 'whole' ? value : `pbv_keep_${register}(${value}, ${identity(kernel, reduction)}, m)`
  return `s${i}[k] = pbv_${opNames[reduction.op]}_${register}(s${i}[k], ${kept});`
}

function totalColumns(kernel: Kernel, reduction: KernelReduction, i: number): string {
  const register = accumulator(kernel, reduction)
  const sum = `pbv_${opNames[reduction.op]}_${register}(pbv_peek_${register}(a${i} + c), pbv_peek_${register}(s${i} + c))`
  return `for (int64_t c = 0; c < cn; c += ${lanes}) pbv_poke_${register}(a${i} + c, ${sum});`
}

function totalRow(kernel: Kernel, reduction: KernelReduction, i: number, unroll: number): string {
  const call = `pbv_${opNames[reduction.op]}_${accumulator(kernel, reduction)}`
  const block = unroll === 1 ? `s${i}[0]` : `${call}(${call}(s${i}[0], s${i}[1]), ${call}(s${i}[2], s${i}[3]))`
  return `a${i} = ${call}(a${i}, ${block});`
}

/** Writes a group's results where they belong: the outputs, or this split's partial results. */
function printResults(scope: Scope, types: readonly DType[]): void {
  const { kernel, lines, nest } = scope
  const first = kernel.inputs.length + kernel.stores.length
  const value = (reduction: KernelReduction, i: number, text: string): string => {
    const from = partialType(kernel, reduction)
    const to = at(types, i)
    const wraps = to === 'u8' && reduction.op === 'sum'
    return wraps ? `pbv_wrap_u8(${text})` : printCast(from, to, text)
  }
  scope.reductions.forEach((result, i) => {
    const type = storageTypes[at(types, i)]
    const terms = [
      result.offset,
      ...result.map.map((stride, axis) => `i${axis} * ${stride}`),
      `split * ${scope.numbers.add(`${result.name}_split`, result.placed.split)}`,
      ...(result.column === '' || nest.form === 'row' ? [] : [`c0 * ${result.column}`]),
    ]
    lines.add(`${type} *${result.name} = (${type} *)p[${first + i}] + ${terms.join(' + ')};`)
  })
  if (nest.form === 'row') {
    kernel.reductions.forEach((reduction, i) => {
      const folded = `pbv_fold_${opNames[reduction.op]}_${accumulator(kernel, reduction)}(a${i})`
      const dtype = at(types, i)
      lines.add(`pbv_scatter_part_${dtype}(${at(scope.reductions, i).name}, 1, ${value(reduction, i, folded)}, 1);`)
    })
    return
  }
  printColumns(scope, 1, (span) => {
    kernel.reductions.forEach((reduction, i) => {
      const total = `pbv_peek_${accumulator(kernel, reduction)}(a${i} + c)`
      lines.add(printStore(at(types, i), at(scope.reductions, i), value(reduction, i, total), span))
    })
  })
}
