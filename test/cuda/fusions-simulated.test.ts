// Fusions on the simulated GPU: each kind, in each dtype, gives what the reference gives and what the separate steps give, and
// leaves nothing behind.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
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
import { simulatedGpu } from '../support/simulated.ts'
import { type Case, type Half, cases, filter, images, statistics } from './fusions-cases.ts'
import { type Flat, type Going, expected, fusingDevice, rounding, values, worst } from './fusions-harness.ts'

const gpu = simulatedGpu()

/** The case of a name. */
function caseOf(name: string): Case {
  return at(
    cases.filter((each) => each.name === name),
    0,
  )
}

/** What a function gives on a device of its own, and what was chosen. */
async function run({ f, types }: Case, dtype: Half, going: Going) {
  const { device, contractions } = fusingDevice(gpu.sim, gpu.folder, going)
  const given = await values(device, f, types(dtype))
  await device.close()
  gpu.expectNothingLeft()
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
        const { device, contractions } = fusingDevice(gpu.sim, gpu.folder, { fusions: 'tuned' })
        contractions.tuner.require({ [key]: id })
        const given = await values(device, f, types)
        await device.close()
        expect(contractions.tuner.chosen()).toEqual({ [key]: id })
        expect(worst(given, await expected(f, types))).toBeLessThan(16 * (rounding[dtype] ?? 0))
        expect(gpu.sim.report().violations).toEqual([])
      }
  })
})

describe('sums that come with a convolution', () => {
  const types = [images('f16'), filter('f16')]
  const fusionOf = (): Fusion => {
    const { program } = traceFlat(statistics({}), types, 'test', { keepCalls: false })
    const plan = fuseSteps(compileProgram(program, { optimize: 'fuse', donate: [] }))
    const [step] = plan.steps
    if (step?.kind !== 'fused' || step.fusion.kind !== 'contraction') throw new Error('no fusion')
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
      const environment = { PULLBACK_CACHE: gpu.folder }
      const runtime = openRuntime(probe(gpu.sim.machine, gpu.sim.native), gpu.sim.native, {
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
    if (step?.kind !== 'fused' || step.fusion.kind !== 'contraction') throw new Error('no fusion')
    const { fusion } = step
    const environment = { PULLBACK_CACHE: gpu.folder }
    const runtime = openRuntime(probe(gpu.sim.machine, gpu.sim.native), gpu.sim.native, {
      ...{ ordinal: 0, environment, separate: false },
      owners: () => '',
    })
    const acceptance = nanAcceptance(fusion, [0], { id: 'separate', make: () => steps(fusion, 'separate', false) })
    const bench = runtimeBench(runtime, true)
    expect(acceptance(bench, steps(fusion, 'own:keeps', false))).toBeUndefined()
    expect(acceptance(bench, steps(fusion, 'own:cuts', true))).toBe('it makes numbers of NaN')
    runtime.close()
  })
})

describe('a tuner', () => {
  test('times fused ways beside the separate one, keeps the winner, and makes it again from the cache', async () => {
    const each = caseOf('statistics')
    const other = mkdtempSync(join(tmpdir(), 'pullback-fusions-'))
    const timed = async () => {
      const { device, contractions } = fusingDevice(gpu.sim, other, { fusions: 'tuned', tune: 'time' })
      const given = await values(device, each.f, each.types('f16'))
      await device.close()
      gpu.sim.reset()
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
