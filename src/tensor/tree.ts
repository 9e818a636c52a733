// Trees: tensors (or anything else that is no plain object or array) in nested plain objects and arrays. Parameters,
// optimizer states and batches are trees; transformations work on their leaves in a fixed order (keys sorted).
import { ValueError } from './errors.ts'

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
    // Array.from, since a place that was never filled is undefined, and map would leave it out
    if (Array.isArray(node))
      return { kind: 'array', items: Array.from(node, (item, index) => walk(item, below(index))) }
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
  const places = { next: 0 }
  return build(structure.shape, leaves, places)
}

/** The tree of a shape with the leaves from a place on. */
function build<L>(shape: StructureShape, leaves: readonly L[], places: { next: number }): Tree<L> {
  switch (shape.kind) {
    case 'leaf':
      return leaves[places.next++] as L
    case 'nothing':
      return shape.value as Tree<L>
    case 'array':
      return shape.items.map((item) => build(item, leaves, places))
    case 'object': {
      const made: { [key: string]: Tree<L> } = {} // several times as fast as Object.fromEntries
      for (const [key, child] of shape.entries) {
        const value = child.kind === 'leaf' ? (leaves[places.next++] as L) : build(child, leaves, places)
        if (key === '__proto__')
          Object.defineProperty(made, key, { value, enumerable: true, writable: true, configurable: true })
        else made[key] = value
      }
      return made
    }
    default:
      return shape satisfies never
  }
}

/**
 * Whether a tree has this structure. `accept` gets what is in the place of each leaf, in order, and says whether it is one
 * that is wanted there; it may be a whole tree. Makes no texts, so that a large tree that is seen again and again is cheap.
 */
export function fitsAlong(structure: Structure, tree: unknown, accept: (leaf: unknown) => boolean): boolean {
  return follow(structure.shape, tree, accept)
}

function follow(shape: StructureShape, node: unknown, accept: (leaf: unknown) => boolean): boolean {
  switch (shape.kind) {
    case 'leaf':
      return accept(node)
    case 'nothing':
      return node === shape.value
    case 'array':
      return (
        Array.isArray(node) &&
        node.length === shape.items.length &&
        shape.items.every((item, i) => follow(item, node[i], accept))
      )
    case 'object':
      return isPlainObject(node) && followEntries(shape.entries, node, accept)
    default:
      return shape satisfies never
  }
}

function followEntries(
  entries: readonly (readonly [string, StructureShape])[],
  node: Readonly<Record<string, unknown>>,
  accept: (leaf: unknown) => boolean,
): boolean {
  const keys = Object.keys(node)
  if (keys.length !== entries.length) return false
  let index = 0
  for (const [key, child] of entries) {
    if (keys[index++] !== key && !Object.prototype.propertyIsEnumerable.call(node, key)) return false
    const value = node[key]
    if (!(child.kind === 'leaf' ? accept(value) : follow(child, value, accept))) return false
  }
  return true
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
