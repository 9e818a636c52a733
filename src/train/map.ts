// Trees of tensors mapped to trees of the same structure: what optimizers, loss scales and averages are written with.
import { ValueError } from '../tensor/errors.ts'
import { where } from '../tensor/ops/pointwise.ts'
import { zip } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { flatten, unflatten } from '../tensor/tree.ts'
import type { TensorTree } from '../nn/layer.ts'

/** The tree with every tensor replaced; `f` also gets the path and the tensors at the same place of the other trees. */
export function mapTensors<T extends TensorTree>(
  tree: T,
  f: (x: Tensor, path: string, ...others: Tensor[]) => Tensor,
  ...others: readonly TensorTree[]
): T {
  const { leaves, structure } = flatten<Tensor>(tree)
  const columns = others.map((other) => {
    const flat = flatten<Tensor>(other)
    if (flat.structure.key !== structure.key)
      throw new ValueError(
        `[train] expected trees of one structure, got ${structure.paths.length} and ${flat.structure.paths.length} leaves: ` +
          `${difference(structure.paths, flat.structure.paths)}.`,
      )
    return flat.leaves
  })
  const mapped = zip(leaves, structure.paths).map(([leaf, path], index) =>
    f(leaf, path, ...columns.flatMap((column) => column.slice(index, index + 1))),
  )
  return unflatten(structure, mapped) as T
}

/** One tree of two results at each place, as two trees. */
export function mapToPair<T extends TensorTree>(
  tree: T,
  f: (x: Tensor, path: string, ...others: Tensor[]) => readonly [Tensor, Tensor],
  ...others: readonly TensorTree[]
): readonly [T, T] {
  const second: Tensor[] = []
  const first = mapTensors(
    tree,
    (x, path, ...rest) => {
      const [a, b] = f(x, path, ...rest)
      second.push(b)
      return a
    },
    ...others,
  )
  return [first, unflatten(flatten<Tensor>(tree).structure, second) as T]
}

/** Chooses between two trees by a bool scalar, on the device. */
export function selectTree<T extends TensorTree>(condition: Tensor, whenTrue: T, whenFalse: T): T {
  return mapTensors(whenTrue, (a, _path, b = a) => where(condition, a, b), whenFalse)
}

function difference(expected: readonly string[], actual: readonly string[]): string {
  const missing = expected.find((path) => !actual.includes(path))
  const unexpected = actual.find((path) => !expected.includes(path))
  return `missing ${missing ?? 'none'}, unexpected ${unexpected ?? 'none'}`
}
