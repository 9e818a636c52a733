// A toy classifier with everything that a train step handles (batch norm, squeeze-and-excitation, a linear head), and
// its batches, small enough for the reference interpreter.
import {
  type Layer,
  type TensorTree,
  batchNorm,
  conv2d,
  globalAvgPool,
  linear,
  relu,
  serial,
  squeezeExcite,
} from '../../src/nn/index.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type Tree, flatten, unflatten } from '../../src/tensor/tree.ts'

export const toyShape = [4, 6, 6, 3] as const
export const toyClasses = 3

/** Two convolutions with batch norms and a head. */
export function toyModel() {
  return serial({
    conv1: conv2d({ features: 4, kernel: 3, stride: 2, padding: 1, bias: false }),
    bn1: batchNorm(),
    relu1: relu(),
    conv2: conv2d({ features: 4, kernel: 3, padding: 1, groups: 2, bias: false }),
    bn2: batchNorm(),
    squeeze: squeezeExcite(2),
    relu2: relu(),
    pool: globalAvgPool(),
    fc: linear(toyClasses),
  })
}

/** Images of `rows` rows whose class is the brightest channel; another seed gives other images. */
export function toyBatch(seed: number, rows = 4): { readonly images: Tensor; readonly labels: Tensor } {
  const [, height, width, channels] = toyShape
  const labels = Int32Array.from({ length: rows }, (_, row) => (row + seed) % toyClasses)
  const images = Uint8Array.from({ length: rows * height * width * channels }, (_, i) => {
    const row = Math.floor(i / (height * width * channels))
    const bright = i % channels === labels[row] ? 110 : 0
    return 60 + bright + Math.floor(60 * Math.abs(Math.sin(i * 12.9898 + seed * 78.233)))
  })
  return { images: tensor(images, { shape: [rows, height, width, channels] }), labels: tensor(labels) }
}

/** The stored bits of every leaf by path, as text: equal text means equal bits. */
export async function bitsOf(tree: unknown): Promise<ReadonlyMap<string, string>> {
  const { leaves, structure } = flatten(tree as Tree<Tensor>)
  const bits = await Promise.all(leaves.map((leaf) => leaf.bits()))
  const text = (array: ArrayBufferView | undefined): string =>
    array === undefined ? '' : Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('hex')
  return new Map(structure.paths.map((path, i) => [path, text(bits[i])]))
}

/** A copy in fresh memory, for a step that is given its state. */
export async function copyTree<T extends TensorTree>(tree: T): Promise<T> {
  const { leaves, structure } = flatten<Tensor>(tree)
  const copies = await Promise.all(
    leaves.map(async (leaf) => tensor(await leaf.data(), { shape: leaf.shape, dtype: leaf.dtype })),
  )
  return unflatten(structure, copies) as T
}

/** The model with its number of traces: how often `apply` was called. */
export function counted<P extends TensorTree, S extends TensorTree>(
  model: Layer<P, S>,
): { readonly model: Layer<P, S>; readonly calls: () => number } {
  let calls = 0
  return {
    model: {
      ...model,
      apply(params, state, x, mode) {
        calls += 1
        return model.apply(params, state, x, mode)
      },
    },
    calls: () => calls,
  }
}
