// The small SE-ResNeXt's passes and steps against PyTorch's values, for any device: what is compared, and the bound of each
// tensor's relative norm. The files and their names are golden-model.ts's part.
import { jit, valueAndGrad } from '../../src/autograd/index.ts'
import { softmaxCrossEntropy } from '../../src/nn/index.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import {
  type Precision,
  fixed,
  initTrainState,
  makeTrainStep,
  scaleLoss,
  sgd,
  unscale,
  withPrecision,
} from '../../src/train/index.ts'
import { type GoldenModel, type Row, distance, found, named, ranked } from './golden-model.ts'
import { type Decisions, recordDecisions, withDecisions } from './held-decisions.ts'

/** Tensors that were compared, worst first, and what each may be off by. */
export interface Judged {
  readonly title: string
  readonly rows: readonly Row[]
  readonly bound: (name: string) => number
}

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

/** Throws unless exactly these tensors are compared. */
function expectNames(actual: ReadonlyMap<string, unknown>, wanted: Iterable<string>): void {
  const [mine, theirs] = [[...actual.keys()].sort().join(), [...wanted].sort().join()]
  if (mine !== theirs) throw new Error(`expected the tensors ${theirs}, got ${mine}`)
}

/** Logits in evaluation, in f32. */
export async function evaluationInF32(golden: GoldenModel): Promise<Judged> {
  const actual = await named({ 'logits.evaluation': evaluated(golden) })
  const rows = ranked(actual, (name) => found(golden.expected, name))
  return { title: 'f32 logits in evaluation', rows, bound: () => bound }
}

function evaluated({ model, initial, images }: GoldenModel): Tensor {
  const { params, state } = initial()
  const [logits] = model.apply(params, state, images(), { training: false })
  return logits
}

/** Logits, in training and in evaluation, and every gradient in f32. */
export async function passInF32(golden: GoldenModel): Promise<Judged> {
  const { logits, gradients } = firstPass(golden, 'f32')
  const actual = await named({ 'logits.training': logits, 'logits.evaluation': evaluated(golden), gradient: gradients })
  expectNames(
    actual,
    [...golden.expected.keys()].filter((name) => /^(logits|gradient)\./.test(name)),
  )
  const rows = ranked(actual, (name) => found(golden.expected, name))
  return { title: 'f32 logits and gradients', rows, bound: () => bound }
}

/** Five steps in f32: statistics after the first, losses, weights and statistics at the end, and how far they moved. */
export async function fiveSteps(golden: GoldenModel): Promise<readonly Judged[]> {
  const { document, model, expected, initialValues } = golden
  const optimizer = sgd(document.optimizer)
  const step = makeTrainStep(model, { optimizer, ...document.loss })
  let state = await initTrainState(golden.initial(), { optimizer, seed: 0 })
  const batch = { images: golden.images(), labels: golden.targets() }
  const losses: number[] = []
  let first: readonly Row[] = []
  for (let i = 0; i < document.optimizer.steps; i++) {
    const [next, metrics] = step(state, batch, tensor(document.optimizer.learningRate))
    state = next
    losses.push((await metrics.loss.item()) / (await metrics.count.item()))
    if (i === 0) first = ranked(await named(state.state, 'after1.'), (name) => found(expected, name))
  }
  const actual = new Map([...(await named(state.params)), ...(await named(state.state))])
  expectNames(actual, initialValues.keys())
  const after = (name: string): Float32Array => found(expected, `after5.${name}`)
  const change = (values: ArrayLike<number>, name: string): number[] =>
    Array.from(found(initialValues, name), (start, i) => (values[i] ?? Number.NaN) - start)
  const moved = new Map([...actual].map(([name, values]) => [name, change(values, name)]))
  return [
    { title: 'statistics after the first step', rows: first, bound: () => bound },
    {
      ...{ title: 'losses of five steps', bound: () => bound },
      rows: [{ name: 'losses', error: distance(losses, document.losses) }],
    },
    { title: 'weights and statistics after five steps', rows: ranked(actual, after), bound: () => bound },
    {
      ...{ title: 'their change in five steps', bound: () => changeBound },
      rows: ranked(moved, (name) => change(after(name), name)),
    },
  ]
}

/** One pass in autocast f16: what f16 explains. */
export async function passInF16(golden: GoldenModel): Promise<Judged> {
  const { logits, gradients, statistics } = firstPass(golden, 'f16')
  if (logits.dtype !== 'f16') throw new Error(`expected logits of f16, got ${logits.dtype}`)
  const actual = await named({ 'logits.training': logits, gradient: gradients, after1: statistics })
  const kind = (name: string): keyof typeof halfBounds =>
    name.startsWith('gradient') ? 'gradient' : name.startsWith('logits') ? 'logits' : 'statistics'
  const rows = ranked(actual, (name) => found(golden.expected, name))
  return { title: 'f16 logits, gradients and statistics', rows, bound: (name) => halfBounds[kind(name)] }
}

/** Gradients in autocast f16 with the decisions of f32: much closer. */
export async function heldPassInF16(golden: GoldenModel): Promise<Judged> {
  const { model, initial, images, expected } = golden
  const { params, state } = initial()
  const decide = jit((x: Tensor) => recordDecisions(() => model.apply(params, state, x, { training: true })))
  const { gradients } = firstPass(golden, 'f16', decide(images()))
  const actual = await named(gradients, 'gradient.')
  const wanted = [...expected.keys()].filter((name) => name.startsWith('gradient.'))
  expectNames(actual, wanted)
  const rows = ranked(actual, (name) => found(expected, name))
  return { title: 'f16 gradients with the decisions of f32', rows, bound: () => heldBound }
}
