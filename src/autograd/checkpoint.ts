// checkpoint: a function whose intermediate values are not kept for the backward pass, but computed again in it.
import { type Partition, labelOf, partition } from './partition.ts'
import { currentTrace, traceTree } from './trace.ts'

/**
 * `f`, but a gradient through it keeps only its arguments and computes the rest again when the cotangent arrives: less
 * memory for about one more evaluation. Values and gradients are those of `f`.
 *
 * Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
 *
 * @throws TraceError if `f` returns a Promise.
 * @example const block = checkpoint((w: Tensor, x: Tensor) => tanh(matmul(x, w)));
 */
export function checkpoint<A extends readonly unknown[], R>(f: (...args: A) => R): (...args: A) => R {
  const label = labelOf('checkpoint', f)
  return (...args) => {
    const trace = currentTrace()
    if (trace?.keepsCalls !== true) return f(...args) // nothing will be differentiated: there is nothing to keep
    const inputs: Partition = partition(args)
    const traced = traceTree((tree) => f(...(tree as A)), inputs, label, { keepCalls: true })
    const { program, constants, result } = traced
    const outputs = trace.bind('call', [...inputs.tensors, ...constants], { program, rule: { kind: 'checkpoint' } })
    return result.rebuild(outputs) as R
  }
}
