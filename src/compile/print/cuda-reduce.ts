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
  pointAccesses,
  printColumns,
  printDigits,
  printThreadValues,
  printUnit,
  products,
} from './cuda-points.ts'
import { placeOfResult, printEpilogue } from './cuda-epilogue.ts'
import { pointerOrder } from './cuda-pointers.ts'
import { classOf, printCast } from './expression.ts'
import { accumulator, partialType } from './partials.ts'

/** Units reduced in one go before their sum is added to the thread's: keeps f32 sums accurate. */
const run = 64

const opNames = { sum: 'add', max: 'max', min: 'min' } as const

/** The body of a reducing kernel. */
export function printReduction(scope: CudaScope, map: ReduceMap): void {
  const { kernel, lines, numbers, index, nest } = scope
  const number = (name: keyof ReduceMap): string => `(${index})${numbers.add(`n_${name}`, map[name])}`
  const inColumns = nest.form === 'column'
  lines.add(`const ${index} groups = ${number('groups')}, units = ${number('units')}, splits = ${number('splits')};`)
  lines.add(`const ${index} share = ${number('unitsPerSplit')};`)
  lines.add(`const uint32_t depth = (uint32_t)${numbers.add('n_depth', map.depth)}, across = ${blockThreads}u / depth;`)
  const [place, group] = inColumns ? ['/ across', '% across'] : ['% depth', '/ depth']
  lines.add(`const uint32_t place = pb_thread() ${place};`)
  lines.add(`const ${index} split = pb_block() % splits, g = pb_block() / splits * across + pb_thread() ${group};`)
  lines.add(`const ${index} first = split * share, end = g < groups ? PB_MIN(units, first + share) : 0;`)
  lines.add(`${index} q = g < groups ? g : 0;`)
  if (inColumns) printColumnDigit(scope)
  printDigits(scope, 'i', nest.map)
  for (const { access, type, source } of pointAccesses(scope)) {
    const terms = [access.offset, ...products(access.map, (axis) => `i${axis}`)]
    if (inColumns) terms.push(...products([access.column], () => 'c'))
    lines.add(`${type}const ${access.name}_base = ${source}${terms.join(' + ')};`)
  }
  printBases(scope)
  kernel.reductions.forEach((reduction, i) => {
    printAccumulators(scope, reduction, `t${i}`)
  })
  printUnits(scope)
  printResults(scope)
}

function printColumnDigit({ lines, numbers, index, nest, width }: CudaScope): void {
  const vectors = numbers.add('vectors', nest.column / width)
  lines.add(`const int64_t c = (int64_t)(q % (${index})${vectors}) * ${width};`)
  lines.add(`q /= (${index})${vectors};`)
}

/** What does not vary by unit is computed at the bases. */
function printBases(scope: CudaScope): void {
  const atBase = (access: CudaAccess): CudaAccess => ({ ...access, name: `${access.name}_base` })
  printThreadValues({
    ...scope,
    inputs: scope.inputs.map(atBase),
    nodes: scope.nodes.map((access) => (access === undefined ? undefined : atBase(access))),
  })
}

function printUnits(scope: CudaScope): void {
  const { kernel, lines, index } = scope
  lines.block(`for (${index} start = first + place; start < end; start += depth * ${run}u)`, () => {
    lines.add(`const ${index} stop = PB_MIN(end, start + depth * ${run}u);`)
    kernel.reductions.forEach((reduction, i) => {
      printAccumulators(scope, reduction, `s${i}`)
    })
    lines.block(`for (${index} u = start; u < stop; u += depth)`, () => {
      printUnitPlaces(scope)
      printUnit(scope, () => {
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

/** Splits u into the digits of the reduced axes, and moves every access there. */
function printUnitPlaces(scope: CudaScope): void {
  const { lines, nest } = scope
  const inColumns = nest.form === 'column'
  lines.add(`${scope.index} q = u;`)
  if (!inColumns) printColumnDigit(scope)
  printDigits(scope, 'j', inColumns ? [...nest.reduce, nest.row] : nest.reduce)
  for (const { access, type } of pointAccesses(scope)) {
    const strides = inColumns ? [...access.reduce, access.row] : access.reduce
    const terms = [`${access.name}_base`, ...products(strides, (axis) => `j${axis}`)]
    if (!inColumns) terms.push(...products([access.column], () => 'c'))
    lines.add(`${type}const ${access.name} = ${terms.join(' + ')};`)
  }
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
  lines.add(`if (!pb_last_block((uint32_t *)a.p[${order.counter}] + pb_block() / splits, (uint32_t)splits)) return;`)
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
