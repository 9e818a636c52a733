// Grouped 3x3 convolutions of our own on Tensor Cores, in f16 and bf16 with f32 sums: forward, input gradient and filter
// gradient as launches. Their texts are grouped-rows.ts and grouped-filter.ts; the choice against cuDNN is the tuner's.
import { nameOf } from '../../compile/print/name.ts'
import type { PrintedPointer, PrintedSource } from '../../compile/print/index.ts'
import type { LibraryEquation } from '../../compile/plan.ts'
import { type Shape, at } from '../../tensor/shape.ts'
import { warpPrelude } from '../prelude-warps.ts'
import type { Candidate, KernelLaunch } from '../work.ts'
import { filterText } from './grouped-filter.ts'
import { rowsText } from './grouped-rows.ts'
import { extentNames, streamText } from './grouped-stream.ts'
import {
  type BlockCounts,
  type Direction,
  type GroupedProblem,
  type Tiling,
  groupedProblem,
  tile,
} from './grouped-tiling.ts'

/**
 * The launches of a grouped 3x3 convolution or of one of its gradients: NHWC, padding 1, stride 1 or 2, f16 or bf16, as many
 * channels out as in, in groups of 4, 8, 16 or 32, a multiple of 16 of them in all. Sums are f32 in a fixed order, rounded
 * once: the same bits every time. Operands must be aligned to 16 bytes. Undefined for every other equation.
 *
 * Columns beside the image count as zeros, so that a filter that is not finite makes NaN of the results at the border. Where
 * groups are of 4 channels, so does what is not finite in a group's source of the results of the group beside it.
 *
 * @param counts How many blocks to cut it into, instead of the usual; with others a filter gradient may have other bits.
 */
export function groupedCandidate(equation: LibraryEquation, counts?: BlockCounts): Candidate | undefined {
  const problem = problemOf(equation)
  if (problem === undefined) return undefined
  const tiling = tile(problem, counts)
  return problem.direction === 'filterGrad' ? filterCandidate(problem, tiling) : rowsCandidate(problem, tiling)
}

function problemOf({ primitive, params, inputs, outputs }: LibraryEquation): GroupedProblem | undefined {
  const shape = (index: number): Shape => at(inputs, index).type.shape
  const { shape: result, dtype } = at(outputs, 0).type
  switch (primitive) {
    case 'conv2d':
      return groupedProblem('forward', dtype, { x: shape(0), filter: shape(1), y: result }, params)
    case 'conv2dInputGrad':
      return groupedProblem('inputGrad', dtype, { x: result, filter: shape(1), y: shape(0) }, params)
    case 'conv2dFilterGrad':
      return groupedProblem('filterGrad', dtype, { x: shape(0), filter: result, y: shape(1) }, params)
    default:
      return undefined
  }
}

const ids: Readonly<Record<Direction, string>> = {
  forward: 'own:grouped-forward',
  inputGrad: 'own:grouped-input-grad',
  filterGrad: 'own:grouped-filter-grad',
}

const operands: readonly PrintedPointer[] = [0, 1, 2].map((index) => ({ kind: 'operand', index }))
const partials: PrintedPointer = { kind: 'scratch', offset: 0 }

function rowsCandidate(problem: GroupedProblem, tiling: Tiling): Candidate {
  const { direction, dtype, groupWidth, stride } = problem
  const { pairs, stages } = tiling
  const source = nameOf(`grouped_${direction}`, (symbol) => {
    const constants = `pb_${dtype}, ${groupWidth}, ${stride}, ${direction === 'inputGrad'}, ${pairs}, ${stages}`
    const body = `pb_grouped_rows<${constants}>(a.p[0], a.p[1], a.p[2], a.n);`
    return [warpPrelude, streamText, rowsText, `${headOf(symbol, tiling)} { ${body} }\n`].join('')
  })
  return { id: ids[direction], works: [launchOf(source, tiling, operands)], scratchBytes: 0 }
}

function filterCandidate(problem: GroupedProblem, tiling: Tiling): Candidate {
  const { direction, dtype, groupWidth, stride, channels } = problem
  const { pairs, stages, parts } = tiling
  const summing = nameOf('grouped_filterGrad', (symbol) => {
    const constants = `pb_${dtype}, ${groupWidth}, ${stride}, ${pairs}, ${stages}`
    const body = `pb_grouped_filter<${constants}>(a.p[0], a.p[1], a.p[2], a.n);`
    return [warpPrelude, streamText, filterText, `${headOf(symbol, tiling)} { ${body} }\n`].join('')
  })
  const combining = nameOf('grouped_combine', (symbol) => {
    const body = `pb_grouped_combine<pb_${dtype}>(a.p[0], a.p[1], a.n);`
    return [warpPrelude, streamText, filterText, `PB_KERNEL(${symbol}, 2, 2) { ${body} }\n`].join('')
  })
  const elements = channels * 9 * groupWidth
  const [x, cotangent, result] = [at(operands, 0), at(operands, 1), at(operands, 2)]
  const combine: KernelLaunch = {
    kind: 'kernel',
    source: combining,
    blocks: Math.ceil(elements / 32),
    threads: 256,
    sharedBytes: 0,
    pointers: [partials, result],
    numbers: [elements, parts],
  }
  return {
    id: ids[direction],
    works: [launchOf(summing, tiling, [x, cotangent, partials]), combine],
    scratchBytes: parts * elements * 4,
  }
}

function headOf(symbol: string, { threads, sharing }: Tiling): string {
  return `PB_KERNEL_SHARING(${symbol}, 3, ${extentNames.length}, ${threads}, ${sharing})`
}

function launchOf(source: PrintedSource, tiling: Tiling, pointers: readonly PrintedPointer[]): KernelLaunch {
  const { blocks, threads, sharedBytes, numbers } = tiling
  return { kind: 'kernel', source, blocks, threads, sharedBytes, pointers, numbers }
}
