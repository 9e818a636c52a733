// The training plan of a ResNet, without weights: only shapes are needed to trace and to plan.
import { autocast } from '../../src/autograd/autocast.ts'
import { valueAndGrad } from '../../src/autograd/grad.ts'
import { traceFlat } from '../../src/autograd/trace.ts'
import { type Plan, compileProgram } from '../../src/compile/index.ts'
import { lifetimes } from '../../src/compile/memory.ts'
import { type ResNet, softmaxCrossEntropy } from '../../src/nn/index.ts'
import type { OptimizeLevel } from '../../src/tensor/device.ts'
import type { Program, TensorType } from '../../src/tensor/program.ts'
import { at } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type Tree, flatten, unflatten } from '../../src/tensor/tree.ts'

/** Forward and backward of the loss for a batch of images: outputs are the loss, the new statistics, the gradients. */
export function trainingProgram(model: ResNet, batch: number, size: number, compute: 'f16' | 'bf16' | 'f32'): Program {
  const description = model.describe([batch, size, size, 3])
  const params = flatten(description.params)
  const state = flatten(description.state)
  const types: TensorType[] = [...params.leaves, ...state.leaves].map(({ shape }) => ({ shape, dtype: 'f32' }))
  types.push({ shape: [batch, size, size, 3], dtype: 'f32' }, { shape: [batch], dtype: 'i32' })
  const step = (inputs: readonly Tensor[]): readonly Tensor[] => {
    const [images, labels] = inputs.slice(-2) as [Tensor, Tensor]
    const statistics = unflatten(state.structure, inputs.slice(params.leaves.length, -2))
    const forward = (values: Tree<Tensor>) =>
      model.apply(values as never, statistics as never, images, { training: true })
    const run = compute === 'f32' ? forward : autocast(forward, { compute })
    const loss = (values: Tree<Tensor>): readonly [Tensor, Tree<Tensor>] => {
      const [logits, next] = run(values)
      return [softmaxCrossEntropy(logits, labels), next]
    }
    const [[value, next], gradients] = valueAndGrad(loss, { hasAux: true })(
      unflatten(params.structure, inputs.slice(0, params.leaves.length)),
    )
    return [value, ...flatten(next).leaves, ...flatten(gradients).leaves]
  }
  return traceFlat(step, types, 'step', { keepCalls: false }).program
}

/** The plan of that program. */
export function trainingPlan(
  model: ResNet,
  batch: number,
  size: number,
  compute: 'f16' | 'bf16' | 'f32',
  optimize: OptimizeLevel = 'fuse',
): Plan {
  return compileProgram(trainingProgram(model, batch, size, compute), { optimize, donate: [] })
}

/** The buffers alive while the loss is computed: what the forward pass keeps for the backward pass. */
export function aliveAtTheTurn(plan: Plan): number[] {
  const turn = plan.steps.findIndex(
    (step) =>
      step.kind === 'library' && step.equation.primitive.startsWith('conv2d') && step.equation.primitive !== 'conv2d',
  )
  const lives = lifetimes(plan.buffers.length, plan.steps, plan.inputs, plan.outputs)
  return plan.buffers.flatMap((buffer, index) => {
    const { start, end } = at(lives, index)
    return buffer.place.kind === 'arena' && start < turn && end >= turn ? [index] : []
  })
}
