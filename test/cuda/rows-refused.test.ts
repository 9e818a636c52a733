// What the kernel of row-wise chains does not understand is refused, never guessed: one change at a time to a chain it takes.
import { describe, expect, it } from 'vitest'
import type { Kernel } from '../../src/compile/index.ts'
import { rowsCandidate } from '../../src/cuda/kernels/rows.ts'
import type { RowChain, RowPart } from '../../src/cuda/row-chain.ts'
import type { Wire } from '../../src/cuda/wires.ts'
import { variable } from '../../src/tensor/program.ts'
import { at } from '../../src/tensor/shape.ts'
import { Chain, dense, exciteForward } from './rows-chains.ts'

type Dot = Extract<RowPart, { kind: 'dot' }>

/** Map, product, map, product, map; only the last map's result leaves it. */
const chain = exciteForward(9, 40, 8, 'f16').chain(() => false)

function withPart(index: number, change: (part: RowPart) => RowPart): RowChain {
  return { ...chain, parts: chain.parts.map((part, i) => (i === index ? change(part) : part)) }
}

function withKernel(index: number, change: (kernel: Kernel) => Kernel): RowChain {
  return withPart(index, (part) => (part.kind === 'map' ? { ...part, kernel: change(part.kernel) } : part))
}

function withDot(change: (dot: Dot) => Dot): RowChain {
  return withPart(1, (part) => (part.kind === 'dot' ? change(part) : part))
}

/** The first product by other shapes, [m, k] and [n, k] unless `contract` says otherwise. */
function withShapes(shapes: readonly (readonly number[])[], params: Dot['equation']['params']): RowChain {
  const [a, b, c] = shapes.map((shape) => variable({ shape, dtype: 'f16' }))
  if (a === undefined || b === undefined || c === undefined) throw new Error('three shapes')
  return withDot((dot) => ({ ...dot, equation: { primitive: 'dot', inputs: [a, b], outputs: [c], params } }))
}

const inside = (index: number): Wire => ({ kind: 'inside', index })
const plain = { batch: [[], []], contract: [[1], [1]] } as const

describe('a chain of rows', () => {
  it('is taken as it is', () => {
    expect(rowsCandidate(chain)?.works).toHaveLength(1)
  })

  const f32 = new Chain(9)
  f32.dot(f32.rowInput('f32', 16), 8, true)
  const f64 = new Chain(9)
  f64.map(8, 'flat', [dense(f64, f64.rowInput('f32', 8))], [{ op: 'load', dtype: 'f32', input: 0 }], [0])
  const alone = chain.parts.filter(({ kind }) => kind === 'map').slice(0, 1)
  const squeezed = at(chain.inside, 0)

  it.each<readonly [string, RowChain]>([
    ['without rows', { ...chain, rows: 0 }],
    ['of other rows than its products', { ...chain, rows: 3 }],
    ['of other rows than its maps', { ...chain, rows: 7 }],
    ['without a product', f64.chain()],
    ['of maps alone', { ...chain, parts: alone, outputs: [squeezed], inside: [] }],
    ['with a product of f32', f32.chain()],
    [
      'with A transposed',
      withShapes(
        [
          [40, 9],
          [8, 40],
          [9, 8],
        ],
        { ...plain, contract: [[0], [1]] },
      ),
    ],
    [
      'with a batch',
      withShapes(
        [
          [2, 9, 40],
          [2, 8, 40],
          [2, 9, 8],
        ],
        { batch: [[0], [0]], contract: [[2], [2]] },
      ),
    ],
    [
      'with a product of another depth',
      withShapes(
        [
          [9, 16],
          [8, 16],
          [9, 8],
        ],
        plain,
      ),
    ],
    [
      'with a matrix of another size',
      withShapes(
        [
          [9, 40],
          [7, 40],
          [9, 7],
        ],
        plain,
      ),
    ],
    [
      'with a matrix of its own making',
      withDot((dot) => ({ ...dot, wires: [at(dot.wires, 0), inside(0), at(dot.wires, 2)] })),
    ],
    ['with a product that is given nothing', withDot((dot) => ({ ...dot, wires: [inside(3), ...dot.wires.slice(1)] }))],
    ['with a value made twice', { ...chain, parts: [...chain.parts, ...chain.parts.slice(-1)] }],
    ['with its parts in another order', { ...chain, parts: chain.parts.toReversed() }],
    ['with an output that nobody makes', { ...chain, outputs: [...chain.outputs, squeezed] }],
    ['with a value of another dtype', { ...chain, inside: [{ ...squeezed, dtype: 'bf16' }, ...chain.inside.slice(1)] }],
    ['with a map that reduces', withKernel(2, (kernel) => ({ ...kernel, reductions: [reductionOf(kernel)] }))],
    [
      'with a map that has an epilogue',
      withKernel(2, (kernel) => ({ ...kernel, epilogue: { inputs: [], nodes: [], stores: [] } })),
    ],
    [
      'with a map that stores columns first',
      withKernel(2, (kernel) => ({ ...kernel, stores: kernel.stores.map((store) => ({ ...store, strides: [1, 9] })) })),
    ],
    [
      'with a map that stores a part',
      withKernel(2, (kernel) => ({ ...kernel, stores: kernel.stores.map((store) => ({ ...store, offset: 8 })) })),
    ],
    [
      'with a map that reads a value in another order',
      withKernel(2, (kernel) => ({
        ...kernel,
        inputs: kernel.inputs.map((input, i) => (i === 0 ? { ...input, strides: [1, 9] } : input)),
      })),
    ],
    [
      'with a map of another dtype than its value',
      withKernel(2, (kernel) => ({
        ...kernel,
        inputs: kernel.inputs.map((input, i) => (i === 0 ? { ...input, dtype: 'bf16' as const } : input)),
      })),
    ],
    [
      'with a map whose loops are cut elsewhere',
      withKernel(2, (kernel) => ({
        ...kernel,
        axes: [
          { extent: 8, role: 'map' },
          { extent: 9, role: 'map' },
        ],
      })),
    ],
    ['too wide for shared memory', exciteForward(9, 8192, 512, 'f16').chain(() => false)],
  ])('%s is refused', (_name, refused) => {
    expect(rowsCandidate(refused)?.id).toBeUndefined()
  })
})

function reductionOf({ stores }: Kernel): Kernel['reductions'][number] {
  return { ...at(stores, 0), op: 'sum', output: 1 }
}
