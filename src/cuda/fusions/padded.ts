// Convolutions of images with few channels, as the model's first one, over padded channels: the padded copies lie in scratch
// memory, and what they cost is timed with the rest.
import type { TensorType } from '../../tensor/program.ts'
import { at, range, sizeOf } from '../../tensor/shape.ts'
import {
  type ConvOptions,
  type ConvProblem,
  type CudnnSession,
  convCandidates,
  convFromRecipe,
  convOperands,
} from '../conv/index.ts'
import { lowerCutChannels, lowerPadChannels } from '../kernels/channels.ts'
import type { Candidate, Lowered } from '../work.ts'
import type { Wire } from '../wires.ts'
import { type Part, compose } from './compose.ts'

/** The numbers of channels that a problem may be padded to. Images whose gradient is wanted are left alone. */
export function paddings({ direction, dtype, input, groups }: ConvProblem): readonly number[] {
  const channels = at(input, 3)
  if (direction === 'conv2dInputGrad' || groups > 1 || channels >= 4) return []
  return dtype === 'f32' ? [4] : [8, 4]
}

/** cuDNN's candidates over padded channels, those of each padding in turn; operands are those of the problem itself. */
export function* paddedCandidates(
  session: CudnnSession,
  problem: ConvProblem,
  options: ConvOptions,
  channels: number,
): Generator<Candidate, void, undefined> {
  for (const candidate of convCandidates(session, widened(problem, channels), options))
    yield padded(problem, options, channels, candidate)
}

/** The candidate of an id and its recipe; undefined where it is no padded one, or cannot be made any more. */
export function paddedFromRecipe(
  session: CudnnSession,
  problem: ConvProblem,
  id: string,
  recipe: string,
  options: ConvOptions,
): Candidate | undefined {
  const channels = paddings(problem).find((count) => id.startsWith(prefix(count)))
  if (channels === undefined) return undefined
  const found = convFromRecipe(session, widened(problem, channels), recipe, options)
  return found === undefined ? undefined : padded(problem, options, channels, found)
}

function prefix(channels: number): string {
  return `padded to ${channels}: `
}

function widened(problem: ConvProblem, channels: number): ConvProblem {
  const widen = (shape: readonly number[]): readonly number[] => [...shape.slice(0, 3), channels]
  return { ...problem, input: widen(problem.input), filter: widen(problem.filter) }
}

function padded(problem: ConvProblem, options: ConvOptions, channels: number, candidate: Candidate): Candidate {
  const { dtype, input, filter, direction } = problem
  const wide = widened(problem, channels)
  const inside: readonly TensorType[] = [wide.input, wide.filter].map((shape) => ({ dtype, shape }))
  const operand = (index: number): Wire => ({ kind: 'operand', index })
  const [image, taps]: readonly [Wire, Wire] = [
    { kind: 'inside', index: 0 },
    { kind: 'inside', index: 1 },
  ]
  const rowsOf = (shape: readonly number[]): number => sizeOf(shape.slice(0, 3))
  const pad = (shape: readonly number[]): Lowered =>
    lowerPadChannels({ dtype, rows: rowsOf(shape), from: at(shape, 3), to: channels })
  const others = range(convOperands(wide, options.fusion)).slice(2).map(operand)
  const before: Part = { lowered: pad(input), wires: [operand(0), image] }
  const cut = (): Lowered => lowerCutChannels({ dtype, rows: rowsOf(filter), from: channels, to: at(filter, 3) })
  const parts: readonly Part[] =
    direction === 'conv2dFilterGrad'
      ? [
          before,
          { lowered: candidate, wires: [image, operand(1), taps] },
          { lowered: cut(), wires: [taps, operand(2)] },
        ]
      : [
          before,
          { lowered: pad(filter), wires: [operand(1), taps] },
          { lowered: candidate, wires: [image, taps, ...others] },
        ]
  return compose(`${prefix(channels)}${candidate.id}`, parts, inside, candidate.recipe)
}
