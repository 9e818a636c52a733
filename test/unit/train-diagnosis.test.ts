// A loss that is no number is told of a step late, or two. The layer named must be the one of that very step: of its
// images as they were blended, of its random key, of the weights it had.
import { nn, random, train } from 'pullback'
import { beforeAll, describe, expect, it } from 'vitest'
import { foldIn, uniform } from '../../src/tensor/random.ts'
import { abs, add, less, mean, mul, sub, tensor, where } from '../../src/tensor/ops/index.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { mixUp } from '../../src/train/mixup.ts'
import { normalize } from '../../src/train/normalize.ts'
import { classes, memorySource, size, useReference } from './train-loop-data.ts'

beforeAll(useReference)

const seed = 7
const mixup = 0.3

const source = () => memorySource({ trainImages: 24 })

/** A number that tells one batch of one step from all others: of the images a layer is given, and of its random key. */
const signature = (x: Tensor, key: Tensor | undefined): Tensor =>
  add(mean(x), uniform(foldIn(key ?? tensor(Int32Array.of(0, 0)), 1), []))

/** Gives infinities when it is given the batch of that signature, else what it is given. */
const hazard = (when: number) =>
  nn.pure((x, { key }) => mul(x, where(less(abs(sub(signature(x, key), when)), 1e-5), Infinity, 1)))

const model = (first: number, second: number) =>
  nn.serial({ first: hazard(first), second: hazard(second), pool: nn.globalAvgPool(), fc: nn.linear(classes) })

/** The signature of a batch of a step (both from 0) as the compiled step will have it. */
async function signatureOf(step: number, accumulate: number, index: number): Promise<number> {
  const stepKey = foldIn(random.key(seed), step)
  const key = accumulate === 1 ? stepKey : foldIn(stepKey, index)
  const batches = source()
    .train(0, step * accumulate + index)
    [Symbol.asyncIterator]()
  const next = await batches.next()
  if (next.done === true) throw new Error('no such batch')
  const { images, batchSize } = next.value
  const raw = tensor(images, { shape: [batchSize, size, size, 3] })
  const targets = tensor(new Float32Array(batchSize * classes), { shape: [batchSize, classes] })
  const mixed = mixUp(foldIn(key, 0), raw, targets, mixup, { images: (x) => normalize(x) })
  return signature(mixed.images, foldIn(key, 1)).item()
}

/** What a run tells in which `second` fails in the last batch of `step`, and `first` in a later step, if any. */
async function failure(step: number, later: number | undefined, accumulate: number): Promise<string> {
  const second = await signatureOf(step, accumulate, accumulate - 1)
  const first = later === undefined ? -10 : await signatureOf(later, accumulate, 0)
  const failing = model(first, second)
  const optimizer = train.sgd({ momentum: 0.9 })
  const run = await train.startRun(failing.init(1, [1, size, size, 3]), { optimizer, lossScale: train.none(), seed })
  const fitting = train.fit({
    model: failing,
    run,
    data: source(),
    optimizer,
    schedule: () => 0.1,
    epochs: 1,
    mixup,
    accumulate,
  })
  return fitting.then(
    () => 'no error',
    (error: unknown) => (error as Error).message,
  )
}

const named = 'the first output that is not finite is that of second'

describe.each([1, 2])('with %d batches a step, the diagnosis names step and layer', (accumulate) => {
  const steps = 8 / accumulate

  it('where the next step fails too, elsewhere: nothing has changed since', async () => {
    const told = await failure(steps - 2, steps - 1, accumulate)
    expect(told).toMatch(new RegExp(`got (NaN|-?Infinity) at step ${steps - 1} of ${steps} in epoch 1; ${named}\\.`))
  })

  it('where the next step was sound: the weights have moved on by it, and that is said', async () => {
    const told = await failure(steps - 2, undefined, accumulate)
    expect(told).toContain(` at step ${steps - 1} of ${steps} in epoch 1; with the weights one step later, ${named}.`)
  })

  it('in the last step', async () => {
    expect(await failure(steps - 1, undefined, accumulate)).toContain(
      ` at step ${steps} of ${steps} in epoch 1; ${named}.`,
    )
  })
})
