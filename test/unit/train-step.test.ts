// The compiled train step by example: it learns, compiles once, resumes to the bit, accumulates, averages, and says
// where a NaN began.
import { beforeAll, describe, expect, test } from 'vitest'
import { serial, conv2d, globalAvgPool, linear, relu } from '../../src/nn/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { concatenate, tensor } from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import {
  type Precision,
  type TrainStepOptions,
  allFinite,
  defaultLossScale,
  findNonFinite,
  fixed,
  imagenetNormalization,
  initTrainState,
  makeAccumulatingStep,
  makeEvalStep,
  makeTrainStep,
  normalize,
  readMetrics,
  scaleLoss,
  selectTree,
  sgd,
  unscale,
} from '../../src/train/index.ts'
import { found, named } from '../support/golden-model.ts'
import { bitsOf, copyTree, counted, toyBatch, toyModel, toyShape } from '../support/toy.ts'

beforeAll(() => {
  setDefaultDevice(referenceDevice())
})

const optimizer = sgd({ momentum: 0.9, weightDecay: 1 / 16384 })
const model = toyModel()

async function begin(options: Partial<Parameters<typeof initTrainState>[1]> = {}) {
  return initTrainState(model.init(1, toyShape), { optimizer, seed: 1, ...options })
}

describe('makeTrainStep', () => {
  test.each(['f32', 'f16', 'bf16'] as const)(
    'learns the toy in %s, and evaluation agrees',
    async (precision) => {
      const step = makeTrainStep(model, { optimizer, precision, labelSmoothing: 0.1 })
      let state = await begin({ lossScale: defaultLossScale(precision) })
      const losses: number[] = []
      for (let i = 0; i < 25; i++) {
        const [next, metrics] = step(state, toyBatch(i, 6), tensor(0.1))
        state = next
        losses.push((await metrics.loss.item()) / 6)
      }
      expect(losses[0]).toBeGreaterThan(0.9)
      expect(losses.at(-1)).toBeLessThan(0.6)
      const { images, labels } = toyBatch(77, 6)
      const evalStep = makeEvalStep(model, { precision, topk: 2 })
      const means = await readMetrics([
        evalStep(state.params, state.state, { images, labels, weights: tensor([1, 1, 1, 1, 1, 1]) }),
      ])
      expect(means.top1).toBe(1)
      expect(means.count).toBe(6)
    },
    60_000,
  )

  test('compiles once for all learning rates, and the rate counts', async () => {
    const { model: watched, calls } = counted(model)
    const step = makeTrainStep(watched, { optimizer })
    const after: string[] = []
    for (const rate of [0.1, 0.2]) {
      const [{ params }] = step(await begin(), toyBatch(0), tensor(rate))
      after.push((await bitsOf(params)).get('fc.weight') ?? '')
    }
    expect(calls()).toBe(1)
    expect(after[0]).not.toBe(after[1])
  })

  test('the same state and batches give the same bits, from a copy in the middle too, the draws of MixUp included', async () => {
    const options: TrainStepOptions = { optimizer, mixup: 0.2, labelSmoothing: 0.1 }
    const step = makeTrainStep(model, options)
    let state = await begin({ ema: true })
    let middle: typeof state | undefined
    for (let i = 0; i < 4; i++) {
      if (i === 2) middle = await copyTree(state)
      ;[state] = step(state, toyBatch(i), tensor(0.1))
    }
    let resumed = middle!
    for (const i of [2, 3]) [resumed] = makeTrainStep(model, options)(resumed, toyBatch(i), tensor(0.1))
    expect(await bitsOf(resumed)).toEqual(await bitsOf(state))
  })

  test('each step draws its own mixup', async () => {
    const step = makeTrainStep(model, { optimizer: sgd(), mixup: 1 })
    const losses = new Set<number>()
    let state = await begin({ optimizer: sgd() })
    for (let i = 0; i < 3; i++) {
      const [next, metrics] = step(state, toyBatch(0), tensor(0)) // a rate of 0: only the draws differ
      state = next
      losses.add(await metrics.loss.item())
    }
    expect(losses.size).toBe(3)
  })

  test('a step tried again after a skipped one draws anew', async () => {
    const step = makeTrainStep(model, { optimizer, mixup: 1 })
    const { images, labels } = toyBatch(0)
    const nan = tensor(new Float32Array(images.size).fill(Number.NaN), { shape: images.shape })
    const [skipped] = step(await begin(), { images: nan, labels }, tensor(0.1))
    const [, again] = step(skipped, toyBatch(0), tensor(0.1))
    const [, first] = step(await begin(), toyBatch(0), tensor(0.1))
    expect(await again.loss.item()).not.toBe(await first.loss.item())
  })

  test('labels may be probabilities', async () => {
    const { images } = toyBatch(0)
    const step = makeTrainStep(model, { optimizer })
    const soft = tensor([
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
      [1, 0, 0],
    ])
    const [a, first] = step(await begin(), { images, labels: soft }, tensor(0.1))
    const [b, second] = step(await begin(), toyBatch(0), tensor(0.1))
    expect(await first.top1.item()).toBe(await second.top1.item())
    const expected = await named(b.params)
    for (const [path, values] of await named(a.params))
      expect(Math.max(...Array.from(values, (x, i) => Math.abs(x - found(expected, path)[i]!))), path).toBeLessThan(
        1e-6,
      )
  })

  test('averages follow their formula', async () => {
    const step = makeTrainStep(model, { optimizer, emaDecay: 0.15 })
    let state = await begin({ ema: true })
    let average = Array.from(await state.params.fc.weight.data())
    for (let i = 0; i < 3; i++) {
      ;[state] = step(state, toyBatch(i), tensor(0.1))
      const mu = Math.min(0.15, (1 + i) / (10 + i))
      const now = await state.params.fc.weight.data()
      average = average.map((value, j) => mu * value + (1 - mu) * now[j]!)
    }
    const actual = await state.ema!.params.fc.weight.data()
    average.forEach((value, i) => expect(actual[i]).toBeCloseTo(value, 6))
    expect(await bitsOf(state.ema!.state)).not.toEqual(await bitsOf(state.state))
  })

  test('a rate that is not an f32 scalar tensor is an error that says so', async () => {
    const step = makeTrainStep(model, { optimizer })
    const state = await begin()
    expect(() => step(state, toyBatch(0), tensor([0.1]))).toThrow(
      /\[trainStep\] expected the learning rate as an f32 scalar/,
    )
  })
})

describe('makeAccumulatingStep', () => {
  // Without batch norm, whose statistics are a batch's own, three small batches are one large one.
  const plain = serial({ conv: conv2d({ features: 4, kernel: 3 }), relu: relu(), pool: globalAvgPool(), fc: linear(3) })

  test('several batches give the step of one large batch, but for the order of f32 sums', async () => {
    const options: TrainStepOptions = { optimizer, labelSmoothing: 0.1 }
    const start = async () => initTrainState(plain.init(3, toyShape), { optimizer, seed: 1, lossScale: fixed(64) })
    const batches = [0, 1, 2].map((seed) => toyBatch(seed))
    const large = {
      images: concatenate(batches.map(({ images }) => images)),
      labels: concatenate(batches.map(({ labels }) => labels)),
    }
    let [one, many] = [await start(), await start()]
    const [whole, accumulated] = [makeTrainStep(plain, options), makeAccumulatingStep(plain, options, 3)]
    for (let i = 0; i < 2; i++) {
      const [first, metrics] = whole(one, large, tensor(0.1))
      const [second, sums] = accumulated(many, batches, tensor(0.1))
      one = first
      many = second
      expect(await sums.count.item()).toBe(12)
      expect(await sums.loss.item()).toBeCloseTo(await metrics.loss.item(), 4)
    }
    const expected = await named(one.params)
    for (const [path, values] of await named(many.params))
      expect(Math.max(...Array.from(values, (x, i) => Math.abs(x - found(expected, path)[i]!))), path).toBeLessThan(
        1e-6,
      )
    expect(await many.step.item()).toBe(2)
  })

  test('another number of batches is an error', async () => {
    const step = makeAccumulatingStep(model, { optimizer }, 2)
    const state = await begin()
    expect(() => step(state, [toyBatch(0)], tensor(0.1))).toThrow(/\[accumulatingStep\] expected 2 batches, got 1/)
    expect(() => makeAccumulatingStep(model, { optimizer }, 0)).toThrow(/at least one batch/)
  })
})

describe('finding what is not finite', () => {
  const diagnose = async (
    spoil: (parameters: Awaited<ReturnType<typeof begin>>['params']) => unknown,
    precision: Precision = 'f32',
  ) => {
    const { params, state } = await begin()
    const spoiled = spoil(params) as typeof params
    return findNonFinite(model, spoiled, state, normalize(toyBatch(0).images), { precision })
  }
  const filled = (x: Tensor, value: number): Tensor => tensor(new Float32Array(x.size).fill(value), { shape: x.shape })

  test('nothing', async () => {
    expect(await diagnose((params) => params)).toBeUndefined()
  })

  test('a parameter', async () => {
    expect(await diagnose((p) => ({ ...p, fc: { ...p.fc, bias: tensor([0, Number.NaN, 0]) } }))).toBe(
      'parameter fc.bias',
    )
  })

  test('the first layer, though all after it are NaN as well', async () => {
    const large = (p: { conv2: { weight: Tensor } }) => ({ ...p, conv2: { weight: filled(p.conv2.weight, 3e38) } })
    expect(await diagnose(large)).toBe('conv2')
  })

  test('a layer that overflows in f16 only', async () => {
    const large = (p: { conv2: { weight: Tensor } }) => ({ ...p, conv2: { weight: filled(p.conv2.weight, 6e4) } })
    expect(await diagnose(large)).toBeUndefined()
    expect(await diagnose(large, 'f16')).toBe('conv2')
  })

  test('the input', async () => {
    const { params, state } = await begin()
    expect(
      await findNonFinite(model, params, state, tensor(new Float32Array(432).fill(Infinity), { shape: toyShape })),
    ).toBe('input')
  })

  test('allFinite reads every floating leaf, in the dtype it has', async () => {
    const half = tensor([1, 65504], { dtype: 'f16' })
    expect(await allFinite({ a: half, b: [tensor([2, 3], { dtype: 'i32' })] }).item()).toBe(1)
    expect(await allFinite({ a: half, b: [tensor([70000], { dtype: 'f16' })] }).item()).toBe(0)
    expect(await allFinite({}).item()).toBe(1)
  })
})

describe('small parts', () => {
  test('bytes are normalised as (x / 255 - mean) / std, floats are left alone', async () => {
    const bytes = Uint8Array.from({ length: 3 * 4 }, (_, i) => i * 23)
    const values = await normalize(tensor(bytes, { shape: [1, 2, 2, 3] })).data()
    const { mean, std } = imagenetNormalization
    bytes.forEach((byte, i) => expect(values[i]).toBeCloseTo((byte / 255 - mean[i % 3]!) / std[i % 3]!, 5))
    const floats = tensor([[1, 2, 3]])
    expect(normalize(floats)).toBe(floats)
    expect(() => normalize(tensor(bytes, { shape: [3, 4] }))).toThrow(/\[normalize\] expected 3 channels/)
    expect(() => normalize(tensor([1, 2, 3], { dtype: 'i32' }))).toThrow(/\[normalize\] expected u8/)
  })

  test('a 16-bit loss is not scaled, and gradients come out in f32', async () => {
    expect(() => scaleLoss(fixed(2), tensor(1, { dtype: 'f16' }))).toThrow(
      /\[scaleLoss\] expected an f32 loss, got f16/,
    )
    const { g } = unscale(fixed(1024), { g: tensor([2, 4], { dtype: 'f16' }) })
    expect([g.dtype, ...(await g.data())]).toEqual(['f32', 2 / 1024, 4 / 1024])
  })

  test('trees of other structures are refused by the name of a leaf', () => {
    const [a, b] = [
      { x: tensor(1), y: tensor(2) },
      { x: tensor(1), z: tensor(2) },
    ]
    expect(() => selectTree(tensor(true), a, b as unknown as typeof a)).toThrow(/missing y, unexpected z/)
  })
})
