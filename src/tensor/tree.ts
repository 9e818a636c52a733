// Trees: tensors (or anything else that is no plain object or array) in nested plain objects and arrays. Parameters,
// optimizer states and batches are trees; transformations work on their leaves in a fixed order (keys sorted).
import { ValueError } from './errors.ts'
import { at } from './shape.ts'

/** Nested plain objects and arrays with leaves of type L. */
export type Tree<L> = L | readonly Tree<L>[] | { readonly [key: string]: Tree<L> }

/** The structure of a tree without its leaves; two trees fit when their structures' `key`s are equal. */
export interface Structure {
  /** A canonical text of the structure. */
  readonly key: string
  /** The path of each leaf ("layers.0.weight"), in leaf order. */
  readonly paths: readonly string[]
  readonly shape: StructureShape
}

/** The nesting of a tree; undefined and null are kept as what they are. */
export type StructureShape =
  | { readonly kind: 'leaf' }
  | { readonly kind: 'nothing'; readonly value: undefined | null }
  | { readonly kind: 'array'; readonly items: readonly StructureShape[] }
  | { readonly kind: 'object'; readonly entries: readonly (readonly [string, StructureShape])[] }

/** The leaves of a tree in order, and its structure. undefined and null have no leaves; `unflatten` gives them back. */
export function flatten<L>(tree: Tree<L>): { readonly leaves: L[]; readonly structure: Structure } {
  const leaves: L[] = []
  const paths: string[] = []
  const walk = (node: unknown, path: string): StructureShape => {
    const below = (key: string | number): string => (path === '' ? String(key) : `${path}.${key}`)
    if (Array.isArray(node)) return { kind: 'array', items: node.map((item, index) => walk(item, below(index))) }
    if (node === undefined || node === null) return { kind: 'nothing', value: node }
    if (isPlainObject(node)) {
      const keys = Object.keys(node).sort()
      return { kind: 'object', entries: keys.map((key) => [key, walk(node[key], below(key))] as const) }
    }
    leaves.push(node as L)
    paths.push(path)
    return { kind: 'leaf' }
  }
  const shape = walk(tree, '')
  return { leaves, structure: { key: showStructure(shape), paths, shape } }
}

/** The inverse of `flatten`. */
export function unflatten<L>(structure: Structure, leaves: readonly L[]): Tree<L> {
  if (leaves.length !== structure.paths.length)
    throw new ValueError(`[tree] expected ${structure.paths.length} leaves for this structure, got ${leaves.length}.`)
  let next = 0
  const build = (shape: StructureShape): Tree<L> => {
    switch (shape.kind) {
      case 'leaf':
        return leaves[next++] as L
      case 'nothing':
        return shape.value as Tree<L>
      case 'array':
        return shape.items.map(build)
      case 'object':
        return fromEntries(shape.entries, build)
      default:
        return shape satisfies never
    }
  }
  return build(structure.shape)
}

/** What Object.fromEntries makes, several times as fast: a training step builds thousands of entries anew. */
function fromEntries<A, B>(entries: readonly (readonly [string, A])[], make: (value: A) => B): { [key: string]: B } {
  const made: { [key: string]: B } = {}
  for (const [key, value] of entries) {
    if (key === '__proto__')
      Object.defineProperty(made, key, { value: make(value), enumerable: true, writable: true, configurable: true })
    else made[key] = make(value)
  }
  return made
}

/**
 * The leaves of a tree that has this structure, in order; undefined for one that has another. Makes no texts, so that a
 * large tree that is seen again and again is cheap.
 */
export function leavesAlong(structure: Structure, tree: unknown): readonly unknown[] | undefined {
  const leaves: unknown[] = []
  return follow(structure.shape, tree, leaves) ? leaves : undefined
}

/** Whether a tree is of this shape; its leaves are added to `leaves`. */
function follow(shape: StructureShape, node: unknown, leaves: unknown[]): boolean {
  switch (shape.kind) {
    case 'leaf':
      leaves.push(node)
      return node !== undefined && node !== null && !Array.isArray(node) && !isPlainObject(node)
    case 'nothing':
      return node === shape.value
    case 'array': {
      const { items } = shape
      if (!Array.isArray(node) || node.length !== items.length) return false
      for (let index = 0; index < items.length; index++)
        if (!follow(at(items, index), node[index], leaves)) return false
      return true
    }
    case 'object': {
      const { entries } = shape
      if (!isPlainObject(node)) return false
      const keys = Object.keys(node)
      if (keys.length !== entries.length) return false
      for (let index = 0; index < entries.length; index++) {
        const [key, child] = at(entries, index)
        if (keys[index] !== key && !Object.hasOwn(node, key)) return false
        if (!follow(child, node[key], leaves)) return false
      }
      return true
    }
    default:
      return shape satisfies never
  }
}

/** The leaves of a tree in order. */
export function leavesOf<L>(tree: Tree<L>): L[] {
  return flatten(tree).leaves
}

/** Applies `f` to each leaf (with its path) and keeps the structure; further trees must have the same structure. */
export function mapTree<L, R, T extends Tree<L>>(
  tree: T,
  f: (leaf: L, path: string, ...others: L[]) => R,
  ...others: readonly Tree<NoInfer<L>>[]
): MapTree<T, L, R> {
  const { leaves, structure } = flatten<L>(tree)
  const rest = others.map((other) => {
    const flat = flatten<L>(other)
    if (flat.structure.key !== structure.key) throw new ValueError(mismatch(structure, flat.structure))
    return flat.leaves
  })
  const results = leaves.map((leaf, i) => f(leaf, structure.paths[i] ?? '', ...rest.map((list) => list[i] as L)))
  return unflatten(structure, results) as MapTree<T, L, R>
}

/** The type of a tree with every leaf of type L replaced by R; a tree of unknown structure stays one. */
export type MapTree<T, L, R> = [Tree<L>] extends [T]
  ? Tree<R>
  : T extends L
    ? R
    : { [K in keyof T]: MapTree<T[K], L, R> }

function mismatch(expected: Structure, actual: Structure): string {
  const missing = expected.paths.filter((path) => !actual.paths.includes(path))
  const unexpected = actual.paths.filter((path) => !expected.paths.includes(path))
  const list = (paths: readonly string[]): string => (paths.length === 0 ? 'none' : paths.slice(0, 5).join(', '))
  return `[tree] expected trees of one structure; missing: ${list(missing)}; unexpected: ${list(unexpected)}.`
}

function showStructure(shape: StructureShape): string {
  switch (shape.kind) {
    case 'leaf':
      return '*'
    case 'nothing':
      return String(shape.value)
    case 'array':
      return `[${shape.items.map(showStructure).join(',')}]`
    case 'object':
      return `{${shape.entries.map(([key, child]) => `${JSON.stringify(key)}:${showStructure(child)}`).join(',')}}`
    default:
      return shape satisfies never
  }
}

function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
