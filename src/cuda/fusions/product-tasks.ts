// Small products together as a question to the tuner: one launch of our kernel for all of them beside the best for each, one
// after the other.
import { dotExtents } from '../../compile/index.ts'
import { InternalError } from '../../tensor/errors.ts'
import { at } from '../../tensor/shape.ts'
import { type Contraction, lowerPlainContraction } from '../kernels/index.ts'
import { operand } from '../kernels/launch.ts'
import { transposedProduct } from '../kernels/transposed.ts'
import type { BoundKernel } from '../lower.ts'
import { launchTogether } from '../together.ts'
import type { TuningTask } from '../tune/index.ts'
import type { Candidate, KernelLaunch, Lowered } from '../work.ts'
import { compose } from './compose.ts'
import { type Products, fusedDigest } from './fusion.ts'
import { type FusionChoice, separately } from './tasks.ts'

/** What groups of products are made with. */
export interface ProductMeans {
  readonly choice: FusionChoice
  readonly precision: 'tf32' | 'ieee'
  /** The tuner's choice for a product by itself. */
  lower(equation: Contraction): Lowered
}

/** The tuner's task for a group; operands are the group's inputs, then its outputs. */
export function productTask(group: Products, means: ProductMeans): TuningTask {
  const { products, inputs, outputs } = group
  const own = (): Candidate => productsCandidate(group)
  const separate = (): Candidate => oneByOne(group, separately, (equation) => means.lower(equation))
  return {
    key: keyOf(group, means),
    ...{ inputs, outputs },
    depth: Math.max(...products.map(({ equation }) => dotExtents(equation).k)),
    precision: means.precision,
    candidates: function* (hurried = false) {
      if (!hurried || means.choice === 'always') yield own()
      if (means.choice !== 'always') yield separate()
    },
    restore: (id) => {
      if (id === separately) return separate()
      const found = own()
      return found.id === id ? found : undefined
    },
    reference: () => oneByOne(group, 'own:plain separately', lowerPlainContraction),
  }
}

/** One launch, or a few where one cannot have the arguments of all. */
export function productsCandidate({ products }: Products): Candidate {
  const kernels = products.map(({ equation, wires }, step): readonly BoundKernel[] => {
    const launch = transposedProduct(dotExtents(equation))
    if (launch === undefined) throw new InternalError('a product in a group that there is no kernel for')
    const places = launch.pointers.map((pointer) => {
      if (pointer.kind !== 'operand') throw new InternalError('a product in a group with memory of its own')
      return { slot: at(wires, pointer.index).index, offset: 0 }
    })
    return [{ ...launch, places, step, label: 'product' }]
  })
  const works = launchTogether(kernels).map((work): KernelLaunch => {
    if (work.kind !== 'kernel') throw new InternalError('kernels together are no kernel')
    const { source, blocks, threads, sharedBytes, numbers } = work
    const pointers = work.places.map(({ slot }) => operand(slot))
    return { kind: 'kernel', source, blocks, threads, sharedBytes, pointers, numbers }
  })
  return { id: 'own:products', works, scratchBytes: 0 }
}

function oneByOne({ products }: Products, id: string, lower: (equation: Contraction) => Lowered): Candidate {
  return compose(
    id,
    products.map(({ equation, wires }) => ({ lowered: lower(equation), wires })),
    [],
  )
}

/** The group as one line, the same for equal ones. */
function keyOf(group: Products, { precision }: ProductMeans): string {
  return `${group.products.length} products together, ${precision}: ${fusedDigest(group)}`
}
