// Laws of evaluation: ranks are those of a sort, padding does not count, and the batch size changes nothing.
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { type EvalBatch, classRank, makeEvalStep, normalize, readMetrics } from '../../src/train/index.ts'
import { runs } from '../runs.ts'
import { toyBatch, toyModel, toyShape } from '../support/toy.ts'

beforeAll(() => {
  setDefaultDevice(referenceDevice())
})

/** Few distinct values, so that ties are common, and what comes out of a broken model. */
const logit = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: -2, max: 2 }) },
  fc.constantFrom(Number.NaN, Infinity, -Infinity),
)

test('the rank of a class is its place in a stable sort by falling logit, NaN first', async () => {
  const rows = fc.integer({ min: 1, max: 7 }).chain((classes) =>
    fc.array(fc.tuple(fc.array(logit, { minLength: classes, maxLength: classes }), fc.nat(classes - 1)), {
      minLength: 1,
      maxLength: 5,
    }),
  )
  await fc.assert(
    fc.asyncProperty(rows, async (list) => {
      const logits = tensor(list.map(([row]) => row))
      const labels = tensor(
        list.map(([, label]) => label),
        { dtype: 'i32' },
      )
      const place = (row: readonly number[], label: number): number => {
        const before = (a: number, b: number): boolean => (Number.isNaN(a) ? !Number.isNaN(b) : a > b)
        const order = row
          .map((_, i) => i)
          .sort((i, j) => (before(row[i]!, row[j]!) ? -1 : before(row[j]!, row[i]!) ? 1 : i - j))
        return order.indexOf(label)
      }
      const expected = list.map(([row, label]) => (Number.isNaN(row[label]!) ? row.length : place(row, label)))
      const ranks = [...(await classRank(logits, labels).data())]
      // A class whose own logit is NaN is never right: its rank is past all others.
      expect(ranks).toEqual(expected)
    }),
  )
})

test('any evaluation batch size gives the same top-1 and top-k, however the last batch is padded', async () => {
  const model = toyModel()
  const { params, state } = model.init(4, toyShape)
  const count = 11
  const { images, labels } = toyBatch(2, count)
  const pixels = await normalize(images).data()
  const classes = await labels.data()
  const perImage = pixels.length / count
  const step = makeEvalStep(model, { topk: 2 })

  const evaluate = async (size: number, padding: number) => {
    const sums: ReturnType<typeof step>[] = []
    for (let start = 0; start < count; start += size) {
      const real = Math.min(size, count - start)
      const batch = new Float32Array(size * perImage).fill(padding)
      batch.set(pixels.subarray(start * perImage, (start + real) * perImage))
      const rows = Int32Array.from({ length: size }, (_, row) => (row < real ? classes[start + row]! : 0))
      const weights = Float32Array.from({ length: size }, (_, row) => (row < real ? 1 : 0))
      const shape = [size, ...toyShape.slice(1)]
      const tensors: EvalBatch = { images: tensor(batch, { shape }), labels: tensor(rows), weights: tensor(weights) }
      sums.push(step(params, state, tensors))
    }
    return readMetrics(sums)
  }

  const whole = await evaluate(count, 0)
  expect(whole.count).toBe(count)
  expect(whole.topk).toBeGreaterThan(whole.top1) // the test would see nothing in a model that is always right
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 14 }), fc.constantFrom(0, 3, Number.NaN), async (size, padding) => {
      const parts = await evaluate(size, padding)
      expect([parts.top1, parts.topk, parts.count]).toEqual([whole.top1, whole.topk, whole.count])
      // Eleven f32 losses summed in another order.
      expect(Math.abs(parts.loss - whole.loss)).toBeLessThan(11 * 2 ** -23 * whole.loss)
    }),
    { numRuns: runs(12) },
  )
})
