// Whether everything is finite, as a value on the device, and, when something is not, where that began.
import { scalar } from '../tensor/dispatch.ts'
import { isFloat } from '../tensor/dtype.ts'
import { all } from '../tensor/ops/reduce.ts'
import { stack } from '../tensor/ops/movement.ts'
import { cast, isFinite, logicalAnd } from '../tensor/ops/pointwise.ts'
import { range, zip } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { flatten, leavesOf } from '../tensor/tree.ts'
import type { Layer, Mode, TensorTree } from '../nn/layer.ts'
import { type Precision, withPrecision } from './policy.ts'

/**
 * Whether no element of any floating leaf is infinite or NaN: a bool scalar. Leaves are read in the dtype they have. A
 * model has hundreds: a few at a time become one element of a vector, so that no flag waits for a long chain of others.
 */
export function allFinite(tree: TensorTree): Tensor {
  const flags = leavesOf<Tensor>(tree)
    .filter((leaf) => isFloat(leaf.dtype))
    .map((leaf) => all(isFinite(leaf)))
  if (flags.length === 0) return cast(scalar(1, 'i32'), 'bool')
  const parts = range(Math.ceil(flags.length / flagsTogether)).map((part) =>
    flags.slice(part * flagsTogether, (part + 1) * flagsTogether).reduce((a, b) => logicalAnd(a, b)),
  )
  return all(stack(parts))
}

/** Flags that become one element, in one kernel: with more the compiler would store their conjunction first. */
const flagsTogether = 6

/** How the batch was prepared in the step that failed. */
export interface DiagnosisOptions extends Pick<Mode, 'key'> {
  /** Whether batch norms use the batch's statistics; true unless said otherwise. */
  readonly training?: boolean
  readonly precision?: Precision
}

/**
 * Runs a model layer by layer, outside of any compiled program, and gives the path of the first parameter
 * (`parameter fc.weight`), the input (`input`) or the first layer (`layers.0.1.bn2`) that is not finite; undefined if
 * all are. For the error message after a loss of NaN; slow.
 *
 * `images` are what the model takes: normalised already.
 */
export async function findNonFinite<P extends TensorTree, S extends TensorTree>(
  model: Layer<P, S>,
  params: P,
  state: S,
  images: Tensor,
  options: DiagnosisOptions = {},
): Promise<string | undefined> {
  const { training = true, precision = 'f32', key } = options
  const flags: { readonly what: string; readonly finite: Tensor }[] = [{ what: 'input', finite: allFinite(images) }]
  const note = (what: string, x: Tensor): void => void flags.push({ what, finite: allFinite(x) })
  const { leaves, structure } = flatten<Tensor>(params)
  for (const [leaf, path] of zip(leaves, structure.paths)) note(`parameter ${path}`, leaf)
  const mode: Mode = { training, observe: note, ...(key === undefined ? {} : { key }) }
  const [output] = withPrecision((p: P, s: S, x: Tensor) => model.apply(p, s, x, mode), precision)(
    params,
    state,
    images,
  )
  note('output', output)
  for (const { what, finite } of flags) if ((await finite.item()) === 0) return what
  return undefined
}
