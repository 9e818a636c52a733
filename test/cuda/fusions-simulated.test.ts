// Fusions on the simulated GPU: each kind, in each dtype, gives what the reference gives and what the separate steps give, and
// leaves nothing behind.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { bindOne } from '../../src/tensor/dispatch.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
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

const cases: readonly Case[] = [
  {
    name: 'statistics',
    f: statistics({}),
    types: (dtype) => [images(dtype), filter(dtype)],
    fused: /\+ statistics and/,
  },
  {
    name: 'statistics of a grouped convolution',
    f: statistics({ padding: 1, groups: 4, stride: 2 }),
    types: (dtype) => [images(dtype), { dtype, shape: [16, 3, 3, 4] }],
    fused: /groups 4 .*\+ statistics and/,
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
  test.each(cases)('$name: the reference’s values, in one pass', async (each) => {
    const wanted = await expected(each.f, each.types(dtype))
    const fused = await run(each, dtype, { fusions: 'always' })
    const [, id] = Object.entries(fused.chosen).find(([key]) => each.fused.test(key)) ?? []
    expect(id, Object.keys(fused.chosen).join('; ')).toMatch(/^(cudnn|cublaslt):/)
    expect(fused.counts.dropped).toBe(0)
    const bound = 16 * (rounding[dtype] ?? 0)
    expect(worst(fused.given, wanted)).toBeLessThan(bound)
    // The same bits where each value has memory of its own, poisoned before.
    expect((await run(each, dtype, { fusions: 'always', separate: true })).given).toEqual(fused.given)
    const apart = await run(each, dtype, { fusions: 'never' })
    expect(Object.keys(apart.chosen).some((key) => each.fused.test(key))).toBe(false)
    expect(worst(apart.given, wanted)).toBeLessThan(bound)
  })
})
