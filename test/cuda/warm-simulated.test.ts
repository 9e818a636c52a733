// A start with warm caches on the simulated GPU: what was tuned is taken as it is, so that nothing is compiled, timed or tried
// before the first run; and what is told of the way there counts every problem once.
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { traceFlat } from '../../src/autograd/trace.ts'
import { CudaDevice } from '../../src/cuda/device.ts'
import { CudaExecutable } from '../../src/cuda/executable.ts'
import { cudaDevice } from '../../src/cuda/index.ts'
import type { Preparation } from '../../src/tensor/device.ts'
import { bindOne } from '../../src/tensor/dispatch.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { simulatedGpu } from '../support/simulated.ts'
import type { Flat } from './fusions-harness.ts'

const gpu = simulatedGpu()

const types: readonly TensorType[] = [
  { dtype: 'f16', shape: [2, 6, 6, 16] },
  { dtype: 'f16', shape: [24, 1, 1, 16] },
  { dtype: 'f32', shape: [24] },
]

/** A convolution with the statistics of its channels, and one with a ReLU behind it: both are tried before they are taken. */
const program: Flat = ([x, w, bias]) => {
  const y = ops.conv2d(x!, w!)
  const wide = ops.cast(y, 'f32')
  const axes = [0, 1, 2]
  const shifted = ops.cast(ops.maximum(ops.add(ops.cast(ops.conv2d(ops.mul(x!, 2), w!), 'f32'), bias!), 0), 'f16')
  return [y, ops.sum(wide, { axes }), ops.sum(ops.mul(wide, wide), { axes }), shifted]
}

/** A chain of rows. */
const rows: Flat = ([x, w1, w2]) => [ops.sigmoid(ops.matmul(ops.maximum(ops.matmul(x!, w1!), 0), w2!))]
/** Products of transposed matrices, which may be one launch. */
const products: Flat = ([, a, b]) =>
  [a!, b!].flatMap((x) => bindOne('dot', [x, x], { batch: [[], []], contract: [[0], [0]] }))
const smallTypes = [
  [24, 48],
  [48, 16],
  [16, 48],
].map((shape): TensorType => ({ dtype: 'f16', shape }))

/** What compiling a program takes on a device opened anew. */
async function started(environment: Readonly<Record<string, string>> = {}, f = program, given = types) {
  const settings = { PULLBACK_CACHE: gpu.folder, PULLBACK_FUSIONS: 'tuned', ...environment }
  const device = cudaDevice({ native: gpu.sim.native, machine: gpu.sim.machine, environment: settings })
  if (!(device instanceof CudaDevice)) throw new Error('another device')
  const told: Preparation[] = []
  device.watch((state) => told.push(state))
  const { program: traced } = traceFlat(f, given, 'warm', { keepCalls: false })
  const before = gpu.sim.report().counts
  const executable = device.compile(traced, { optimize: 'fuse', donate: [], label: 'warm' })
  if (!(executable instanceof CudaExecutable)) throw new Error('another executable')
  const after = gpu.sim.report().counts
  const calls = (name: string): number => (after[name] ?? 0) - (before[name] ?? 0)
  const fused = executable.plan.steps.filter(({ kind }) => kind === 'fused').length
  const outcome = {
    ...{ fused, tuning: device.details()['tuning'], ways: executable.ways.map(({ id }) => id) },
    ...{
      launched: calls('cuLaunchKernel'),
      executed: calls('cudnnBackendExecute'),
      compiled: calls('nvrtcCompileProgram'),
    },
    last: told.filter(({ phase }) => phase === 'tuning').at(-1),
  }
  await device.close()
  return outcome
}

test('takes what was tuned without trying it, and tries it where everything is to be checked', async () => {
  const cold = await started()
  expect(cold.fused).toBe(2)
  expect(cold.launched).toBeGreaterThan(0)
  expect(cold.last?.done).toBe(cold.last?.total)
  const warm = await started()
  expect([warm.launched, warm.executed, warm.compiled]).toEqual([0, 0, 0])
  expect(warm.ways).toEqual(cold.ways)
  expect(warm.tuning).toMatch(/^by time: \d+ cached/)
  expect(warm.last?.done).toBe(warm.last?.total)
  const checked = await started({ PULLBACK_VERIFY: '1' })
  expect(checked.launched).toBeGreaterThan(0)
  expect(checked.ways).toEqual(cold.ways)
})

test('what wins where the separate steps do not compete is not taken where they do, nor the other way round', async () => {
  const place = { PULLBACK_CACHE: join(gpu.folder, 'always') }
  const always = await started({ ...place, PULLBACK_FUSIONS: 'always' })
  expect(always.ways).not.toContain('separate')
  expect((await started(place)).tuning).toMatch(/^by time: \d+ timed/)
  expect((await started({ ...place, PULLBACK_FUSIONS: 'always' })).ways).toEqual(always.ways)
})

test('takes separate steps and plans that compile nothing where there is no time, and times them at the next start', async () => {
  const place = { PULLBACK_CACHE: join(gpu.folder, 'another') }
  const late = await started({ ...place, PULLBACK_TUNE_SECONDS: '0' })
  expect([late.launched, late.executed]).toEqual([0, 0])
  expect(late.tuning).toMatch(/^by time: \d+ untimed;/)
  expect(late.ways.filter((id) => id === 'separate')).toHaveLength(2)
  expect((await started(place)).tuning).toMatch(/timed/)
  for (const small of [rows, products]) {
    const hurried = await started({ ...place, PULLBACK_TUNE_SECONDS: '0' }, small, smallTypes)
    expect([hurried.launched, hurried.executed]).toEqual([0, 0])
    expect(hurried.fused).toBe(1)
    expect(hurried.ways).toContain('separate')
  }
})
