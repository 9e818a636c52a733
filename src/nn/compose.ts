// Layers made of layers: one after the other, and around a shortcut. Parameter names are the names (or positions) given
// here, joined by dots.
import { ShapeError, ValueError } from '../tensor/errors.ts'
import { add } from '../tensor/ops/pointwise.ts'
import { type Shape, sameShape, showShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Tree } from '../tensor/tree.ts'
import {
  type Layer,
  type Mode,
  type Nothing,
  type Parameter,
  type ParamsOf,
  type StateOf,
  type TensorTree,
  layer,
  pure,
  within,
} from './layer.ts'

/** A layer of any parameters and state. */
export type AnyLayer = Layer

/** Layers by name, in order. */
export type NamedLayers = Readonly<Record<string, AnyLayer>>

/** The parameters of a record of layers: those without any are left out. */
export type ParamsOfEach<C> = C extends readonly unknown[]
  ? { readonly [K in keyof C]: ParamsOf<C[K]> }
  : {
      readonly [K in keyof C as ParamsOf<NonNullable<C[K]>> extends Nothing ? never : K]: ParamsOf<NonNullable<C[K]>>
    }

/** The state of a record of layers: those without any are left out. */
export type StateOfEach<C> = C extends readonly unknown[]
  ? { readonly [K in keyof C]: StateOf<C[K]> }
  : {
      readonly [K in keyof C as StateOf<NonNullable<C[K]>> extends Nothing ? never : K]: StateOf<NonNullable<C[K]>>
    }

/**
 * Layers one after the other. With names, each layer's parameters are under its name (layers without parameters appear
 * in no tree); as a list, under its position.
 *
 * @example serial({ conv1: conv2d({ features: 64, kernel: 3 }), bn1: batchNorm(), relu: relu() })
 */
export function serial<const C extends NamedLayers>(layers: C): Layer<ParamsOfEach<C>, StateOfEach<C>>
export function serial<C extends readonly AnyLayer[]>(layers: readonly [...C]): Layer<ParamsOfEach<C>, StateOfEach<C>>
export function serial(layers: NamedLayers | readonly AnyLayer[]): AnyLayer {
  return Array.isArray(layers) ? listed(layers as readonly AnyLayer[]) : named(layers as NamedLayers)
}

function named(layers: NamedLayers): AnyLayer {
  const entries = Object.entries(layers)
  const integer = entries.find(([name]) => /^\d+$/.test(name))
  if (integer !== undefined)
    throw new ValueError(
      `[serial] the name '${integer[0]}' is an integer, and objects reorder those. Give a list of layers.`,
    )
  return layer<TensorTree, TensorTree>({
    describe(inputShape) {
      const { parts, outputShape } = describeEach(entries, inputShape)
      return {
        params: collect<Parameter>(parts.map(([name, part]) => [name, part.params])),
        state: collect<Parameter>(parts.map(([name, part]) => [name, part.state])),
        outputShape,
      }
    },
    apply(params, state, x, mode) {
      const [output, states] = applyEach(entries, record(params), record(state), x, mode)
      return [output, collect(states)]
    },
  })
}

function listed(layers: readonly AnyLayer[]): AnyLayer {
  const entries = layers.map((part, index) => [String(index), part] as const)
  return layer<TensorTree, TensorTree>({
    describe(inputShape) {
      const { parts, outputShape } = describeEach(entries, inputShape)
      return { params: parts.map(([, part]) => part.params), state: parts.map(([, part]) => part.state), outputShape }
    },
    apply(params, state, x, mode) {
      const [output, states] = applyEach(entries, record(params), record(state), x, mode)
      return [output, states.map(([, next]) => next)]
    },
  })
}

type Entries = readonly (readonly [string, AnyLayer])[]

function describeEach(entries: Entries, inputShape: Shape) {
  let outputShape = inputShape
  const parts = entries.map(([name, part]) => {
    const description = part.describe(outputShape)
    outputShape = description.outputShape
    return [name, description] as const
  })
  return { parts, outputShape }
}

function applyEach(
  entries: Entries,
  params: Readonly<Record<string, TensorTree>>,
  state: Readonly<Record<string, TensorTree>>,
  x: Tensor,
  mode: Mode,
): readonly [Tensor, [string, TensorTree][]] {
  let output = x
  const states = entries.map(([name, part]): [string, TensorTree] => {
    const inner = within(mode, name)
    const [y, next] = part.apply(params[name] ?? {}, state[name] ?? {}, output, inner)
    mode.observe?.(inner.path ?? name, y)
    output = y
    return [name, next]
  })
  return [output, states]
}

/** A tree node as a record of its children. */
function record(tree: TensorTree): Readonly<Record<string, TensorTree>> {
  return tree as Readonly<Record<string, TensorTree>>
}

/** A record of the subtrees that have anything in them. */
function collect<L>(entries: readonly (readonly [string, Tree<L>])[]): Readonly<Record<string, Tree<L>>> {
  return Object.fromEntries(entries.filter(([, tree]) => Object.keys(tree as object).length > 0))
}

/** x itself. */
export function identity(): Layer<Nothing, Nothing> {
  return pure((x) => x)
}

/** How a residual layer joins its branches. */
export interface ResidualOptions<N extends string> {
  /** The name of the shortcut's parameters, which lie beside the body's own; `downsample` unless said otherwise. */
  readonly name?: N
  /** Applied to the sum. */
  readonly activation?: (x: Tensor) => Tensor
}

/**
 * activation(body(x) + shortcut(x)) (He et al., 2015). The body's parameters keep their names; those of the shortcut, if
 * it has any, are under `downsample`. Without a shortcut, x itself is added.
 *
 * @throws ShapeError when described with a body and a shortcut whose output shapes differ.
 */
export function residual<
  P extends TensorTree,
  S extends TensorTree,
  Q extends TensorTree = Nothing,
  T extends TensorTree = Nothing,
  const N extends string = 'downsample',
>(
  body: Layer<P, S>,
  shortcut?: Layer<Q, T>,
  options: ResidualOptions<N> = {},
): Layer<P & { readonly [K in N]?: Q }, S & { readonly [K in N]?: T }> {
  type Params = P & { readonly [K in N]?: Q }
  type State = S & { readonly [K in N]?: T }
  const { name = 'downsample', activation = (x: Tensor) => x } = options
  return layer<Params, State>({
    describe(inputShape) {
      const main = body.describe(inputShape)
      const side = shortcut?.describe(inputShape) ?? { params: {}, state: {}, outputShape: inputShape }
      if (!sameShape(main.outputShape, side.outputShape))
        throw new ShapeError(
          `[residual] expected a shortcut to ${showShape(main.outputShape)}, got ${showShape(side.outputShape)}. Give it a convolution of that size.`,
        )
      return {
        params: { ...(main.params as object), ...collect([[name, side.params]]) },
        state: { ...(main.state as object), ...collect([[name, side.state]]) },
        outputShape: main.outputShape,
      }
    },
    apply(params, state, x, mode) {
      const [y, bodyState] = body.apply(params, state, x, mode)
      const inner = within(mode, name)
      const [side, sideState] =
        shortcut === undefined
          ? [x, {}]
          : shortcut.apply((params[name as N] ?? {}) as Q, (state[name as N] ?? {}) as T, x, inner)
      if (shortcut !== undefined) mode.observe?.(inner.path ?? name, side)
      return [activation(add(y, side)), { ...(bodyState as object), ...collect([[name, sideState]]) } as State]
    },
  })
}
