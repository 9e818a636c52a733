// Fusions on the simulated GPU: each kind, in each dtype, gives what the reference gives and what the separate steps give, and
// leaves nothing behind.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { traceFlat } from '../../src/autograd/trace.ts'
import { type KernelNode, compileProgram } from '../../src/compile/index.ts'
import { probe } from '../../src/cuda/discovery-probe.ts'
import { fuseSteps } from '../../src/cuda/fusions/arrange.ts'
import { compose } from '../../src/cuda/fusions/compose.ts'
import type { Fusion } from '../../src/cuda/fusions/fusion.ts'
import { nanAcceptance } from '../../src/cuda/fusions/nans.ts'
import { statisticsAcceptance } from '../../src/cuda/fusions/statistics.ts'
import { lowerPlainContraction } from '../../src/cuda/kernels/index.ts'
import { lowerKernel } from '../../src/cuda/printed.ts'
import { openRuntime } from '../../src/cuda/runtime/index.ts'
import { runtimeBench } from '../../src/cuda/tune/index.ts'
import type { Candidate } from '../../src/cuda/work.ts'
import { bindOne } from '../../src/tensor/dispatch.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { at } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type Simulation, buildMilliseconds, simulation } from '../sim/library.ts'
import { type Flat, type Going, expected, fusingDevice, rounding, values, worst } from './fusions-harness.ts'

let sim: Simulation
let folder = ''
beforeAll(async () => {
  sim = await simulation()
  folder = mkdtempSync(join(tmpdir(), 'pullback-fusions-'))
}, buildMilliseconds)
beforeEach(() => {
  sim.reset()
  sim.seed(0)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

type Half = 'f16' | 'bf16' | 'f32'

/** A function, its operands, and the names by which its fusions are known. */
interface Case {
  readonly name: string
  readonly f: Flat
  readonly types: (dtype: Half) => readonly TensorType[]
  readonly fused: RegExp
  /** In which dtypes; all unless said. */
  readonly only?: readonly Half[]
}

const images = (dtype: Half, channels = 16): TensorType => ({ dtype, shape: [2, 6, 6, channels] })
const filter = (dtype: Half, outputs = 24, channels = 16): TensorType => ({ dtype, shape: [outputs, 1, 1, channels] })
const vector: TensorType = { dtype: 'f32', shape: [24] }

/** A tensor computed with in f32, and rounded to its dtype again. */
const inF32 = (y: Tensor, f: (y: Tensor) => Tensor): Tensor => ops.cast(f(ops.cast(y, 'f32')), y.dtype)

const statistics = (options: ops.ConvOptions): Flat => {
  return ([x, w]) => {
    const y = ops.conv2d(x!, w!, options)
    const wide = ops.cast(y, 'f32')
    const axes = [0, 1, 2]
    return [y, ops.sum(wide, { axes }), ops.sum(ops.mul(wide, wide), { axes })]
  }
}

/** A batch norm of inference and what follows it. */
const normalized = (y: Tensor, mean: Tensor, scale: Tensor, shift: Tensor): Tensor =>
  inF32(y, (wide) => ops.add(ops.mul(ops.sub(wide, mean), scale), shift))

const inputGrad = (cotangent: Tensor, w: Tensor): Tensor =>
  bindOne('conv2dInputGrad', [cotangent, w], {
    ...{ stride: [1, 1], dilation: [1, 1], groups: 1, inputShape: [2, 6, 6, 16] },
    padding: [
      [0, 0],
      [0, 0],
    ],
  })

/** The gradient of a block's input: two cotangents where the ReLU was open, and the sums of it that a batch norm needs. */
const gated: Flat = ([cotangent, w, other, opened, raw]) => {
  const sum = ops.add(other!, inputGrad(cotangent!, w!))
  const gradient = ops.where(ops.greater(opened!, 0), sum, 0)
  const wide = ops.cast(gradient, 'f32')
  const axes = [0, 1, 2]
  return [gradient, ops.sum(wide, { axes }), ops.sum(ops.mul(wide, ops.cast(raw!, 'f32')), { axes })]
}

/**
 * The gradient in front of a grouped convolution, and what the batch norm and ReLU there want of it: two sums where the ReLU
 * was open, and what is made of them. The mean is `part` of what is given for it.
 */
const masked =
  (stride: 1 | 2, part: number): Flat =>
  ([cotangent, w, x, ...norm]) => {
    const [given, scale, shift] = norm as [Tensor, Tensor, Tensor]
    const gradient = bindOne('conv2dInputGrad', [cotangent!, w!], {
      ...{
        stride: [stride, stride],
        dilation: [1, 1],
        groups: 4,
        inputShape: x!.shape as [number, number, number, number],
      },
      padding: [
        [1, 1],
        [1, 1],
      ],
    })
    const mean = ops.mul(given, part)
    const open = ops.greater(ops.maximum(normalized(x!, mean, scale, shift), 0), 0)
    const passed = ops.cast(ops.where(open, gradient, 0), 'f32')
    const axes = [0, 1, 2]
    const [sum, products] = [ops.sum(passed, { axes }), ops.sum(ops.mul(passed, ops.cast(x!, 'f32')), { axes })]
    const scaled = ops.mul(ops.sub(products, ops.mul(sum, mean)), scale)
    return [gradient, sum, scaled, ops.mul(sum, shift)]
  }
const halves = ['f16', 'bf16'] as const
const norms: readonly TensorType[] = [0, 1, 2].map(() => ({ dtype: 'f32', shape: [16] }))

const cases: readonly Case[] = [
  {
    name: 'masked sums of a grouped gradient',
    f: masked(1, 1),
    types: (dtype) => [images(dtype), { dtype, shape: [16, 3, 3, 4] }, images(dtype), ...norms],
    fused: /^conv2dInputGrad .* groups 4 .*\+ masked sums and/,
    only: halves,
  },
  {
    name: 'masked sums of a grouped gradient of stride 2, with the mean from a sum',
    f: masked(2, 1 / 72),
    types: (dtype) => [{ dtype, shape: [2, 3, 3, 16] }, { dtype, shape: [16, 3, 3, 4] }, images(dtype), ...norms],
    fused: /^conv2dInputGrad .* groups 4 .*\+ masked sums and/,
    only: halves,
  },
  {
    name: 'statistics',
    f: statistics({}),
    types: (dtype) => [images(dtype), filter(dtype)],
    fused: /\+ statistics and/,
    only: ['f16'],
  },
  {
    name: 'statistics of a grouped convolution',
    f: statistics({ padding: 1, groups: 4, stride: 2 }),
    types: (dtype) => [images(dtype), { dtype, shape: [16, 3, 3, 4] }],
    fused: /groups 4 .*\+ statistics and/,
    only: halves,
  },
  {
    name: 'batch norm and ReLU',
    f: ([x, w, ...norm]) => {
      const [mean, scale, shift] = norm as [Tensor, Tensor, Tensor]
      return [ops.maximum(normalized(ops.conv2d(x!, w!), mean, scale, shift), 0)]
    },
    types: (dtype) => [images(dtype), filter(dtype), vector, vector, vector],
    fused: /\+ SUB\(y, a0\) MUL\(s0, a1\) ADD\(s1, a2\) RELU_FWD\(s2\)/,
  },
  {
    name: 'batch norm and ReLU of a grouped convolution',
    f: ([x, w, ...norm]) => {
      const [mean, scale, shift] = norm as [Tensor, Tensor, Tensor]
      const y = ops.conv2d(x!, w!, { padding: 1, groups: 4 })
      return [ops.maximum(normalized(y, mean, scale, shift), 0)]
    },
    types: (dtype) => {
      const norm: TensorType = { dtype: 'f32', shape: [16] }
      return [images(dtype), { dtype, shape: [16, 3, 3, 4] }, norm, norm, norm]
    },
    fused: /groups 4 .*\+ SUB\(y, a0\)/,
  },
  {
    name: 'batch norm, a gate for each image, a residual and ReLU',
    f: ([x, w, gate, residual, ...norm]) => {
      const [mean, scale, shift] = norm as [Tensor, Tensor, Tensor]
      const y = normalized(ops.conv2d(x!, w!), mean, scale, shift)
      return [ops.maximum(ops.add(ops.mul(y, gate!), residual!), 0)]
    },
    types: (dtype) => {
      const residual = { dtype, shape: [2, 6, 6, 24] } as const
      return [images(dtype), filter(dtype), { dtype, shape: [2, 1, 1, 24] }, residual, vector, vector, vector]
    },
    fused: /MUL\(s2, a3\) ADD\(s3, a4\) RELU_FWD\(s4\) of f32 1x1x1x24, .* 2x1x1x24, .* 2x6x6x24/,
  },
  {
    name: 'added and gated gradient with its sums',
    f: gated,
    types: (dtype) => {
      const like = images(dtype)
      return [images(dtype, 24), filter(dtype), like, like, like]
    },
    fused: /conv2dInputGrad .*ADD\(a\d, y\) RELU_BWD\(s0, a\d\)/,
  },
  {
    name: 'bias and ReLU of a product',
    f: ([x, w, bias]) => [ops.maximum(ops.add(ops.matmul(x!, w!), ops.cast(bias!, x!.dtype)), 0)],
    types: (dtype) => [{ dtype, shape: [10, 32] }, { dtype, shape: [32, 24] }, vector],
    fused: /^dot .* bias-relu/,
  },
  {
    name: 'bias of a product',
    f: ([x, w, bias]) => [ops.add(ops.matmul(x!, w!), ops.cast(bias!, x!.dtype))],
    types: (dtype) => [{ dtype, shape: [10, 32] }, { dtype, shape: [32, 24] }, vector],
    fused: /^dot .* bias and/,
  },
]

/** What a function gives on a device of its own, and what was chosen. */
async function run({ f, types }: Case, dtype: Half, going: Going) {
  const { device, contractions } = fusingDevice(sim, folder, going)
  const given = await values(device, f, types(dtype))
  await device.close()
  const { violations, memory, live, retained } = sim.report()
  expect({ violations, memory, live, retained }).toEqual({ violations: [], memory: [], live: {}, retained: 0 })
  return { given, chosen: contractions.tuner.chosen(), counts: contractions.tuner.counts }
}

describe.each(['f16', 'bf16', 'f32'] as const)('fused in %s', (dtype) => {
  test.each(cases.filter(({ only = [dtype] }) => only.includes(dtype)))(
    '$name: the reference’s values, in one pass',
    async (each) => {
      const wanted = await expected(each.f, each.types(dtype))
      const fused = await run(each, dtype, { fusions: 'always' })
      const [, id] = Object.entries(fused.chosen).find(([key]) => each.fused.test(key)) ?? []
      expect(id, Object.keys(fused.chosen).join('; ')).toMatch(
        /^(cudnn|cublaslt|own:grouped-(forward-(statistics|normalize)|input-grad-mask))/,
      )
      expect(fused.counts.dropped).toBe(0)
      const bound = 16 * (rounding[dtype] ?? 0)
      expect(worst(fused.given, wanted)).toBeLessThan(bound)
      // The same bits where each value has memory of its own, poisoned before.
      expect((await run(each, dtype, { fusions: 'always', separate: true })).given).toEqual(fused.given)
      const apart = await run(each, dtype, { fusions: 'never' })
      expect(Object.keys(apart.chosen).some((key) => each.fused.test(key))).toBe(false)
      expect(worst(apart.given, wanted)).toBeLessThan(bound)
    },
  )
})

// cuDNN compiles kernels for these that add up with atomics, and no note of their engines says so: two runs differed.
test.each(['bf16', 'f32'] as const)(
  'statistics in %s are not taken from kernels that add up in any order',
  async (dtype) => {
    const each = at(
      cases.filter(({ name }) => name === 'statistics'),
      0,
    )
    const { given, chosen } = await run(each, dtype, { fusions: 'always' })
    expect(Object.entries(chosen).find(([key]) => each.fused.test(key))?.[1]).toBe('separate')
    expect(worst(given, await expected(each.f, each.types(dtype)))).toBeLessThan(16 * (rounding[dtype] ?? 0))
  },
)

describe('the first convolution over padded channels', () => {
  const pair = [3, 3] as const
  const params = { stride: [2, 2], padding: [pair, pair], dilation: [1, 1], groups: 1 } as const
  const [x, w, y] = [
    [2, 12, 12, 3],
    [8, 7, 7, 3],
    [2, 6, 6, 8],
  ] as const
  const forward = (dtype: Half) => ({
    f: (([image, taps]) => [bindOne('conv2d', [image!, taps!], params)]) as Flat,
    types: [
      { dtype, shape: x },
      { dtype, shape: w },
    ] satisfies TensorType[],
    key: `conv2d ${dtype}${dtype === 'f32' ? ' ieee' : ''} 2x12x12x3 * 8x7x7x3 -> 2x6x6x8 stride 2 padding 3`,
    engine: dtype === 'f32' ? 'cudnn:engine 1' : 'cudnn:engine 62 knobs 2=1 3=5',
  })
  const gradient = (dtype: Half) => ({
    f: (([image, cotangent]) => [
      bindOne('conv2dFilterGrad', [image!, cotangent!], { ...params, filterShape: w }),
    ]) as Flat,
    types: [
      { dtype, shape: x },
      { dtype, shape: y },
    ] satisfies TensorType[],
    key: forward(dtype).key.replace('conv2d', 'conv2dFilterGrad'),
    engine: dtype === 'f32' ? 'cudnn:engine 1' : 'cudnn:engine 65 knobs 2=1 3=5',
  })

  test.each(['f16', 'bf16', 'f32'] as const)('gives the reference’s values and gradient in %s', async (dtype) => {
    for (const { f, types, key, engine } of [forward(dtype), gradient(dtype)])
      for (const channels of dtype === 'f32' ? [4] : [8, 4]) {
        const id = `padded to ${channels}: ${engine}`
        const { device, contractions } = fusingDevice(sim, folder, { fusions: 'tuned' })
        contractions.tuner.require({ [key]: id })
        const given = await values(device, f, types)
        await device.close()
        expect(contractions.tuner.chosen()).toEqual({ [key]: id })
        expect(worst(given, await expected(f, types))).toBeLessThan(16 * (rounding[dtype] ?? 0))
        expect(sim.report().violations).toEqual([])
      }
  })
})

describe('sums that come with a convolution', () => {
  const types = [images('f16'), filter('f16')]
  const fusionOf = (): Fusion => {
    const { program } = traceFlat(statistics({}), types, 'test', { keepCalls: false })
    const plan = fuseSteps(compileProgram(program, { optimize: 'fuse', donate: [] }))
    const [step] = plan.steps
    if (step?.kind !== 'fused') throw new Error('no fusion')
    return step.fusion
  }

  /** Kernels of ours that compute the sums of the result, and scale its squares. */
  const ownSums = (scale: number, fusion: Fusion): Candidate => {
    const [kernel] = fusion.kernels
    if (kernel === undefined) throw new Error('no kernel')
    const nodes: KernelNode[] = [...kernel.kernel.nodes]
    const square = nodes.findIndex(({ op }) => op === 'mul')
    const factor = nodes.push({ op: 'constant', dtype: 'f32', value: scale }) - 1
    const scaled = nodes.push({ op: 'mul', dtype: 'f32', args: [square, factor] }) - 1
    const reductions = kernel.kernel.reductions.map((one) => (one.node === square ? { ...one, node: scaled } : one))
    const lowered = lowerKernel({ ...kernel.kernel, nodes, reductions })
    const contraction = lowerPlainContraction(fusion.contraction.equation)
    const parts = [
      { lowered: contraction, wires: fusion.contraction.wires },
      { lowered, wires: kernel.wires },
    ]
    return { ...compose('own:sums', parts, fusion.inside) }
  }

  test('are taken where channels with a mean of 30 deviations keep their variance, and dropped where they do not', () => {
    // Of a mean of 30 deviations the squares are 901 variances: one in 4,000 too much is a fifth of the variance.
    for (const [scale, flawed] of [
      [1, false],
      [1 + 2 ** -18, false],
      [1 + 2 ** -12, true],
    ] as const) {
      const fusion = fusionOf()
      const environment = { PULLBACK_CACHE: folder }
      const runtime = openRuntime(probe(sim.machine, sim.native), sim.native, {
        ...{ ordinal: 0, environment, separate: false },
        owners: () => '',
      })
      const separate = (): Candidate => ({ ...ownSums(1, fusion), id: 'separate' })
      const acceptance = statisticsAcceptance(fusion, { id: 'separate', make: separate })
      const said = acceptance(runtimeBench(runtime, true), ownSums(scale, fusion))
      runtime.close()
      if (flawed) expect(said).toMatch(/^on channels with a mean of 30 deviations it gives channel \d+ a variance of /)
      else expect(said).toBeUndefined()
    }
  })
})

describe('a fused ReLU', () => {
  const types: TensorType[] = [images('f16'), filter('f16'), { dtype: 'f16', shape: [at(filter('f16').shape, 0)] }]
  const f: Flat = ([x, w, v]) => [ops.maximum(ops.add(ops.conv2d(x!, w!), v!), 0)]

  /** The separate steps; with `cuts` a comparison that NaN does not pass stands for the maximum. */
  const steps = (fusion: Fusion, id: string, cuts: boolean): Candidate => {
    const [one] = fusion.kernels
    if (one === undefined) throw new Error('no kernel')
    const nodes: KernelNode[] = [...one.kernel.nodes]
    const relu = nodes.findIndex(({ op }) => op === 'max')
    const maximum = at(nodes, relu)
    if (!('args' in maximum)) throw new Error('no maximum')
    const [value, zero] = [at(maximum.args, 0), at(maximum.args, 1)]
    const above = nodes.push({ op: 'compare', dtype: 'bool', comparison: 'gt', args: [value, zero] }) - 1
    const chosen = nodes.push({ op: 'select', dtype: maximum.dtype, args: [above, value, zero] }) - 1
    const stores = one.kernel.stores.map((store) => (cuts && store.node === relu ? { ...store, node: chosen } : store))
    const parts = [
      { lowered: lowerPlainContraction(fusion.contraction.equation), wires: fusion.contraction.wires },
      { lowered: lowerKernel({ ...one.kernel, nodes, stores }), wires: one.wires },
    ]
    return compose(id, parts, fusion.inside)
  }

  test('is dropped where it makes a number of NaN', () => {
    const { program } = traceFlat(f, types, 'test', { keepCalls: false })
    const [step] = fuseSteps(compileProgram(program, { optimize: 'fuse', donate: [] })).steps
    if (step?.kind !== 'fused') throw new Error('no fusion')
    const { fusion } = step
    const environment = { PULLBACK_CACHE: folder }
    const runtime = openRuntime(probe(sim.machine, sim.native), sim.native, {
      ...{ ordinal: 0, environment, separate: false },
      owners: () => '',
    })
    const acceptance = nanAcceptance(fusion, { id: 'separate', make: () => steps(fusion, 'separate', false) })
    const bench = runtimeBench(runtime, true)
    expect(acceptance(bench, steps(fusion, 'own:keeps', false))).toBeUndefined()
    expect(acceptance(bench, steps(fusion, 'own:cuts', true))).toBe('it makes numbers of NaN')
    runtime.close()
  })
})

describe('a tuner', () => {
  test('times fused ways beside the separate one, keeps the winner, and makes it again from the cache', async () => {
    const each = at(cases.slice(2), 0) // statistics
    const other = mkdtempSync(join(tmpdir(), 'pullback-fusions-'))
    const timed = async () => {
      const { device, contractions } = fusingDevice(sim, other, { fusions: 'tuned', tune: 'time' })
      const given = await values(device, each.f, each.types('f16'))
      await device.close()
      sim.reset()
      return { given, tuner: contractions.tuner }
    }
    const [first, second] = [await timed(), await timed()]
    rmSync(other, { recursive: true })
    // The contraction by itself and the fusion; one engine of the simulation's cannot be captured.
    expect(first.tuner.counts).toMatchObject({ timed: 2, cached: 0, dropped: 1 })
    expect(second.tuner.counts).toMatchObject({ timed: 0, retuned: 0, dropped: 0 })
    expect(second.tuner.counts.cached).toBeGreaterThan(0)
    for (const [key, id] of Object.entries(second.tuner.chosen())) expect(first.tuner.chosen()[key]).toBe(id)
    expect(second.given).toEqual(first.given)
  })
})
