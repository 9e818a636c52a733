// customVjp: functions that bring their own derivative.
import { isFloat } from '../tensor/dtype.ts'
import { ShapeError, TraceError, ValueError } from '../tensor/errors.ts'
import { cast } from '../tensor/ops/pointwise.ts'
import { type Program, sameType, showType } from '../tensor/program.ts'
import { zip } from '../tensor/shape.ts'
import { Tensor } from '../tensor/tensor.ts'
import type { StructureShape } from '../tensor/tree.ts'
import { type Partition, labelOf, partition, refusePromise } from './partition.ts'
import { captureRewriting } from './rewriter.ts'
import type { Cotangents } from './rules/rule.ts'
import { currentTrace, traceTree } from './trace.ts'

/** What `backward` gives: an entry for each argument, of its type; undefined stands for no gradient. */
export type ArgumentCotangents<A extends readonly unknown[]> = { readonly [K in keyof A]: A[K] | undefined }

/**
 * `f` with a derivative of your own. When it is differentiated, `forward` runs in its place and gives f's result and
 * residuals (any tree); later `backward` turns the residuals and the cotangent of the result into a tuple with a
 * cotangent for each argument, in the argument's tree (undefined for none). Both may be differentiated in turn.
 *
 * @throws TraceError if `f` closes over a value that is being differentiated: pass it as an argument. ValueError or
 * ShapeError if forward's result is not like f's, or a cotangent is not like its argument.
 * @example
 * const clipGradient = customVjp(
 *   (x: Tensor) => x,
 *   (x) => [x, undefined],
 *   (_, g) => [clip(g, -1, 1)],
 * )
 */
export function customVjp<A extends readonly unknown[], R, S>(
  f: (...args: A) => R,
  forward: (...args: A) => readonly [R, S],
  backward: (residuals: S, cotangent: R) => ArgumentCotangents<A>,
): (...args: A) => R {
  const label = labelOf('customVjp', f)
  return (...args) => {
    const trace = currentTrace()
    if (trace?.keepsCalls !== true) return f(...args)
    const inputs = partition(args)
    const traced = traceTree((tree) => f(...(tree as A)), inputs, label, { keepCalls: true })
    const { program, constants, result } = traced
    if (constants.some((constant) => trace.owns(constant)))
      throw new TraceError(
        `[${label}] the function closes over a value that is being traced. Pass it as an argument, so that backward can give its cotangent.`,
      )
    const flat = flattenPair(label, inputs, result, program, { forward, backward } as unknown as Pair)
    const rule = { kind: 'customVjp', ...flat } as const
    return result.rebuild(trace.bind('call', [...inputs.tensors, ...constants], { program, rule })) as R
  }
}

/** The user's two functions without their types. */
interface Pair {
  readonly forward: (...args: readonly unknown[]) => unknown
  readonly backward: (residuals: unknown, cotangent: unknown) => unknown
}

interface FlatPair {
  readonly forward: (values: readonly Tensor[]) => readonly Tensor[]
  readonly backward: (values: readonly Tensor[]) => Cotangents
}

/** The user's two functions on flat lists, as the call rule has them; they run under the rewriting in force now. */
function flattenPair(label: string, inputs: Partition, result: Partition, program: Program, pair: Pair): FlatPair {
  const rewriting = captureRewriting()
  const residualsOf: { last: Partition } = { last: partition([]) }
  const forward = (values: readonly Tensor[]): readonly Tensor[] => {
    const args = inputs.rebuild(values.slice(0, inputs.tensors.length)) as readonly unknown[]
    const given = rewriting(() => pair.forward(...args))
    refusePromise(label, given)
    if (!Array.isArray(given) || given.length !== 2)
      throw new ValueError(
        `[${label}] expected forward to return [result, residuals], got ${Array.isArray(given) ? `${given.length} items` : typeof given}.`,
      )
    const outputs = partition(given[0]).tensors
    checkResult(label, outputs, program)
    residualsOf.last = partition(given[1])
    return [...outputs, ...residualsOf.last.tensors]
  }
  const backward = (values: readonly Tensor[]): Cotangents => {
    const count = values.length - result.tensors.length
    const residuals = residualsOf.last.rebuild(values.slice(0, count))
    const given = rewriting(() => pair.backward(residuals, result.rebuild(values.slice(count))))
    refusePromise(label, given)
    const found = leavesLike(label, inputs.structure.shape, given, '')
    const entries = zip(inputs.leaves, found).flatMap(([leaf, g], i) =>
      leaf instanceof Tensor ? [cotangentFor(label, leaf, g, inputs.structure.paths[i] ?? '')] : [],
    )
    return program.inputs.map((_, i) => entries[i])
  }
  return { forward, backward }
}

function checkResult(label: string, outputs: readonly Tensor[], program: Program): void {
  const expected = program.outputs.map((output) => output.type)
  const fits = expected.length === outputs.length && zip(expected, outputs).every(([a, b]) => sameType(a, b))
  if (!fits)
    throw new ShapeError(
      `[${label}] expected forward to return [result, residuals] with a result like the function's, ${expected.map(showType).join(' ')}, got ${outputs.map(showType).join(' ')}.`,
    )
}

/** What `backward` gave for one tensor argument, checked; under autocast it may be of another width. */
function cotangentFor(label: string, x: Tensor, g: unknown, path: string): Tensor | undefined {
  if (g === undefined || g === null || !isFloat(x.dtype)) return undefined
  if (!(g instanceof Tensor))
    throw new ValueError(`[${label}] expected backward to return tensors, got a ${typeof g} at '${path}'.`)
  const same = sameType({ shape: g.shape, dtype: x.dtype }, x)
  if (!same || !isFloat(g.dtype))
    throw new ShapeError(`[${label}] expected backward to return ${showType(x)} at '${path}', got ${showType(g)}.`)
  return cast(g, x.dtype)
}

/** The values at the leaves of `shape`; subtrees that are undefined give undefined for each of their leaves. */
function leavesLike(label: string, shape: StructureShape, value: unknown, path: string): unknown[] {
  const below = (key: string | number): string => (path === '' ? String(key) : `${path}.${key}`)
  switch (shape.kind) {
    case 'leaf':
      return [value]
    case 'nothing':
      return []
    case 'array': {
      if (value !== undefined && value !== null && (!Array.isArray(value) || value.length !== shape.items.length))
        throw new ValueError(
          `[${label}] expected backward to return ${shape.items.length} entries${path === '' ? ', one for each argument' : ` at '${path}'`}.`,
        )
      const items = value as readonly unknown[] | undefined | null
      return shape.items.flatMap((item, i) => leavesLike(label, item, items?.[i], below(i)))
    }
    case 'object': {
      if (value !== undefined && value !== null && (typeof value !== 'object' || value instanceof Tensor))
        throw new ValueError(`[${label}] expected backward to return an object at '${path}'.`)
      const entries = value as Readonly<Record<string, unknown>> | undefined | null
      return shape.entries.flatMap(([key, item]) => leavesLike(label, item, entries?.[key], below(key)))
    }
    default:
      return shape satisfies never
  }
}
