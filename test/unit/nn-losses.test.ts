// The losses that no golden file covers, against their formulas in doubles; what they do at the edges; their errors.
import { describe, expect, test } from 'vitest'
import { grad } from '../../src/autograd/index.ts'
import {
  crossEntropyRows,
  huber,
  l2Penalty,
  meanAbsoluteError,
  meanSquaredError,
  sigmoidCrossEntropy,
  softmaxCrossEntropy,
} from '../../src/nn/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { cast, tensor } from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'

setDefaultDevice(referenceDevice()) // here, as tensors below are made while the tests are collected

const predictions = [-3, -0.5, 0.25, 2]
const targets = [0, 1, 0.25, 0.5]
const meanOf = (f: (x: number, t: number) => number): number =>
  predictions.reduce((total, x, i) => total + f(x, targets[i]!), 0) / predictions.length

describe('means over all elements', () => {
  test.each([
    ['meanSquaredError', meanSquaredError, (x: number, t: number) => (x - t) ** 2],
    ['meanAbsoluteError', meanAbsoluteError, (x: number, t: number) => Math.abs(x - t)],
    ['huber', huber, (x: number, t: number) => (Math.abs(x - t) > 1 ? Math.abs(x - t) - 0.5 : (x - t) ** 2 / 2)],
    [
      'sigmoidCrossEntropy',
      sigmoidCrossEntropy,
      (x: number, t: number) => -t * Math.log(1 / (1 + Math.exp(-x))) - (1 - t) * Math.log(1 / (1 + Math.exp(x))),
    ],
  ] as const)('%s, in f32 from f16 as well', async (_name, loss, formula) => {
    const half = { dtype: 'f16' } as const // all of these numbers are exact in f16
    for (const options of [{}, half]) {
      const value = loss(tensor(predictions, options), tensor(targets, options))
      expect([value.dtype, value.shape]).toEqual(['f32', []])
      expect(await value.item()).toBeCloseTo(meanOf(formula), 6)
    }
  })

  test('sigmoidCrossEntropy does not overflow', async () => {
    expect(await sigmoidCrossEntropy(tensor([-1e4, 1e4]), tensor([1, 1])).item()).toBe(5e3)
  })

  test('l2Penalty is half the sum of squares of all leaves', async () => {
    expect(await l2Penalty({ a: tensor([1, 2]), b: [tensor(3, { dtype: 'f16' })] }).item()).toBe(7)
    expect(() => l2Penalty({})).toThrow(/\[l2Penalty\] expected at least one parameter/)
  })
})

describe('softmaxCrossEntropy', () => {
  const logits = tensor([
    [1, 2, 3],
    [3, 1, 1],
    [0, 0, 0],
  ])
  const classes = tensor([2, 1, 0], { dtype: 'i32' })

  test('a class that was masked with -Infinity neither counts nor makes NaN', async () => {
    const masked = tensor([[1, -Infinity, 1]])
    const loss = (x: typeof masked) => softmaxCrossEntropy(x, tensor([0], { dtype: 'i32' }))
    expect(await loss(masked).item()).toBeCloseTo(Math.LN2, 6)
    expect([...(await grad(loss)(masked).data())]).toEqual([-0.5, 0, 0.5])
  })

  test('rows weigh what they are told; a row of weight 0 may be NaN', async () => {
    const rows = await crossEntropyRows(logits, classes).data()
    const weights = tensor([1, 3, 0])
    const expected = (rows[0]! + 3 * rows[1]!) / 4
    expect(await softmaxCrossEntropy(logits, classes, { weights }).item()).toBeCloseTo(expected, 6)
    const broken = tensor([
      [1, 2, 3],
      [3, 1, 1],
      [Number.NaN, 0, 0],
    ])
    expect(await softmaxCrossEntropy(broken, classes, { weights }).item()).toBeCloseTo(expected, 6)
  })

  test('16-bit logits give an f32 loss', () => {
    expect(softmaxCrossEntropy(cast(logits, 'bf16'), classes).dtype).toBe('f32')
  })

  test.each([
    ['logits of rank 1', () => softmaxCrossEntropy(tensor([1]), classes), /expected logits \[n, classes\], got 1/],
    ['integer logits', () => softmaxCrossEntropy(cast(logits, 'i32'), classes), /got i32. Use cast/],
    [
      'classes of another length',
      () => softmaxCrossEntropy(logits, tensor([1], { dtype: 'i32' })),
      /expected i32 classes \[3\].*got i32 1/,
    ],
    [
      'probabilities of another shape',
      () => softmaxCrossEntropy(logits, tensor([[1, 0]])),
      /probabilities of shape 3x3, got 1x2/,
    ],
    [
      'a smoothing beyond 1',
      () => softmaxCrossEntropy(logits, classes, { labelSmoothing: 2 }),
      /label smoothing from 0 to 1, got 2/,
    ],
    [
      'weights of another length',
      () => softmaxCrossEntropy(logits, classes, { weights: tensor([1]) }),
      /weights of shape 3, got 1/,
    ],
  ])('%s', (_what, act, message) => {
    expect(act).toThrow(message)
  })
})
