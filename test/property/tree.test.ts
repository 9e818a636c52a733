// Laws of trees: flattening loses nothing, the order of keys does not matter, and structures tell trees apart.
import fc from 'fast-check'
import { expect, expectTypeOf, test } from 'vitest'
import { type Structure, type Tree, fitsAlong, flatten, leavesOf, mapTree, unflatten } from '../../src/tensor/tree.ts'

class Leaf {
  constructor(readonly value: number) {}
}

/** The leaves of a tree that fits a structure; undefined for one that does not. */
function leavesAlong(structure: Structure, tree: unknown): unknown[] | undefined {
  const leaves: unknown[] = []
  const fits = fitsAlong(structure, tree, (leaf) => {
    leaves.push(leaf)
    return leaf instanceof Leaf || typeof leaf === 'number'
  })
  return fits ? leaves : undefined
}

const leaf = fc.integer().map((value) => new Leaf(value))
const key = fc.oneof(fc.constantFrom('w', 'b', 'layers', '0', '1', ''), fc.string())
const { tree } = fc.letrec<{ tree: Tree<Leaf> }>((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small' },
    leaf,
    fc.array(tie('tree'), { maxLength: 4 }),
    fc.dictionary(key, tie('tree'), { maxKeys: 4, noNullPrototype: true }),
  ),
}))

/** The same tree with the keys of every object in reverse order of insertion. */
function reversedKeys(node: Tree<Leaf>): Tree<Leaf> {
  if (node instanceof Leaf) return node
  if (Array.isArray(node)) return node.map(reversedKeys)
  return Object.fromEntries(
    Object.entries(node)
      .reverse()
      .map(([name, child]) => [name, reversedKeys(child)]),
  )
}

test('the leaves along a structure are those of flatten, and only trees of that structure have them', () => {
  fc.assert(
    fc.property(tree, tree, (value, other) => {
      const { leaves, structure } = flatten(value)
      expect(leavesAlong(structure, reversedKeys(value))).toEqual(leaves)
      const same = flatten(other).structure.key === structure.key
      expect(leavesAlong(structure, other)).toEqual(same ? leavesOf(other) : undefined)
    }),
  )
})

test.each([
  [{ a: 1 }, { a: 1, b: undefined }],
  [[null], [undefined]],
  [Array(2), [1, 2]],
  [{ a: [1, 2] }, { a: [1] }],
  [{ 0: 1 }, [1]],
  [{ a: 1 }, { a: {} }],
  [{ a: 1 }, { b: 1 }],
])('%j and %j have no leaves along each other', (one, other) => {
  const [first, second] = [one, other].map((value) => flatten<unknown>(value as Tree<unknown>).structure)
  expect([first && leavesAlong(first, other), second && leavesAlong(second, one)]).toEqual([undefined, undefined])
})

test('unflatten is the inverse of flatten', () => {
  fc.assert(
    fc.property(tree, (value) => {
      const { leaves, structure } = flatten(value)
      expect(unflatten(structure, leaves)).toEqual(value)
      expect(structure.paths).toHaveLength(leaves.length)
    }),
  )
})

test('flatten is the inverse of unflatten: leaves come back in order and by identity', () => {
  fc.assert(
    fc.property(tree, (value) => {
      const { structure } = flatten(value)
      const fresh = structure.paths.map((_, index) => new Leaf(index))
      const again = flatten(unflatten<Leaf>(structure, fresh))
      expect(again.structure).toEqual(structure)
      again.leaves.forEach((found, index) => expect(found).toBe(fresh[index]))
    }),
  )
})

test('the order in which keys were written changes neither the leaves nor the structure', () => {
  fc.assert(
    fc.property(tree, (value) => {
      const [ours, other] = [flatten(value), flatten(reversedKeys(value))]
      expect(other.structure).toEqual(ours.structure)
      other.leaves.forEach((found, index) => expect(found).toBe(ours.leaves[index]))
    }),
  )
})

test('structures have one key exactly if the trees are equal but for their leaves', () => {
  const blank = (value: Tree<Leaf>): string => JSON.stringify(mapTree(value, (_: Leaf) => 0))
  fc.assert(
    fc.property(tree, tree, (a, b) => {
      expect(flatten(a).structure.key === flatten(b).structure.key).toBe(blank(a) === blank(b))
    }),
  )
})

test('mapTree composes and gives each leaf its own path', () => {
  fc.assert(
    fc.property(tree, (value) => {
      const stepwise = mapTree(
        mapTree(value, (x: Leaf) => x.value + 1),
        (x: number) => x * 2,
      )
      expect(stepwise).toEqual(mapTree(value, (x: Leaf) => (x.value + 1) * 2))
      expect(leavesOf<string>(mapTree(value, (_: Leaf, path) => path))).toEqual(flatten(value).structure.paths)
    }),
  )
})

test('paths join keys and indices by dots, keys sorted', () => {
  const value = { layers: [{ weight: 1, bias: 2 }, { weight: 3 }], fc: 4 }
  const { leaves, structure } = flatten<number>(value)
  expect(structure.paths).toEqual(['fc', 'layers.0.bias', 'layers.0.weight', 'layers.1.weight'])
  expect(leaves).toEqual([4, 2, 1, 3])
  expect(structure.key).toBe('{"fc":*,"layers":[{"bias":*,"weight":*},{"weight":*}]}')
  expect(flatten<number>(5)).toMatchObject({ leaves: [5], structure: { key: '*', paths: [''] } })
})

test('mapTree takes trees of one structure and types the result after the first', () => {
  const sum = mapTree({ w: 1, b: [2, 3] as [number, number] }, (a: number, _path, b: number) => String(a + b), {
    w: 10,
    b: [20, 30],
  })
  expect(sum).toEqual({ w: '11', b: ['22', '33'] })
  expectTypeOf(sum).toEqualTypeOf<{ w: string; b: [string, string] }>()
})

test('undefined and null have no leaves and come back as they were', () => {
  const value = { bias: undefined, list: [undefined, 1], none: null }
  const { leaves, structure } = flatten<number>(value as unknown as Tree<number>)
  expect(leaves).toEqual([1])
  expect(unflatten(structure, leaves)).toStrictEqual(value)
  expect(structure.key).not.toBe(flatten<number>({ bias: [], list: [[], 1], none: [] }).structure.key)
})

test('an instance of a class is a leaf, an object without a prototype is not', () => {
  const bare = Object.assign(Object.create(null), { w: new Map() }) as Tree<Map<string, number>>
  expect(flatten(bare).structure.key).toBe('{"w":*}')
})

test('trees of other structures are an error that names the paths', () => {
  expect(() => mapTree({ w: 1, b: 2 }, (a: number) => a, { w: 1, c: 2 })).toThrow(
    '[tree] expected trees of one structure; missing: b; unexpected: c.',
  )
  expect(() => unflatten(flatten<number>([1, 2]).structure, [1])).toThrow(
    '[tree] expected 2 leaves for this structure, got 1.',
  )
})
