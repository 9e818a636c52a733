// What lowering a plan's steps will ask for, before the first of them is lowered: the questions to the tuner, so that their
// number can be told, and kernels of our own, so that they are compiled together and not one by one when tuning meets them.
import type { PrintedSource } from '../compile/print/index.ts'
import { sizeOf } from '../tensor/shape.ts'
import { isConvolution } from './conv/index.ts'
import { type CudaStep, type Fused, contractionsOf, kernelsOf } from './fusions/fusion.ts'
import { ownCandidates } from './fusions/own.ts'
import { productsCandidate } from './fusions/product-tasks.ts'
import { separately } from './fusions/tasks.ts'
import { groupedCandidate } from './kernels/grouped.ts'
import type { Contraction } from './kernels/index.ts'
import { rowsCandidate } from './kernels/rows.ts'
import { lowerKernel } from './printed.ts'
import type { Tuner } from './tune/index.ts'
import type { Candidate, Work } from './work.ts'

/** What a plan's steps will ask for. */
export interface Preparation {
  /** The keys of the problems that are not settled. */
  readonly unsettled: readonly string[]
  /** The sources of kernels that will be timed, or compared with what is timed. */
  readonly sources: readonly PrintedSource[]
}

/** How steps become questions to the tuner. */
export interface Questions {
  readonly tuner: Pick<Tuner, 'isSettled' | 'isOpen' | 'known'>
  /** The key of a fused step's problem. */
  readonly keyOfFused: (fused: Fused) => string
  /** The key of a contraction's problem; undefined where nobody is asked. */
  readonly keyOf: (equation: Contraction) => string | undefined
}

/** Looks through the steps of a plan. A fused step that is known to win asks for nothing by itself. */
export function preparationOf(steps: readonly CudaStep[], { tuner, keyOfFused, keyOf }: Questions): Preparation {
  const fused = new Map(
    steps.flatMap((step) => (step.kind === 'fused' ? [[keyOfFused(step.fusion), step.fusion] as const] : [])),
  )
  const apart = [...fused].filter(([key]) => (tuner.known(key) ?? separately) === separately)
  const equations = [...apart.flatMap(([, one]) => contractionsOf(one)), ...steps.flatMap(contractionIn)]
  const plain = new Map(
    equations.flatMap((equation) => {
      const key = isEmpty(equation) ? undefined : keyOf(equation)
      return key === undefined ? [] : [[key, equation] as const]
    }),
  )
  const asked = [...fused].filter(([key]) => tuner.known(key)?.startsWith('own:') !== false)
  const works = [
    ...[...plain].filter(([key]) => tuner.isOpen(key)).flatMap(([, one]) => groupedCandidate(one)?.works ?? []),
    ...asked.flatMap(([, one]) => ownWorks(one)),
    ...[...fused].filter(([key]) => tuner.isOpen(key)).flatMap(([, one]) => separateWorks(one)),
  ]
  return {
    unsettled: [...fused.keys(), ...plain.keys()].filter((key) => !tuner.isSettled(key)),
    sources: works.flatMap((work: Work) => (work.kind === 'kernel' ? [work.source] : [])),
  }
}

/** The works of our own ways, which will compete. */
function ownWorks(fused: Fused): Candidate['works'] {
  switch (fused.kind) {
    case 'contraction':
      return ownCandidates(fused).flatMap(({ works }) => works)
    case 'rows':
      return rowsCandidate(fused)?.works ?? []
    case 'products':
      return productsCandidate(fused).works
    default:
      return fused satisfies never
  }
}

/** The works of the kernels beside contractions, which every way is compared with. */
function separateWorks(fused: Fused): Candidate['works'] {
  return kernelsOf(fused).flatMap((kernel) => lowerKernel(kernel).works)
}

/** The product or convolution that a step of the library's is. */
function contractionIn(step: CudaStep): readonly Contraction[] {
  if (step.kind !== 'library') return []
  const { equation } = step
  return equation.primitive === 'dot' || isConvolution(equation) ? [equation] : []
}

function isEmpty({ outputs }: Contraction): boolean {
  return outputs.every(({ type }) => sizeOf(type.shape) === 0)
}
