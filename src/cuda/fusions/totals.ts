// Sums that the blocks of a convolution leave as parts: the kernel that adds them up, and goes on with what the plan's own
// reduction would have made of them. Which kernels leave such parts is kernels/'s part.
import { type Access, type Kernel, inputCount } from '../../compile/index.ts'
import { InternalError } from '../../tensor/errors.ts'
import type { TensorType } from '../../tensor/program.ts'
import { at, sizeOf } from '../../tensor/shape.ts'
import { lowerKernel } from '../printed.ts'
import type { Wire, WiredKernel } from '../wires.ts'
import type { Part } from './compose.ts'

/**
 * One launch in place of a reduction per channel: its two sums are those of `partials` [parts, 2, channels], in the order of
 * `sums`, which are two of its results. Its epilogue and what else it reads stay.
 */
export function totalsPart(
  reduction: WiredKernel,
  sums: readonly [Wire, Wire],
  partials: { readonly type: TensorType; readonly wire: Wire },
): Part {
  const count = inputCount(reduction.kernel)
  const results = reduction.wires.slice(count)
  const kinds = reduction.kernel.reductions.map(({ output }) => placeIn(sums, at(results, output)))
  const others = reduction.wires.slice(reduction.kernel.inputs.length)
  return {
    lowered: lowerKernel(totalsKernel(reduction.kernel, kinds, partials.type)),
    wires: [...kinds.map(() => partials.wire), ...others],
  }
}

function placeIn(sums: readonly Wire[], { kind, index }: Wire): number {
  const found = sums.findIndex((sum) => sum.kind === kind && sum.index === index)
  if (found < 0) throw new InternalError('a sum that no block leaves')
  return found
}

/** The kernel with its loops over elements replaced by one over parts; `kinds` says which sum each reduction is. */
function totalsKernel(kernel: Kernel, kinds: readonly number[], { shape }: TensorType): Kernel {
  const [parts, channels] = [at(shape, 0), at(shape, 2)]
  const mapped = kernel.axes.filter(({ role }) => role === 'map')
  if (sizeOf(mapped.map(({ extent }) => extent)) !== channels) throw new InternalError('sums of other than channels')
  const moved = <A extends Access>(access: A): A => ({
    ...access,
    strides: [0, ...access.strides.filter((_, axis) => kernel.axes[axis]?.role === 'map')],
  })
  const reductions = kernel.reductions.map((reduction, node) => ({ ...moved(reduction), node }))
  const { epilogue } = kernel
  return {
    axes: [{ extent: parts, role: 'reduce' }, ...mapped],
    // A sum lies in its vector as it does among those of a part.
    inputs: reductions.map(({ strides }, index) => ({
      dtype: 'f32',
      strides: [2 * channels, ...strides.slice(1)],
      offset: at(kinds, index) * channels,
    })),
    nodes: reductions.map((_, input) => ({ op: 'load', dtype: 'f32', input })),
    stores: [],
    reductions,
    ...(epilogue === undefined
      ? {}
      : {
          epilogue: {
            inputs: epilogue.inputs.map(moved),
            nodes: epilogue.nodes.map((node) => ('access' in node ? { ...node, access: moved(node.access) } : node)),
            stores: epilogue.stores.map(moved),
          },
        }),
  }
}
