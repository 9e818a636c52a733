// Chains of rows in plans: which steps hang together as one, what of them others see, and what is no chain.
import { describe, expect, test } from 'vitest'
import { compileProgram } from '../../src/compile/index.ts'
import { type CudaPlan, fuseSteps } from '../../src/cuda/fusions/arrange.ts'
import { separateParts } from '../../src/cuda/fusions/row-parts.ts'
import type { TakesRows } from '../../src/cuda/fusions/rows.ts'
import type { RowChain } from '../../src/cuda/row-chain.ts'
import { traceFlat } from '../../src/autograd/trace.ts'
import { bindOne, setDefaultDevice } from '../../src/tensor/dispatch.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { at } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import type { Flat } from './fusions-harness.ts'

setDefaultDevice(referenceDevice())

const half = (...shape: readonly number[]): TensorType => ({ dtype: 'f16', shape })
const all: TakesRows = () => true

function planOf(f: Flat, types: readonly TensorType[], takes: TakesRows = all): CudaPlan {
  const { program } = traceFlat(f, types, 'test', { keepCalls: false })
  return fuseSteps(compileProgram(program, { optimize: 'fuse', donate: [] }), true, takes)
}

function chainsIn(plan: CudaPlan): readonly RowChain[] {
  return plan.steps.flatMap((step) => (step.kind === 'fused' && step.fusion.kind === 'rows' ? [step.fusion] : []))
}

/** The chains as text: their parts, and how many values go in, come out and stay inside. */
function found(f: Flat, types: readonly TensorType[], takes: TakesRows = all): readonly string[] {
  return chainsIn(planOf(f, types, takes)).map(
    ({ parts, inputs, outputs, inside }) =>
      `${parts.map(({ kind }) => kind).join(' ')}: ${inputs.length} ${outputs.length} ${inside.length}`,
  )
}

const relu = (x: Tensor): Tensor => ops.maximum(x, 0)

/** The products of an SE block of 16 channels reduced to 8, for 6 images. */
const excite = ([x, w1, b1, w2, b2]: readonly Tensor[]): { hidden: Tensor; gate: Tensor } => {
  const hidden = relu(ops.add(ops.matmul(ops.mul(x!, 2), w1!), b1!))
  return { hidden, gate: ops.sigmoid(ops.add(ops.matmul(hidden, w2!), b2!)) }
}
const excited = [half(6, 16), half(16, 8), half(8), half(8, 16), half(16)]

describe('a chain of rows', () => {
  test('goes from the map before the first product to the one behind the last', () => {
    expect(found((inputs) => [excite(inputs).gate], excited)).toEqual(['map dot map dot map: 5 1 4'])
  })

  test('shows what others need, and only that', () => {
    const f: Flat = (inputs) => {
      const { hidden, gate } = excite(inputs)
      return [gate, hidden]
    }
    expect(found(f, excited)).toEqual(['map dot map dot map: 5 2 3'])
    const summed: Flat = (inputs) => {
      const { hidden, gate } = excite(inputs)
      return [gate, ops.sum(hidden, { axes: [0] })]
    }
    const chain = at(chainsIn(planOf(summed, excited)), 0)
    expect(chain.outputs.map(({ shape }) => shape)).toEqual([
      [6, 8],
      [6, 16],
    ])
  })

  test('leaves what a kernel in it reduces to a kernel behind', () => {
    // As in the backward pass: a ReLU's mask between two products, and the gradient of a bias.
    const f: Flat = ([g, mask, w1, w2]) => {
      const masked = ops.where(ops.greater(mask!, 0), ops.matmul(g!, w1!), 0)
      return [ops.matmul(masked, w2!), ops.sum(ops.cast(masked, 'f32'), { axes: [0] })]
    }
    const plan = planOf(f, [half(6, 16), half(6, 8), half(16, 8), half(8, 16)])
    expect(chainsIn(plan).map(({ parts }) => parts.map(({ kind }) => kind))).toEqual([['dot', 'map', 'dot']])
    const [fused, rest] = plan.steps
    expect(plan.steps).toHaveLength(2)
    if (rest?.kind !== 'kernel') throw new Error('no kernel behind the chain')
    expect([rest.kernel.stores.length, rest.kernel.reductions.length, rest.inputs.length]).toEqual([0, 1, 1])
    expect(fused?.outputs).toContain(rest.inputs[0])
    expect(rest.after).toEqual([0])
  })

  test('is as long as there is a kernel for', () => {
    const f: Flat = (inputs) => [excite(inputs).gate]
    expect(found(f, excited, () => false)).toEqual([])
    const short: TakesRows = ({ parts }) => parts.length <= 2
    // The first product with its bias and ReLU is one launch anyway, by the library.
    expect(found(f, excited, short)).toEqual(['dot map: 3 1 1'])
    const longer: TakesRows = ({ parts }) => parts.length <= 3
    expect(found(f, excited, longer)).toEqual(['dot map dot: 4 1 2'])
  })

  test('is done by the library’s products and biases where it is not one kernel', () => {
    const [chain] = chainsIn(planOf((inputs) => [excite(inputs).gate], excited))
    if (chain === undefined) throw new Error('no chain')
    const parts = separateParts(chain)
    expect(parts.map(({ kind }) => kind)).toEqual(['map', 'product', 'dot', 'map'])
    const [, product] = parts
    if (product?.kind !== 'product') throw new Error('no product')
    const { inputs, outputs, inside, way } = product.fusion
    expect([inputs, outputs, inside].map((types) => types.map(({ shape }) => shape))).toEqual([
      [[6, 16], [16, 8], [8]],
      [[6, 8]],
      [[6, 8]],
    ])
    expect(way).toMatchObject({ kind: 'product', epilogue: 'bias-relu', bias: { kind: 'operand', index: 2 } })
    const bias = at(product.wires, 2)
    expect(bias.kind === 'operand' && chain.inputs[bias.index]?.shape).toEqual([8])
    // A product whose result others need has no epilogue: nobody would make it.
    const shown: Flat = ([x, w1, b1, w2]) => {
      const raw = ops.matmul(x!, w1!)
      return [raw, ops.matmul(relu(ops.add(raw, b1!)), w2!)]
    }
    const [other] = chainsIn(planOf(shown, excited.slice(0, 4)))
    expect(other === undefined ? [] : separateParts(other).map(({ kind }) => kind)).toEqual(['dot', 'map', 'dot'])
  })
})

describe('no part of a chain is', () => {
  const one: Flat = ([a, b, v]) => [ops.tanh(ops.add(ops.matmul(a!, b!), v!))]

  test('a product of the other rows, of several matrices, in f32, or a large one', () => {
    expect(found(one, [half(6, 16), half(16, 8), half(8)])).toEqual(['dot map: 3 1 1'])
    const transposed: Flat = ([a, b, v]) => {
      const y = bindOne('dot', [a!, b!], { batch: [[], []], contract: [[0], [0]] })
      return [ops.tanh(ops.add(y, v!))]
    }
    expect(found(transposed, [half(16, 6), half(16, 8), half(8)])).toEqual([])
    expect(found(one, [half(2, 6, 16), half(2, 16, 8), half(8)])).toEqual([])
    const wide = [half(6, 16), half(16, 8), half(8)].map(({ shape }) => ({ dtype: 'f32', shape }) as const)
    expect(found(one, wide)).toEqual([])
    expect(found(one, [half(5000, 16), half(16, 8), half(8)])).toEqual([])
    expect(found(one, [half(6, 1024), half(1024, 1024), half(1024)])).toEqual([])
  })

  test('what needs a sum over the rows', () => {
    const f: Flat = ([x, w1, w2]) => {
      const y = ops.matmul(x!, w1!)
      return [ops.matmul(ops.sub(y, ops.sum(y, { axes: [0], keepDims: true })), w2!)]
    }
    expect(found(f, [half(6, 16), half(16, 8), half(8, 16)])).toEqual(['map dot: 3 1 1'])
  })

  test('a product whose matrix is made of the rows', () => {
    const f: Flat = ([x, w1, b, y]) => [ops.matmul(y!, ops.tanh(ops.add(ops.matmul(x!, w1!), b!)))]
    expect(found(f, [half(6, 16), half(16, 8), half(8), half(6, 6)])).toEqual(['dot map: 3 1 1'])
  })

  test('a kernel over other rows, or over parts of them', () => {
    const reshaped: Flat = ([x, w1, w2]) => {
      const y = ops.tanh(ops.matmul(x!, w1!))
      return [ops.tanh(ops.matmul(ops.reshape(y, [12, 4]), w2!))]
    }
    expect(found(reshaped, [half(6, 16), half(16, 8), half(4, 4)])).toEqual(['dot map: 2 1 1', 'dot map: 2 1 1'])
    const halves: Flat = ([x, w1]) => [ops.tanh(ops.slice(ops.matmul(x!, w1!), [0, 0], [6, 4]))]
    expect(found(halves, [half(6, 16), half(16, 8)])).toEqual([])
    const shifted: Flat = ([x, w1]) => [ops.tanh(ops.slice(ops.matmul(x!, w1!), [1, 0], [6, 8]))]
    expect(found(shifted, [half(6, 16), half(16, 8)])).toEqual([])
  })

  test('a kernel that fills a part of what others fill too', () => {
    const f: Flat = ([x, w1, y]) => [ops.concatenate([ops.tanh(ops.matmul(x!, w1!)), ops.tanh(y!)], 0)]
    expect(found(f, [half(6, 16), half(16, 8), half(3, 8)])).toEqual([])
  })

  test('a map over whole images', () => {
    const f: Flat = ([images, ...inputs]) => {
      const { gate } = excite(inputs)
      return [ops.mul(images!, ops.reshape(gate, [6, 1, 1, 16]))]
    }
    const [chain] = found(f, [half(6, 3, 3, 16), ...excited])
    expect(chain).toBe('map dot map dot map: 5 1 4')
  })
})

describe('the steps around chains', () => {
  test('that need only inputs come first, and those that are left stand together', () => {
    const f: Flat = ([g, m, a, b, c, d]) => {
      const sums: Tensor[] = []
      const chain = (x: Tensor, w1: Tensor, w2: Tensor): Tensor => {
        const masked = ops.where(ops.greater(m!, 0), ops.matmul(x, ops.cast(w1, 'f16')), 0)
        sums.push(ops.sum(ops.cast(masked, 'f32'), { axes: [0] }))
        return ops.matmul(masked, ops.cast(w2, 'f16'))
      }
      const cut = ops.max(chain(g!, a!, b!), { axes: [0], keepDims: true }) // no part of a chain
      return [chain(ops.broadcastTo(cut, [6, 16]), c!, d!), ...sums]
    }
    const wide = (...shape: readonly number[]): TensorType => ({ dtype: 'f32', shape })
    const types = [half(6, 16), half(6, 8), wide(16, 8), wide(8, 16), wide(16, 8), wide(8, 16)]
    const { steps } = planOf(f, types)
    const kinds = steps.map((step) => (step.kind === 'fused' ? 'rows' : step.label))
    expect(kinds.slice(0, 4)).toEqual(['map', 'map', 'map', 'map'])
    expect(kinds.slice(-2)).toEqual(['reduce', 'reduce'])
    expect(kinds.filter((kind) => kind === 'rows')).toHaveLength(2)
  })
})
