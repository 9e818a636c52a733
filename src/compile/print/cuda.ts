// The CUDA C dialect: a kernel as one function over threads, each holding a vector of columns in registers. A launch's parts
// are its blocks, of `blockThreads` threads; the argument is the pointers and then the numbers, by value.
import type { DType } from '../../tensor/dtype.ts'
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
  pointAccesses,
  printDigits,
  printThreadValues,
  printUnit,
  products,
} from './cuda-points.ts'
import { printReduction } from './cuda-reduce.ts'
import type { Dialect } from './dialect.ts'
import type { PrintedKernel, PrintedLaunch } from './launch.ts'
import { Lines } from './lines.ts'
import { nameOf } from './name.ts'
import { type Nest, type Placed, arrange } from './nest.ts'
import { Numbers } from './numbers.ts'
import { type Partials, combining, layPartials, partialType, pointersOf, rebind } from './partials.ts'

/** CUDA C without headers; src/cuda/prelude.ts goes before it. */
export const cudaDialect: Dialect = {
  name: 'cuda',
  storage: cudaStorage,
  registers: cudaRegisters,
  joinsRows: false,
  print: printInCuda,
}

/** Bytes that a launch's argument may have on every GPU and driver. */
const mostArgumentBytes = 4096
/** Indices of threads and units have 32 bits below this, with room for a block's steps past the end. */
const mostIndices = 2 ** 30

function printInCuda(kernel: Kernel, nest: Nest): PrintedKernel {
  if (nest.form === 'pointwise') {
    const width = widthFor(kernel, nest, [])
    const map = mapPoints(nest, width)
    const scope = scopeOf(kernel, nest, width, map.threads, [])
    printPointwise(scope, map)
    return { launches: [finish(scope, Math.ceil(map.threads / blockThreads), undefined)], scratchBytes: 0 }
  }
  return reduceInCuda(kernel, nest, mostSplits)
}

/** One launch, or with partial results two; sums are shared by `most` blocks at most. */
function reduceInCuda(kernel: Kernel, nest: Nest, most: number): PrintedKernel {
  const width = widthFor(kernel, nest, layPartials(kernel, nest, most).places)
  const map = mapReduction(nest, width, most)
  if (map.splits === 1) {
    const fitting = widthFor(kernel, nest, nest.reductions)
    const launch = printReducing(kernel, nest, fitting, mapReduction(nest, fitting, 1), undefined)
    return { launches: [launch], scratchBytes: 0 }
  }
  const partials = layPartials(kernel, nest, map.splits)
  const launch = printReducing(kernel, nest, width, map, partials)
  const sums = combining(kernel, nest, map.splits, partials)
  const [last] = reduceInCuda(sums, arrange(sums, false), 1).launches
  if (last === undefined) throw new InternalError('partial results that nothing combines')
  return { launches: [launch, rebind(last, kernel, partials)], scratchBytes: partials.bytes }
}

function widthFor(kernel: Kernel, nest: Nest, results: readonly Placed[]): Width {
  return widthOf(kernel, nest, results, cudaLevelsOf(kernel, nest).held.length)
}

function printReducing(
  kernel: Kernel,
  nest: Nest,
  width: Width,
  map: ReduceMap,
  partials: Partials | undefined,
): PrintedLaunch {
  const places = partials?.places ?? nest.reductions
  const scope = scopeOf(kernel, nest, width, Math.max(map.blocks * blockThreads, map.units), places)
  const types = kernel.reductions.map(
    (reduction): DType => (partials === undefined ? reduction.dtype : partialType(kernel, reduction)),
  )
  printReduction(scope, map, types)
  return finish(scope, map.blocks, partials)
}

function scopeOf(kernel: Kernel, nest: Nest, width: Width, indices: number, results: readonly Placed[]): CudaScope {
  const numbers = new Numbers()
  const name = (letter: string, i: number, placed: Placed) => nameAccess(numbers, `${letter}${i}`, placed)
  return {
    kernel,
    nest,
    levels: cudaLevelsOf(kernel, nest),
    width,
    index: indices < mostIndices ? 'uint32_t' : 'uint64_t',
    numbers,
    lines: new Lines(),
    inputs: nest.inputs.map((placed, i) => name('x', i, placed)),
    nodes: nest.nodes.map((placed, i) => (placed === undefined ? undefined : name('k', i, placed))),
    stores: nest.stores.map((placed, i) => name('y', i, placed)),
    reductions: results.map((placed, i) => name('z', i, placed)),
  }
}

/** Every thread has one vector of columns, and every `rowLanes`-th row. */
function printPointwise(scope: CudaScope, map: PointMap): void {
  const { lines, numbers, index, nest, width } = scope
  lines.add(`${index} q = (${index})pb_block() * ${blockThreads}u + pb_thread();`)
  lines.add(`if (q >= (${index})${numbers.add('threads', map.threads)}) return;`)
  const loops = nest.row > 1
  const extents = [...nest.map, ...(loops ? [map.rowLanes] : []), nest.column / width]
  printDigits(scope, 'i', extents)
  if (loops) lines.add(`const int64_t r0 = i${nest.map.length};`)
  lines.add(`const int64_t c = i${extents.length - 1} * ${width};`)
  for (const { access, type, source } of pointAccesses(scope)) {
    const terms = [access.offset, ...products(access.map, (axis) => `i${axis}`)]
    if (loops) terms.push(...products([access.row], () => 'r0'))
    terms.push(...products([access.column], () => 'c'))
    lines.add(`${type}${access.name} = ${source}${terms.join(' + ')};`)
  }
  printThreadValues(scope)
  if (!loops) {
    printUnit(scope, () => undefined)
    return
  }
  const lanes = `i${nest.map.length}_extent`
  const rowLanes = nest.map.length === 0 ? numbers.add('rowLanes', map.rowLanes) : lanes
  lines.block(`for (int64_t r = r0; r < ${numbers.add('rows', nest.row)}; r += ${rowLanes})`, () => {
    printUnit(scope, () => undefined)
    for (const { access } of pointAccesses(scope))
      if (access.row !== '') lines.add(`${access.name} += ${access.row} * ${rowLanes};`)
  })
}

function finish(scope: CudaScope, blocks: number, partials: Partials | undefined): PrintedLaunch {
  const pointers = pointersOf(scope.kernel, partials)
  const { values } = scope.numbers
  if (8 * (pointers.length + values.length) > mostArgumentBytes)
    throw new InternalError(`a fused kernel with ${pointers.length} pointers and ${values.length} numbers`)
  const declarations = scope.numbers.declarations().map((line) => `  ${line}\n`)
  const text = ['  const int64_t *const n = a.n;\n', ...declarations, scope.lines.toString()].join('')
  const head = (symbol: string): string => `PB_KERNEL(${symbol}, ${pointers.length}, ${values.length}) {\n${text}}\n`
  return { source: nameOf('pbg', head), parts: blocks, pointers, numbers: values }
}
