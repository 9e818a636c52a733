// Reductions of the CUDA dialect: each thread reduces its share of the units in short runs, the threads of a block combine
// theirs in shared memory by halves, the last block to finish combines those of all, and one thread writes the results and
// what the epilogue makes of them. The order is fixed.
import { at } from '../../tensor/shape.ts'
import type { Kernel, KernelReduction } from '../kernel.ts'
import { type ReduceMap, blockThreads } from './cuda-map.ts'
import {
  type CudaAccess,
  type CudaScope,
  cudaRegisters,
  cudaStorage,
  lane,
  nameExtents,
  pointAccesses,
  printColumns,
  printDigits,
  printThreadValues,
  products,
} from './cuda-points.ts'
import { type Walk, printUnits, straightWalk, times, unitsAtOnce } from './cuda-units.ts'
import { placeOfResult, printEpilogue } from './cuda-epilogue.ts'
import { pointerOrder } from './cuda-pointers.ts'
import { classOf, printCast } from './expression.ts'
import { accumulator, partialType } from './partials.ts'

/** Units reduced in one go before their sum is added to the thread's: keeps f32 sums accurate. */
const run = 64

const opNames = { sum: 'add', max: 'max', min: 'min' } as const

/** The body of a reducing kernel. */
export function printReduction(scope: CudaScope, map: ReduceMap): void {
  const { kernel, lines, numbers, index, nest, width } = scope
  const number = (name: keyof ReduceMap): string => `(${index})${numbers.add(`n_${name}`, map[name])}`
  const inColumns = nest.form === 'column'
  lines.add(`const ${index} groups = ${number('groups')}, units = ${number('units')}, splits = ${number('splits')};`)
  // Blocks that run at the same time have neighbouring columns of the same rows: together they read memory in one piece.
  lines.add(`const ${index} slabs = ${number('slabs')};`)
  lines.add(`const ${index} share = ${number('unitsPerSplit')};`)
  lines.add(`const uint32_t depth = (uint32_t)${numbers.add('n_depth', map.depth)}, across = ${blockThreads}u / depth;`)
  const [place, group] = inColumns ? ['/ across', '% across'] : ['% depth', '/ depth']
  lines.add(`const uint32_t place = pb_thread() ${place};`)
  lines.add(`const ${index} split = pb_block() / slabs, g = pb_block() % slabs * across + pb_thread() ${group};`)
  lines.add(`const ${index} first = split * share, end = g < groups ? PB_MIN(units, first + share) : 0;`)
  lines.add(`${index} q = g < groups ? g : 0;`)
  const vectors = numbers.add('vectors', nest.column / width)
  if (inColumns) printColumnDigit(scope, vectors)
  printDigits(scope, 'i', nameExtents(numbers, 'i', nest.map))
  for (const { access, type, source } of pointAccesses(scope)) {
    const terms = [access.offset, ...products(access.map, (axis) => `i${axis}`)]
    if (inColumns) terms.push(...products([access.column], () => 'c'))
    lines.add(`${type}${access.name}_base = ${source}${terms.join(' + ')};`)
  }
  printThreadValues(scope)
  kernel.reductions.forEach((reduction, i) => {
    printAccumulators(scope, reduction, `t${i}`)
  })
  printRuns(scope, nest.reduce.length === 0 ? alongUnits(scope) : byDigits(scope, vectors))
  printResults(scope)
}

function printColumnDigit({ lines, index, width }: CudaScope, vectors: string): void {
  lines.add(`const int64_t c = (int64_t)(q % (${index})${vectors}) * ${width};`)
  lines.add(`q /= (${index})${vectors};`)
}

/** Units are sums of their own in short runs, whose ends are those of batches. */
function printRuns(scope: CudaScope, walk: Walk): void {
  const { kernel, lines, index } = scope
  lines.block(`for (${index} start = first + place; start < end; start += depth * ${run}u)`, () => {
    lines.add(`const ${index} stop = PB_MIN(end, start + depth * ${run}u);`)
    kernel.reductions.forEach((reduction, i) => {
      printAccumulators(scope, reduction, `s${i}`)
    })
    lines.block(`for (${index} u = start; u < stop; u += ${times(walk.batch, 'depth')})`, () => {
      printUnits(scope, walk, () => {
        kernel.reductions.forEach((reduction, i) => {
          const bool = at(kernel.nodes, reduction.node).dtype === 'bool'
          const value = bool ? `pbv_i_of_b(v${reduction.node})` : `v${reduction.node}`
          lines.add(`s${i}[k] = ${operation(kernel, reduction)}::of(s${i}[k], ${value});`)
        })
      })
    })
    printColumns(scope, () => {
      kernel.reductions.forEach((reduction, i) => {
        lines.add(`t${i}[k] = ${operation(kernel, reduction)}::of(t${i}[k], s${i}[k]);`)
      })
    })
  })
}

/** Where unit j of a batch is among those of the thread. */
const inside = 'u + j * depth < stop'

/** Units are the rows or the vectors of one axis. */
function alongUnits(scope: CudaScope): Walk {
  const { lines, nest, width } = scope
  const stride = ({ row, column }: CudaAccess): string => {
    if (nest.form === 'column') return row
    return column === '' ? '' : `${column} * ${width}`
  }
  for (const { access } of pointAccesses(scope))
    if (stride(access) !== '') lines.add(`${access.name}_base += (int64_t)(first + place) * ${stride(access)};`)
  return straightWalk(scope, { batch: unitsAtOnce(scope), inside, lanes: 'depth', stride })
}

/** The number of a unit has the digits of the reduced axes, by which every access is moved. */
function byDigits(scope: CudaScope, vectors: string): Walk {
  const { lines, numbers, nest, index } = scope
  const inColumns = nest.form === 'column'
  const extents = nameExtents(numbers, 'j', inColumns ? [...nest.reduce, nest.row] : nest.reduce)
  const place: Walk['place'] = (accesses) => {
    lines.add(`${index} q = u + j * depth;`)
    if (!inColumns) printColumnDigit(scope, vectors)
    printDigits(scope, 'j', extents)
    for (const { access, type } of accesses) {
      const strides = inColumns ? [...access.reduce, access.row] : access.reduce
      const terms = [`${access.name}_base`, ...products(strides, (axis) => `j${axis}`)]
      if (!inColumns) terms.push(...products([access.column], () => 'c'))
      lines.add(`${type}const ${access.name} = ${terms.join(' + ')};`)
    }
  }
  return { batch: unitsAtOnce(scope), inside, place, advance: () => undefined }
}

function operation(kernel: Kernel, reduction: KernelReduction): string {
  return `pb_${opNames[reduction.op]}_${accumulator(kernel, reduction)}`
}

function identity(kernel: Kernel, reduction: KernelReduction): string {
  const register = accumulator(kernel, reduction)
  if (reduction.op === 'sum') return `pbv_splat_${register}(0)`
  if (register === 'i') return reduction.op === 'min' ? 'PB_INT32_MAX' : 'PB_INT32_MIN'
  return reduction.op === 'min' ? `pbv_infinity_${register}()` : `-pbv_infinity_${register}()`
}

function printAccumulators({ kernel, lines, width }: CudaScope, reduction: KernelReduction, name: string): void {
  lines.add(`${cudaRegisters[accumulator(kernel, reduction)]} ${name}[${width}];`)
  lines.add('PB_UNROLL')
  lines.add(`for (int k = 0; k < ${width}; ++k) ${name}[k] = ${identity(kernel, reduction)};`)
}

/** Combines what the threads of a group have; where several blocks share sums, the last of them combines theirs. */
function printResults(scope: CudaScope): void {
  const { kernel, lines, nest, width } = scope
  if (kernel.reductions.length === 0) return
  const lanes = nest.form === 'column' ? width : 1
  const largest = kernel.reductions.some((reduction) => accumulator(kernel, reduction) === 'd') ? 8 : 4
  lines.add(`PB_SHARED uint64_t shared[${(blockThreads * lanes * largest) / 8}];`)
  if (nest.form === 'row')
    kernel.reductions.forEach((reduction, i) => {
      lines.add(`t${i}[0] = pb_fold<${operation(kernel, reduction)}, ${width}>(t${i});`)
    })
  printCombination(scope, lanes)
  if (scope.partials !== undefined) printSharing(scope, scope.partials, lanes)
  lines.block('if (g < groups && place == 0)', () => {
    kernel.reductions.forEach((reduction, i) => {
      printResult(scope, reduction, i, lanes)
    })
    printEpilogue(scope, lanes)
  })
}

function printCombination({ kernel, lines, nest }: CudaScope, lanes: number): void {
  const stride = nest.form === 'column' ? 'across' : '1'
  kernel.reductions.forEach((reduction, i) => {
    lines.add(`pb_combine<${operation(kernel, reduction)}, ${lanes}>(shared, t${i}, place, depth, ${stride});`)
  })
}

/** Writes the block's partial results; the last block that has done so for its groups reads them all, in order. */
function printSharing(scope: CudaScope, partials: readonly CudaAccess[], lanes: number): void {
  const { kernel, lines, index } = scope
  const order = pointerOrder(kernel, true)
  const types = kernel.reductions.map((reduction) => partialType(kernel, reduction))
  partials.forEach((access, i) => {
    const type = cudaStorage[at(types, i)]
    lines.add(
      `${type} *const ${access.name} = (${type} *)a.p[${order.partials + i}] + ${placeOfResult(scope, access)};`,
    )
  })
  const strides = partials.map((access) => scope.numbers.add(`${access.name}_split`, access.placed.split))
  lines.block('if (g < groups && place == 0)', () => {
    partials.forEach(({ name }, i) => {
      lines.add(`pb_store<pb_${at(types, i)}, ${lanes}>(${name} + (int64_t)split * ${at(strides, i)}, t${i});`)
    })
  })
  lines.add(`if (!pb_last_block((uint32_t *)a.p[${order.counter}] + pb_block() % slabs, (uint32_t)splits)) return;`)
  kernel.reductions.forEach((reduction, i) => {
    lines.add('PB_UNROLL')
    lines.add(`for (int k = 0; k < ${lanes}; ++k) t${i}[k] = ${identity(kernel, reduction)};`)
  })
  lines.add('PB_UNROLL_4')
  lines.block(`for (${index} s = place; s < (g < groups ? splits : 0); s += depth)`, () => {
    kernel.reductions.forEach((reduction, i) => {
      const { name } = at(partials, i)
      lines.add(`${cudaRegisters[accumulator(kernel, reduction)]} s${i}[${lanes}];`)
      lines.add(`pb_load_shared<pb_${at(types, i)}, ${lanes}>(${name} + (int64_t)s * ${at(strides, i)}, s${i});`)
      lines.add('PB_UNROLL')
      const sum = `${operation(kernel, reduction)}::of(t${i}[k], s${i}[k])`
      lines.add(`for (int k = 0; k < ${lanes}; ++k) t${i}[k] = ${sum};`)
    })
  })
  printCombination(scope, lanes)
}

function printResult(scope: CudaScope, reduction: KernelReduction, i: number, lanes: number): void {
  const { kernel, lines } = scope
  const access = at(scope.reductions, i)
  const { dtype } = reduction
  const type = cudaStorage[dtype]
  const first = pointerOrder(kernel, false).reductions
  lines.add(`${type} *const ${access.name} = (${type} *)a.p[${first + i}] + ${placeOfResult(scope, access)};`)
  const wraps = dtype === 'u8' && reduction.op === 'sum'
  const value = wraps ? `pbv_wrap_u8(t${i}[k])` : printCast(partialType(kernel, reduction), dtype, `t${i}[k]`)
  lines.add(`${cudaRegisters[classOf(dtype)]} r${i}[${lanes}];`)
  lines.add('PB_UNROLL')
  lines.add(`for (int k = 0; k < ${lanes}; ++k) r${i}[k] = ${value};`)
  if (access.column === '1' || lanes === 1) lines.add(`pb_store<pb_${dtype}, ${lanes}>(${access.name}, r${i});`)
  else
    printColumns(scope, () => {
      lines.add(`pb_put<pb_${dtype}>(${lane(access.name, access.column)}, r${i}[k]);`)
    })
}
