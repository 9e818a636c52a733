// vjp and jvp: functions of trees as linear maps of cotangents and tangents. Tracing is trace.ts, the reverse walk
// linearize.ts.
import { scalar } from '../tensor/dispatch.ts'
import { isFloat } from '../tensor/dtype.ts'
import { DTypeError, ShapeError, ValueError } from '../tensor/errors.ts'
import { zerosLike } from '../tensor/ops/create.ts'
import { showType } from '../tensor/program.ts'
import { sameShape, zip } from '../tensor/shape.ts'
import { Tensor } from '../tensor/tensor.ts'
import { linearize } from './linearize.ts'
import { type Partition, labelOf, partition } from './partition.ts'
import type { Cotangents, Linearization } from './rules/rule.ts'
import { traceTree } from './trace.ts'

/** A function applied to a tree of tensors: its result taken apart, and its linearization. */
export interface Pulled extends Linearization {
  readonly result: Partition
}

/** @internal Traces `f` of the tensors of `inputs` and linearizes it with respect to the floating ones. */
export function pull(label: string, f: (tree: unknown) => unknown, inputs: Partition): Pulled {
  const { program, constants, result } = traceTree(f, inputs, label, { keepCalls: true })
  const wanted = program.inputs.map((_, i) => i < inputs.tensors.length)
  const linear = linearize(program, [...inputs.tensors, ...constants], wanted)
  const count = inputs.tensors.length
  return {
    result,
    outputs: linear.outputs,
    pullback: (cotangents) => linear.pullback(cotangents).slice(0, count),
  }
}

/** @internal Missing cotangents as zeros. */
export function fillZeros(cotangents: Cotangents, like: readonly Tensor[]): Tensor[] {
  return zip(cotangents, like).map(([g, x]) => g ?? zerosLike(x))
}

/** @internal Throws unless every leaf is a tensor. */
export function onlyTensors(label: string, what: string, tree: Partition): void {
  const index = tree.leaves.findIndex((leaf) => !(leaf instanceof Tensor))
  if (index < 0) return
  const path = tree.structure.paths[index] ?? ''
  throw new ValueError(
    `[${label}] expected ${what} of tensors, got a ${typeof tree.leaves[index]}${path === '' ? '' : ` at '${path}'`}. Wrap it in tensor(...), or close over it.`,
  )
}

/** Throws unless the tensors of `given` fit those of `like` one by one. */
function checkLike(label: string, what: string, given: Partition, like: Partition): void {
  if (given.structure.key !== like.structure.key)
    throw new ValueError(
      `[${label}] expected ${what} of the structure ${like.structure.key}, got ${given.structure.key}.`,
    )
  onlyTensors(label, what, given)
  zip(given.tensors, like.tensors).forEach(([g, x], i) => {
    const where = `${what}${given.paths[i] === '' ? '' : ` at '${given.paths[i] ?? ''}'`}`
    if (!sameShape(g.shape, x.shape))
      throw new ShapeError(`[${label}] expected ${where} to be ${showType(x)}, got ${showType(g)}.`)
    if (g.dtype !== x.dtype)
      throw new DTypeError(
        `[${label}] expected ${where} to be ${showType(x)}, got ${showType(g)}. Use cast(x, '${x.dtype}').`,
      )
  })
}

/**
 * The value of `f` at `primals` and its pullback: the linear function from a cotangent of the result to the
 * cotangents of the arguments (vector-Jacobian product). Arguments and result are trees of tensors. The pullback may
 * be called several times; cotangents of integer and bool tensors are zeros.
 *
 * @throws TraceError if `f` returns a Promise; ShapeError or DTypeError if a cotangent does not fit the result.
 * @example const [y, pullback] = vjp((x: Tensor) => mul(x, x), tensor([1, 2])); const [dx] = pullback(onesLike(y));
 */
export function vjp<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  ...primals: A
): readonly [R, (cotangent: R) => A] {
  const label = labelOf('vjp', f)
  const inputs = partition(primals)
  onlyTensors(label, 'arguments', inputs)
  const pulled = pull(label, (args) => f(...(args as A)), inputs)
  onlyTensors(label, 'a result', pulled.result)
  const value = pulled.result.rebuild(pulled.outputs)
  const pullback = (cotangent: R): A => {
    const given = partition(cotangent)
    checkLike(label, 'the cotangent', given, partition(value))
    return inputs.rebuild(fillZeros(pulled.pullback(given.tensors), inputs.tensors)) as A
  }
  return [value as R, pullback]
}

/**
 * The value of `f` at `primals` and its derivative in the direction of `tangents` (Jacobian-vector product), which
 * has the result's structure. Computed as the transpose of the transpose: the pullback is linear in its cotangent, so
 * its own pullback maps tangents forward. Tangents of integer and bool tensors are ignored.
 *
 * @throws ShapeError or DTypeError if a tangent does not fit its primal.
 * @example const [y, dy] = jvp((x: Tensor) => sin(x), [tensor(0)], [tensor(1)]);
 */
export function jvp<A extends readonly unknown[], R>(f: (...args: A) => R, primals: A, tangents: A): readonly [R, R] {
  const label = labelOf('jvp', f)
  const inputs = partition(primals)
  onlyTensors(label, 'primals', inputs)
  const given = partition(tangents)
  checkLike(label, 'the tangents', given, inputs)
  const pulled = pull(label, (args) => f(...(args as A)), inputs)
  onlyTensors(label, 'a result', pulled.result)
  const floats = pulled.outputs.flatMap((output, i) => (isFloat(output.dtype) ? [i] : []))
  const transposed = (tree: unknown): unknown => {
    const cotangents: (Tensor | undefined)[] = pulled.outputs.map(() => undefined)
    floats.forEach((index, i) => {
      cotangents[index] = (tree as readonly Tensor[])[i]
    })
    return fillZeros(pulled.pullback(cotangents), inputs.tensors).filter((x) => isFloat(x.dtype))
  }
  const origin = partition(floats.flatMap((index) => zerosAt(pulled.outputs[index])))
  const directions = given.tensors.filter((tangent) => isFloat(tangent.dtype))
  const moved = fillZeros(pull(label, transposed, origin).pullback(directions), origin.tensors)
  const derivative = pulled.outputs.map((output, i) => moved[floats.indexOf(i)] ?? zerosLike(output))
  return [pulled.result.rebuild(pulled.outputs) as R, pulled.result.rebuild(derivative) as R]
}

function zerosAt(x: Tensor | undefined): Tensor[] {
  return x === undefined ? [] : [x.shape.length === 0 ? scalar(0, x.dtype) : zerosLike(x)]
}
