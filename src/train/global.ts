// What is meant for the global batch: the batches of all processes that take a step together. There is one process yet; then
// all of this is the identity, and plans lose it (compile/decompose.ts).
import { bindOne } from '../tensor/dispatch.ts'
import { isFloat } from '../tensor/dtype.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { TensorTree } from '../nn/layer.ts'
import { mapTensors } from './map.ts'
import type { MetricSums } from './metrics.ts'
import type { Pass } from './step.ts'

/** How many processes take a step together. */
const group = 1

const meanOverAll = <T extends TensorTree>(tree: T): T =>
  mapTensors(tree, (x) => (isFloat(x.dtype) ? bindOne('allReduce', [x], { op: 'mean', group }) : x))

/** Sums over the rows of the global batch from those of each process. */
export const globalSums = (sums: MetricSums): MetricSums =>
  mapTensors(sums, (x: Tensor) => bindOne('allReduce', [x], { op: 'sum', group }))

/**
 * The pass over the global batch: gradients are those of the mean loss over all rows (each process has as many), running
 * statistics the mean of each process', sums those over all rows. What is not finite anywhere is not finite in any of
 * them, so every process takes or skips the step alike.
 */
export function globalPass<P extends TensorTree, S extends TensorTree>({
  gradients,
  state,
  metrics,
}: Pass<P, S>): Pass<P, S> {
  return { gradients: meanOverAll(gradients), state: meanOverAll(state), metrics: globalSums(metrics) }
}
