// Grouped 3x3 convolutions of our own together with the kernels around them: statistics of the result, batch norm and ReLU in
// front of it or behind it, the sums behind the input gradient. Which steps of a plan these are is fusions' part.
import type { LibraryEquation } from '../../compile/plan.ts'
import type { Candidate } from '../work.ts'
import { type GroupedCandidate, groupedWith } from './grouped.ts'
import type { BlockCounts } from './grouped-tiling.ts'

/**
 * A forward convolution with the sums over its result that batch norm wants, of the stored, rounded values, and of their
 * squares. Operands: (x, filter, y, partials), where the sums of partials[part][sum or squares][channel] are wanted.
 * Undefined where `groupedCandidate` is, and for the gradients.
 */
export function groupedStatisticsCandidate(
  equation: LibraryEquation,
  counts?: BlockCounts,
): GroupedCandidate | undefined {
  if (equation.primitive !== 'conv2d') return undefined
  return groupedWith({ normalizes: false, epilogue: 'statistics' }, equation, counts)
}

/** What comes behind a forward convolution. */
export type GroupedEpilogue = 'none' | 'statistics' | 'normalize'

/**
 * A convolution or its filter gradient that reads x as n(x) = max(round16((x - mean) * scale + shift), 0), each operation
 * rounded as the separate kernel rounds it; mean, scale and shift are f32[channels], and the mean is `meanFactor` times what is
 * given for it. What is beside the image stays zero.
 * The equation is the one of the plan, whose first input is n(x). Operands:
 *
 * - conv2d: (x, mean, scale, shift, filter, y); with 'statistics' (..., y, partials)
 * - conv2d with 'normalize', which stores n'(y): (x, mean, scale, shift, filter, mean', scale', shift', y)
 * - conv2dFilterGrad: (x, mean, scale, shift, cotangent, result)
 *
 * Undefined where `groupedCandidate` is, for the input gradient, and for a filter gradient with an epilogue.
 */
export function groupedNormalizedCandidate(
  equation: LibraryEquation,
  epilogue: GroupedEpilogue = 'none',
  meanFactor = 1,
  counts?: BlockCounts,
): GroupedCandidate | undefined {
  const possible = epilogue === 'none' ? ['conv2d', 'conv2dFilterGrad'] : ['conv2d']
  if (!possible.includes(equation.primitive)) return undefined
  return groupedWith({ normalizes: true, epilogue, meanFactor }, equation, counts)
}

/**
 * A forward convolution whose result is stored as n(y), as above. Operands: (x, filter, mean, scale, shift, y).
 * Undefined where `groupedCandidate` is, and for the gradients.
 */
export function groupedActivatedCandidate(equation: LibraryEquation, counts?: BlockCounts): Candidate | undefined {
  if (equation.primitive !== 'conv2d') return undefined
  return groupedWith({ normalizes: false, epilogue: 'normalize' }, equation, counts)
}

/**
 * An input gradient with the two sums of the batch norm and ReLU in front of the convolution: with g = result where
 * n(source) > 0 (with `meanFactor` as above) and 0 elsewhere, those of g and of g * source per channel, over all pixels. The
 * result is stored as it is.
 * Operands: (cotangent, filter, source, mean, scale, shift, result, partials), source as the result, partials as above.
 * Undefined where `groupedCandidate` is, and for other equations.
 */
export function groupedMaskedCandidate(
  equation: LibraryEquation,
  meanFactor = 1,
  counts?: BlockCounts,
): GroupedCandidate | undefined {
  if (equation.primitive !== 'conv2dInputGrad') return undefined
  return groupedWith({ normalizes: false, epilogue: 'mask', meanFactor }, equation, counts)
}
