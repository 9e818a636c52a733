// Optimizers, schedules and the loss scale against PyTorch's own runs of them.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import {
  adjust,
  cosineSchedule,
  dynamic,
  fixed,
  isBatchNormPath,
  linearSchedule,
  rmsprop,
  sgd,
  stepSchedule,
} from '../../src/train/index.ts'

interface Trajectory {
  readonly name: string
  readonly momentum: number
  readonly nesterov: boolean
  readonly weightDecay: number
  readonly learningRates: readonly number[]
  readonly initial: readonly number[]
  readonly gradients: readonly (readonly number[])[]
  readonly parameters: readonly (readonly number[])[]
  readonly momentumBuffers: readonly (readonly number[] | null)[]
}

interface RecordedSchedule {
  readonly kind: 'cosine' | 'step' | 'linear'
  readonly learningRate: number
  readonly warmup: number
  readonly epochs: number
  readonly endLearningRate?: number
  readonly steps?: readonly number[]
  readonly decay?: number
  readonly values: readonly (readonly [epoch: number, rate: number])[]
}

interface RecordedScale {
  readonly name: string
  readonly init: number
  readonly growth: number
  readonly backoff: number
  readonly interval: number
  readonly steps: readonly {
    readonly finite: boolean
    readonly usedScale: number
    readonly scale: number
    readonly goodSteps: number
  }[]
}

const golden = JSON.parse(
  readFileSync(fileURLToPath(new URL('../golden/optimizers.json', import.meta.url)), 'utf8'),
) as { sgd: readonly Trajectory[]; schedules: readonly RecordedSchedule[]; lossScales: readonly RecordedScale[] }

beforeAll(() => {
  setDefaultDevice(referenceDevice())
})

const largestError = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Math.max(...Array.from(b, (value, i) => Math.abs((a[i] ?? Number.NaN) - value)))

describe('sgd', () => {
  // Values are of the order of one: six steps of a few roundings each.
  describe.each([
    ['f64', 1e-14],
    ['f32', 2e-6],
  ] as const)('in %s', (dtype, bound) => {
    test.each(golden.sgd)(
      '$name',
      async ({ initial, gradients, parameters, momentumBuffers, learningRates, ...options }) => {
        const optimizer = sgd(options)
        let params: { w: Tensor } = { w: tensor(initial, { dtype }) }
        let state = optimizer.init(params)
        for (const [i, gradient] of gradients.entries()) {
          const [next, after] = optimizer.update(
            params,
            { w: tensor(gradient, { dtype }) },
            state,
            tensor(learningRates[i]!),
          )
          params = next
          state = after
          expect(params.w.dtype).toBe(dtype)
          expect(largestError(await params.w.data(), parameters[i]!)).toBeLessThan(bound)
          const buffer = momentumBuffers[i]
          if (buffer === null || buffer === undefined) expect(state.momentum).toBeUndefined()
          else expect(largestError(await (state.momentum as { w: Tensor }).w.data(), buffer)).toBeLessThan(bound)
        }
      },
    )
  })

  test('decays what the predicate names, by default all but batch norms', async () => {
    const params = { bn1: { weight: tensor([1]), bias: tensor([1]) }, fc: { weight: tensor([1]), bias: tensor([1]) } }
    const still = { bn1: { weight: tensor([0]), bias: tensor([0]) }, fc: { weight: tensor([0]), bias: tensor([0]) } }
    const after = async (options: Parameters<typeof sgd>[0]) => {
      const [{ bn1, fc }] = sgd(options).update(params, still, {}, tensor(1))
      return Promise.all([bn1.weight, bn1.bias, fc.weight, fc.bias].map((x) => x.item()))
    }
    expect(await after({ weightDecay: 0.25 })).toEqual([1, 1, 0.75, 0.75])
    expect(await after({ weightDecay: 0.25, decays: (path) => path.endsWith('weight') })).toEqual([0.75, 1, 0.75, 1])
  })

  test('names of batch norms', () => {
    const norms = ['bn1.weight', 'layers.0.1.bn3.bias', 'layers.2.0.downsample.1.weight', 'norm.weight', 'x.norm2.bias']
    const others = [
      'conv1.weight',
      'fc.bias',
      'layers.0.0.downsample.0.weight',
      'layers.1.weight',
      'bn1.running_mean',
      'subnorm.weight',
    ]
    expect(norms.filter(isBatchNormPath)).toEqual(norms)
    expect(others.filter(isBatchNormPath)).toEqual([])
  })

  test('options out of range', () => {
    expect(() => sgd({ momentum: 1 })).toThrow(/\[sgd\] expected a momentum/)
    expect(() => sgd({ nesterov: true })).toThrow(/\[sgd\] nesterov needs/)
    expect(() => sgd({ weightDecay: -1 })).toThrow(/\[sgd\] expected a weight decay/)
  })
})

test('rmsprop follows its formula, written out again in doubles', async () => {
  const options = { alpha: 0.9, epsilon: 1e-3, momentum: 0.5, weightDecay: 0.1 }
  const optimizer = rmsprop(options)
  let params: { w: Tensor } = { w: tensor([1, -2], { dtype: 'f64' }) }
  let state = optimizer.init(params)
  const expected = { w: [1, -2], s: [0, 0], v: [0, 0] }
  for (const gradient of [
    [0.5, 1],
    [-0.25, 3],
    [2, 0],
  ]) {
    ;[params, state] = optimizer.update(params, { w: tensor(gradient, { dtype: 'f64' }) }, state, tensor(0.125))
    gradient.forEach((raw, i) => {
      const g = raw + options.weightDecay * expected.w[i]!
      expected.s[i] = options.alpha * expected.s[i]! + (1 - options.alpha) * g * g
      expected.v[i] = options.momentum * expected.v[i]! + g / (Math.sqrt(expected.s[i]) + options.epsilon)
      expected.w[i]! -= 0.125 * expected.v[i]
    })
  }
  expect(largestError(await params.w.data(), expected.w)).toBeLessThan(1e-14)
})

describe('schedules', () => {
  test.each(golden.schedules)('$kind of $epochs epochs, $warmup of warm-up', ({ kind, values, ...options }) => {
    const schedule = { cosine: cosineSchedule, step: stepSchedule, linear: linearSchedule }[kind](options)
    for (const [epoch, rate] of values) expect(Math.abs(schedule(epoch) - rate), `epoch ${epoch}`).toBeLessThan(1e-15)
  })

  test('options out of range', () => {
    expect(() => cosineSchedule({ learningRate: 0.1, epochs: 0 })).toThrow(
      /\[schedule\] cosine expected at least one epoch/,
    )
    expect(() => stepSchedule({ learningRate: Number.NaN })).toThrow(/\[schedule\] step expected a rate/)
    expect(() => linearSchedule({ learningRate: 1, epochs: 3, warmup: 0.5 })).toThrow(
      /\[schedule\] linear expected whole epochs/,
    )
  })
})

describe('loss scales', () => {
  test.each(golden.lossScales)("as PyTorch's GradScaler: $name", async ({ steps, ...options }) => {
    let scale = dynamic({ min: 0, ...options })
    for (const [i, { finite, usedScale, scale: next, goodSteps }] of steps.entries()) {
      expect(await scale.scale.item(), `used by step ${i}`).toBe(usedScale)
      scale = adjust(scale, tensor(finite))
      expect([await scale.scale.item(), await scale.goodSteps.item()], `after step ${i}`).toEqual([next, goodSteps])
    }
  })

  test('a fixed scale stays what it is', async () => {
    let scale = fixed(128)
    for (const finite of [true, false, true]) scale = adjust(scale, tensor(finite))
    expect(await scale.scale.item()).toBe(128)
  })

  test('options out of range', () => {
    expect(() => fixed(0)).toThrow(/\[lossScale\] expected a positive/)
    expect(() => fixed(1e39)).toThrow(/\[lossScale\] expected a positive, finite scale/)
    expect(() => dynamic({ growth: 0.5 })).toThrow(/growth/)
    expect(() => dynamic({ backoff: 2 })).toThrow(/backoff/)
    expect(() => dynamic({ interval: 0 })).toThrow(/interval/)
    expect(() => dynamic({ init: 2, min: 4 })).toThrow(/minimum/)
  })
})
