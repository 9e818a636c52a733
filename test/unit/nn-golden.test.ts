// Layers, activations and losses against PyTorch: outputs and the gradient of every input, on the reference device.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import { vjp } from '../../src/autograd/index.ts'
import {
  activations,
  batchNorm,
  globalAvgPool,
  linear,
  softmaxCrossEntropy,
  squeezeExcite,
} from '../../src/nn/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { fromBits } from '../../src/tensor/ops/create.ts'
import { moments } from '../../src/tensor/ops/reduce.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type FileTensor, readSafetensors } from '../../src/train/files/safetensors.ts'
import { distance, found } from '../support/golden-model.ts'

interface Case {
  readonly name: string
  readonly op: string
  readonly params: Readonly<Record<string, number | boolean | string>>
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly cotangents: readonly (string | null)[]
  readonly gradients: readonly (string | null)[]
}

/** What each op of the file is here: inputs in the file's order to outputs in the file's order. */
const ops: Readonly<Record<string, (params: Case['params'], inputs: readonly Tensor[]) => readonly Tensor[]>> = {
  batchNorm: ({ training, momentum, epsilon }, [x, weight, bias, running_mean, running_var]) => {
    const layer = batchNorm({ momentum: Number(momentum), epsilon: Number(epsilon) })
    const state = { running_mean: running_mean!, running_var: running_var! }
    const [y, next] = layer.apply({ weight: weight!, bias: bias! }, state, x!, { training: training === true })
    const { mean, variance } = moments(x!, { axes: [0, 1, 2] })
    return training === true ? [y, mean, variance, next.running_mean, next.running_var] : [y]
  },
  linear: (_, [x, weight, bias]) => {
    const [y] = linear(weight!.shape[0]!).apply({ weight: weight!, bias: bias! }, {}, x!, { training: true })
    return [y]
  },
  squeezeExcite: (_, [x, weight, bias, expandWeight, expandBias]) => {
    const params = { squeeze: { weight: weight!, bias: bias! }, expand: { weight: expandWeight!, bias: expandBias! } }
    const [y] = squeezeExcite(weight!.shape[0]!).apply(params, {}, x!, { training: true })
    return [y]
  },
  softmaxCrossEntropy: ({ labelSmoothing }, [logits, targets]) => [
    softmaxCrossEntropy(logits!, targets!, { labelSmoothing: Number(labelSmoothing) }),
  ],
  globalAveragePool: (_, [x]) => [globalAvgPool().apply({}, {}, x!, { training: true })[0]],
  relu: (_, [x]) => [activations.relu(x!)],
  silu: (_, [x]) => [activations.silu(x!)],
  gelu: ({ approximate }, [x]) => [activations.gelu(x!, approximate === 'tanh' ? 'tanh' : 'none')],
}

const folder = fileURLToPath(new URL('../golden/', import.meta.url))
const { cases } = JSON.parse(readFileSync(`${folder}primitives.json`, 'utf8')) as { cases: readonly Case[] }
const chosen = cases.filter(({ op }) => op in ops)

let tensors: ReadonlyMap<string, FileTensor>
beforeAll(async () => {
  setDefaultDevice(referenceDevice())
  tensors = (await readSafetensors(`${folder}primitives.safetensors`)).tensors
})

function values(name: string): Float32Array | Int32Array {
  const { dtype, data } = found(tensors, name)
  const view = dtype === 'I32' ? Int32Array : Float32Array
  return new view(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength / 4)
}

function load(name: string): Tensor {
  const { dtype, shape } = found(tensors, name)
  return fromBits(values(name), shape, dtype === 'I32' ? 'i32' : 'f32')
}

/**
 * Each of these is a handful of f32 roundings, 2^-24 each; batch norm far from zero loses as many as the mean is larger
 * than the deviation. In units of what PyTorch's own f32 loses there (7.7e-7) the bound is a factor of ten.
 */
const bound = (name: string): number => (name.includes('large-mean') ? 1e-5 : 1e-6)

describe('against PyTorch', () => {
  test('the file has a case for each op', () => {
    expect(new Set(chosen.map(({ op }) => op))).toEqual(new Set(Object.keys(ops)))
  })

  test.each(chosen)('$name', async ({ name, op, params, inputs, outputs, cotangents, gradients }) => {
    const f = ops[op]!
    const given = inputs.map(load)
    const differentiated = given.filter((_, i) => gradients[i] !== null)
    const [results, pullback] = vjp(
      (...some: Tensor[]) => {
        const rest = [...some]
        const all = f(
          params,
          given.map((x, i) => (gradients[i] === null ? x : rest.shift()!)),
        )
        return all.filter((_, i) => cotangents[i] !== null && i < cotangents.length)
      },
      ...differentiated,
    )
    const grads = pullback(cotangents.flatMap((c) => (c === null ? [] : [load(c)])))
    const errors: [string, number][] = []
    for (const [i, y] of f(params, given).entries())
      errors.push([outputs[i]!, distance(await y.data(), values(outputs[i]!))])
    const wanted = gradients.filter((g) => g !== null)
    for (const [i, g] of grads.entries()) errors.push([wanted[i]!, distance(await g.data(), values(wanted[i]!))])
    expect(results.length).toBe(cotangents.filter((c) => c !== null).length)
    for (const [what, error] of errors) expect(error, what).toBeLessThan(bound(name))
  })
})
