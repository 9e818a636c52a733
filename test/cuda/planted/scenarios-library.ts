// Scenarios of products and convolutions: cuDNN's and cuBLASLt's as the simulation has them, and our own.
import { probe } from '../../../src/cuda/discovery-probe.ts'
import { bindAlone } from '../../../src/cuda/lower.ts'
import { Launches } from '../../../src/cuda/launches.ts'
import { matmulCandidates } from '../../../src/cuda/matmul/candidates.ts'
import type { MatmulProblem } from '../../../src/cuda/matmul/problem.ts'
import { openRuntime } from '../../../src/cuda/runtime/index.ts'
import { bindOne } from '../../../src/tensor/dispatch.ts'
import type { DType } from '../../../src/tensor/dtype.ts'
import * as ops from '../../../src/tensor/ops/index.ts'
import type { ConvParams } from '../../../src/tensor/primitives.ts'
import { type Shape, at, range } from '../../../src/tensor/shape.ts'
import type { Tensor } from '../../../src/tensor/tensor.ts'
import { type Place, type Results, type Scenario, integers, results, typed, usual } from './scenario.ts'

type Inputs = readonly Tensor[]

/** A convolution and both its gradients, of (x, filter, cotangent). */
function allThree(inputs: Inputs, params: ConvParams): readonly Tensor[] {
  const [x, filter, cotangent] = [at(inputs, 0), at(inputs, 1), at(inputs, 2)]
  return [
    bindOne('conv2d', [x, filter], params),
    bindOne('conv2dInputGrad', [cotangent, filter], { ...params, inputShape: x.shape }),
    bindOne('conv2dFilterGrad', [x, cotangent], { ...params, filterShape: filter.shape }),
  ]
}

const uneven: ConvParams = {
  ...{ stride: [1, 2], dilation: [1, 1], groups: 2 },
  padding: [
    [2, 0],
    [1, 2],
  ],
}

function convolutions(dtype: DType, precision: 'tf32' | 'ieee', most: number) {
  return ({ open }: Place): Promise<Results> => {
    const f = (inputs: Inputs): readonly Tensor[] => [
      ...allThree(inputs, uneven),
      bindOne('conv2d', [ops.add(at(inputs, 0), 1), ops.add(at(inputs, 1), 1)], uneven),
      ops.add(at(inputs, 0), 3),
    ]
    const types = [typed([2, 6, 7, 8], dtype), typed([12, 3, 3, 4], dtype), typed([2, 6, 4, 12], dtype)]
    return results(open({ precision }), f, types, { runs: 3, most })
  }
}

/** The grouped 3x3 convolution of ResNeXt, by our own kernels, in two strides. */
function grouped({ open }: Place): Promise<Results> {
  const params = (step: number): ConvParams => ({
    ...{ stride: [step, step], dilation: [1, 1], groups: 16 },
    padding: [
      [1, 1],
      [1, 1],
    ],
  })
  const f = (inputs: Inputs): readonly Tensor[] => allThree(inputs, params(1))
  const x: Shape = [3, 9, 18, 64]
  return results(open(), f, [typed(x, 'f16'), typed([64, 3, 3, 4], 'f16'), typed(x, 'f16')], { most: 1 })
}

/** What stands around a grouped convolution in training: batch norm and ReLU in front, statistics behind, masked sums backward. */
function aroundGrouped({ open }: Place): Promise<Results> {
  const axes = [0, 1, 2]
  const sums = (of: Tensor, with_: Tensor): readonly Tensor[] => [
    ops.sum(of, { axes }),
    ops.sum(ops.mul(of, with_), { axes }),
  ]
  const f = (inputs: Inputs): readonly Tensor[] => {
    const [x, filter, mean, scale, shift] = [0, 1, 2, 3, 4].map((index) => at(inputs, index)) as [
      ...[Tensor, Tensor, Tensor, Tensor, Tensor],
    ]
    const wide = ops.cast(x, 'f32')
    const third = ops.mul(ops.sum(wide, { axes }), 1 / 512)
    const n = (by: Tensor): Tensor => ops.maximum(ops.cast(ops.add(ops.mul(ops.sub(wide, by), scale), shift), 'f16'), 0)
    const y = ops.conv2d(n(third), filter, { padding: 1, groups: 8 })
    const gradient = bindOne('conv2dInputGrad', [x, filter], {
      ...{ stride: [1, 1], dilation: [1, 1], groups: 8, inputShape: x.shape },
      padding: [
        [1, 1],
        [1, 1],
      ],
    })
    const passed = ops.cast(ops.where(ops.greater(n(mean), 0), gradient, 0), 'f32')
    const [sum, products] = sums(passed, wide) as [Tensor, Tensor]
    return [y, ...sums(ops.cast(y, 'f32'), ops.cast(y, 'f32')), gradient, sum, ops.sub(products, ops.mul(sum, mean))]
  }
  const vector = typed([32])
  const types = [typed([3, 9, 18, 32], 'f16'), typed([32, 3, 3, 4], 'f16'), vector, vector, vector]
  return results(open(), f, types, { optimize: 'fuse', most: 2 })
}

/** Products by cuBLASLt, with operands that TF32 would round, and twice the same one with other operands. */
function products({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => {
    const [a, b, c] = [at(inputs, 0), at(inputs, 1), at(inputs, 2)]
    return [ops.matmul(a, b), ops.matmul(ops.add(a, 1), b), ops.matmul(ops.transpose(c, [1, 0]), b)]
  }
  const types = [typed([12, 20]), typed([20, 6]), typed([20, 12])]
  return results(open({ precision: 'ieee' }), f, types, { runs: 3, most: 3000 })
}

/** Products with what stands between and behind them, forward and backward: chains of rows, some of whose values others need. */
function rowChains({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => {
    const [x, w1, b1, w2, g] = [at(inputs, 0), at(inputs, 1), at(inputs, 2), at(inputs, 3), at(inputs, 4)]
    const hidden = ops.maximum(ops.add(ops.matmul(ops.mul(x, 0.5), w1), ops.cast(b1, 'f16')), 0)
    const masked = ops.where(ops.greater(hidden, 0), ops.matmul(g, ops.transpose(w2, [1, 0])), 0)
    const sums = ops.sum(ops.cast(masked, 'f32'), { axes: [0] })
    return [
      ops.mul(ops.matmul(hidden, w2), 0.5),
      bindOne('dot', [hidden, g], { batch: [[], []], contract: [[0], [0]] }),
      ops.matmul(masked, ops.transpose(w1, [1, 0])),
      sums,
      ops.matmul(ops.sub(masked, ops.cast(sums, 'f16')), ops.transpose(w1, [1, 0])),
    ]
  }
  const [wide, narrow] = [typed([16, 8], 'f16'), typed([8, 16], 'f16')]
  const types = [typed([20, 16], 'f16'), wide, typed([8]), narrow, typed([20, 16], 'f16')]
  return results(open(), f, types, { optimize: 'fuse', runs: 3, most: 1 })
}

const relu: MatmulProblem = {
  ...{ dtype: 'f32', resultDtype: 'f32', batch: 1, m: 8, n: 12, k: 16 },
  ...{ transposeA: false, transposeB: false, precision: 'ieee', epilogue: 'bias-relu' },
}

/** One product with a bias, enqueued twice, the second time with other operands. */
function biases({ native, machine, folder }: Place): Results {
  const environment = { PULLBACK_CACHE: folder }
  const found = probe(machine, native)
  const runtime = openRuntime(found, native, { ordinal: 0, environment, separate: false, owners: () => '' })
  try {
    const [candidate] = matmulCandidates(runtime.session, relu)
    if (candidate === undefined) throw new RangeError()
    const sizes = [8 * 16, 16 * 12, 12, 8 * 12]
    const sets = range(2).map((set) =>
      sizes.map((size, index) => {
        const block = runtime.memory.allocate(4 * size, 'copy')
        runtime.staging.upload(block.address, Float32Array.from(integers(size, 4 * set + index)))
        return block.address
      }),
    )
    const scratch = runtime.memory.allocate(Math.max(1, candidate.scratchBytes)).address
    const launches = new Launches(runtime, bindAlone(candidate, 4, 'planted'))
    const tickets = sets.map((set) =>
      runtime.queue.submit('planted', (stream) => launches.enqueue(stream, [...set, scratch])),
    )
    const outputs = sets.map((set, index) => {
      const out = new Float32Array(96)
      runtime.staging.readSync(new Uint8Array(out.buffer), { address: at(set, 3), ready: at(tickets, index) })
      return out
    })
    launches.release()
    candidate.release?.()
    return Object.fromEntries(outputs.entries())
  } finally {
    runtime.close()
  }
}

function expectedBiases(): Results {
  const one = (set: number): number[] => {
    const [a, b, bias] = [integers(128, 4 * set), integers(192, 4 * set + 1), integers(12, 4 * set + 2)]
    return range(96).map((i) => {
      const [row, column] = [Math.floor(i / 12), i % 12]
      return Math.max(
        0,
        range(16).reduce((sum, k) => sum + at(a, 16 * row + k) * at(b, 12 * k + column), at(bias, column)),
      )
    })
  }
  return Object.fromEntries(range(2).map(one).entries())
}

export const libraryScenarios = {
  'cuDNN convolutions': { tolerance: 0, settings: usual, run: convolutions('f32', 'ieee', 3000) },
  'own convolutions': { tolerance: 0, settings: usual, run: convolutions('f64', 'ieee', 30) },
  'grouped convolutions': { tolerance: 0, settings: usual, run: grouped },
  'chains of rows': { tolerance: 0, settings: usual, run: rowChains },
  'around grouped convolutions': { tolerance: 0.001, settings: usual, run: aroundGrouped },
  products: { tolerance: 0, settings: usual, run: products },
  biases: { tolerance: 0, settings: usual.slice(0, 1), run: biases, expected: expectedBiases },
} as const satisfies Record<string, Scenario>
