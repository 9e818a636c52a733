// What the mixed-precision training plan of the full model must look like, counted: nothing here is timed or run.
import { beforeAll, describe, expect, it } from 'vitest'
import { type Plan, type Step, compileProgram, showPlan } from '../../src/compile/index.ts'
import { lowerPlan } from '../../src/cpu/lower.ts'
import { resnet, seResNeXt101_32x4d } from '../../src/nn/index.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { type Shape, at, range, sizeOf } from '../../src/tensor/shape.ts'
import { type Tree, flatten, unflatten } from '../../src/tensor/tree.ts'
import { dynamic, initTrainState, makeTrainStep, sgd } from '../../src/train/index.ts'
import { aliveAtTheTurn, trainingPlan } from '../support/training-plan.ts'

const batch = 32

describe('the mixed-precision training plan of SE-ResNeXt101-32x4d', () => {
  let plan: Plan
  beforeAll(() => {
    plan = trainingPlan(seResNeXt101_32x4d(), batch, 224, 'f16')
  }, 120_000)

  const isActivation = (buffer: number): boolean => {
    const { shape } = at(plan.buffers, buffer).type
    return shape.length === 4 && shape[0] === batch
  }

  it('has no f32 activation buffer', () => {
    const wide = plan.buffers.flatMap(({ type, place }, index) =>
      type.dtype === 'f32' && isActivation(index) && place.kind !== 'input' ? [type.shape.join('x')] : [],
    )
    expect(plan.buffers.filter((_, index) => isActivation(index)).length).toBeGreaterThan(400)
    expect(wide).toEqual([])
  })

  it('keeps at most 76 MB an image between forward and backward', () => {
    const kept = aliveAtTheTurn(plan).filter((buffer) => at(plan.buffers, buffer).type.shape[0] === batch)
    const perImage = kept.reduce((sum, buffer) => sum + at(plan.buffers, buffer).bytes, 0) / batch
    console.log(
      `alive between forward and backward: ${(perImage / 1e6).toFixed(1)} MB an image in ${kept.length} buffers`,
    )
    expect(perImage).toBeLessThanOrEqual(76e6)
    expect(perImage).toBeGreaterThan(60e6)
  })

  it('casts each weight once', () => {
    const weights = plan.inputs.filter(
      (buffer) => at(plan.buffers, buffer).type.shape.length === 4 && !isActivation(buffer),
    )
    const casts = weights.map((weight) => plan.steps.filter((step) => step.inputs.includes(weight)).length)
    expect(weights.length).toBe(104)
    expect(new Set(casts)).toEqual(new Set([1]))
  })

  it('reads each convolution output once for statistics, and once for its normalisation', () => {
    const outputs = plan.steps.flatMap((step) =>
      step.kind === 'library' && step.equation.primitive === 'conv2d' ? step.outputs : [],
    )
    expect(outputs.length).toBe(104)
    const firstGradient = plan.steps.findIndex(
      (step) => step.kind === 'library' && step.equation.primitive === 'conv2dInputGrad',
    )
    for (const output of outputs) {
      const readers = plan.steps
        .map((step, index) => [step, index] as const)
        .filter(([step]) => step.inputs.includes(output))
      const forward = readers.filter(([, index]) => index < firstGradient).map(([step]) => kindOf(step))
      const backward = readers.filter(([, index]) => index > firstGradient).map(([step]) => kindOf(step))
      expect(forward.slice(0, 2)).toEqual(['reduce', 'apply'])
      expect(forward.length + backward.length).toBeLessThanOrEqual(5) // statistics, apply, backward sums, backward apply, one shared with a shortcut
    }
  })

  it('moves at most 1.25 times the ideal 589 MB an image, weights aside', () => {
    const perImage =
      plan.steps
        .filter((step) => [...step.inputs, ...step.outputs].some(isActivation))
        .reduce((sum, step) => sum + step.bytes, 0) / batch
    console.log(
      `moves ${(perImage / 1e6).toFixed(0)} MB an image in ${plan.steps.length} steps; the ideal schedule 589 MB`,
    )
    expect(perImage / 1e6).toBeLessThan(1.25 * 589)
  })

  function kindOf(step: Step): string {
    if (step.kind === 'library') return step.equation.primitive
    return step.kernel.reductions.length > 0 && step.kernel.stores.length === 0 ? 'reduce' : 'apply'
  }
})

describe('the whole mixed-precision training step of SE-ResNeXt101-32x4d', () => {
  // In C each epilogue is a source of its own; the GPU's kernels are counted by test/deviceless.
  it.each([
    [0, 80],
    [0.2, 84],
  ])(
    'with MixUp of alpha %d needs at most %d distinct C sources',
    async (mixup, most) => {
      setDefaultDevice(referenceDevice()) // holds the weights; nothing of the step is run
      const small = 4 // images: sources depend on structure, not on extents
      const shape = [small, 224, 224, 3] as const
      const model = seResNeXt101_32x4d()
      const optimizer = sgd({ momentum: 0.875, weightDecay: 2 ** -14 })
      const step = makeTrainStep(model, { optimizer, precision: 'f16', labelSmoothing: 0.1, mixup })
      const { params, state } = model.describe(shape)
      const blank = (described: Tree<{ readonly shape: Shape }>) => {
        const { leaves, structure } = flatten(described)
        return unflatten(
          structure,
          leaves.map((leaf) => tensor(new Float32Array(sizeOf(leaf.shape)), { shape: leaf.shape })),
        )
      }
      const variables = { params: blank(params), state: blank(state) } as ReturnType<typeof model.init>
      const start = await initTrainState(variables, { optimizer, seed: 0, lossScale: dynamic() })
      const batchOf = {
        images: tensor(new Uint8Array(sizeOf(shape)), { shape }),
        labels: tensor(new Int32Array(small)),
      }
      const program = step.program(start, batchOf, tensor(0.1))
      const donate = range(flatten<unknown>(start).leaves.length)
      const { launches } = lowerPlan(compileProgram(program, { optimize: 'fuse', donate }))
      const sources = new Set(launches.map(({ source }) => source.name))
      console.log(`${launches.length} launches of ${sources.size} distinct sources`)
      expect(launches.length).toBeGreaterThan(1500)
      expect(sources.size).toBeLessThanOrEqual(most)
    },
    60_000,
  )
})

describe('the plan of one block', () => {
  it('is pinned as text', async () => {
    const model = resnet({
      layers: [2],
      widths: 64,
      expansion: 2,
      cardinality: 32,
      squeeze: { ratio: 16 },
      classes: 10,
    })
    const plan = trainingPlan(model, 2, 64, 'f16')
    await expect(`${showPlan(plan)}\n`).toMatchFileSnapshot('../golden/plan-two-blocks.txt')
  })
})
