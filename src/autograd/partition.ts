// Trees of arguments and results as lists of tensors: which leaves are tensors, and how to build the tree again
// around other tensors. Leaves that are no tensors are kept as they are.
import { TraceError } from '../tensor/errors.ts'
import { type Structure, flatten, unflatten } from '../tensor/tree.ts'
import { Tensor } from '../tensor/tensor.ts'

/** A tree taken apart. */
export interface Partition {
  readonly structure: Structure
  /** All leaves in order. */
  readonly leaves: readonly unknown[]
  readonly tensors: readonly Tensor[]
  /** The path of each tensor. */
  readonly paths: readonly string[]
  /** The tree with other tensors in the places of its own. */
  rebuild(tensors: readonly Tensor[]): unknown
}

/** Takes a tree apart into its tensors and the rest. */
export function partition(tree: unknown): Partition {
  const { leaves, structure } = flatten<unknown>(tree)
  const positions = leaves.flatMap((leaf, i) => (leaf instanceof Tensor ? [i] : []))
  return {
    structure,
    leaves,
    tensors: leaves.filter((leaf) => leaf instanceof Tensor),
    paths: positions.map((position) => structure.paths[position] ?? ''),
    rebuild: (tensors) => rebuild(structure, leaves, positions, tensors),
  }
}

function rebuild(
  structure: Structure,
  leaves: readonly unknown[],
  positions: readonly number[],
  tensors: readonly Tensor[],
): unknown {
  const replaced = [...leaves]
  positions.forEach((position, i) => {
    replaced[position] = tensors[i]
  })
  return unflatten(structure, replaced)
}

/** Throws a TraceError if a transformed function gave a Promise: nothing after its first `await` would be recorded. */
export function refusePromise(label: string, result: unknown): void {
  if (!(result instanceof Promise)) return
  result.catch(() => undefined) // its failure is not news: this error is
  throw new TraceError(
    `[${label}] expected the function to return tensors, got a Promise. Traced functions cannot await: make it synchronous and read values outside of it.`,
  )
}

/** What a function is called in messages: `grad(loss)`. */
export function labelOf(transformation: string, f: { readonly name: string }): string {
  return `${transformation}(${f.name === '' ? 'anonymous function' : f.name})`
}
