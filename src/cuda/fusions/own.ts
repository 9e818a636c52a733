// Fusions by kernels of our own: grouped 3x3 convolutions with what is around them. Which way is taken is the tuner's part.
import { InternalError } from '../../tensor/errors.ts'
import { at } from '../../tensor/shape.ts'
import type { Epilogue } from '../conv/index.ts'
import { showEpilogue } from '../conv/index.ts'
import {
  groupedActivatedCandidate,
  groupedMaskedCandidate,
  groupedNormalizedCandidate,
  groupedStatisticsCandidate,
} from '../kernels/grouped-fused.ts'
import type { GroupedCandidate } from '../kernels/grouped.ts'
import type { Candidate } from '../work.ts'
import type { Wire } from '../wires.ts'
import { type Part, compose, partsOf } from './compose.ts'
import type { Fusion } from './fusion.ts'
import { totalsPart } from './totals.ts'

/** A fusion by kernels of ours, the likeliest first. Operands are the fusion's inputs, then its outputs. */
export function ownCandidates(fusion: Fusion): readonly Candidate[] {
  const { way, contraction } = fusion
  const { equation, wires } = contraction
  const [first, second, result] = [at(wires, 0), at(wires, 1), at(wires, 2)]
  switch (way.kind) {
    case 'statistics': {
      const sums = [way.sum, way.squares] as const
      const plain = { made: groupedStatisticsCandidate(equation), operands: wires, before: partsOf(fusion.before) }
      if (way.front === undefined) return summing(fusion, sums, plain)
      const { source, vectors, meanFactor } = way.front
      const made = groupedNormalizedCandidate(equation, 'statistics', meanFactor)
      return [
        ...summing(fusion, sums, { made, operands: [source, ...vectors, second, result], before: [] }),
        ...summing(fusion, sums, plain),
      ]
    }
    case 'masked': {
      const made = groupedMaskedCandidate(equation, way.meanFactor)
      const operands = [first, second, way.source, ...way.vectors, result]
      return summing(fusion, [way.sum, way.products], { made, operands, before: [] })
    }
    case 'chain': {
      if (way.rest !== undefined || !isBatchNormWithRelu(way.epilogue)) return []
      const lowered = groupedActivatedCandidate(equation)
      if (lowered === undefined) return []
      return [compose(lowered.id, [{ lowered, wires: [first, second, ...way.operands, way.store] }], fusion.inside)]
    }
    case 'product':
      return []
    default:
      return way satisfies never
  }
}

/** A convolution that leaves parts of sums, and the kernel that adds them up in place of the reduction. */
function summing(
  { kernels, inside }: Fusion,
  sums: readonly [Wire, Wire],
  {
    made,
    operands,
    before,
  }: { made: GroupedCandidate | undefined; operands: readonly Wire[]; before: readonly Part[] },
): readonly Candidate[] {
  if (made === undefined) return []
  if (made.partials === undefined) throw new InternalError(`${made.id} leaves no sums`)
  const partials = { type: made.partials, wire: { kind: 'inside', index: inside.length } as const }
  const parts = [
    ...before,
    { lowered: made, wires: [...operands, partials.wire] },
    totalsPart(at(kernels, kernels.length - 1), sums, partials),
  ]
  return [compose(made.id, parts, [...inside, partials.type])]
}

/** Whether a chain is `max((y - a0) a1 + a2, 0)` with f32 [channels]. */
function isBatchNormWithRelu(chain: Epilogue): boolean {
  const vector = { dtype: 'f32', shape: [1, 1, 1, chain.operands[0]?.shape.at(-1) ?? 0] } as const
  const step = (index: number) => ({ kind: 'step', index }) as const
  const operand = (index: number) => ({ kind: 'operand', index }) as const
  const steps: Epilogue['steps'] = [
    { mode: 'SUB', values: [{ kind: 'result' }, operand(0)] },
    { mode: 'MUL', values: [step(0), operand(1)] },
    { mode: 'ADD', values: [step(1), operand(2)] },
    { mode: 'RELU_FWD', values: [step(2)] },
  ]
  return showEpilogue(chain) === showEpilogue({ operands: [vector, vector, vector], steps })
}
