// The plans of SE-ResNeXt101-32x4d as they are run on a GPU: the whole training step, loss scale and optimizer included, and
// inference, at batch 256 and 224 pixels.
import { jit } from '../../src/autograd/index.ts'
import { type LibraryEquation, type Plan, compileProgram } from '../../src/compile/index.ts'
import { type ResNetParams, type ResNetState, seResNeXt101_32x4d } from '../../src/nn/index.ts'
import type { Parameter } from '../../src/nn/layer.ts'
import { sizeOf } from '../../src/tensor/shape.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { tensor } from '../../src/tensor/ops/create.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type Tree, flatten, unflatten } from '../../src/tensor/tree.ts'
import {
  type Precision,
  defaultLossScale,
  initTrainState,
  makeTrainStep,
  normalize,
  predict,
  sgd,
} from '../../src/train/index.ts'

const batch = 256
const size = 224

/** The plans of one precision. */
export interface ModelPlans {
  readonly training: Plan
  readonly inference: Plan
}

/** Traces and plans; nothing is run, and all values are zero. */
export async function modelPlans(precision: Precision): Promise<ModelPlans> {
  setDefaultDevice(referenceDevice())
  const model = seResNeXt101_32x4d()
  const description = model.describe([batch, size, size, 3])
  const params = zeros(description.params) as ResNetParams
  const state = zeros(description.state) as ResNetState
  const optimizer = sgd({ momentum: 0.875, weightDecay: 1 / 32768 })
  const images = tensor(new Uint8Array(batch * size * size * 3), { shape: [batch, size, size, 3], dtype: 'u8' })
  const labels = tensor(new Int32Array(batch))
  const lossScale = defaultLossScale(precision)
  const start = await initTrainState({ params, state }, { optimizer, seed: 1, lossScale })
  const step = makeTrainStep(model, { optimizer, precision, labelSmoothing: 0.1 })
  const infer = jit((values: ResNetParams, statistics: ResNetState, x: Tensor) =>
    predict(model, precision, values, statistics, normalize(x)),
  )
  const plan = (program: ReturnType<typeof step.program>) => compileProgram(program, { optimize: 'fuse', donate: [] })
  return {
    training: plan(step.program(start, { images, labels }, tensor(0.1))),
    inference: plan(infer.program(params, state, images)),
  }
}

/** The library equations of a plan. */
export function libraryEquations(plan: Plan): readonly LibraryEquation[] {
  return plan.steps.flatMap((step) => (step.kind === 'library' ? [step.equation] : []))
}

function zeros(tree: Tree<Parameter>): Tree<Tensor> {
  const { leaves, structure } = flatten(tree)
  const made = leaves.map(({ shape }) => tensor(new Float32Array(sizeOf(shape)), { shape }))
  return unflatten(structure, made)
}
