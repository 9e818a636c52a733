// The CUDA C dialect: a kernel as one function over threads, each holding a vector of columns in registers. A launch's parts
// are its blocks, of `blockThreads` threads; the argument is the pointers and then the numbers, by value.
import { InternalError } from '../../tensor/errors.ts'
import type { Kernel } from '../kernel.ts'
import { cudaLevelsOf } from './cuda-levels.ts'
import {
  type PointMap,
  type ReduceMap,
  type Width,
  blockThreads,
  mapPoints,
  mapReduction,
  mostSplits,
  widthOf,
} from './cuda-map.ts'
import {
  type CudaScope,
  cudaRegisters,
  cudaStorage,
  nameAccess,
  nameExtents,
  pointAccesses,
  printDigits,
  printThreadValues,
  products,
} from './cuda-points.ts'
import { cudaPointers } from './cuda-pointers.ts'
import { printReduction } from './cuda-reduce.ts'
import { printUnits, straightWalk, times, unitsAtOnce } from './cuda-units.ts'
import type { Dialect } from './dialect.ts'
import type { PrintedKernel, PrintedLaunch } from './launch.ts'
import { Lines } from './lines.ts'
import { nameOf } from './name.ts'
import type { Nest, Placed } from './nest.ts'
import { Numbers } from './numbers.ts'
import { type Partials, layPartials } from './partials.ts'

/** CUDA C without headers; src/cuda/prelude.ts goes before it. */
export const cudaDialect: Dialect = {
  name: 'cuda',
  storage: cudaStorage,
  registers: cudaRegisters,
  joinsRows: false,
  printsEpilogues: true,
  print: printInCuda,
}

/** Bytes that a launch's argument may have on every GPU and driver. */
const mostArgumentBytes = 4096
/** Bytes by which the blocks that share sums count themselves. */
const counterBytes = 4
/** Indices of threads and units have 32 bits below this, with room for a block's steps past the end. */
const mostIndices = 2 ** 30

function printInCuda(kernel: Kernel, nest: Nest): PrintedKernel {
  if (nest.form === 'pointwise') {
    const width = widthFor(kernel, nest, [])
    const map = mapPoints(nest, width)
    const scope = scopeOf(kernel, nest, width, map.threads)
    printPointwise(scope, map)
    return { launches: [finish(scope, Math.ceil(map.threads / blockThreads), undefined)], scratchBytes: 0 }
  }
  return reduceInCuda(kernel, nest)
}

/** Sums that several blocks share go through partial results, which the last of them to finish adds up. */
function reduceInCuda(kernel: Kernel, nest: Nest): PrintedKernel {
  const width = widthFor(kernel, nest, layPartials(kernel, nest, mostSplits).places)
  const map = mapReduction(nest, width, mostSplits)
  if (map.splits > 1) {
    const partials = layPartials(kernel, nest, map.splits)
    const launch = printReducing(kernel, nest, width, map, partials)
    return { launches: [launch], scratchBytes: partials.bytes, counterBytes: counterBytes * map.slabs }
  }
  const fitting = widthFor(kernel, nest, [])
  const launch = printReducing(kernel, nest, fitting, mapReduction(nest, fitting, 1), undefined)
  return { launches: [launch], scratchBytes: 0 }
}

function widthFor(kernel: Kernel, nest: Nest, partials: readonly Placed[]): Width {
  return widthOf(kernel, nest, partials, cudaLevelsOf(kernel, nest).held.length)
}

function printReducing(
  kernel: Kernel,
  nest: Nest,
  width: Width,
  map: ReduceMap,
  partials: Partials | undefined,
): PrintedLaunch {
  const scope = scopeOf(kernel, nest, width, Math.max(map.blocks * blockThreads, map.units), partials)
  printReduction(scope, map)
  return finish(scope, map.blocks, partials)
}

function scopeOf(kernel: Kernel, nest: Nest, width: Width, indices: number, partials?: Partials): CudaScope {
  const numbers = new Numbers()
  const name = (letter: string, i: number, placed: Placed) => nameAccess(numbers, `${letter}${i}`, placed)
  const nameNodes = (letter: string, nodes: Nest['nodes']) =>
    nodes.map((placed, i) => (placed === undefined ? undefined : name(letter, i, placed)))
  return {
    kernel,
    nest,
    levels: cudaLevelsOf(kernel, nest),
    width,
    index: indices < mostIndices ? 'uint32_t' : 'uint64_t',
    numbers,
    lines: new Lines(),
    inputs: nest.inputs.map((placed, i) => name('x', i, placed)),
    nodes: nameNodes('k', nest.nodes),
    stores: nest.stores.map((placed, i) => name('y', i, placed)),
    reductions: nest.reductions.map((placed, i) => name('z', i, placed)),
    partials: partials?.places.map((placed, i) => name('w', i, placed)),
    epilogue: {
      inputs: nest.epilogue.inputs.map((placed, i) => name('u', i, placed)),
      nodes: nameNodes('m', nest.epilogue.nodes),
      stores: nest.epilogue.stores.map((placed, i) => name('o', i, placed)),
    },
    unit: '',
  }
}

/** Every thread has one vector of columns, and every `rowLanes`-th row. */
function printPointwise(scope: CudaScope, map: PointMap): void {
  const { lines, numbers, index, nest, width } = scope
  lines.add(`${index} q = (${index})pb_block() * ${blockThreads}u + pb_thread();`)
  lines.add(`if (q >= (${index})${numbers.add('threads', map.threads)}) return;`)
  const loops = nest.row > 1
  const extents = [...nest.map, ...(loops ? [map.rowLanes] : []), nest.column / width]
  printDigits(scope, 'i', nameExtents(numbers, 'i', extents))
  if (loops) lines.add(`const int64_t r0 = i${nest.map.length};`)
  lines.add(`const int64_t c = i${extents.length - 1} * ${width};`)
  for (const { access, type, source } of pointAccesses(scope)) {
    const terms = [access.offset, ...products(access.map, (axis) => `i${axis}`)]
    if (loops) terms.push(...products([access.row], () => 'r0'))
    terms.push(...products([access.column], () => 'c'))
    lines.add(`${type}${access.name}_base = ${source}${terms.join(' + ')};`)
  }
  printThreadValues(scope)
  if (loops) printRows(scope, map)
  else printUnits(scope, straightWalk(scope, { batch: 1, inside: '', lanes: '', stride: () => '' }), () => undefined)
}

function printRows(scope: CudaScope, map: PointMap): void {
  const { lines, numbers, nest } = scope
  const lanes = nest.map.length === 0 ? numbers.add('rowLanes', map.rowLanes) : `i${nest.map.length}_extent`
  const rows = numbers.add('rows', nest.row)
  const batch = unitsAtOnce(scope)
  const walk = straightWalk(scope, { batch, inside: `r + j * ${lanes} < ${rows}`, lanes, stride: ({ row }) => row })
  lines.block(`for (int64_t r = r0; r < ${rows}; r += ${times(batch, lanes)})`, () => {
    printUnits(scope, walk, () => undefined)
  })
}

function finish(scope: CudaScope, blocks: number, partials: Partials | undefined): PrintedLaunch {
  const pointers = cudaPointers(scope.kernel, partials)
  const { values } = scope.numbers
  if (8 * (pointers.length + values.length) > mostArgumentBytes)
    throw new InternalError(`a fused kernel with ${pointers.length} pointers and ${values.length} numbers`)
  const declarations = scope.numbers.declarations().map((line) => `  ${line}\n`)
  const text = ['  const int64_t *const n = a.n;\n', ...declarations, scope.lines.toString()].join('')
  const head = (symbol: string): string => `PB_KERNEL(${symbol}, ${pointers.length}, ${values.length}) {\n${text}}\n`
  return { source: nameOf('pbg', head), parts: blocks, pointers, numbers: values }
}
