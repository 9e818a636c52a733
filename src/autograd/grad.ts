// grad and valueAndGrad: the gradient of a function with a scalar result is a function of the same arguments.
import { scalar } from '../tensor/dispatch.ts'
import { isFloat } from '../tensor/dtype.ts'
import { DTypeError, ShapeError, TraceError, ValueError } from '../tensor/errors.ts'
import { showType } from '../tensor/program.ts'
import { zip } from '../tensor/shape.ts'
import { Tensor } from '../tensor/tensor.ts'
import { type Partition, labelOf, partition, refusePromise } from './partition.ts'
import { fillZeros, onlyTensors, pull } from './vjp.ts'

/** Which arguments to differentiate: one position, or several. */
export type ArgNums = number | readonly number[]

/** The gradients: of one argument that argument's type, of several a tuple of theirs. */
export type Gradients<A extends readonly unknown[], N extends ArgNums> = N extends readonly number[]
  ? { -readonly [K in keyof N]: A[N[K] & keyof A] }
  : A[N & keyof A]

/** Options of `grad` for a function that gives the loss alone. */
export interface GradOptions<N extends ArgNums> {
  /** The positions of the arguments to differentiate; 0 by default. */
  readonly argnums?: N
  readonly hasAux?: false
}

/** Options of `grad` for a function that gives [loss, aux]. */
export interface GradAuxOptions<N extends ArgNums> {
  readonly argnums?: N
  /** The function gives [loss, aux]; aux is handed through and not differentiated. */
  readonly hasAux: true
}

/**
 * The gradient of `f`: a function of the same arguments that gives the derivative of f's scalar result by argument
 * `argnums` (0 by default; a list gives a tuple), in that argument's own tree. With `hasAux`, f gives [loss, aux] and
 * the result is [gradient, aux]. Gradients of gradients work. Other arguments may be anything.
 *
 * @throws ShapeError if the result is no scalar; DTypeError if it, or a leaf of a differentiated argument, is not
 * floating; TraceError if `f` returns a Promise.
 * @example const df = grad((x: Tensor) => sum(mul(x, x))); df(tensor([1, 2])) // [2, 4]
 */
export function grad<A extends readonly unknown[], X, const N extends ArgNums = 0>(
  f: (...args: A) => readonly [Tensor, X],
  options: GradAuxOptions<N>,
): (...args: A) => [Gradients<A, N>, X]
export function grad<A extends readonly unknown[], const N extends ArgNums = 0>(
  f: (...args: A) => Tensor,
  options?: GradOptions<N>,
): (...args: A) => Gradients<A, N>
export function grad(f: (...args: readonly unknown[]) => unknown, options: AnyOptions = {}): unknown {
  const label = labelOf('grad', f)
  return (...args: readonly unknown[]): unknown => {
    const { gradients, aux } = differentiate(label, f, args, options)
    return options.hasAux === true ? [gradients, aux] : gradients
  }
}

/**
 * Like `grad`, but gives [value, gradient]; with `hasAux`, [[loss, aux], gradient].
 *
 * @throws as `grad` does.
 * @example const [loss, { w, b }] = valueAndGrad(lossOf)({ w, b }, batch)
 */
export function valueAndGrad<A extends readonly unknown[], X, const N extends ArgNums = 0>(
  f: (...args: A) => readonly [Tensor, X],
  options: GradAuxOptions<N>,
): (...args: A) => [[Tensor, X], Gradients<A, N>]
export function valueAndGrad<A extends readonly unknown[], const N extends ArgNums = 0>(
  f: (...args: A) => Tensor,
  options?: GradOptions<N>,
): (...args: A) => [Tensor, Gradients<A, N>]
export function valueAndGrad(f: (...args: readonly unknown[]) => unknown, options: AnyOptions = {}): unknown {
  const label = labelOf('valueAndGrad', f)
  return (...args: readonly unknown[]): unknown => {
    const { value, gradients, aux } = differentiate(label, f, args, options)
    return [options.hasAux === true ? [value, aux] : value, gradients]
  }
}

interface AnyOptions {
  readonly argnums?: ArgNums
  readonly hasAux?: boolean
}

interface Differentiated {
  readonly value: Tensor
  readonly gradients: unknown
  readonly aux: unknown
}

function differentiate(
  label: string,
  f: (...args: readonly unknown[]) => unknown,
  args: readonly unknown[],
  { argnums = 0, hasAux = false }: AnyOptions,
): Differentiated {
  const positions = checkPositions(label, argnums, args.length)
  const inputs = partition(positions.map((position) => args[position]))
  checkFloating(label, inputs, positions)
  const replaced = (tree: unknown): unknown[] => {
    const chosen = tree as readonly unknown[]
    return args.map((arg, i) => (positions.includes(i) ? chosen[positions.indexOf(i)] : arg))
  }
  const apply = (tree: unknown): unknown => {
    const result = f(...replaced(tree))
    refusePromise(label, result)
    checkLoss(label, result, hasAux)
    return result
  }
  const { result, outputs, pullback } = pull(label, apply, inputs)
  const cotangents = outputs.map((output, i) => (i === 0 ? scalar(1, output.dtype) : undefined))
  const gradients = inputs.rebuild(fillZeros(pullback(cotangents), inputs.tensors)) as readonly unknown[]
  const rebuilt = result.rebuild(outputs)
  const [value, aux] = hasAux ? (rebuilt as readonly [Tensor, unknown]) : [rebuilt as Tensor, undefined]
  return { value, aux, gradients: typeof argnums === 'number' ? gradients[0] : gradients }
}

function checkPositions(label: string, argnums: ArgNums, count: number): readonly number[] {
  const positions = typeof argnums === 'number' ? [argnums] : argnums
  const wrong = positions.find((position) => !Number.isInteger(position) || position < 0 || position >= count)
  if (wrong !== undefined)
    throw new ValueError(`[${label}] expected argnums of ${count} arguments (0 to ${count - 1}), got ${wrong}.`)
  if (new Set(positions).size !== positions.length)
    throw new ValueError(`[${label}] expected distinct argnums, got ${positions.join(', ')}.`)
  return positions
}

function checkFloating(label: string, inputs: Partition, positions: readonly number[]): void {
  onlyTensors(label, `argument ${positions.join(', ')} to be a tree`, inputs)
  for (const [x, path] of zip(inputs.tensors, inputs.paths)) {
    const [index = '0', ...below] = path.split('.')
    const where = `argument ${positions[Number(index)] ?? 0}${below.length === 0 ? '' : ` at '${below.join('.')}'`}`
    if (!isFloat(x.dtype))
      throw new DTypeError(
        `[${label}] expected a floating dtype in the differentiated ${where}, got ${showType(x)}. Keep integers in another argument, or cast them.`,
      )
  }
}

function checkLoss(label: string, result: unknown, hasAux: boolean): void {
  if (hasAux && (!Array.isArray(result) || result.length !== 2))
    throw new ValueError(
      `[${label}] expected the function to return [loss, aux] because of hasAux, got ${describe(result)}.`,
    )
  const loss: unknown = hasAux ? (result as readonly unknown[])[0] : result
  if (!(loss instanceof Tensor))
    throw new TraceError(
      `[${label}] expected the function to return a scalar tensor, got ${describe(loss)}. Use { hasAux: true } to return more.`,
    )
  if (loss.shape.length !== 0)
    throw new ShapeError(
      `[${label}] expected a scalar result, got ${showType(loss)}. Reduce it with sum or mean, or use vjp.`,
    )
  if (!isFloat(loss.dtype))
    throw new DTypeError(`[${label}] expected a floating result, got ${showType(loss)}. Use cast(x, 'f32').`)
}

function describe(value: unknown): string {
  if (value instanceof Tensor) return showType(value)
  return Array.isArray(value) ? `an array of ${value.length}` : typeof value
}
