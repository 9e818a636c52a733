// checkGrads: compares derivatives with central differences, for those who write operations or custom derivatives.
import { isFloat } from '../tensor/dtype.ts'
import { ValueError } from '../tensor/errors.ts'
import { add, cast, mul } from '../tensor/ops/pointwise.ts'
import { tensor } from '../tensor/ops/create.ts'
import { sum } from '../tensor/ops/reduce.ts'
import { randomBits } from '../tensor/philox.ts'
import { at, range, zip } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { labelOf, partition } from './partition.ts'
import { jvp, vjp } from './vjp.ts'

/** How `checkGrads` compares. */
export interface CheckGradsOptions {
  /** 1 checks the gradient, 2 also the gradient of the gradient. 1 by default. */
  readonly order?: 1 | 2
  /** The largest |difference| / max(1, |derivative|) that passes; 1e-6 by default. */
  readonly tolerance?: number
  /** The step of the differences; 1e-3 by default, for a truncation error of its fourth power. */
  readonly step?: number
  /** Chooses the random directions; 0 by default. */
  readonly seed?: number
}

type FlatFunction = (inputs: readonly Tensor[]) => readonly Tensor[]

/**
 * Compares the derivatives of `f` at `args` with central differences (five points) in f64, along a random direction
 * for each floating leaf of the arguments, and checks that <J u, v> = <u, J' v>. `f` must work for f64 arguments, give
 * floating results, and be smooth near `args`.
 *
 * @throws ValueError that names the worst leaf, its derivative and the difference quotient.
 * @example await checkGrads((x: Tensor) => sum(tanh(x)), [tensor([0.1, 0.2])], { order: 2 })
 */
export async function checkGrads<A extends readonly unknown[]>(
  f: (...args: A) => unknown,
  args: A,
  options: CheckGradsOptions = {},
): Promise<void> {
  const label = labelOf('checkGrads', f)
  const given = partition(args)
  const wide = given.tensors.map((x) => (isFloat(x.dtype) ? cast(x, 'f64') : x))
  const floats = range(wide.length).filter((i) => isFloat(at(wide, i).dtype))
  const insert = (chosen: readonly Tensor[]): Tensor[] => wide.map((x, i) => chosen[floats.indexOf(i)] ?? x)
  const flat: FlatFunction = (chosen) => partition(f(...(given.rebuild(insert(chosen)) as A))).tensors
  const inputs = floats.map((i) => at(wide, i))
  const paths = floats.map((i) => at(given.paths, i))
  await checkFirstOrder(label, flat, inputs, paths, options)
  if (options.order === 2)
    await checkFirstOrder(`${label}, second order`, gradientOf(flat, options), inputs, paths, options)
}

/** The function whose derivative is the second derivative of `f`: its pullback of one fixed cotangent. */
function gradientOf(f: FlatFunction, { seed = 0 }: CheckGradsOptions): FlatFunction {
  return (inputs) => {
    const [outputs, pullback] = vjp((...xs: readonly Tensor[]) => f(xs), ...inputs)
    return pullback(outputs.map((y, i) => direction(y, seed + 977, i)))
  }
}

interface Deviation {
  readonly path: string
  readonly derivative: number
  readonly quotient: number
  readonly error: number
}

async function checkFirstOrder(
  label: string,
  f: FlatFunction,
  inputs: readonly Tensor[],
  paths: readonly string[],
  { tolerance = 1e-6, step = 1e-3, seed = 0 }: CheckGradsOptions,
): Promise<void> {
  const [outputs, pullback] = vjp((...xs: readonly Tensor[]) => f(xs), ...inputs)
  const cotangents = outputs.map((y, i) => direction(y, seed + 1, i))
  const gradients = pullback(cotangents)
  const directions = inputs.map((x, i) => direction(x, seed, i))
  const deviations: Deviation[] = []
  for (const [i, path] of paths.entries()) {
    const u = at(directions, i)
    const along = (t: number): Promise<number> =>
      inner(f(inputs.map((x, k) => (k === i ? add(x, mul(u, t)) : x))), cotangents)
    const near = (await along(step)) - (await along(-step))
    const far = (await along(2 * step)) - (await along(-2 * step))
    const quotient = (8 * near - far) / (12 * step)
    deviations.push(deviation(path, await inner([at(gradients, i)], [u]), quotient))
  }
  const [, tangents] = jvp((...xs: readonly Tensor[]) => f(xs), inputs, directions)
  const forward = await inner(tangents, cotangents)
  const reverse = await inner(gradients, directions)
  deviations.push(deviation('<J u, v> against <u, J v>', reverse, forward))
  const worst = deviations.reduce((a, b) => (b.error > a.error || Number.isNaN(b.error) ? b : a))
  if (worst.error <= tolerance) return
  throw new ValueError(
    `[${label}] expected derivatives within ${tolerance} of the difference quotients, got ${worst.derivative} against ${worst.quotient} at '${worst.path}'. Check the vjp, or move the arguments away from kinks.`,
  )
}

function deviation(path: string, derivative: number, quotient: number): Deviation {
  return { path, derivative, quotient, error: Math.abs(derivative - quotient) / Math.max(1, Math.abs(quotient)) }
}

/** The sum of the products of all elements. */
async function inner(a: readonly Tensor[], b: readonly Tensor[]): Promise<number> {
  const terms = await Promise.all(zip(a, b).map(([x, y]) => sum(mul(x, y)).item()))
  return terms.reduce((total, term) => total + term, 0)
}

/** A random direction for tensor number `index`: uniform in [-1, 1), by counter. */
function direction(x: Tensor, seed: number, index: number): Tensor {
  const words = randomBits([seed | 0, 0x6b637267], index, 0, 24, x.size)
  return tensor(
    Float64Array.from(words, (word) => word / 2 ** 23 - 1),
    { shape: x.shape, dtype: 'f64' },
  )
}
