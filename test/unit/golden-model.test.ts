// The small SE-ResNeXt against PyTorch, both squeeze widths: logits, every gradient, weights and running statistics
// after five steps, in f32; and one pass in mixed precision.
import { beforeAll, describe, expect, test } from 'vitest'
import { jit, valueAndGrad } from '../../src/autograd/index.ts'
import { softmaxCrossEntropy } from '../../src/nn/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import {
  type Precision,
  fixed,
  initTrainState,
  isBatchNormPath,
  makeTrainStep,
  scaleLoss,
  sgd,
  unscale,
  withPrecision,
} from '../../src/train/index.ts'
import { testDevices } from '../support/devices.ts'
import { type Decisions, recordDecisions, withDecisions } from '../support/held-decisions.ts'
import { type GoldenModel, distance, distances, found, goldenModel, named, timmModel } from '../support/golden-model.ts'

/** The bound for f32. */
const bound = 1e-4
/** For the change of the weights, whose own f32 error is up to 1e-4 (test/golden/README.md). */
const changeBound = 1e-3

/**
 * What f16 explains of a pass that decides for itself. An activation is rounded 8 times a block (three convolutions, three batch norms, the product and
 * the sum) and 4 times outside, each time by a relative error of up to u = 2^-11; as independent errors they add up to
 * e = sqrt(44) u = 3.2e-3 at the logits. Running statistics take a tenth of the batch's. In gradients each of the 21
 * ReLUs (one of them in each squeeze module) counts: a perturbation e of normalised values, whose density at zero is about
 * 0.4, lets a share of 0.8 e of them change sides, each a whole element of the gradient: sqrt(21 * 0.8 e) = 0.23. All
 * bounds are twice that, as norms of random errors scatter. For gradients that is loose, and cannot be less: what it
 * measures are the elements that changed sides. How exact gradients are is told by `heldBound`.
 */
const accumulated = Math.sqrt(44) * 2 ** -11
const halfBounds = {
  logits: 2 * accumulated,
  statistics: 2 * 0.1 * accumulated,
  gradient: 2 * Math.sqrt(21 * 0.8 * accumulated),
} as const

/**
 * What f16 explains of gradients where the ReLUs and the max pool decide as they did in f32, so that the loss is a smooth
 * function: the 44 roundings of the forward pass and twice as many of the backward pass, whose every product has two
 * cotangents, add up to sqrt(132) u = 5.6e-3 of a tensor. Three times that, for the smallest gradients are of four
 * elements.
 */
const heldBound = 3 * Math.sqrt(132) * 2 ** -11

/** Logits and gradients of the smoothed loss, with a loss scale where the precision needs one. */
function firstPass(
  { model, initial, images, targets, document }: GoldenModel,
  precision: Precision,
  decisions?: Decisions,
) {
  const { params, state } = initial()
  const scale = fixed(precision === 'f16' ? 1024 : 1)
  const apply = withPrecision((p: typeof params, x: ReturnType<typeof images>) => {
    const forward = () => model.apply(p, state, x, { training: true })
    return decisions === undefined ? forward() : withDecisions(decisions, forward)
  }, precision)
  const pass = jit((p: typeof params, x: ReturnType<typeof images>, t: ReturnType<typeof targets>) => {
    const lossOf = (q: typeof params) => {
      const [logits, statistics] = apply(q, x)
      return [scaleLoss(scale, softmaxCrossEntropy(logits, t, document.loss)), { logits, statistics }] as const
    }
    const [[, aux], gradients] = valueAndGrad(lossOf, { hasAux: true })(p)
    return { ...aux, gradients: unscale(scale, gradients) }
  })
  return pass(params, images(), targets())
}

/** Both variants on the compiled device; one is enough for the reference, which takes 20 seconds for five steps. */
const runs = testDevices().flatMap(([on, device], index, all) =>
  (['paper', 'nvidia'] as const)
    .filter((variant) => index === all.length - 1 || variant === 'nvidia')
    .map((variant) => ({ on, device, variant })),
)

describe.each(runs)('the small SE-ResNeXt on $on, squeeze $variant', ({ on, device, variant }) => {
  let golden: GoldenModel
  beforeAll(async () => {
    setDefaultDevice(device)
    golden = await goldenModel(variant)
  })

  test('logits and every gradient in f32', async () => {
    const { logits, gradients } = firstPass(golden, 'f32')
    const { params, state } = golden.initial()
    const [evaluated] = golden.model.apply(params, state, golden.images(), { training: false })
    const actual = await named({ 'logits.training': logits, 'logits.evaluation': evaluated, gradient: gradients })
    const wanted = [...golden.expected.keys()].filter((name) => /^(logits|gradient)\./.test(name))
    expect([...actual.keys()].sort()).toEqual(wanted.sort())
    for (const { name, error } of distances(`${on}, ${variant}, f32`, actual, (name) => found(golden.expected, name)))
      expect(error, name).toBeLessThan(bound)
  }, 60_000)

  test('five steps: losses, weights, running statistics, and how far they moved', async () => {
    const { document, model, expected, initialValues } = golden
    const optimizer = sgd(document.optimizer)
    const step = makeTrainStep(model, { optimizer, ...document.loss })
    let state = await initTrainState(golden.initial(), { optimizer, seed: 0 })
    const batch = { images: golden.images(), labels: golden.targets() }
    const losses: number[] = []
    for (let i = 0; i < document.optimizer.steps; i++) {
      const [next, metrics] = step(state, batch, tensor(document.optimizer.learningRate))
      state = next
      losses.push((await metrics.loss.item()) / (await metrics.count.item()))
      if (i > 0) continue
      const statistics = await named(state.state, 'after1.')
      for (const { name, error } of distances(`${on}, ${variant}, first step`, statistics, (name) =>
        found(expected, name),
      ))
        expect(error, name).toBeLessThan(bound)
    }
    expect(distance(losses, document.losses)).toBeLessThan(bound)
    const actual = new Map([...(await named(state.params)), ...(await named(state.state))])
    expect([...actual.keys()].sort()).toEqual([...initialValues.keys()].sort())
    const after = (name: string): Float32Array => found(expected, `after5.${name}`)
    for (const { name, error } of distances(`${on}, ${variant}, five steps`, actual, after))
      expect(error, name).toBeLessThan(bound)
    const change = (values: ArrayLike<number>, name: string): number[] =>
      Array.from(found(initialValues, name), (start, i) => (values[i] ?? Number.NaN) - start)
    const moved = new Map([...actual].map(([name, values]) => [name, change(values, name)]))
    for (const { name, error } of distances(`${on}, ${variant}, change`, moved, (name) => change(after(name), name)))
      expect(error, name).toBeLessThan(changeBound)
  }, 120_000)

  test('one pass in autocast f16: what f16 explains', async () => {
    const { logits, gradients, statistics } = firstPass(golden, 'f16')
    expect(logits.dtype).toBe('f16')
    const actual = await named({ 'logits.training': logits, gradient: gradients, after1: statistics })
    for (const { name, error } of distances(`${on}, ${variant}, f16`, actual, (name) => found(golden.expected, name)))
      expect(error, name).toBeLessThan(
        halfBounds[name.startsWith('gradient') ? 'gradient' : name.startsWith('logits') ? 'logits' : 'statistics'],
      )
  }, 60_000)

  test('gradients in autocast f16 with the decisions of f32: much closer', async () => {
    const { model, initial, images, expected } = golden
    const { params, state } = initial()
    const decide = jit((x: Tensor) => recordDecisions(() => model.apply(params, state, x, { training: true })))
    const { gradients } = firstPass(golden, 'f16', decide(images()))
    const actual = await named(gradients, 'gradient.')
    expect(actual.size).toBeGreaterThan(60)
    for (const { name, error } of distances(`${on}, ${variant}, f16, held`, actual, (name) => found(expected, name)))
      expect(error, name).toBeLessThan(heldBound)
  }, 60_000)

  test('weight decay leaves out what the golden file names', () => {
    const parameters = [...golden.initialValues.keys()].filter((name) => !/running_/.test(name))
    expect(parameters.filter(isBatchNormPath).sort()).toEqual([...golden.document.noDecay].sort())
  })
})

test.each(testDevices())("timm's own model, loaded from its file, gives its logits on %s", async (_on, device) => {
  setDefaultDevice(device)
  const { logits, expected, unused } = await timmModel()
  expect(unused).toEqual([])
  expect(distance(logits, expected)).toBeLessThan(1e-5) // PyTorch's own f32 error is 2.4e-6
})
