// Grouped 3x3 convolutions of our own on Tensor Cores, in f16 and bf16 with f32 sums: forward, input gradient and filter
// gradient as launches, alone or with what grouped-fused.ts says is around them. The choice against cuDNN is the tuner's.
import { nameOf } from '../../compile/print/name.ts'
import type { PrintedPointer, PrintedSource } from '../../compile/print/index.ts'
import type { LibraryEquation } from '../../compile/plan.ts'
import type { TensorType } from '../../tensor/program.ts'
import { type Shape, at } from '../../tensor/shape.ts'
import { warpPrelude } from '../prelude-warps.ts'
import type { Candidate, KernelLaunch } from '../work.ts'
import { combineLaunch } from './grouped-combine.ts'
import { epilogueText, epilogues, givesSums } from './grouped-epilogue.ts'
import { filterText } from './grouped-filter.ts'
import { type OperandName, factorsOf, operandNames, placeOf, take } from './grouped-operands.ts'
import { rowsText } from './grouped-rows.ts'
import { extentNames, streamText } from './grouped-stream.ts'
import { scratch } from './launch.ts'
import {
  type Around,
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
  return groupedWith({ normalizes: false, epilogue: 'none' }, equation, counts)
}

/** Whether there are kernels for an equation. */
export function isGrouped(equation: LibraryEquation): boolean {
  return problemOf(equation, { normalizes: false, epilogue: 'none' }) !== undefined
}

/** A convolution with what is around it. */
export interface GroupedCandidate extends Candidate {
  /** Its last operand, where sums over its results are wanted: what its blocks have of them, [parts, 2, channels], f32. */
  readonly partials?: TensorType
}

/** The same with what is around it; operands in the order of `operandNames`. */
export function groupedWith(
  around: Around,
  equation: LibraryEquation,
  counts?: BlockCounts,
): GroupedCandidate | undefined {
  const problem = problemOf(equation, around)
  if (problem === undefined) return undefined
  const tiling = tile(problem, counts)
  return problem.direction === 'filterGrad' ? filterCandidate(problem, tiling) : rowsCandidate(problem, tiling)
}

function problemOf(
  { primitive, params, inputs, outputs }: LibraryEquation,
  around: Around,
): GroupedProblem | undefined {
  const shape = (index: number): Shape => at(inputs, index).type.shape
  const { shape: result, dtype } = at(outputs, 0).type
  switch (primitive) {
    case 'conv2d':
      return groupedProblem('forward', dtype, { x: shape(0), filter: shape(1), y: result }, params, around)
    case 'conv2dInputGrad':
      return groupedProblem('inputGrad', dtype, { x: result, filter: shape(1), y: shape(0) }, params, around)
    case 'conv2dFilterGrad':
      return groupedProblem('filterGrad', dtype, { x: shape(0), filter: result, y: shape(1) }, params, around)
    default:
      return undefined
  }
}

const ids: Readonly<Record<Direction, string>> = {
  forward: 'own:grouped-forward',
  inputGrad: 'own:grouped-input-grad',
  filterGrad: 'own:grouped-filter-grad',
}

function idOf({ direction, normalizes, epilogue }: GroupedProblem): string {
  return [ids[direction], ...wordsFor({ normalizes, epilogue })].join('-')
}

function rowsCandidate(problem: GroupedProblem, tiling: Tiling): GroupedCandidate {
  const { direction, dtype, groupWidth, stride, channels, normalizes, epilogue } = problem
  const { pairs, stages, parts } = tiling
  const { pointers, print, printVectors } = take(problem, operandNames(problem), (name) => placeOf(problem, name))
  const source = nameOf(nameFor(problem), (symbol) => {
    const constants = [`pb_${dtype}`, groupWidth, stride, direction === 'inputGrad', pairs, stages, normalizes]
    const template = `pb_grouped_rows<${[...constants, epilogues[epilogue]].join(', ')}>`
    const around = `{${printVectors('before')}, ${printVectors('after')}, ${print('source')}, (float *)${print('partials')}}`
    const body = `${template}(${print('from')}, ${print('weights')}, ${print('into')}, ${around}, a.n);`
    const head = headOf(symbol, problem, tiling, pointers.length)
    return [warpPrelude, streamText, epilogueText, rowsText, `${head} { ${body} }\n`].join('')
  })
  const candidate = { id: idOf(problem), works: [launchOf(source, problem, tiling, pointers)], scratchBytes: 0 }
  return givesSums(epilogue) ? { ...candidate, partials: { dtype: 'f32', shape: [parts, 2, channels] } } : candidate
}

function filterCandidate(problem: GroupedProblem, tiling: Tiling): Candidate {
  const { dtype, groupWidth, stride, channels, normalizes } = problem
  const { pairs, stages, parts } = tiling
  const names = [...operandNames(problem).filter((name) => name !== 'into'), 'partials' as const]
  const place = (name: OperandName): PrintedPointer => (name === 'partials' ? scratch(0) : placeOf(problem, name))
  const { pointers, print, printVectors } = take(problem, names, place)
  const source = nameOf(nameFor(problem), (symbol) => {
    const constants = [`pb_${dtype}`, groupWidth, stride, pairs, stages, normalizes].join(', ')
    const operands = [print('from'), print('weights'), print('partials'), printVectors('before'), 'a.n']
    const body = `pb_grouped_filter<${constants}>(${operands.join(', ')});`
    return [
      warpPrelude,
      streamText,
      filterText,
      `${headOf(symbol, problem, tiling, pointers.length)} { ${body} }\n`,
    ].join('')
  })
  const elements = channels * 9 * groupWidth
  return {
    id: idOf(problem),
    works: [
      launchOf(source, problem, tiling, pointers),
      combineLaunch(dtype, elements, parts, placeOf(problem, 'into')),
    ],
    scratchBytes: parts * elements * 4,
  }
}

/** What a problem's kernel is called, as the beginning of its symbol. */
function nameFor({ direction, normalizes, epilogue }: GroupedProblem): string {
  return ['grouped', direction, ...wordsFor({ normalizes, epilogue })].join('_')
}

function wordsFor({ normalizes, epilogue }: Around): readonly string[] {
  return [...(normalizes ? ['normalized'] : []), ...(epilogue === 'none' ? [] : [epilogue])]
}

function headOf(symbol: string, around: Around, { threads, sharing }: Tiling, pointers: number): string {
  const numbers = extentNames.length + factorsOf(around).length
  return `PB_KERNEL_SHARING(${symbol}, ${pointers}, ${numbers}, ${threads}, ${sharing})`
}

function launchOf(
  source: PrintedSource,
  around: Around,
  tiling: Tiling,
  pointers: readonly PrintedPointer[],
): KernelLaunch {
  const { blocks, threads, sharedBytes } = tiling
  const numbers = [...tiling.numbers, ...factorsOf(around)]
  return { kind: 'kernel', source, blocks, threads, sharedBytes, pointers, numbers }
}
