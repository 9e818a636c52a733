// What a layer is: a description of its parameters and a pure function. How layers compose is in compose.ts, how initial
// values are drawn in init.ts.
import { type Shape, zip } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { type Tree, flatten, unflatten } from '../tensor/tree.ts'
import { type Initializer, type Seed, parameterDraws } from './init.ts'

/** Tensors in nested plain objects and arrays: parameters, or the state of a layer. */
export type TensorTree = Tree<Tensor>

/** The parameters or state of a layer that has none. */
export type Nothing = Readonly<Record<string, never>>

/** How a layer is applied. */
export interface Mode {
  /** Whether batch norms use (and update) statistics of this batch, and dropout drops. */
  readonly training: boolean
  /** The random key (i32[2]) of this call, needed by dropout in training. Each layer folds its own path into it. */
  readonly key?: Tensor
  /** Called with the path and the output of every named layer, in the order of computation: for looking inside. */
  readonly observe?: (path: string, output: Tensor) => void
  /** Where in the model the layer is ("layers.0.1.conv2"); set by the layers that contain others. */
  readonly path?: string
}

/** A parameter (or running statistic) before it has a value: its shape and how its first value is made. A leaf of trees. */
export class Parameter {
  readonly shape: Shape
  readonly initial: Initializer

  constructor(shape: Shape, initial: Initializer) {
    this.shape = shape
    this.initial = initial
  }
}

/** What a layer needs and gives for an input of one shape. */
export interface Description {
  readonly params: Tree<Parameter>
  readonly state: Tree<Parameter>
  readonly outputShape: Shape
}

/** First values for a layer. */
export interface Variables<P extends TensorTree, S extends TensorTree> {
  readonly params: P
  readonly state: S
  readonly outputShape: Shape
}

/**
 * A pure function with described parameters. Shapes are whole, the batch axis included; parameters do not depend on the
 * batch's extent.
 */
export interface Layer<P extends TensorTree = TensorTree, S extends TensorTree = TensorTree> {
  /** Shapes only: nothing is drawn or allocated. Throws a ShapeError if the input does not fit. */
  describe(inputShape: Shape): Description
  /** Draws first values on the host and uploads them; the same seed and path give the same bits on every machine. */
  init(seed: Seed, inputShape: Shape): Variables<P, S>
  /** The output and the new state; `state` itself is left as it is. */
  apply(params: P, state: S, x: Tensor, mode: Mode): readonly [output: Tensor, state: S]
}

/** The parameters of a layer type. */
export type ParamsOf<L> = L extends Layer<infer P, infer _S> ? P : never
/** The state of a layer type. */
export type StateOf<L> = L extends Layer<infer _P, infer S> ? S : never

/** A layer from its description and its function. */
export function layer<P extends TensorTree, S extends TensorTree>(
  definition: Pick<Layer<P, S>, 'describe' | 'apply'>,
): Layer<P, S> {
  return {
    ...definition,
    init: (seed, inputShape) => variables(definition, inputShape, parameterDraws(seed)),
  }
}

/**
 * Variables of a layer from any source: `value` is asked for each parameter and running statistic by path. This is how
 * trained weights get in without drawing random ones first.
 *
 * @example variables(model, [1, 224, 224, 3], (path, { shape }) => tensor(file.get(path), { shape }))
 */
export function variables<P extends TensorTree, S extends TensorTree>(
  of: Pick<Layer<P, S>, 'describe' | 'apply'>,
  inputShape: Shape,
  value: (path: string, parameter: Parameter) => Tensor,
): Variables<P, S> {
  const { params, state, outputShape } = of.describe(inputShape)
  const fill = (tree: Tree<Parameter>): TensorTree => {
    const { leaves, structure } = flatten(tree)
    return unflatten(
      structure,
      zip(structure.paths, leaves).map(([path, parameter]) => value(path, parameter)),
    )
  }
  return { params: fill(params) as P, state: fill(state) as S, outputShape }
}

/** A layer without parameters or state from a function of tensors; `outputShape` is the input's unless given. */
export function pure(
  f: (x: Tensor, mode: Mode) => Tensor,
  outputShape: (inputShape: Shape) => Shape = (shape) => shape,
): Layer<Nothing, Nothing> {
  return layer<Nothing, Nothing>({
    describe: (inputShape) => ({ params: {}, state: {}, outputShape: outputShape(inputShape) }),
    apply: (_params, _state, x, mode) => [f(x, mode), {}],
  })
}

/** @internal The mode for the child `name`. */
export function within(mode: Mode, name: string): Mode {
  return { ...mode, path: mode.path === undefined ? name : `${mode.path}.${name}` }
}
