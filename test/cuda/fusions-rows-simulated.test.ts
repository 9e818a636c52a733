// Chains of rows on the simulated GPU: as one step they have the bits of their parts, and by our own kernel the reference's
// values; what is chosen is kept, and made again.
import { describe, expect, test } from 'vitest'
import { traceFlat } from '../../src/autograd/trace.ts'
import { type KernelNode, compileProgram } from '../../src/compile/index.ts'
import { CudaDevice } from '../../src/cuda/device.ts'
import { probe } from '../../src/cuda/discovery-probe.ts'
import { fuseSteps } from '../../src/cuda/fusions/arrange.ts'
import { compose } from '../../src/cuda/fusions/compose.ts'
import type { CudaStep } from '../../src/cuda/fusions/fusion.ts'
import { type RowMeans, rowTask } from '../../src/cuda/fusions/row-tasks.ts'
import { type Contraction, lowerPlainContraction } from '../../src/cuda/kernels/index.ts'
import { lowerStep } from '../../src/cuda/library.ts'
import { lowerKernel } from '../../src/cuda/printed.ts'
import type { RowChain } from '../../src/cuda/row-chain.ts'
import { openRuntime } from '../../src/cuda/runtime/index.ts'
import { runtimeBench } from '../../src/cuda/tune/index.ts'
import { disagreement } from '../../src/cuda/tune/verify.ts'
import type { Candidate, Lowered } from '../../src/cuda/work.ts'
import type { Device } from '../../src/tensor/device.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { at } from '../../src/tensor/shape.ts'
import { simulatedGpu } from '../support/simulated.ts'
import { type Flat, type Going, expected, fusingDevice, rounding, values, worst } from './fusions-harness.ts'

const gpu = simulatedGpu()

type Half = 'f16' | 'bf16'

/** An SE block's products forward; what is made in between is kept for the backward pass. */
const forward: Flat = ([x, s, w1, b1, w2, b2]) => {
  const squeezed = ops.cast(ops.mul(ops.add(x!, s!), 0.25), w1!.dtype)
  const hidden = ops.maximum(ops.add(ops.matmul(squeezed, w1!), ops.cast(b1!, w1!.dtype)), 0)
  const gate = ops.sigmoid(ops.add(ops.matmul(hidden, w2!), ops.cast(b2!, w1!.dtype)))
  return [gate, hidden, ops.matmul(ops.transpose(hidden, [1, 0]), squeezed)]
}

/** The same backward: the ReLU's mask between the products, and the gradients of bias and weights. */
const backward: Flat = ([g, hidden, w2, w1]) => {
  const masked = ops.where(ops.greater(hidden!, 0), ops.matmul(g!, w2!), 0)
  return [
    ops.matmul(masked, w1!),
    ops.sum(ops.cast(masked, 'f32'), { axes: [0] }),
    ops.matmul(ops.transpose(masked, [1, 0]), g!),
  ]
}

interface Case {
  readonly name: string
  readonly f: Flat
  readonly types: (dtype: Half) => readonly TensorType[]
}

const vector = (columns: number): TensorType => ({ dtype: 'f32', shape: [columns] })
const cases: readonly Case[] = [
  {
    name: 'forward',
    f: forward,
    types: (dtype) => {
      const weights = [48, 16].map((rows): TensorType => ({ dtype, shape: [rows, 64 - rows] }))
      const [w1, w2] = [at(weights, 0), at(weights, 1)]
      return [{ dtype: 'f32', shape: [20, 48] }, vector(48), w1, vector(16), w2, vector(48)]
    },
  },
  {
    name: 'backward',
    f: backward,
    types: (dtype) =>
      [
        [20, 48],
        [20, 16],
        [48, 16],
        [16, 48],
      ].map((shape) => ({ dtype, shape })),
  },
]

const none = (): never => {
  throw new Error('asked for another way')
}
const plainMeans: RowMeans = {
  ...{ choice: 'tuned', precision: 'ieee', lower: none, lowerFusion: none },
  ownRows: () => undefined,
}

/** A device on which every product is done by plain kernels, and a chain by its parts. */
function plainDevice(fusions: boolean, separate: boolean, chains: RowChain[]): Device {
  const environment = { PULLBACK_CACHE: gpu.folder, PULLBACK_VERIFY: '1' }
  const runtime = openRuntime(probe(gpu.sim.machine, gpu.sim.native), gpu.sim.native, {
    ...{ ordinal: 0, environment, separate },
    owners: () => '',
  })
  const lowerFused = (step: Extract<CudaStep, { kind: 'fused' }>['fusion']): Lowered => {
    if (step.kind !== 'rows') throw new Error(`a ${step.kind}`)
    chains.push(step)
    return rowTask(step, plainMeans).reference?.() ?? none()
  }
  const lower = (equation: Contraction): Lowered => lowerPlainContraction(equation)
  return new CudaDevice(runtime, {
    ...{ graphs: true, separate, fusions },
    lowering: { lower: (step) => lowerStep(step, { lower, lowerFused }) },
  })
}

function clean(): void {
  gpu.expectNothingLeft()
}

async function own(f: Flat, types: readonly TensorType[], going: Going) {
  const { device, contractions } = fusingDevice(gpu.sim, gpu.folder, going)
  const given = await values(device, f, types)
  await device.close()
  clean()
  return { given, chosen: contractions.tuner.chosen(), counts: contractions.tuner.counts }
}

/** The way taken for the chains. */
function ways(chosen: Readonly<Record<string, string>>): readonly string[] {
  return Object.entries(chosen).flatMap(([key, id]) => (key.startsWith('rows of ') ? [id] : []))
}

describe.each(['f16', 'bf16'] as const)('a chain of rows in %s', (dtype) => {
  test.each(cases)('$name: the bits of its parts', async ({ f, types }) => {
    const run = async (fusions: boolean, separate: boolean) => {
      const chains: RowChain[] = []
      const device = plainDevice(fusions, separate, chains)
      const given = await values(device, f, types(dtype))
      await device.close()
      clean()
      return { given, chains: chains.length }
    }
    const apart = await run(false, false)
    expect(apart.chains).toBe(0)
    for (const separate of [false, true]) expect(await run(true, separate)).toEqual({ ...apart, chains: 1 })
  })

  test.each(cases)('$name: the reference’s values by one kernel', async ({ f, types }) => {
    const wanted = await expected(f, types(dtype))
    const fused = await own(f, types(dtype), { fusions: 'always' })
    expect(ways(fused.chosen)).toEqual(['own:rows'])
    expect(fused.counts.dropped).toBe(0)
    expect(worst(fused.given, wanted)).toBeLessThan(16 * (rounding[dtype] ?? 0))
    expect((await own(f, types(dtype), { fusions: 'always', separate: true })).given).toEqual(fused.given)
    const apart = await own(f, types(dtype), { fusions: 'never' })
    expect(ways(apart.chosen)).toEqual([])
    expect(worst(apart.given, wanted)).toBeLessThan(16 * (rounding[dtype] ?? 0))
  })
})

test('what was timed is kept, and made again, with its products’ biases by the library', async () => {
  const { f, types } = at(cases, 0)
  const timed = await own(f, types('f16'), { fusions: 'tuned', tune: 'time' })
  expect(ways(timed.chosen)).toHaveLength(1)
  const again = await own(f, types('f16'), { fusions: 'tuned', tune: 'time' })
  expect(again.chosen).toMatchObject(
    Object.fromEntries(Object.entries(timed.chosen).filter(([key]) => key.startsWith('rows'))),
  )
  expect([again.counts.timed, again.given]).toEqual([0, timed.given])
  const { device, contractions } = fusingDevice(gpu.sim, gpu.folder, { fusions: 'tuned' })
  const [key = ''] = Object.keys(timed.chosen).filter((one) => one.startsWith('rows of '))
  contractions.tuner.require({ [key]: 'separate' })
  const separate = await values(device, f, types('f16'))
  await device.close()
  clean()
  expect(ways(contractions.tuner.chosen())).toEqual(['separate'])
  expect(Object.keys(contractions.tuner.chosen()).some((one) => /^dot .* bias-relu/.test(one))).toBe(true)
  expect(worst(separate, await expected(f, types('f16')))).toBeLessThan(16 * (rounding.f16 ?? 0))
})

describe('a kernel for a chain', () => {
  const chainOf = ({ f, types }: Case): RowChain => {
    const { program } = traceFlat(f, types('f16'), 'test', { keepCalls: false })
    for (const step of fuseSteps(compileProgram(program, { optimize: 'fuse', donate: [] })).steps)
      if (step.kind === 'fused' && step.fusion.kind === 'rows') return step.fusion
    throw new Error('no chain')
  }

  /** A chain's parts by plain kernels, with other nodes where `change` has some. */
  const altered = (chain: RowChain, id: string, change: (nodes: readonly KernelNode[]) => KernelNode[]): Candidate =>
    compose(
      id,
      chain.parts.map((part) => ({
        lowered:
          part.kind === 'dot'
            ? lowerPlainContraction(part.equation)
            : lowerKernel({ ...part.kernel, nodes: change(part.kernel.nodes) }),
        wires: part.wires,
      })),
      chain.inside,
    )

  /** As libraries may cut off below 0: what is no number is not above it. */
  const cuts = (nodes: readonly KernelNode[]): KernelNode[] =>
    nodes.flatMap((node, index): KernelNode[] => {
      if (node.op !== 'max') return [node]
      const [value, zero] = [at(node.args, 0), at(node.args, 1)]
      expect(index).toBe(nodes.length - 1)
      return [
        { op: 'compare', dtype: 'bool', comparison: 'gt', args: [value, zero] },
        { op: 'select', dtype: node.dtype, args: [index, value, zero] },
      ]
    })
  /** Nothing is added to the first product. */
  const forgets = (nodes: readonly KernelNode[]): KernelNode[] =>
    nodes.map((node) => (node.op === 'max' ? { ...node, args: [0, at(node.args, 1)] } : node))

  test('is dropped where it makes numbers of NaN, or other values', () => {
    const chain = chainOf(at(cases, 0))
    const runtime = openRuntime(probe(gpu.sim.machine, gpu.sim.native), gpu.sim.native, {
      ...{ ordinal: 0, environment: { PULLBACK_CACHE: gpu.folder }, separate: false },
      owners: () => '',
    })
    const bench = runtimeBench(runtime, true)
    const task = rowTask(chain, {
      ...plainMeans,
      lower: lowerPlainContraction,
      lowerFusion: ({ contraction, kernels, inside }) =>
        compose(
          'plain',
          [
            { lowered: lowerPlainContraction(contraction.equation), wires: contraction.wires },
            ...kernels.map(({ kernel, wires }) => ({ lowered: lowerKernel(kernel), wires })),
          ],
          inside,
        ),
    })
    const reference = task.reference?.() ?? none()
    const asItIs = altered(chain, 'own:right', (nodes) => [...nodes])
    expect(task.acceptance?.(bench, asItIs)).toBeUndefined()
    expect(disagreement(bench, task, asItIs, reference)).toBeUndefined()
    // The stores name nodes by position: the cut's last node takes the maximum's place.
    const cut = altered(withStoresMoved(chain), 'own:cuts', cuts)
    expect(task.acceptance?.(bench, cut)).toBe('it makes numbers of NaN')
    const forgetful = altered(chain, 'own:forgets', forgets)
    expect(task.acceptance?.(bench, forgetful)).toMatch(/^result \d is [\d.]+ % off what the separate steps give$/)
    expect(disagreement(bench, task, forgetful, reference)).toMatch(/^it gives /)
    runtime.close()
  })

  function withStoresMoved(chain: RowChain): RowChain {
    const parts = chain.parts.map((part) => {
      if (part.kind === 'dot' || !part.kernel.nodes.some(({ op }) => op === 'max')) return part
      const stores = part.kernel.stores.map((store) => ({ ...store, node: store.node + 1 }))
      return { ...part, kernel: { ...part.kernel, stores } }
    })
    return { ...chain, parts }
  }
})
