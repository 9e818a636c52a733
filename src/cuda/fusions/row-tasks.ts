// A chain of rows as a question to the tuner: our kernel for all of it beside its parts one after the other, which are always
// there, and what our kernel is checked against.
import { dotExtents } from '../../compile/index.ts'
import { isFloat } from '../../tensor/dtype.ts'
import { at, range } from '../../tensor/shape.ts'
import { type Contraction, lowerPlainContraction } from '../kernels/index.ts'
import { matmulKey, matmulProblem } from '../matmul/index.ts'
import { lowerKernel } from '../printed.ts'
import type { RowChain, RowPart } from '../row-chain.ts'
import type { TuningTask } from '../tune/index.ts'
import type { Candidate, Lowered } from '../work.ts'
import { type Part, compose } from './compose.ts'
import { type Fusion, fusedDigest } from './fusion.ts'
import { nanAcceptance } from './nans.ts'
import { rowAgreement } from './row-agreement.ts'
import { type SeparatePart, separateParts } from './row-parts.ts'
import { rowTolerance } from './row-tolerances.ts'
import { type FusionChoice, separately } from './tasks.ts'

/** What chains are made with. */
export interface RowMeans {
  readonly choice: FusionChoice
  readonly precision: 'tf32' | 'ieee'
  /** The tuner's choice for a contraction by itself, and for one with what is behind it. */
  lower(equation: Contraction): Lowered
  lowerFusion(fusion: Fusion): Lowered
  /** A kernel of our own; undefined where there is none. */
  ownRows(chain: RowChain): Candidate | undefined
}

/** The tuner's task for a chain; operands are the chain's inputs, then its outputs. */
export function rowTask(chain: RowChain, means: RowMeans): TuningTask {
  const { inputs, outputs } = chain
  const separate = (): Candidate =>
    compose(
      separately,
      separateParts(chain).map((part) => ({ lowered: lowerPart(part, means), wires: part.wires })),
      chain.inside,
    )
  const own = (): Candidate | undefined => means.ownRows(chain)
  const beside = { id: separately, make: separate }
  const [losesNan, disagrees] = [nanAcceptance(chain, givenRows(chain), beside), rowAgreement(chain, beside)]
  return {
    key: keyOf(chain, means),
    ...{ inputs, outputs },
    depth: Math.max(1, ...dotsOf(chain).map(({ equation }) => dotExtents(equation).k)),
    precision: means.precision,
    tolerance: rowTolerance(chain, means.precision),
    candidates: function* (hurried = false) {
      const first = hurried && means.choice !== 'always' ? undefined : own() // in a hurry nothing that is to be tried first
      if (first !== undefined) yield first
      if (first === undefined || means.choice !== 'always') yield separate()
    },
    restore: (id) => {
      if (id === separately) return separate()
      const found = own()
      return found?.id === id ? found : undefined
    },
    reference: () => plainly(chain),
    acceptance: (bench, candidate) => losesNan(bench, candidate) ?? disagrees(bench, candidate),
  }
}

function lowerPart(part: SeparatePart, means: RowMeans): Lowered {
  switch (part.kind) {
    case 'dot':
      return means.lower(part.equation)
    case 'map':
      return lowerKernel(part.kernel)
    case 'product':
      return means.lowerFusion(part.fusion)
    default:
      return part satisfies never
  }
}

/** Each part by a plain kernel of our own. */
function plainly(chain: RowChain): Candidate {
  const parts = chain.parts.map((part): Part => {
    const lowered = part.kind === 'dot' ? lowerPlainContraction(part.equation) : lowerKernel(part.kernel)
    return { lowered, wires: part.wires }
  })
  return compose('own:plain separately', parts, chain.inside)
}

function dotsOf({ parts }: RowChain): readonly Extract<RowPart, { readonly kind: 'dot' }>[] {
  return parts.flatMap((part) => (part.kind === 'dot' ? [part] : []))
}

/** The inputs that have a row for each row of the results. */
function givenRows({ inputs, rows }: RowChain): readonly number[] {
  return range(inputs.length).filter((input) => {
    const { dtype, shape } = at(inputs, input)
    return isFloat(dtype) && shape.length > 1 && shape[0] === rows
  })
}

/** The chain as one line, the same for equal ones: its products, and a digest of everything. */
function keyOf(chain: RowChain, { precision }: RowMeans): string {
  const parts = chain.parts.map((part) =>
    part.kind === 'dot' ? matmulKey(matmulProblem(part.equation, precision)) : 'kernel',
  )
  return `rows of ${parts.join(', ')}: ${fusedDigest(chain)}`
}
